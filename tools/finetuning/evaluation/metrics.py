"""Metrics of answers: chosen by what the references look like, right in every script."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from finetuning.errors import UnknownNameError
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.matching import (
    calls_of,
    chrf,
    number_match,
    number_of,
    rouge_l,
    same_schema,
    tool_call_match,
    tool_name_match,
)
from finetuning.evaluation.targets import MISSING, Answer
from finetuning.records import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Answers = Mapping[str, Answer]

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


def json_schema_valid(reference: str, output: str) -> float:
    """Return 1.0 where the answer is JSON with the reference's keys and kinds of values."""
    (known, right), (parsed, found) = parse_json(reference), parse_json(output)
    return float(known and parsed and same_schema(right, found))


def longest_common_words(reference: str, output: str) -> float:
    """Return ROUGE-L over Unicode words, 0..1."""
    return rouge_l(tokens(reference), tokens(output))


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


ReferenceKind = Literal["labels", "tool_calls", "json", "numbers", "short", "long"]
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
        Metric("json_schema_valid", json_schema_valid),
        Metric("tool_call_match", tool_call_match),
        Metric("tool_name_match", tool_name_match),
        Metric("number_match", number_match),
        Metric("token_f1", token_f1),
        Metric("rouge_l", longest_common_words),
        Metric("chrf", chrf),
        Metric("nll", None, higher_is_better=False, needs="nll"),
    )
}

_BY_KIND: Final[dict[ReferenceKind, tuple[str, ...]]] = {
    "labels": ("accuracy", "macro_f1", "nll"),
    "tool_calls": ("tool_call_match", "tool_name_match", "json_parse_rate", "nll"),
    "json": ("json_match", "json_field_f1", "json_schema_valid", "json_parse_rate", "nll"),
    "numbers": ("number_match", "nll"),
    "short": ("exact_match", "token_f1", "nll"),
    "long": ("rouge_l", "chrf", "nll"),
}


def kind_of(references: Sequence[str]) -> ReferenceKind:
    """Return what the references look like: labels, tool calls, JSON, numbers or text."""
    if all(calls_of(reference) for reference in references):
        return "tool_calls"
    if all(ok and isinstance(value, dict | list) for ok, value in map(parse_json, references)):
        return "json"
    distinct = {label(reference) for reference in references}
    longest = max(map(len, distinct))
    repeated = len(references) >= _FEWEST_ROWS_PER_LABEL * len(distinct)
    if len(distinct) <= MOST_LABELS and longest <= _MOST_LABEL_CHARACTERS and repeated:
        return "labels"
    if all(number_of(reference) is not None for reference in references):
        return "numbers"
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


_MATCHERS: Final = {
    "json": "json_match",
    "tool_calls": "tool_call_match",
    "numbers": "number_match",
}


def matcher_for(references: Sequence[str]) -> Metric:
    """Return the exact-match metric that fits the references."""
    kind = kind_of(references)
    return METRICS[_MATCHERS.get(kind, "exact_match")]


def short_references(references: Sequence[str]) -> bool:
    """Say whether answers are short enough for exact match to mean something."""
    return kind_of(references) != "long"


def label_counts(
    questions: Sequence[Question], base: Answers, tuned: Answers
) -> tuple[Floats, Floats]:
    """Return true positives, false positives and false negatives of each gold label, per row."""
    import numpy as np

    names = sorted({label(question.reference) for question in questions})
    place = {name: k for k, name in enumerate(names)}
    sides: list[Floats] = []
    for answers in (base, tuned):
        counts = np.zeros((len(questions), 3, len(names)))
        for row, question in enumerate(questions):
            right = place[label(question.reference)]
            said = place.get(label(answers.get(question.id, MISSING).text or ""))
            if said == right:
                counts[row, 0, right] = 1
                continue
            counts[row, 2, right] = 1
            if said is not None:
                counts[row, 1, said] = 1
        sides.append(counts.reshape(len(questions), -1))
    return sides[0], sides[1]


def macro_f1(sums: Floats) -> Floats:
    """Return the mean F1 over the gold labels that occur, shape (draws,).

    Args:
        sums: True positives, false positives and false negatives side by side, (draws, 3 labels).
    """
    import numpy as np

    true, false, missed = np.split(sums, 3, axis=1)
    parts = 2 * true + false + missed
    f1 = np.divide(2 * true, parts, out=np.zeros_like(parts), where=parts > 0)
    occurs = (true + missed) > 0
    return np.asarray((f1 * occurs).sum(axis=1) / np.maximum(1, occurs.sum(axis=1)))
