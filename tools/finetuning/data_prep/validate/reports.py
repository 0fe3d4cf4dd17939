"""Findings: the closed list of codes, those of one row, by the limits, of its tools and calls.

Values are told by type and size, never shown.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from finetuning.data_prep.targets import ChatRules
from finetuning.data_prep.validate import Limits
from finetuning.files import READER_CODES, Code
from finetuning.records import Finding, Json, Severity

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_KEYS: Final = 50
"""Unknown keys of one object that are named one by one."""
_SHOWN_NAME: Final = re.compile(r"[\w.:$-]{1,32}")
"""Roles and keys may be shown, but only if they look like names, not like row text."""


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


def tool_names(tools: Json, place: str, report: RowReport) -> set[str] | None:
    """Check tool definitions and return their names; None where there is no list."""
    if tools is None:
        return None
    if not isinstance(tools, list):
        report.add("wrong_type", place, f"expected an array, found {describe(tools)}")
        return None
    names: set[str] = set()
    for at, tool in enumerate(cast("list[Json]", tools)):
        spot = f"{place}/{at}"
        fields = report.object(tool, spot)
        function = (fields or {}).get("function", fields)
        name = cast("dict[str, Json]", function).get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            report.add("tool_definition", spot, f"function.name is {describe(name)}")
            continue
        names.add(name)
        parameters = cast("dict[str, Json]", function).get("parameters", {})
        if not isinstance(parameters, dict):
            report.add("tool_definition", spot, f"parameters is {describe(parameters)}")
    return names


class CallBook:
    """Follows the calls of one conversation and their results."""

    def __init__(self, names: set[str] | None, rules: ChatRules, report: RowReport) -> None:
        """Start with the tools that the row defines (None: it has no list)."""
        self._names = names
        self._rules = rules
        self.report = report
        self._seen: set[str] = set()
        self._open: dict[str, str] = {}  # call id -> where it was made
        self._asked_for_tools = False

    def calls(self, calls: Json, place: str) -> None:
        """Check the calls of one answer."""
        for at, call in enumerate(self.report.items(calls, place) or []):
            self._call(call, f"{place}/{at}")
        if self._names is None and not self._asked_for_tools:
            self._asked_for_tools = True
            self.report.add("tools_missing", "/tools", "calls, but the row defines no tools")

    def _call(self, call: Json, place: str) -> None:
        fields = self.report.object(call, place)
        if fields is None:
            return
        self._id(fields.get("id"), place)
        if fields.get("type", "function") != "function":
            self.report.add("invalid_tool_call", f"{place}/type", "type is not 'function'")
        function = fields.get("function")
        if not isinstance(function, dict):
            message = f"function is {describe(function)}"
            self.report.add("invalid_tool_call", f"{place}/function", message)
            return
        self._function(cast("dict[str, Json]", function), f"{place}/function")

    def _id(self, value: Json, place: str) -> None:
        spot = f"{place}/id"
        if not isinstance(value, str) or not value:
            if self._rules.arguments == "string":  # local trainers do without ids
                self.report.add("invalid_tool_call", spot, f"the id is {describe(value)}")
            return
        wanted = self._rules.tool_id_length
        if wanted and len(value) != wanted:
            self.report.add("tool_call_id_length", spot, f"{len(value)} characters")
        if value in self._seen:
            self.report.add("duplicate_tool_call_id", spot, f"{shown(value)} stands twice")
        self._seen.add(value)
        self._open[value] = place

    def _function(self, function: Mapping[str, Json], place: str) -> None:
        name = function.get("name")
        if not isinstance(name, str) or not name:
            self.report.add("invalid_tool_call", f"{place}/name", f"it is {describe(name)}")
        elif self._names is not None and name not in self._names:
            message = f"{shown(name)} is not among the {len(self._names)} tools of the row"
            self.report.add("unknown_tool", f"{place}/name", message)
        if not self.report.need(function, "arguments", place):
            return
        self._arguments(function["arguments"], pointer(place, "arguments"))

    def _arguments(self, value: Json, place: str) -> None:
        if isinstance(value, dict) and self._rules.arguments == "either":
            return
        if not isinstance(value, str):
            self.report.add("arguments_not_string", place, f"found {describe(value)}")
            return
        try:
            decoded: Json = json.loads(value)
        except (ValueError, RecursionError):
            self.report.add("arguments_not_json", place, f"{describe(value)}, not JSON")
            return
        if not isinstance(decoded, dict):
            self.report.add("arguments_not_json", place, f"JSON, but {describe(decoded)}")

    def result(self, message: Mapping[str, Json], place: str) -> None:
        """Check one result and close its call."""
        name = message.get("tool_call_id")
        if name is None and self._rules.arguments == "either":
            return
        spot = pointer(place, "tool_call_id")
        if not isinstance(name, str):
            self.report.add("unmatched_tool_result", spot, f"the id is {describe(name)}")
        elif self._open.pop(name, None) is None:
            message_text = "no open call has this id"
            self.report.add("unmatched_tool_result", spot, message_text)

    def next_turn(self) -> None:
        """Report calls that had no result before somebody else spoke."""
        for place in self._open.values():
            self.report.add("unanswered_tool_call", place, "no result before the next turn")
        self._open.clear()
