"""A bundle is whole or not there, and its script refuses what is not as it was bundled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from finetuning import audit
from finetuning.errors import BadInputError, NotAllowedError, RunFailedError, UnknownNameError
from finetuning_skill import cli
from finetuning_skill.bundle import bundle

PIP = """
import json, os, pathlib, sys
words = sys.argv[1:]
asked = words[-1]
assert asked.startswith("fine-tuning-skill"), asked
with open(os.environ["PIP_ASKED"], "a") as file:
    file.write(asked + chr(10))
if os.environ.get("PIP_BREAKS"):
    sys.exit(3)
version = os.environ.get("PIP_VERSION", "1.0")
if "wheel" in words:
    folder = pathlib.Path(words[words.index("--wheel-dir") + 1])
    for name in ("fine_tuning_skill-0.1.0", "tiny_thing-" + version):
        (folder / f"{name}-py3-none-any.whl").write_text(name)
else:
    report = pathlib.Path(words[words.index("--report") + 1])
    packages = [{"metadata": {"name": "tiny-thing", "version": version}}]
    report.write_text(json.dumps({"install": packages}))
"""


@pytest.fixture(autouse=True)
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a pip of a few lines before the real one; it notes what it is asked for."""
    folder = tmp_path / "stand-in" / "pip"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text(PIP)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    monkeypatch.setenv("PIP_ASKED", str(tmp_path / "asked"))
    return tmp_path / "asked"


def test_a_bundle_holds_wheels_base_digests_and_a_script(
    base: Path, tmp_path: Path, pip: Path
) -> None:
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    target = tmp_path / "carried"
    done = bundle(str(target), ["local", "eval"], str(base))
    assert done.exit_code() == 0
    assert done.wheels == [
        "fine_tuning_skill-0.1.0-py3-none-any.whl",
        "tiny_thing-1.0-py3-none-any.whl",
    ]
    assert "fine-tuning-skill[local,eval] @ file://" in pip.read_text()
    assert not list(target.rglob("*.bin"))
    assert (target / "base" / "base" / "config.json").read_bytes() == (
        base / "config.json"
    ).read_bytes()
    lines = (target / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert sums.keys() == there - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest
    wanted = re.findall(
        r"^(\S+)==(\S+) --hash=sha256:(\w+)$", (target / "requirements.txt").read_text(), re.M
    )
    assert [(name, version) for name, version, _ in wanted] == [
        ("fine-tuning-skill", "0.1.0"),
        ("tiny-thing", "1.0"),
    ]
    assert wanted[1][2] == sums["wheels/tiny_thing-1.0-py3-none-any.whl"]
    assert done.sha256 == hashlib.sha256((target / "SHA256SUMS").read_bytes()).hexdigest()
    assert "2 wheels and 4 files of a base" in done.summary()
    assert audit.verify_audit_log().n_records == 1


def test_a_call_that_broke_leaves_nothing_whole_and_the_next_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "carried"
    monkeypatch.setenv("PIP_BREAKS", "1")
    with pytest.raises(RunFailedError, match="pip wheel ended with code 3"):
        bundle(str(target), base=str(base))
    assert not target.exists()
    monkeypatch.delenv("PIP_BREAKS")
    half_done = tmp_path / ".carried.partial"
    (half_done / "wheels" / "tiny_thing-0.9-py3-none-any.whl").write_text("older")
    os.utime(half_done / "wheels" / "tiny_thing-0.9-py3-none-any.whl", (1, 1))
    copied = half_done / "base" / "base" / "tokenizer.json"
    copied.parent.mkdir(parents=True)
    copied.write_bytes((base / "tokenizer.json").read_bytes())
    os.utime(copied, ns=(1, (base / "tokenizer.json").stat().st_mtime_ns))
    inode = copied.stat().st_ino
    target.mkdir()
    done = bundle(str(target), base=str(base))
    assert "tiny_thing-0.9-py3-none-any.whl" not in done.wheels
    assert (target / "base" / "base" / "tokenizer.json").stat().st_ino == inode, "not copied again"
    assert not half_done.exists()
    with pytest.raises(BadInputError, match="already holds files"):
        bundle(str(target))


def test_the_script_refuses_a_changed_file_and_another_python(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "carried"
    bundle(str(target), ["none"], str(base))
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9 Plan9 mips\n")
    other.chmod(0o755)

    def install() -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(other)}
        command = ["sh", str(target / "install.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    wrong = install()
    assert wrong.returncode == 1
    assert "is 3.9 Plan9 mips; expected 3." in wrong.stderr
    (target / "base" / "base" / "config.json").write_text("{}")
    changed = install()
    assert changed.returncode == 1
    assert "a file differs from SHA256SUMS" in changed.stderr
    assert not (target / "venv").exists()


def test_a_dry_run_lists_and_offline_mode_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["bundle", "carried", "--extras", "none", "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["wheels"] == ["tiny-thing==1.0"]
    assert not (tmp_path / "carried").exists()
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    assert cli.run(["bundle", "carried"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bundle: offline mode is on (FINE_TUNING_OFFLINE=1); expected ")
    with pytest.raises(NotAllowedError):
        bundle("carried", dry_run=True)


def test_an_unknown_extra_or_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="locla"):
        bundle(str(tmp_path / "x"), ["locla"])
    with pytest.raises(BadInputError, match="is no base model on this machine"):
        bundle(str(tmp_path / "x"), base=str(tmp_path))
