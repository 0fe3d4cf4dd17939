"""Scores of every side compared row by row, and the verdict that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.metrics import METRICS, Answers, Metric, label_counts, macro_f1
from finetuning.evaluation.results import Flip, TaskMetric, Verdict
from finetuning.evaluation.targets import MISSING, Answer
from finetuning.statistics import PairedComparison, compare_paired, compare_totals, holm

NLL_DIGITS = 5
"""Likelihoods are compared to this many digits: below is rounding noise of batches."""

_MATCHES: Final = ("accuracy", "exact_match", "json_match")


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


def sentence_of(first: TaskMetric | None) -> str:
    """Return the metric that decides in one line: values, difference, interval."""
    if first is None:
        return "nothing could be measured"
    low, high = first.ci95
    ends = f"95 % interval {low:.3g} to {high:.3g}, n = {first.n}"
    if first.diff is None or first.tuned is None or first.p is None:
        return f"{first.metric} {first.base:.3g} ({ends})"
    change = f"{first.metric} {first.base:.3g} -> {first.tuned:.3g}, {first.diff:+.3g}"
    return f"{change} ({ends}, p = {first.p:.2g})"


def judge(
    metric: Metric,
    pair: PairedComparison,
    questions: Sequence[Question],
    tuned: Answers,
    *,
    margin: float,
) -> tuple[Verdict, list[str]]:
    """Return the verdict of the metric that decides, with what must be known about it.

    Args:
        metric: The metric that decides.
        pair: What it says of tuned against base.
        questions: The rows.
        tuned: Answers of the tuned model.
        margin: Difference that does not matter, at least 0.
    """
    verdict = verdict_of(pair, margin, higher_is_better=metric.higher_is_better)
    same = None
    if verdict == "improved":
        same = _against_commonest(metric, questions, tuned, alpha=pair.alpha, margin=margin)
    if same is None or verdict_of(same, margin, higher_is_better=True) == "improved":
        return verdict, []
    note = (
        f"always giving the commonest answer scores {same.base:.3g}: the tuned model is not shown "
        "to be better than that, so its gain over the base may be the form of the answers alone"
    )
    return ("tied" if same.p < same.alpha else "underpowered"), [note]


def _against_commonest(
    metric: Metric, questions: Sequence[Question], tuned: Answers, *, alpha: float, margin: float
) -> PairedComparison | None:
    """Compare the tuned model with one that gives every row the commonest right answer.

    A model that learnt the form of the answers and nothing else beats a base that knows not even
    the form; it does not beat this. None where no right answer repeats, or the metric is no match.
    """
    commonest, times = Counter(q.reference.strip() for q in questions).most_common(1)[0]
    if metric.name not in _MATCHES or times == 1:
        return None
    always = dict.fromkeys((question.id for question in questions), Answer(commonest, "stop"))
    return compare_metric(metric, questions, always, tuned, alpha=alpha, margin=margin)


def verdict_of(comparison: PairedComparison, margin: float, *, higher_is_better: bool) -> Verdict:
    """Return what one comparison says.

    ``tied`` when the whole interval lies inside the margin, else ``improved`` or ``worse`` when
    it leaves out zero, else ``underpowered``.

    Args:
        comparison: Of tuned against base.
        margin: Difference that does not matter, at least 0.
        higher_is_better: Direction of the metric.
    """
    low, high = comparison.ci
    if -margin < low and high < margin:
        return "tied"
    if comparison.p >= comparison.alpha:
        return "underpowered"
    return "improved" if (comparison.diff > 0) == higher_is_better else "worse"
