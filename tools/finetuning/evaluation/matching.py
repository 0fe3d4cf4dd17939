"""Scores of one answer that take more than a comparison of texts: numbers, calls, overlap.

Every score is 0..1 and symmetric in nothing: the reference comes first, the answer second.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from finetuning.records import Json

# --- numbers ---------------------------------------------------------------------------------

_NUMBER: Final = re.compile(
    r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+\u2212]?\.\d+"
)
_AROUND: Final = " \t\n$€£¥%"
TOLERANCE: Final = 1e-6
"""Relative difference of two numbers that count as equal."""


def number_of(text: str) -> float | None:
    """Return the number that a text is (currency, percent and thousands commas aside)."""
    bare = unicodedata.normalize("NFKC", text).strip(_AROUND).rstrip(".")
    return _value(bare) if _NUMBER.fullmatch(bare) else None


def number_match(reference: str, output: str) -> float:
    """Return 1.0 where the answer's number, or the last one it names, is the reference.

    "So the total is 1,250.00 euros." names 1250; the last number counts, as in GSM8K's scoring.
    """
    right, found = number_of(reference), number_of(output)
    if found is None:
        named = _NUMBER.findall(unicodedata.normalize("NFKC", output))
        found = _value(named[-1]) if named else None
    if right is None or found is None:
        return 0.0
    return float(math.isclose(right, found, rel_tol=TOLERANCE, abs_tol=1e-12))


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("\u2212", "-"))


# --- calls of tools --------------------------------------------------------------------------


def tool_calls_text(message: Mapping[str, Json]) -> str:
    """Return a chat message's tool calls as JSON that :func:`tool_call_match` reads, or ``""``.

    Args:
        message: An assistant's message in OpenAI's form; arguments may be text or an object.
    """
    found = [_call(entry) for entry in _objects(message.get("tool_calls"))]
    calls = [{"name": name, "arguments": given} for name, given in filter(None, found)]
    return json.dumps(calls, ensure_ascii=False) if calls else ""


def calls_of(text: str) -> list[tuple[str, str]] | None:
    """Return name and canonical arguments of each call that a text holds, or None for no calls."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and "tool_calls" in value:
        value = cast("dict[str, Any]", value)["tool_calls"]
    given: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    calls = [_call(entry) for entry in _objects(given)]
    if not calls or not all(calls) or len(calls) != len(given):
        return None
    return [(name, _canonical(arguments)) for name, arguments in filter(None, calls)]


def tool_call_match(reference: str, output: str) -> float:
    """Return 1.0 where the same tools are called with the same arguments, order aside."""
    right, found = calls_of(reference), calls_of(output)
    return float(right is not None and found is not None and Counter(right) == Counter(found))


def tool_name_match(reference: str, output: str) -> float:
    """Return 1.0 where the same tools are called, whatever their arguments."""
    right, found = calls_of(reference), calls_of(output)
    if right is None or found is None:
        return 0.0
    return float(Counter(name for name, _ in right) == Counter(name for name, _ in found))


def _objects(value: Any) -> list[dict[str, Any]]:
    entries = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]


def _call(entry: Mapping[str, Any]) -> tuple[str, Any] | None:
    inner = entry.get("function")
    call = cast("Mapping[str, Any]", inner) if isinstance(inner, dict) else entry
    name, given = call.get("name"), call.get("arguments")
    if not isinstance(name, str) or "arguments" not in call:
        return None
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return name, given
    return name, given


def _canonical(value: Any) -> str:
    return json.dumps(_numbers(value), sort_keys=True, ensure_ascii=False)


