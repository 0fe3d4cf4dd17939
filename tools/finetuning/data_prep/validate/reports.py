"""Collects the findings of one row, and says what a value is without showing it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from finetuning.data_prep.validate.codes import finding
from finetuning.records import Finding, Json, Severity

_SHOWN_NAME: Final = re.compile(r"[\w.:$-]{1,32}")
"""Roles and keys may be shown, but only if they look like names, not like row text."""


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
        for key in row:
            if key not in known:
                message = f"the format has no key {shown(key)} here"
                self.add("unknown_key", pointer(base, key), message, severity=severity)
