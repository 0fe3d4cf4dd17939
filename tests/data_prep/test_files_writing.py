"""Files appear whole or not at all, whatever stops their writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning.errors import BadInputError
from finetuning.files import (
    atomic_write,
    digest,
    sha256_file,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(target: Path, stop: type[BaseException]) -> None:
    with atomic_write(target) as stream:
        stream.write("half")
        raise stop


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "deep" / "a.txt", "é\n")
    assert (tmp_path / "new" / "deep" / "a.txt").read_bytes() == "é\n".encode()
    write_json(tmp_path / "a.json", {"b": [1, "é"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": [1, "é"]}
    assert write_jsonl(tmp_path / "a.jsonl", ({"n": n} for n in range(3))) == 3
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    with atomic_write(tmp_path / "b.bin", binary=True) as stream:
        stream.write(b"\0")
    assert (tmp_path / "b.bin").read_bytes() == b"\0"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_interrupted_writer_leaves_the_old_file_and_no_other(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(stop):
        write_half(target, stop)
    assert target.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupted_writer_takes_its_new_folders_away(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "x" / "y" / "a.txt", KeyboardInterrupt)
    assert names(tmp_path) == []


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from finetuning.files import "
        "atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as stream:\n"
        "    stream.write('half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run_python(code, str(target)).returncode == -9
    assert target.read_text(encoding="utf-8") == "old"


def test_a_full_disk_is_a_clear_error_and_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.jsonl"
    write_text(target, "old")
    code = (
        "import resource, sys; from pathlib import Path; from finetuning.files import write_jsonl\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "write_jsonl(Path(sys.argv[1]), ({'n': 'x' * 99} for _ in range(30_000)))\n"
    )
    done = run_python(code, str(target))
    assert "could not be written (File too large)" in done.stderr
    assert "nothing was changed" in done.stderr
    assert target.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.jsonl"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(BadInputError, match="could not be written"):
        write_text(tmp_path / "file" / "below.txt", "x")
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_the_target_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInputError, match="could not be written"):
        write_text(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_synced_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str | Path, flags: int, *rest: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(1, "no")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_a_row_that_is_no_json_is_named_by_number_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="row 2 cannot be written"):
        write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"a": "\ud800"}])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == []


def test_digests_do_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [None, "é"]}) == digest({"b": [None, "é"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    for bad in (float("nan"), 2**60, "\ud800", object()):
        with pytest.raises(BadInputError, match="canonical JSON"):
            digest({"a": bad})
    (tmp_path / "a").write_bytes(b"abc" * 500_000)
    import hashlib

    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 500_000).hexdigest()
