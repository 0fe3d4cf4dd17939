"""Faults of the machine: every one is a clear error, and no half-written result looks whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.data_prep import prepare_data
from finetuning.data_prep.preparation import sources, workers
from finetuning.errors import BadInputError, RunFailedError

Write = Callable[..., Path]
WORDS = "river stone cloud paper lamp train garden window silver copper winter letter".split()


def chat(number: int) -> str:
    words = " ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 5, 7, 11))
    question = f"case {number} {number * 31} about {words}"
    answer = f"for {number * 17} take {words} {number * 7}"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


@pytest.fixture
def source(write_lines: Write) -> Path:
    return write_lines("in.jsonl", *map(chat, range(3_000)))


def two_workers(size: int) -> int:
    return 2 if size else 0


def no_workers(size: int) -> int:
    return 0 * size


@pytest.fixture
def in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the smallest input be worth two processes, and many blocks."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(workers, "count_workers", two_workers)


def prepare(source: Path, out: Path, **more: Any) -> Any:
    arguments: dict[str, Any] = {"target": "openai_chat", "output_dir": str(out), **more}
    return prepare_data(sources=[str(source)], **arguments)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def program(
    source: Path, out: Path, before: str = "", seen: str = "print(what, flush=True)"
) -> str:
    """Return a program that prepares and says how far it is."""
    return textwrap.dedent(
        f"""
        {before}
        import os, resource, signal, sys
        from finetuning import runs
        from finetuning.data_prep import prepare_data
        def show(done, total, what):
            {seen}
        with runs.listen(show):
            prepare_data(sources=[{str(source)!r}], target="openai_chat", output_dir={str(out)!r})
        """
    )


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.usefixtures("in_workers")
def test_several_processes_give_the_same_bytes_as_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = prepare(source, tmp_path / "two", redact="mask")
    monkeypatch.setattr(workers, "count_workers", no_workers)
    one = prepare(source, tmp_path / "one", redact="mask")
    assert two.data_sha256 == one.data_sha256
    assert two.rows == one.rows
    assert left_in(tmp_path / "two") == left_in(tmp_path / "one")


@pytest.mark.usefixtures("in_workers")
def test_killed_worker_is_a_broken_job_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = set(mine.read_text().split())

    def kill(done: int, total: int | None, what: str) -> None:
        del total
        if what == "reading rows" and done == 0:
            return
        for child in set(mine.read_text().split()) - before:
            os.kill(int(child), signal.SIGKILL)

    with runs.listen(kill), pytest.raises(RunFailedError) as error:
        prepare(source, tmp_path / "out")
    assert error.value.exit_code == 4
    assert "was ended by signal 9; expected " in str(error.value)
    assert left_in(tmp_path) == {"in.jsonl"}


@pytest.mark.parametrize("step", ["reading rows", "writing"])
def test_kill_of_the_process_leaves_no_result_and_the_next_call_cleans_up(
    step: str, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    seen = f"what == {step!r} and os.kill(os.getpid(), signal.SIGKILL)"
    assert run(program(source, out, seen=seen)).returncode == -signal.SIGKILL
    assert not out.exists()
    left = left_in(tmp_path) - {"in.jsonl"}
    assert all(name.startswith(".out.") and name.endswith(".partial") for name in left)
    assert len(left) == 1
    result = prepare(source, out)
    assert result.rows.read == 3_000
    assert left_in(tmp_path) == {"in.jsonl", "out"}
    assert not list(out.glob(".*"))


def test_half_built_folder_of_a_running_process_is_left_alone(source: Path, tmp_path: Path) -> None:
    from finetuning.data_prep.preparation.writing import old_results
    from finetuning.files import whole_folder

    with whole_folder(tmp_path / "out", old_results) as built:
        prepare(source, tmp_path / "out2")
        with whole_folder(tmp_path / "out", old_results) as second:
            assert built.exists()
            (second / "train.jsonl").write_text("second", encoding="utf-8")
        assert (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8") == "second"
        (tmp_path / "out" / "train.jsonl").unlink()
        (tmp_path / "out").rmdir()


def test_full_disk_is_named_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk is to a program: its writes fail."""
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    done = run(program(source, tmp_path / "out", before=limit))
    assert "BadInputError" in done.stderr
    assert "could not be written (File too large); expected " in done.stderr
    assert left_in(tmp_path) == {"in.jsonl"}


def test_full_disk_keeps_the_results_of_an_earlier_call(source: Path, tmp_path: Path) -> None:
    first = prepare(source, tmp_path / "out")
    before = Path(first.files["train"]).read_bytes()
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    code = program(source, tmp_path / "out", before=limit)
    done = run(code.replace("output_dir=", "overwrite=True, output_dir="))
    assert "could not be written" in done.stderr
    assert Path(first.files["train"]).read_bytes() == before
    assert not list((tmp_path / "out").glob(".*"))


def test_source_that_grows_while_it_is_read_is_refused(source: Path, tmp_path: Path) -> None:
    def grow(done: int, total: int | None, what: str) -> None:
        del done, total
        if what == "reading rows":
            with source.open("a", encoding="utf-8") as stream:
                stream.write(chat(9_999) + "\n")

    with runs.listen(grow), pytest.raises(BadInputError, match="changed while it was read"):
        prepare(source, tmp_path / "out")
    assert left_in(tmp_path) == {"in.jsonl"}


def test_source_cut_short_while_it_is_read_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 100_000)

    def cut(done: int, total: int | None, what: str) -> None:
        del total
        if what == "reading rows" and done:
            os.truncate(source, 1_000)

    with runs.listen(cut), pytest.raises(BadInputError, match="changed while it was read"):
        prepare(source, tmp_path / "out")
    assert left_in(tmp_path) == {"in.jsonl"}


def test_two_gigabytes_on_one_line_are_a_rejected_row_at_flat_memory(tmp_path: Path) -> None:
    """The file is sparse, so it takes no room; the limit on memory is a quarter of the line."""
    path = tmp_path / "in.jsonl"
    with path.open("wb") as stream:
        stream.write((chat(1) + "\n" + '{"messages": "' + "long " * 20_000).encode())
        stream.seek(2 << 30)
        stream.write(("\n" + chat(2) + "\n").encode())
    code = program(path, tmp_path / "out") + textwrap.dedent(
        """
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        used = int(status["VmHWM"].split()[0])  # ru_maxrss would begin at that of the test runner
        used = max(used, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        print("used", used >> 10)
        """
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(row["line"], row["reason"]) for row in map(json.loads, rejected)] == [
        (2, "line_too_long")
    ]
    assert int(done.stdout.rsplit("used ", 1)[1]) < 700


def test_a_million_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = ",".join(f"c{number}" for number in range(1_000_000))
    cells = "," * 999_997
    path.write_text(
        f"question,answer,{names[: names.rindex(',c999998')]}\n"
        + "".join(f"what is {n},it is {n * 7} then,{cells}\n" for n in range(1)),
        encoding="utf-8",
    )
    result = prepare(path, tmp_path / "out", prompt_column="question", completion_column="answer")
    assert result.rows.read == 1
    assert result.rows.rejected == 0
