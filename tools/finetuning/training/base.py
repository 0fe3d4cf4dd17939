"""A base model made on the spot, for data that no shipped base has words for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, cast

from finetuning import files, runs
from finetuning.errors import BadInputError, RunFailedError, require
from finetuning.records import Model

WHERE: Final = "build_byte_base"
_STOP_SECONDS: Final = 5.0


class ByteBase(Model):
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
