"""Metrics: chosen by what the references look like, scored row by row, right in every script."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from finetuning.errors import UnknownNameError
from finetuning.records import Json

# One token is a run of letters and digits, or a single character of a script that does not
# put spaces between words (Chinese, Japanese kana, Thai, Lao, Khmer, Burmese).
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN: Final = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")


def normalise(text: str) -> str:
    """Return text with composed characters and single spaces, as exact match compares it."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def tokens(text: str) -> list[str]:
    """Return words in lower case; scripts without spaces give one token a character."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def exact_match(reference: str, output: str) -> float:
    """Return 1.0 where the answer is the reference, white space aside."""
    return float(normalise(reference) == normalise(output))


def label_match(reference: str, output: str) -> float:
    """Return 1.0 where the answer is the reference label, letter case and space aside."""
    return float(label(reference) == label(output))


def label(text: str) -> str:
    """Return a label as :func:`label_match` compares it."""
    return normalise(text).casefold()


def token_f1(reference: str, output: str) -> float:
    """Return the overlap of words as F1, 0..1 (bag of words, as in SQuAD, but Unicode)."""
    return _bag_f1(Counter(tokens(reference)), Counter(tokens(output)))


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
    return _bag_f1(_leaves(right), _leaves(found)) if known and parsed else 0.0


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


def _bag_f1(right: Counter[Any], found: Counter[Any]) -> float:
    if not right and not found:
        return 1.0
    shared = (right & found).total()
    return 2 * shared / (right.total() + found.total())


ReferenceKind = Literal["labels", "json", "short", "long"]

MOST_LABELS: Final = 20
_MOST_LABEL_CHARACTERS, _MOST_SHORT_CHARACTERS, _FEWEST_ROWS_PER_LABEL = 60, 80, 2


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to score.

    Attributes:
        name: Its name in results.
        score: Score of one answer, or None where the metric is not a mean over rows.
        higher_is_better: Direction.
        needs: Whether it reads the answer's text or its likelihood.
    """

    name: str
    score: Callable[[str, str], float] | None
    higher_is_better: bool = True
    needs: Literal["text", "nll"] = "text"


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", label_match),
        Metric("macro_f1", None),
        Metric("exact_match", exact_match),
        Metric("json_match", json_match),
        Metric("json_parse_rate", json_parses),
        Metric("json_field_f1", json_field_f1),
        Metric("token_f1", token_f1),
        Metric("nll", None, higher_is_better=False, needs="nll"),
    )
}

_BY_KIND: Final[dict[ReferenceKind, tuple[str, ...]]] = {
    "labels": ("accuracy", "macro_f1", "nll"),
    "json": ("json_match", "json_field_f1", "json_parse_rate", "nll"),
    "short": ("exact_match", "token_f1", "nll"),
    "long": ("token_f1", "nll"),
}


def kind_of(references: Sequence[str]) -> ReferenceKind:
    """Return what the references look like: labels, JSON, short or long text."""
    if all(ok and isinstance(value, dict | list) for ok, value in map(parse_json, references)):
        return "json"
    distinct = {label(reference) for reference in references}
    longest = max(map(len, distinct))
    repeated = len(references) >= _FEWEST_ROWS_PER_LABEL * len(distinct)
    if len(distinct) <= MOST_LABELS and longest <= _MOST_LABEL_CHARACTERS and repeated:
        return "labels"
    usual = sorted(map(len, references))[len(references) // 2]
    return "short" if usual <= _MOST_SHORT_CHARACTERS else "long"


def choose_metrics(wanted: str | Sequence[str], references: Sequence[str]) -> list[Metric]:
    """Return the metrics to report, the one that decides first.

    Args:
        wanted: ``auto``, or names (a list, or one text with commas).
        references: The references of all rows.

    Raises:
        UnknownNameError: A name is not a metric.
    """
    if wanted in ("auto", ["auto"]):
        return [METRICS[name] for name in _BY_KIND[kind_of(references)]]
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    chosen: dict[str, Metric] = {}
    for name in (raw.strip() for raw in names):
        if name not in METRICS:
            raise UnknownNameError("compare_eval: metrics", "metric", name, [*METRICS, "auto"])
        chosen[name] = METRICS[name]
    return list(chosen.values()) or choose_metrics("auto", references)


def matcher_for(references: Sequence[str]) -> Metric:
    """Return the exact-match metric that fits the references."""
    if kind_of(references) == "json":
        return METRICS["json_match"]
    return METRICS["exact_match"]


def short_references(references: Sequence[str]) -> bool:
    """Say whether answers are short enough for exact match to mean something."""
    return kind_of(references) != "long"
