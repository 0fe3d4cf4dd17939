"""Answers of local models, kept so that the next adapter on the same base costs half.

Each file of ``<home>/answers/`` holds what one side answered to one job (mode 0600: it is row
content), under a digest of all that shapes it: weights, adapter, precision, device, versions,
questions and limits. The newest 64 stay.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, cast

from finetuning.evaluation.local import LocalModel, folder_digest
from finetuning.files import digest
from finetuning.settings import settings

MOST_FILES: Final = 64
_PACKAGES: Final = ("torch", "transformers", "tokenizers", "peft")

Rows = dict[str, list[Any]]
Answers = dict[str, dict[str, Rows]]
"""Side → job → id → answer."""


def recall(
    model: LocalModel, jobs: Mapping[str, Mapping[str, Any]], max_tokens: int, *, remember: bool
) -> tuple[Answers, dict[tuple[str, str], str]]:
    """Return what is kept, and the key of each job and side that must be asked.

    Args:
        model: The loaded base with its adapters.
        jobs: name → sides, questions, generate, nll.
        max_tokens: Most tokens to write per answer.
        remember: False finds nothing: all is asked.
    """
    answers: Answers = {side: {} for side in model.adapters}
    keys: dict[tuple[str, str], str] = {}
    for name, job in jobs.items():
        for side in job["sides"]:
            key = key_of(model, side, job, max_tokens) if remember else ""
            rows = read(key) if remember else None
            if rows is None:
                keys[name, side] = key
            else:
                answers[side][name] = rows
    return answers, keys


def key_of(model: LocalModel, side: str, job: Mapping[str, Any], max_tokens: int) -> str:
    """Return the digest under which a side's answers to a job are kept."""
    adapter = model.folders[side]
    return digest(
        {
            "base": folder_digest(model.base) + _stamps(model.base),
            "adapter": None if adapter is None else folder_digest(adapter) + _stamps(adapter),
            "dtype": str(model.plain.dtype),
            "device": str(model.device),
            "versions": [_version(name) for name in _PACKAGES],
            "generate": max_tokens if job["generate"] else None,
            "nll": job["nll"],
            "questions": job["questions"],
        }
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _stamps(folder: str) -> str:
    """Return the times of files whose content the folder's digest leaves out."""
    large = [path.stat() for path in sorted(Path(folder).glob("*.safetensors"))]
    return ",".join(str(found.st_mtime_ns) for found in large if found.st_size > 64 << 20)


def read(key: str) -> Rows | None:
    """Return kept answers, or None."""
    try:
        return cast("Rows", json.loads(_path(key).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def keep(key: str, rows: Rows) -> None:
    """Keep answers; a disk that is full or a folder that is shut only costs the time saved."""
    path = _path(key)
    temporary = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            json.dump(rows, file)
        temporary.replace(path)
        files = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime_ns)
        for old in files[:-MOST_FILES]:
            old.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _path(key: str) -> Path:
    return settings().home / "answers" / f"{key}.json"
