"""Scores of every side compared row by row, and the verdict that follows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.metrics import (
    METRICS,
    Answers,
    Metric,
    label_counts,
    macro_f1,
    matcher_for,
    row_scores,
    scorable,
)
from finetuning.evaluation.results import (
    General,
    GeneralMatch,
    GeneralVerdict,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.targets import Answer, Job
from finetuning.statistics import PairedComparison, compare_paired, compare_totals, holm

_MATCHES: Final = ("accuracy", "exact_match", "json_match")


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


MARGIN_NLL: Final = 0.10
"""Loss in nats per token that counts as none.

Ordinary LoRA runs lost .05 to .06 on general text, full tuning .03, broken runs .74 and more.
Source: PEFT method_comparison, 63 result files, Llama-3.2-3B (read 2025-11-26).
"""


def compare_general(
    job: Job, base: Answers, tuned: Answers, *, alpha: float, margin: float
) -> General | None:
    """Return what a side lost on the rows elsewhere, or None where nothing can be scored.

    Args:
        job: What :func:`general_job` returned.
        base: Answers of the base.
        tuned: Answers of the other side.
        alpha: Two-sided error rate.
        margin: Loss of exact match that does not matter.
    """
    rows = scorable(METRICS["nll"], job.questions, base, tuned)
    nll = compare_metric(METRICS["nll"], job.questions, base, tuned, alpha=alpha, margin=MARGIN_NLL)
    match = None
    if job.generate:
        metric = matcher_for([question.reference for question in job.questions])
        match = compare_metric(metric, job.questions, base, tuned, alpha=alpha, margin=margin)
    if nll is None and match is None:
        return None
    return General(
        n=len(job.questions),
        base_nll=nll.base if nll else None,
        tuned_nll=nll.tuned if nll else None,
        delta_nll=nll.diff if nll else None,
        ci95=nll.ci95 if nll else None,
        margin_nll=MARGIN_NLL,
        exact_match=_match(match),
        by_domain=_by_domain(rows, base, tuned),
        verdict=_general_verdict(nll, match, margin),
    )


def _match(match: PairedComparison | None) -> GeneralMatch | None:
    if match is None:
        return None
    return GeneralMatch(
        base=match.base, tuned=match.tuned, diff=match.diff, ci95=match.ci95, p=match.p
    )


def _general_verdict(
    nll: PairedComparison | None, match: PairedComparison | None, margin: float
) -> GeneralVerdict:
    """Return ``worse`` where a loss beyond the margin is shown, ``not_worse`` where excluded.

    Answers decide where there are any: a likelihood can fall while every answer stays right.
    """
    if match is not None:
        shown = match.p < match.alpha and match.diff < -margin
        excluded = match.ci[0] > -margin
    else:
        shown = nll is not None and nll.p < nll.alpha and nll.diff > MARGIN_NLL
        excluded = nll is not None and nll.ci[1] < MARGIN_NLL
    return "worse" if shown else "not_worse" if excluded else "unclear"


def _by_domain(rows: Sequence[Question], base: Answers, tuned: Answers) -> dict[str, float]:
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in rows:
        if question.group is not None:
            groups[question.group].append(question)
    found: dict[str, float] = {}
    for name, members in sorted(groups.items()):
        before, after = (row_scores(METRICS["nll"], members, side) for side in (base, tuned))
        found[name] = round((sum(after) - sum(before)) / len(members), 5)
    return found
