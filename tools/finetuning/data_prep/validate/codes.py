"""The closed list of finding codes: what each means, an example, and the fix."""

from __future__ import annotations

from typing import Final

from finetuning.data_prep.validate.codes_file import FILE_CODES
from finetuning.data_prep.validate.codes_rows import ROW_CODES
from finetuning.files import Code
from finetuning.records import Finding, Severity

CODES: Final[dict[str, Code]] = FILE_CODES | ROW_CODES
"""Every code that ``validate_jsonl`` and the readers can return, in the order of the docs.

The severity is the usual one; a target whose provider is stricter or laxer sets its own.
"""


def finding(
    code: str,
    message: str,
    *,
    line: int | None = None,
    field: str | None = None,
    severity: Severity | None = None,
) -> Finding:
    """Return a finding of the closed list, with the list's severity and fix."""
    entry = CODES[code]
    return Finding(
        line=line,
        field=field,
        code=code,
        severity=severity or entry.severity,
        message=message,
        fix=entry.fix,
    )
