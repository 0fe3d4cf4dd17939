"""Reads one line as strict JSON and names exactly what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, cast

from finetuning.data_prep.validate.reports import RowReport, kind, pointer, shown
from finetuning.records import Json

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_OVERLONG: Final = re.compile(rb"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_CESU8: Final = re.compile(rb"\xed[\xa0-\xbf]")
MAX_DEPTH: Final = 100
"""Levels of brackets that are read, as in protobuf's JSON parser (checked 2026-11-20)."""
_LINE_ENDS: Final = ("\u2028", "\u2029", "\u0085")


class _Twins(dict[str, Any]):
    """An object in which keys stood twice."""

    repeated: list[str]


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    names = [key for key, _ in pairs]
    twins = _Twins(value)
    twins.repeated = [key for key in value if names.count(key) > 1]
    return twins


class _Constant(float):
    """NaN or an infinity that was written as such."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_Constant)


def walk(value: Json) -> Iterator[tuple[str, Json, int]]:
    """Yield every value below with its JSON Pointer and depth, parents first."""
    stack: list[tuple[str, Json, int]] = [("", value, 0)]
    while stack:
        place, item, depth = stack.pop()
        yield place, item, depth
        if isinstance(item, dict):
            fields = cast("dict[str, Json]", item)
            stack += [(pointer(place, key), fields[key], depth + 1) for key in reversed(fields)]
        elif isinstance(item, list):
            parts = cast("list[Json]", item)
            last = len(parts) - 1
            stack += [(f"{place}/{at}", parts[at], depth + 1) for at in range(last, -1, -1)]


def _encoding_fault(raw: bytes, error: UnicodeDecodeError, report: RowReport) -> None:
    place = f"byte {error.start + 1} of the line"
    around = raw[error.start : error.start + 6]
    if _CESU8.match(around):
        report.add("cesu8", None, f"a surrogate as three bytes at {place}")
    elif _OVERLONG.match(around):
        report.add("overlong_utf8", None, f"an overlong sequence at {place}")
    else:
        report.add("invalid_utf8", None, f"0x{raw[error.start]:02x} at {place} is not UTF-8")


def _extra_data(rest: str) -> tuple[str, str]:
    if rest.startswith(("//", "/*", "#")):
        return "json_comment", "a comment follows the row"
    if rest == ",":
        return "trailing_comma", "a comma follows the row"
    if rest.lstrip(", ").startswith(("{", "[")):
        return "several_objects", "another value follows the first on the same line"
    return "json_invalid", f"{len(rest)} characters follow the row"


def _syntax_fault(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    """Return the code and the message of a JSON syntax error."""
    place = f"at character {error.pos + 1} of {len(text)}"
    rest = text[error.pos :]
    if error.msg.startswith("Extra data"):
        return _extra_data(rest)
    if error.msg.startswith("Invalid control"):
        return "control_character", f"U+{ord(rest[0]):04X} {place} stands raw in a string"
    if error.msg.startswith("Unterminated") or not rest.strip():
        return "truncated_json", f"the row breaks off {place}"
    if rest.startswith("'"):
        return "single_quotes", f"a single quote {place}"
    if rest.startswith(("None", "True", "False")):
        return "python_literal", f"a Python constant {place}"
    if rest.startswith(("//", "/*", "#")):
        return "json_comment", f"a comment {place}"
    comma = text[: error.pos].rstrip().endswith(",") or rest.startswith(",")
    if comma and rest.lstrip(", \t").startswith(("}", "]")):
        return "trailing_comma", f"a comma before the end {place}"
    return "json_invalid", f"{error.msg} {place}"


def _decode(text: str, report: RowReport) -> tuple[bool, Json]:
    """Decode a line; the flag is false where a fault was reported instead."""
    try:
        return True, _DECODER.decode(text)
    except json.JSONDecodeError as error:
        code, message = _syntax_fault(text, error)
        report.add(code, None, message)
    except RecursionError:
        report.add("too_deep", None, "more nested brackets than can be read")
    except ValueError:  # an integer of more digits than Python converts
        report.add("number_too_large", None, "an integer of more than 4,300 digits")
    return False, None


def _check_values(value: Json, report: RowReport) -> bool:
    """Report what decodes but is not JSON that others can read; False stops all checks."""
    for place, item, depth in walk(value):
        if depth > MAX_DEPTH:
            report.add("too_deep", None, f"more than {MAX_DEPTH} levels of brackets")
            return False
        if isinstance(item, _Twins):
            for key in item.repeated:
                message = f"the key {shown(key)} stands more than once"
                report.add("duplicate_key", pointer(place, key), message)
        if isinstance(item, dict):
            names = "".join(cast("dict[str, Json]", item))
            if _SURROGATE.search(names):
                report.add("lone_surrogate", place, "half a surrogate pair in a key")
        elif isinstance(item, _Constant):
            report.add("nan_literal", place, "NaN or Infinity")
        elif isinstance(item, float) and not math.isfinite(item):
            report.add("number_too_large", place, "a number that does not fit a double")
        elif isinstance(item, str):
            found = _SURROGATE.search(item)
            if found:
                message = f"U+{ord(found[0]):04X} at character {found.start() + 1}"
                report.add("lone_surrogate", place, message)
    return True


def read_row(raw: bytes, report: RowReport) -> dict[str, Json] | None:
    """Return the object on a line, or None where it cannot be read; faults go to the report.

    Args:
        raw: The line without its line end.
        report: Takes the findings about encoding and JSON.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _encoding_fault(raw, error, report)
        return None
    if any(mark in text for mark in _LINE_ENDS):
        report.add("unicode_line_end", None, "a raw U+2028, U+2029 or U+0085")
    if text.startswith("\ufeff"):
        report.add("utf8_bom", None, "a byte-order mark before the row", severity="error")
    bare = text.lstrip("\ufeff").strip(" \t\r\n")
    if "\0" in bare:
        report.add("nul_character", None, f"{bare.count(chr(0))} NUL bytes in the row")
        return None
    readable, value = _decode(bare, report)
    if not readable:
        return None
    if not _check_values(value, report):
        return None
    if not isinstance(value, dict):
        report.add("not_object", None, f"the row is a JSON {kind(value)}, not an object")
        return None
    return cast("dict[str, Json]", value)
