"""Faults that a row of any format can have: in its bytes, in its JSON, in its texts.

A line is read as strict JSON, and what is wrong with it is named exactly; then its texts are
looked through for what harms quality or fails a Bedrock job.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, cast

from finetuning.data_prep.validate.reports import RowReport, kind, pointer, shown
from finetuning.data_prep.validate.typed import REFUSAL
from finetuning.records import Json

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_OVERLONG: Final = re.compile(rb"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_CESU8: Final = re.compile(rb"\xed[\xa0-\xbf]")
MAX_DEPTH: Final = 100
"""Levels of brackets that are read, as in protobuf's JSON parser (checked 2026-11-20)."""
_LINE_ENDS: Final = ("\u2028", "\u2029", "\u0085")
_MOJIBAKE: Final = re.compile(
    "[ÃÂ][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    "|â€|ï»¿|ðŸ|\ufffd"
)
_INVISIBLE: Final = re.compile(
    "[\u00ad\u200b\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SPECIAL: Final = re.compile(
    r"<\|[a-z0-9_▁]{2,32}\|>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
_RESERVED: Final = re.compile(r"(?:User|Bot|Assistant|System|Thought):|<image>|<video>|\[EOS\]")
"""Words of the aws-samples Nova validator @7a8cfea and the Bedrock guide (checked 2026-11-20)."""

_CHECKS: Final = (
    ("mojibake", _MOJIBAKE),
    ("invisible_character", _INVISIBLE),
    ("control_in_text", _CONTROL),
    ("special_token", _SPECIAL),
)

_ANSWER_ROLES: Final = frozenset({"assistant", "model", "chatbot", "gpt", "bot"})
_ANSWER_KEYS: Final = frozenset({"completion", "chosen", "output", "preferred_output"})
_NOT_ANSWERS: Final = frozenset({"rejected", "non_preferred_output", "prompt", "instruction"})
_NOT_TEXTS: Final = frozenset(
    {"url", "uri", "fileUri", "mimeType", "id", "tool_call_id", "type", "role", "from", "format"}
)

_FLAG: Final = "\U0001f3f4"
"""The black flag: tag characters after it spell the flags of England, Scotland and Wales."""


class _Twins(dict[str, Any]):
    """An object in which keys stood twice."""

    repeated: list[str]


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    times = Counter(key for key, _ in pairs)
    twins = _Twins(value)
    twins.repeated = [key for key in value if times[key] > 1]
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
    if rest.lstrip(", \t\v\f\x85\u2028\u2029").startswith(("{", "[")):
        return "several_objects", "another value follows the first on the same line"
    return "json_invalid", f"{len(rest)} characters follow the row"


_HALF: Final = re.compile(
    r"u[0-9a-fA-F]{0,3}|\\\\?(?:u[0-9a-fA-F]{0,3})?|n|nu|nul|t|tr|tru|f|fa|fal|fals|-"
)
"""What is left of an escape, a constant or a number where a row breaks off inside it."""


def _syntax_fault(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    """Return the code and the message of a JSON syntax error."""
    place = f"at character {error.pos + 1} of {len(text)}"
    rest = text[error.pos :]
    if error.msg.startswith("Extra data"):
        return _extra_data(rest)
    if error.msg.startswith("Invalid control"):
        return "control_character", f"U+{ord(rest[0]):04X} {place} stands raw in a string"
    if error.msg.startswith("Unterminated") or not rest.strip() or _HALF.fullmatch(rest):
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


def _side(fields: dict[str, Json], answer: bool) -> bool:
    """Say whether the texts of an object are answers, by its role where it has one."""
    role = fields.get("role", fields.get("from"))
    return role.lower() in _ANSWER_ROLES if isinstance(role, str) else answer


def _leaves(row: dict[str, Json]) -> Iterator[tuple[str, str, bool]]:
    """Yield every text with its pointer, and whether it is an answer to learn."""
    stack: list[tuple[str, Json, bool]] = [("", row, False)]
    while stack:
        place, item, answer = stack.pop()
        if isinstance(item, str):
            yield place, item, answer
        elif isinstance(item, list):
            parts = cast("list[Json]", item)
            stack += [(f"{place}/{at}", part, answer) for at, part in enumerate(parts)]
        elif isinstance(item, dict):
            fields = cast("dict[str, Json]", item)
            mine = _side(fields, answer)
            for key in fields.keys() - _NOT_TEXTS:
                learns = (mine or key in _ANSWER_KEYS) and key not in _NOT_ANSWERS
                stack.append((pointer(place, key), fields[key], learns))


def _check_text(text: str, place: str, report: RowReport) -> None:
    for code, pattern in _CHECKS:
        found = pattern.search(text)
        if not found or (found[0] >= "\U000e0000" and _FLAG in text):
            continue
        sign = f"U+{ord(found[0][0]):04X}" if code != "special_token" else "a control token"
        report.add(code, place, f"{sign} at character {found.start() + 1} of {len(text)}")


def check_texts(row: dict[str, Json], report: RowReport, *, reserved_words: bool) -> None:
    """Report mojibake, invisible characters, control tokens, refusals and reserved words.

    Args:
        row: A decoded row of any format.
        report: Takes the findings, in the order of their place.
        reserved_words: Also look for the words that fail a Bedrock job.
    """
    for place, text, answer in sorted(_leaves(row)):
        if text.startswith("data:"):
            continue
        _check_text(text, place, report)
        if answer and REFUSAL.match(text):
            report.add("refusal", place, f"an answer of {len(text)} characters that refuses")
        found = _RESERVED.search(text) if reserved_words else None
        if found:
            message = f"{found[0]!r} at character {found.start() + 1} of {len(text)}"
            report.add("reserved_word", place, message)
