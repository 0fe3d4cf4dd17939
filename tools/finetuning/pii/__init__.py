"""Personal data and secrets: find them, replace them, say what was looked for."""

from __future__ import annotations

from finetuning.pii.detect import find_personal_data
from finetuning.pii.keyed import keyed_digest
from finetuning.pii.kinds import TYPES, PersonalDataType, Span
from finetuning.pii.redaction import redact_rows, redact_texts
from finetuning.pii.results import PiiFinding, PiiScan
from finetuning.pii.scan import scan_pii

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
