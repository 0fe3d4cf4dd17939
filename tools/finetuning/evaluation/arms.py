"""Is the comparison fair, what room is there, and how did the other competitors do."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.material import BASE, TUNED, Answered
from finetuning.evaluation.metrics import METRICS, Answers, Metric
from finetuning.evaluation.results import Arm, ArmResult, General, TaskMetric, Verdict
from finetuning.evaluation.scoring import compare_metric, measure_base, verdict_of
from finetuning.evaluation.side_effects import compare_general
from finetuning.evaluation.targets import MISSING, RecordedTarget, VendorTarget
from finetuning.statistics import PairedComparison

_MOST_CUT = 0.2
"""Share of answers cut at max_tokens above which a score measures the limit, too."""


def guards(answered: Answered) -> list[str]:
    """Return the reasons why the two sides were not asked the same."""
    test = answered.material.test
    faults: list[str] = []
    if test.repeated_ids:
        faults.append(f"{len(test.repeated_ids)} ids stand on more than one row of the data")
    models = answered.models
    if any(question.messages is not None for question in test.questions):
        templates = {model["chat_template_sha256"] for model in models}
        if len(templates) > 1:
            faults.append("the models use different chat templates")
    if len({model["dtype"] for model in models}) > 1:
        faults.append("the models ran in different precision")
    return faults


def fairness_notes(answered: Answered, verdict: Verdict) -> list[str]:
    """Return what may make the comparison unfair and cannot be settled here.

    Args:
        answered: The answers.
        verdict: What they say so far.
    """
    material, call = answered.material, answered.call
    targets, rows = material.competitors.targets, material.test.questions
    found: list[str] = []
    for name in targets:
        answers = answered.test(name)
        cut = sum(answers.get(q.id, MISSING).finish_reason == "length" for q in rows)
        if cut > _MOST_CUT * len(rows):
            found.append(
                f"{name}: {cut} of {len(rows)} answers were cut at max_tokens={call.max_tokens}; "
                "its score measures the limit, too"
            )
    if any(question.messages is None for question in rows):
        asked = [name for name, target in targets.items() if isinstance(target, VendorTarget)]
        if asked and len(asked) < len(targets):
            found.append(f"{', '.join(asked)}: raw prompts were asked as a turn of a chat")
    kept = [name for name, target in targets.items() if isinstance(target, RecordedTarget)]
    if kept and len(kept) < len(targets):
        found.append(
            f"{', '.join(kept)}: recorded; same prompt, template and decoding are taken on trust"
        )
    prompted = [
        name
        for name, arm in material.competitors.arms.items()
        if (arm.system or arm.few_shot) and not material.competitors.changed(name)
    ]
    if verdict == "improved" and not prompted:
        found.append("the base had no arm with its best prompt: a bare base overstates the gain")
    return found


def headroom_of(first: TaskMetric | None, label_agreement: float | None) -> float | None:
    """Return the room above the base: up to 1, or to how often two people agree.

    Args:
        first: The metric that decides.
        label_agreement: Share of rows on which two people give the same answer, if known.
    """
    if first is None or first.better != "higher":
        return None
    return max(0.0, (1.0 if label_agreement is None else label_agreement) - first.base)


def general_of(answered: Answered, name: str) -> General | None:
    """Return what a side lost elsewhere, or None where that cannot be measured."""
    job = answered.material.elsewhere
    if job is None or not answered.material.competitors.changed(name):
        return None
    sides = answered.job(BASE, job.name), answered.job(name, job.name)
    if not answered.same_tokens(name):
        sides = _without_likelihood(sides[0]), _without_likelihood(sides[1])
    call = answered.call
    return compare_general(job, *sides, alpha=call.alpha, margin=call.margin)


def _without_likelihood(answers: Answers) -> Answers:
    return {key: answer._replace(nll=None) for key, answer in answers.items()}


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
    metric, questions = METRICS[metric_name], answered.material.test.questions
    against = paired(answered, metric, questions, answered.test(BASE), answered.test(name))
    if against is None:
        return None
    alone = measure_base([metric], questions, answered.test(name), alpha=answered.call.alpha)
    tuned = None
    if TUNED in answered.material.competitors.targets:
        tuned = paired(answered, metric, questions, answered.test(name), answered.test(TUNED))
    return ArmResult(
        name=name,
        target=arm.target,
        verdict=verdict_of(against, answered.call.margin, higher_is_better=metric.higher_is_better),
        metric=metric.name,
        score=against.tuned,
        score_ci95=alone[0].ci95 if alone else None,
        diff=against.diff,
        ci95=against.ci95,
        p=against.p,
        general=general_of(answered, name),
        tuned_diff=tuned.diff if tuned else None,
        tuned_ci95=tuned.ci95 if tuned else None,
    )


def paired(
    answered: Answered,
    metric: Metric,
    questions: Sequence[Question],
    first: Answers,
    second: Answers,
) -> PairedComparison | None:
    """Return one metric of two sides on some rows, or None where it cannot be scored."""
    call = answered.call
    return compare_metric(metric, questions, first, second, alpha=call.alpha, margin=call.margin)
