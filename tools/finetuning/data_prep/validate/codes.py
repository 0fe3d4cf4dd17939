"""The closed list of finding codes: what each means, an example and the fix (``codes.toml``)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from finetuning.files import READER_CODES, Code
from finetuning.records import Finding, Severity


def _load() -> dict[str, Code]:
    text = Path(__file__).with_name("codes.toml").read_text(encoding="utf-8")
    return READER_CODES | {name: Code(**entry) for name, entry in tomllib.loads(text).items()}


CODES: Final[dict[str, Code]] = _load()
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
