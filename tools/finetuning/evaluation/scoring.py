"""Scores of every side, compared row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from finetuning.evaluation.metrics import Metric, label
from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import TaskMetric
from finetuning.evaluation.targets import MISSING, Answer
from finetuning.statistics import PairedComparison, compare_paired, compare_totals, holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Answers = Mapping[str, Answer]

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


def compare_metric(
    metric: Metric,
    questions: Sequence[Question],
    base: Answers,
    tuned: Answers,
    *,
    alpha: float,
    margin: float,
    seed: int = 0,
) -> PairedComparison | None:
    """Return the paired comparison of one metric, or None where no row can be scored.

    Args:
        metric: What to compare.
        questions: The rows; their clusters are used if they have any.
        base: Answers of the base.
        tuned: Answers of the other side.
        alpha: Two-sided error rate.
        margin: Difference that does not matter.
        seed: Seed of the draws.
    """
    rows = scorable(metric, questions, base, tuned)
    if not rows:
        return None
    names = [question.cluster or "" for question in rows]
    clusters = names if any(names) else None
    if metric.name == "macro_f1":
        sides = label_counts(rows, base, tuned)
        return compare_totals(
            *sides, macro_f1, alpha=alpha, clusters=clusters, seed=seed, smallest_effect=margin
        )
    return compare_paired(
        row_scores(metric, rows, base),
        row_scores(metric, rows, tuned),
        alpha=alpha,
        clusters=clusters,
        seed=seed,
        smallest_effect=margin,
    )


def compare_task(
    metrics: Sequence[Metric],
    questions: Sequence[Question],
    base: Answers,
    tuned: Answers,
    *,
    alpha: float,
    margin: float,
) -> list[tuple[TaskMetric, PairedComparison]]:
    """Return every metric that can be compared, with p-values over all of them."""
    found = [
        (metric, compare_metric(metric, questions, base, tuned, alpha=alpha, margin=margin))
        for metric in metrics
    ]
    kept = [(metric, result) for metric, result in found if result is not None]
    adjusted = holm([result.p for _, result in kept])
    return [
        (_entry(metric, result, p_holm), result)
        for (metric, result), p_holm in zip(kept, adjusted, strict=True)
    ]


def measure_base(
    metrics: Sequence[Metric], questions: Sequence[Question], base: Answers, *, alpha: float
) -> list[TaskMetric]:
    """Return every metric of the base alone, with its own interval."""
    entries: list[TaskMetric] = []
    for metric in metrics:
        rows = scorable(metric, questions, base)
        if not rows:
            continue
        against = dict.fromkeys((question.id for question in rows), Answer(nll=0.0))
        result = compare_metric(metric, rows, against, base, alpha=alpha, margin=0.0)
        assert result is not None  # noqa: S101 - rows is not empty
        entries.append(
            TaskMetric(
                metric=metric.name,
                n=result.n,
                base=result.tuned,
                ci95=result.ci95,
                mde=result.mde,
                clusters=result.clusters,
                better="higher" if metric.higher_is_better else "lower",
                method=result.method,
            )
        )
    return entries


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


def _entry(metric: Metric, result: PairedComparison, p_holm: float) -> TaskMetric:
    wins, losses = result.wins, result.losses
    if not metric.higher_is_better:
        wins, losses = losses, wins
    return TaskMetric(
        metric=metric.name,
        n=result.n,
        base=result.base,
        tuned=result.tuned,
        diff=result.diff,
        ci95=result.ci95,
        p=result.p,
        p_holm=p_holm,
        wins=wins,
        ties=result.ties,
        losses=losses,
        mde=result.mde,
        n_needed=result.n_needed,
        clusters=result.clusters,
        better="higher" if metric.higher_is_better else "lower",
        method=result.method,
    )


def _no_score(_reference: str, _output: str) -> float:
    return 0.0
