"""Metrics of answers: chosen by what the references look like, right in every script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from finetuning.errors import UnknownNameError
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.matching import (
    bag_f1,
    calls_of,
    chrf,
    json_field_f1,
    json_match,
    json_parses,
    json_schema_valid,
    normalise,
    number_match,
    number_of,
    parse_json,
    rouge_l,
    tool_call_match,
    tool_name_match,
)
from finetuning.evaluation.results import Flip
from finetuning.evaluation.targets import MISSING, Answer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Answers = Mapping[str, Answer]

# One token is a run of letters and digits, or a single character of a script that does not
# put spaces between words (Chinese, Japanese kana, Thai, Lao, Khmer, Burmese).
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"

_TOKEN: Final = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")


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
    return bag_f1(Counter(tokens(reference)), Counter(tokens(output)))


def longest_common_words(reference: str, output: str) -> float:
    """Return ROUGE-L over Unicode words, 0..1."""
    return rouge_l(tokens(reference), tokens(output))


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


NLL_DIGITS = 5
"""Likelihoods are compared to this many digits: below is rounding noise of batches."""


def row_scores(metric: Metric, questions: Sequence[Question], answers: Answers) -> list[float]:
    """Return one score per question; a missing answer scores 0.

    Args:
        metric: A metric that is a mean over rows, or ``nll`` (questions must all have one).
        questions: The rows.
        answers: id → answer.
    """
    found = [answers.get(question.id, MISSING) for question in questions]
    if metric.needs == "nll":
        return [round(answer.nll or 0.0, NLL_DIGITS) for answer in found]
    score = metric.score or _no_score
    return [
        0.0 if answer.text is None else score(question.reference, answer.text)
        for question, answer in zip(questions, found, strict=True)
    ]


def scorable(metric: Metric, questions: Sequence[Question], *sides: Answers) -> list[Question]:
    """Return the questions that this metric can compare: all, or those scored on every side."""
    if metric.needs == "text":
        return list(questions)
    return [
        question
        for question in questions
        if all(side.get(question.id, MISSING).nll is not None for side in sides)
    ]


def _no_score(_reference: str, _output: str) -> float:
    return 0.0


def flips_of(
    metric: Metric, questions: Sequence[Question], base: Answers, tuned: Answers
) -> list[Flip]:
    """Return the rows whose score changed, the most harmed first."""
    if metric.score is None and metric.needs == "text":
        metric = METRICS["accuracy"]
    rows = scorable(metric, questions, base, tuned)
    both = (row_scores(metric, rows, side) for side in (base, tuned))
    scores = zip(rows, *both, strict=True)
    sign = 1 if metric.higher_is_better else -1
    changed = [(sign * (b - a), q, a, b) for q, a, b in scores if a != b]
    changed.sort(key=lambda item: (item[0], item[1].line))
    return [
        Flip.model_validate({"id": question.id, "line": question.line, "from": before, "to": after})
        for _, question, before, after in changed
    ]
