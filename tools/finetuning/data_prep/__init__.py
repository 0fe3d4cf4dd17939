"""Data preparation: inspect raw files, convert, clean, split and validate them.

Names are imported when they are used first: a server that starts needs only the tools' shapes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.data_prep.results import DataInspection, PreparedData, Replay, RowCounts
    from finetuning.data_prep.tools import inspect_data, prepare_data
    from finetuning.data_prep.validate import ValidationResult, validate_jsonl

__all__ = [
    "DataInspection",
    "PreparedData",
    "Replay",
    "RowCounts",
    "ValidationResult",
    "inspect_data",
    "prepare_data",
    "validate_jsonl",
]

_HOMES: Final = {
    "inspect_data": "tools",
    "prepare_data": "tools",
    "ValidationResult": "validate",
    "validate_jsonl": "validate",
}
"""Module of each name that does not come from ``results``."""

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = _HOMES.get(name, "results")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
