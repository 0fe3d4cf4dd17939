"""Which metrics fit the references, and their scores per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from finetuning.errors import UnknownNameError
from finetuning.evaluation.metrics import text

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
        Metric("accuracy", text.label_match),
        Metric("macro_f1", None),
        Metric("exact_match", text.exact_match),
        Metric("json_match", text.json_match),
        Metric("json_parse_rate", text.json_parses),
        Metric("json_field_f1", text.json_field_f1),
        Metric("token_f1", text.token_f1),
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
    if all(found and isinstance(value, dict | list) for found, value in map(_json, references)):
        return "json"
    distinct = {text.label(reference) for reference in references}
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


def _json(reference: str) -> tuple[bool, object]:
    return text.parse_json(reference)
