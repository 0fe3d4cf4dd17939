"""Validation of training files: every fault with line, place, code and fix.

Names are imported when they are used first: a server that starts needs only the tool's shape.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.data_prep.targets import TARGETS
    from finetuning.data_prep.validate.reports import CODES
    from finetuning.data_prep.validate.tool import ValidationResult, validate_jsonl, validate_row

__all__ = ["CODES", "TARGETS", "ValidationResult", "validate_jsonl", "validate_row"]

_HOMES: Final = {
    "CODES": "finetuning.data_prep.validate.reports",
    "TARGETS": "finetuning.data_prep.targets",
    "ValidationResult": "finetuning.data_prep.validate.tool",
    "validate_jsonl": "finetuning.data_prep.validate.tool",
    "validate_row": "finetuning.data_prep.validate.tool",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