def _numbers(value: Any) -> Any:
    """Make 1 and 1.0 one number, at any depth that :mod:`json` could read."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in cast("list[Any]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --- the form of JSON ------------------------------------------------------------------------


def same_schema(right: Any, found: Any) -> bool:
    """Tell whether two JSON values have the same keys and kinds of values.

    Each entry of a list must have the form of one of the reference's entries.
    """
    if isinstance(right, dict):
        if not isinstance(found, dict) or set(cast("dict[str, Any]", found)) != set(
            cast("dict[str, Any]", right)
        ):
            return False
        fields = cast("dict[str, Any]", right)
        return all(same_schema(fields[key], found[key]) for key in fields)
    if isinstance(right, list):
        forms = cast("list[Any]", right)
        return isinstance(found, list) and all(
            not forms or any(same_schema(form, entry) for form in forms)
            for entry in cast("list[Any]", found)
        )
    return _kind(right) == _kind(found)


def _kind(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


# --- overlap of texts ------------------------------------------------------------------------


def rouge_l(reference: Sequence[str], output: Sequence[str]) -> float:
    """Return ROUGE-L: F1 of the longest common subsequence of words.

    Args:
        reference: Words of the reference.
        output: Words of the answer.

    Source: C.-Y. Lin, "ROUGE", 2004; equals rouge-score's rougeL without stemming on ASCII.
    """
    if not reference or not output:
        return 0.0
    shared = _common_subsequence(reference, output)
    return 2 * shared / (len(reference) + len(output))


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return its length; one big integer holds a row of the table (Hyyrö 2004, from memory)."""
    places: dict[str, int] = {}
    for k, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << k
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(first) - row.bit_count()


CHRF_ORDER, CHRF_BETA = 6, 2


def chrf(reference: str, output: str) -> float:
    """Return chrF: F2 over runs of 1 to 6 characters, white space left out.

    Source: M. Popović, "chrF", 2015; equals sacrebleu's sentence score (over 100).
    """
    right, found = "".join(reference.split()), "".join(output.split())
    precision = recall = 0.0
    orders = 0
    for size in range(1, CHRF_ORDER + 1):
        wanted, given = _runs(right, size), _runs(found, size)
        if not wanted or not given:
            break
        shared = (wanted & given).total()
        precision += shared / given.total()
        recall += shared / wanted.total()
        orders += 1
    if not precision + recall:
        return 0.0
    precision, recall, weight = precision / orders, recall / orders, CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def _runs(text: str, size: int) -> Counter[str]:
    return Counter(text[k : k + size] for k in range(len(text) - size + 1))


def normalise(text: str) -> str:
    """Return text with composed characters and single spaces, as exact match compares it."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def parse_json(text: str) -> tuple[bool, Json]:
    """Return whether the text is one strict JSON value, and that value."""
    try:
        return True, json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False, None


def json_match(reference: str, output: str) -> float:
    """Return 1.0 where both are the same JSON value, key order and spacing aside."""
    (known, right), (parsed, found) = parse_json(reference), parse_json(output)
    return float(known and parsed and _leaves(right) == _leaves(found))


def json_parses(_reference: str, output: str) -> float:
    """Return 1.0 where the answer is strict JSON."""
    return float(parse_json(output)[0])


def json_field_f1(reference: str, output: str) -> float:
    """Return the F1 over (path, value) pairs of the two JSON values, 0..1."""
    (known, right), (parsed, found) = parse_json(reference), parse_json(output)
    return bag_f1(_leaves(right), _leaves(found)) if known and parsed else 0.0


def json_schema_valid(reference: str, output: str) -> float:
    """Return 1.0 where the answer is JSON with the reference's keys and kinds of values."""
    (known, right), (parsed, found) = parse_json(reference), parse_json(output)
    return float(known and parsed and same_schema(right, found))


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _leaves(value: Json) -> Counter[tuple[str, str]]:
    """Return every leaf with its path; 1 and 1.0 are one number, true is not 1."""
    found: Counter[tuple[str, str]] = Counter()
    queue: list[tuple[str, Any]] = [("", value)]
    while queue:
        path, item = queue.pop()
        if isinstance(item, dict) and item:
            fields = cast("dict[str, Any]", item)
            for name, inner in fields.items():
                queue.append((f"{path}/{name.replace('~', '~0').replace('/', '~1')}", inner))
        elif isinstance(item, list) and item:
            entries = cast("list[Any]", item)
            queue += [(f"{path}/{k}", inner) for k, inner in enumerate(entries)]
        else:
            found[path, _leaf(item)] += 1
    return found


def _leaf(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(normalise(value) if isinstance(value, str) else value, ensure_ascii=False)


def bag_f1(right: Counter[Any], found: Counter[Any]) -> float:
    """Return the overlap of two bags as F1, 1.0 where both are empty."""
    if not right and not found:
        return 1.0
    shared = (right & found).total()
    return 2 * shared / (right.total() + found.total())
