"""Findings: the closed list of codes, those of one row, by the limits, and counted over all.

Values are told by type and size, never shown.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

from finetuning.data_prep.targets import Target
from finetuning.files import READER_CODES, Code
from finetuning.records import Finding, Json, Severity

_MOST_KEYS: Final = 50
"""Unknown keys of one object that are named one by one."""
_SHOWN_NAME: Final = re.compile(r"[\w.:$-]{1,32}")
"""Roles and keys may be shown, but only if they look like names, not like row text."""

_OPENAI_TARGETS: Final = frozenset({"openai_chat", "openai_preference", "azure_chat"})
_ROW_TOKENS_4O: Final = 65_536
"""Training context of gpt-4o and gpt-4o-mini: OpenAI's model pages (checked 2026-08-21)."""


def _load() -> dict[str, Code]:
    text = Path(__file__).parents[1].joinpath("codes.toml").read_text(encoding="utf-8")
    return READER_CODES | {
        name: Code(**entry) for name, entry in tomllib.loads(text)["findings"].items()
    }


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


def kind(value: Json) -> str:
    """Return the JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def describe(value: Json) -> str:
    """Say what a value is by type and size, never by content."""
    name = kind(value)
    if name in {"null", "boolean", "number"}:
        return {"null": "null", "boolean": "a boolean", "number": "a number"}[name]
    size = len(cast("list[Json]", value))
    unit = {"string": "characters", "array": "items", "object": "keys"}[name]
    return f"{'an' if name != 'string' else 'a'} {name} of {size} {unit}"


def shown(name: str) -> str:
    """Return a role or key in quotes if it is a name, else its length."""
    return repr(name) if _SHOWN_NAME.fullmatch(name) else f"a string of {len(name)} characters"


def pointer(base: str, *steps: str | int) -> str:
    """Return a JSON Pointer below ``base``."""
    return base + "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


class RowReport:
    """The findings of one row, in the order they were met."""

    def __init__(self, line: int | None = None) -> None:
        """Start with no finding."""
        self.line = line
        self.findings: list[Finding] = []

    def add(
        self, code: str, field: str | None, message: str, *, severity: Severity | None = None
    ) -> None:
        """Add one finding of the closed list."""
        self.findings.append(finding(code, message, line=self.line, field=field, severity=severity))

    def text(self, value: Json, field: str, *, empty: Severity | None = "error") -> str | None:
        """Return a value that must be a string, or report it.

        Args:
            value: The value found.
            field: Its JSON Pointer.
            empty: Severity of an empty or blank string; None allows it.
        """
        if not isinstance(value, str):
            self.add("wrong_type", field, f"expected a string, found {describe(value)}")
            return None
        if empty and not value.strip():
            self.add("empty_content", field, f"{describe(value)}, all blank", severity=empty)
        return value

    def items(self, value: Json, field: str) -> list[Json] | None:
        """Return a value that must be a non-empty array, or report it."""
        if not isinstance(value, list):
            self.add("wrong_type", field, f"expected an array, found {describe(value)}")
            return None
        if not value:
            self.add("empty_list", field, "the array has no items")
        return cast("list[Json]", value)

    def object(self, value: Json, field: str) -> Mapping[str, Json] | None:
        """Return a value that must be an object, or report it."""
        if not isinstance(value, dict):
            self.add("wrong_type", field, f"expected an object, found {describe(value)}")
            return None
        return cast("Mapping[str, Json]", value)

    def need(self, row: Mapping[str, Json], key: str, base: str) -> bool:
        """Say whether a key is there; report it if not."""
        if key in row:
            return True
        self.add("missing_key", pointer(base, key), f"the key {key!r} is missing")
        return False

    def only(
        self, row: Mapping[str, Json], known: frozenset[str], base: str, severity: Severity | None
    ) -> None:
        """Report keys outside ``known``; ``severity`` None allows any."""
        if severity is None:
            return
        others = [key for key in row if key not in known]
        for key in others[:_MOST_KEYS]:
            message = f"the format has no key {shown(key)} here"
            self.add("unknown_key", pointer(base, key), message, severity=severity)
        if len(others) > _MOST_KEYS:
            message = f"nor {len(others) - _MOST_KEYS} more keys of this object"
            self.add("unknown_key", base or None, message, severity=severity)


class Limits(NamedTuple):
    """Limits that hold for one call, after the model has had its say."""

    min_rows: int | None
    advised_rows: int | None
    max_rows: int | None
    max_bytes: int | None
    row_tokens: int | None
    long_row_fails: bool


def limits_for(target: Target, model: str | None) -> Limits:
    """Return the limits of a target, changed where the model is known to differ.

    Llama 3.x on Bedrock: 100 to 10,000 rows of 16,000 tokens (90B: 10,000); OpenAI's 4o family:
    65,536 tokens. Sources: ``targets.TARGETS`` (checked 2026-11-20).
    """
    name = (model or "").lower()
    limits = Limits(
        target.min_rows,
        target.advised_rows,
        target.max_rows,
        target.max_bytes,
        target.max_row_tokens,
        target.long_row == "fails",
    )
    if target.name == "bedrock_converse" and "llama" in name:
        tokens = 10_000 if "90b" in name else 16_000
        return limits._replace(min_rows=100, max_rows=10_000, row_tokens=tokens)
    if target.name in _OPENAI_TARGETS and "gpt-4o" in name:
        return limits._replace(row_tokens=_ROW_TOKENS_4O)
    return limits


def check_length(line: int, tokens: int, limits: Limits, *, exact: bool) -> Finding | None:
    """Return a finding for a row over the model's limit.

    A count that is not exact fails a row only if it is over the limit by its whole band.
    """
    limit = limits.row_tokens
    if limit is None or tokens <= limit:
        return None
    sure = exact or tokens * 0.7 > limit
    return finding(
        "tokens_over_limit",
        f"{'' if exact else 'about '}{tokens} tokens; the limit is {limit}",
        line=line,
        severity="error" if limits.long_row_fails and sure else "warning",
    )


class FindingTally:
    """All findings of a file pass through here, in order."""

    def __init__(self, limit: int | None, offset: int, stream: IO[bytes] | None) -> None:
        """Start at nothing.

        Args:
            limit: Most findings to keep; None keeps all.
            offset: Findings to skip before keeping.
            stream: Takes every finding as a JSON line, if given.
        """
        self._first = offset
        self._end = None if limit is None else offset + limit
        self._stream = stream
        self.counts: Counter[str] = Counter()
        self.n_errors = 0
        self.n_warnings = 0
        self.kept: list[Finding] = []

    @property
    def total(self) -> int:
        """Findings so far."""
        return self.n_errors + self.n_warnings

    @property
    def next_offset(self) -> int | None:
        """Offset of the next page, None where there is none."""
        return self._end if self._end is not None and self._end < self.total else None

    def add(self, found: Iterable[Finding]) -> None:
        """Count findings, keep those of the page, write all."""
        for item in found:
            if self._first <= self.total and (self._end is None or self.total < self._end):
                self.kept.append(item)
            self.counts[item.code] += 1
            if item.severity == "error":
                self.n_errors += 1
            else:
                self.n_warnings += 1
            if self._stream is not None:
                self._stream.write(item.model_dump_json().encode() + b"\n")
