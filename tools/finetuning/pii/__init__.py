"""Personal data and secrets: find them, replace them, say what was looked for.

Names are imported when they are used first: a server that starts needs only the tool's shape.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.pii.detect import find_personal_data
    from finetuning.pii.kinds import TYPES, PersonalDataType, PiiFinding, PiiScan, Span
    from finetuning.pii.rows import redact_rows
    from finetuning.pii.scan import scan_pii
    from finetuning.pii.tags import keyed_digest, redact_texts

__all__ = [
    "TYPES",
    "PersonalDataType",
    "PiiFinding",
    "PiiScan",
    "Span",
    "find_personal_data",
    "keyed_digest",
    "redact_rows",
    "redact_texts",
    "scan_pii",
]

_HOMES: Final = {
    "TYPES": "kinds",
    "PersonalDataType": "kinds",
    "PiiFinding": "kinds",
    "PiiScan": "kinds",
    "Span": "kinds",
    "find_personal_data": "detect",
    "keyed_digest": "tags",
    "redact_rows": "rows",
    "redact_texts": "tags",
    "scan_pii": "scan",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
