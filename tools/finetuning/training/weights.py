"""Folders of weights: checkpoints, and the base models found or made here.

Checkpoints and adapters are whole or not there: written aside, synced, listed by digest, renamed.
A base model can be made on the spot, for data that no shipped base has words for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, cast

from finetuning import files, runs
from finetuning.errors import BadInputError, RunFailedError, require
from finetuning.records import Model
from finetuning.settings import settings

MANIFEST: Final = "manifest.json"
WHERE: Final = "build_byte_base"
_NAME: Final = re.compile(r"checkpoint-(\d+)")
_STOP_SECONDS: Final = 5.0
_SMALL_FILES_BYTES: Final = 8 << 20
"""Allowance for tokenizer, settings and log in a checkpoint that was never written yet."""


@contextlib.contextmanager
def whole_folder(target: Path) -> Generator[Path]:
    """Give a temporary folder that becomes ``target`` when the block ends well.

    Every file is flushed to the disk and listed with its SHA-256 in ``manifest.json`` before the
    rename; when the block fails, or the process dies, ``target`` is not there.

    Args:
        target: Folder to create; an older one of that name is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}-{secrets.token_hex(4)}.tmp"
    inner = temporary / target.name
    inner.mkdir(mode=0o700, parents=True)
    try:
        yield inner
        _seal(inner)
        if target.exists():
            shutil.rmtree(target)
        inner.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): files.sha256_file(path) for path in paths}
    for path in paths:
        sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    sync(manifest)
    sync(folder)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fault_of(folder: Path, hashed_bytes: int | None = None) -> str | None:
    """Return what is wrong with a sealed folder, or None; larger files may go unread."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digests: dict[str, str] = dict(listed)
    except (OSError, ValueError, TypeError):
        return f"{MANIFEST} is missing or damaged"
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if added := sorted(present - {*digests, MANIFEST}):
        return f"{added[0]} was added after it was written"
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        read = hashed_bytes is None or path.stat().st_size <= hashed_bytes
        if read and files.sha256_file(path) != digest:
            return f"{name} has changed since it was written"
    return None


def step_of(folder: Path) -> int:
    """Return the training step that a checkpoint folder is named after."""
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders below ``folder``, oldest step first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if step_of(path) >= 0), key=step_of)


def newest_valid(folder: Path) -> tuple[Path | None, dict[str, str]]:
    """Return the newest undamaged checkpoint and the newer ones that were passed over.

    Returns:
        The checkpoint (None when there is none), and name → fault of those skipped.
    """
    skipped: dict[str, str] = {}
    for path in reversed(list_checkpoints(folder)):
        fault = fault_of(path)
        if fault is None:
            return path, skipped
        skipped[path.name] = fault
    return None, skipped


def keep_newest(folder: Path, count: int, kept_step: int | None = None) -> None:
    """Remove old checkpoints, and what dead processes left half-written.

    Args:
        folder: Where the checkpoints lie.
        count: How many of the newest stay.
        kept_step: Step of one more that stays at any age (the best by evaluation).
    """
    for path in list_checkpoints(folder)[:-count]:
        if step_of(path) != kept_step:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".checkpoint-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_bytes(folder: Path) -> int:
    """Return the free space of the file system that a folder lies on, or will lie on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def checkpoint_bytes(trained_parameters: int) -> int:
    """Return what a checkpoint takes: fp32 weights, Adam's two moments, and small files."""
    return 12 * trained_parameters + _SMALL_FILES_BYTES


class ByteBase(Model, defer_build=True):
    """A base model that was just made, and what it took."""

    folder: str
    steps: int
    vocabulary: int
    tokens: int
    parameters: int


def build_byte_base(
    texts_file: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    seconds: float = 90.0,
    *,
    steps: int | None = None,
    seed: int = 0,
) -> ByteBase:
    """Train a byte-level tokenizer and a tiny language model on a file of texts.

    A child process does it and ends with this call, whatever ends it. ``output_dir`` appears
    whole or not at all. With ``steps`` the result repeats; with ``seconds`` it depends on the
    machine.

    Args:
        texts_file: JSONL (or any readable format); every string of a row is read.
        output_dir: Folder to make; it must not exist or be empty.
        seconds: Time for the training itself, above 0 (loading and saving take about 10 more).
        steps: Optimizer steps instead of ``seconds``, at least 1.
        seed: Seed of the weights and of the order of texts.

    Returns:
        Folder and size of the base.

    Raises:
        BadInputError: The file cannot be read, the folder holds files, or a number is too small.
        RunFailedError: The child process failed.
        MissingExtraError: The extra ``local`` is not installed.
    """
    require("tokenizers", feature=WHERE, extra="local")
    if seconds <= 0 or (steps is not None and steps < 1):
        raise BadInputError(
            WHERE, f"seconds={seconds}, steps={steps}", "a budget above 0", "Leave both out"
        )
    source = files.resolve_read(texts_file, where=WHERE, kind="file")
    target = files.new_output_folder(os.fspath(output_dir), where=WHERE, name="base")
    target.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    budget = ["--seconds", str(seconds)] if steps is None else ["--steps", str(steps)]
    command = [sys.executable, "-m", "finetuning.training.worker.byte_base", *budget]
    command += ["--texts", str(source), "--output", str(half_done), "--seed", str(seed)]
    try:
        report = _follow(command)
        if target.exists():
            target.rmdir()
        half_done.replace(target)
    finally:
        shutil.rmtree(half_done, ignore_errors=True)
    return ByteBase(folder=str(target), **report)


def _follow(command: list[str]) -> dict[str, int]:
    """Run the child to its end, passing its progress on; on any exception it is ended."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        try:
            last: dict[str, Any] = {}
            for line in child.stdout or ():
                last = cast("dict[str, Any]", json.loads(line))
                runs.progress(round(100 * last.get("used", 1.0)), 100, "training a base model")
            code = child.wait()
        finally:
            _end(child)
        if code == 0 and last.pop("done", False):
            return last
        errors.seek(0)
        raise RunFailedError(
            WHERE,
            f"the child process ended with code {code} ({_last_line(errors.read())})",
            "a trained base",
            "Run it again; if it fails again, check memory and disk with inspect_environment",
        )


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _last_line(text: str) -> str:
    """Return the type of the error that ended the child (its text may hold row content)."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].split(":", 1)[0][:80] if lines else "no message"


def bases_folder() -> Path:
    """Return where this home keeps base models."""
    return settings().bases


def demo_base() -> Path | None:
    """Return the folder of the base model that ships with the demo, if it is installed."""
    spec = importlib.util.find_spec("finetuning_skill")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "demo" / "base"
        if (folder / "config.json").is_file():
            return folder
    return None


def find_base(base_model: str) -> Path | None:
    """Return the folder of a base model on this machine, or None for a name that is not here.

    Raises:
        NotAllowedError: The folder lies outside the readable ones.
    """
    named = bases_folder() / base_model
    if "/" not in base_model and (named / "config.json").is_file():
        return named
    if Path(base_model).expanduser().exists():
        found = files.resolve_read(base_model, where="base_model", kind="any")
        return found.parent if found.is_file() else found
    return None
