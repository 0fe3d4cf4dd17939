"""How a comparison was made: digests, versions, settings."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetuning.evaluation.competitors import Competitors
from finetuning.evaluation.targets import RecordedTarget
from finetuning.files import sha256_file


def describe_making(
    competitors: Competitors,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    ran: Mapping[str, object],
) -> dict[str, Any]:
    """Return what a reader needs to repeat the comparison.

    Args:
        competitors: Who competed.
        files: Name → file that was read.
        settings: Name → value of the arguments that shape the result.
        ran: What the targets say of themselves.
    """
    digests = {name: sha256_file(path) for name, path in files.items()}
    for name, target in competitors.targets.items():
        if isinstance(target, RecordedTarget):
            digests[f"recorded:{name}"] = sha256_file(Path(target.path))
    return {
        "targets": {name: target.spec for name, target in competitors.targets.items()},
        "sha256": digests,
        "settings": dict(settings),
        "python": platform.python_version(),
        **ran,
    }
