"""Personal data and secrets: find them, replace them, say what was looked for."""

from __future__ import annotations

from finetuning.pii.detect import find_personal_data
from finetuning.pii.keyed import keyed_digest
from finetuning.pii.kinds import TYPES, PersonalDataType, Span
from finetuning.pii.redaction import redact_rows, redact_texts

__all__ = [
    "TYPES",
    "PersonalDataType",
    "Span",
    "find_personal_data",
    "keyed_digest",
    "redact_rows",
    "redact_texts",
]
