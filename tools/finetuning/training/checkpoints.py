"""Folders that are whole or not there: written aside, synced, listed by digest, renamed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Final

from finetuning.files import sha256_file

MANIFEST: Final = "manifest.json"
_NAME: Final = re.compile(r"checkpoint-(\d+)")


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
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): sha256_file(path) for path in files}
    for path in files:
        _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fault_of(folder: Path) -> str | None:
    """Return what is wrong with a sealed folder, or None when every file is as it was written."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digests: dict[str, str] = dict(listed)
    except (OSError, ValueError, TypeError):
        return f"{MANIFEST} is missing or damaged"
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256_file(path) != digest:
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


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the newest ``count`` checkpoints and what dead processes left half-written."""
    for path in list_checkpoints(folder)[:-count]:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".checkpoint-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
