"""What changed besides the mean: flips, abilities elsewhere, rows seen in training, arms."""

from __future__ import annotations

from finetuning.evaluation.competitors import BASE, TUNED
from finetuning.evaluation.general import compare_general
from finetuning.evaluation.material import Answered
from finetuning.evaluation.metrics import METRICS
from finetuning.evaluation.results import (
    Arm,
    ArmResult,
    Contamination,
    Flip,
    General,
    Memorisation,
    Subset,
    TaskMetric,
)
from finetuning.evaluation.scoring import Answers, compare_metric, row_scores, scorable
from finetuning.evaluation.seen import find_overlap, measure_memorisation
from finetuning.evaluation.verdict import verdict_of
from finetuning.statistics import PairedComparison

_MOST_IDS = 20


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


def contamination_of(answered: Answered, task: list[TaskMetric]) -> Contamination | None:
    """Return which test rows training saw, and the result without them."""
    material = answered.material
    if material.train is None:
        return None
    questions = material.test.questions
    overlap = find_overlap(questions, material.train.questions)
    touched = overlap.any
    return Contamination(
        n_train=len(material.train.questions),
        exact=len(overlap.exact),
        same_prompt=len(overlap.same_prompt),
        ngram13=len(overlap.ngram),
        near=len(overlap.near),
        fraction=sum(question.id in touched for question in questions) / len(questions),
        ids=sorted(touched)[:_MOST_IDS],
        without=_without(answered, task, touched) if touched else None,
    )


def _without(answered: Answered, task: list[TaskMetric], touched: set[str]) -> Subset | None:
    clean = [q for q in answered.material.test.questions if q.id not in touched]
    if not clean or not task or task[0].tuned is None:
        return None
    metric = METRICS[task[0].metric]
    result = compare_metric(
        metric,
        clean,
        answered.test(BASE),
        answered.test(TUNED),
        alpha=answered.call.alpha,
        margin=answered.call.margin,
    )
    if result is None:
        return None
    return Subset(
        n=result.n,
        base=result.base,
        tuned=result.tuned,
        diff=result.diff,
        ci95=result.ci95,
        p=result.p,
    )


def memorisation_of(answered: Answered) -> Memorisation | None:
    """Return whether the tuned model knows its training rows, where that can be measured."""
    job = answered.material.seen
    if job is None or not answered.same_tokens(TUNED):
        return None
    return measure_memorisation(
        job.questions,
        answered.material.test.questions,
        (answered.job(BASE, job.name), answered.job(TUNED, job.name)),
        (answered.test(BASE), answered.test(TUNED)),
    )


def flips_of(answered: Answered, task: list[TaskMetric]) -> list[Flip]:
    """Return the rows whose score changed, the most harmed first."""
    if not task or task[0].tuned is None:
        return []
    metric = METRICS[task[0].metric]
    if metric.score is None and metric.needs == "text":
        metric = METRICS["accuracy"]
    base, tuned = answered.test(BASE), answered.test(TUNED)
    questions = scorable(metric, answered.material.test.questions, base, tuned)
    scores = zip(
        questions,
        row_scores(metric, questions, base),
        row_scores(metric, questions, tuned),
        strict=True,
    )
    sign = 1 if metric.higher_is_better else -1
    changed = [(sign * (b - a), q, a, b) for q, a, b in scores if a != b]
    changed.sort(key=lambda item: (item[0], item[1].line))
    return [
        Flip.model_validate({"id": question.id, "line": question.line, "from": before, "to": after})
        for _, question, before, after in changed
    ]


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
