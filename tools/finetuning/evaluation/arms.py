"""Every arm against the base, and the tuned model against every arm."""

from __future__ import annotations

from finetuning.evaluation.answered import Answered
from finetuning.evaluation.changes import general_of
from finetuning.evaluation.competitors import BASE, TUNED
from finetuning.evaluation.metrics import METRICS
from finetuning.evaluation.results import Arm, ArmResult, TaskMetric
from finetuning.evaluation.scoring import Answers, compare_metric
from finetuning.evaluation.verdict import verdict_of
from finetuning.statistics import PairedComparison


def compare_arms(answered: Answered, task: list[TaskMetric]) -> list[ArmResult]:
    """Return every arm that can be compared on the metric that decides."""
    if not task:
        return []
    found = [
        _compare(answered, name, arm, task[0].metric)
        for name, arm in answered.material.competitors.arms.items()
    ]
    return [result for result in found if result is not None]


def _compare(answered: Answered, name: str, arm: Arm, metric_name: str) -> ArmResult | None:
    metric = METRICS[metric_name]

    def compare(first: Answers, second: Answers) -> PairedComparison | None:
        return compare_metric(
            metric,
            answered.material.test.questions,
            first,
            second,
            alpha=answered.call.alpha,
            margin=answered.call.margin,
        )

    against = compare(answered.test(BASE), answered.test(name))
    if against is None:
        return None
    tuned = None
    if TUNED in answered.material.competitors.targets:
        tuned = compare(answered.test(name), answered.test(TUNED))
    return ArmResult(
        name=name,
        target=arm.target,
        verdict=verdict_of(against, answered.call.margin, higher_is_better=metric.higher_is_better),
        metric=metric.name,
        score=against.tuned,
        diff=against.diff,
        ci95=against.ci95,
        p=against.p,
        general=general_of(answered, name),
        tuned_diff=tuned.diff if tuned else None,
        tuned_ci95=tuned.ci95 if tuned else None,
    )
