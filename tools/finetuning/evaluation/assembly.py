"""From answers to the result: guards, metrics, verdict, what else changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from finetuning.evaluation.changes import (
    compare_arms,
    contamination_of,
    flips_of,
    general_of,
    memorisation_of,
)
from finetuning.evaluation.competitors import BASE, TUNED
from finetuning.evaluation.material import Answered, Material
from finetuning.evaluation.metrics import METRICS
from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import (
    ArmResult,
    Contamination,
    EvalComparison,
    General,
    Latency,
    SideFormat,
    Speed,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.scoring import Answers, compare_metric, compare_task, measure_base
from finetuning.evaluation.targets import MISSING, Answer, LocalTarget
from finetuning.evaluation.verdict import decide_ship, verdict_of
from finetuning.statistics import PairedComparison

_MATCHES: Final = ("accuracy", "exact_match", "json_match")


def assemble(answered: Answered) -> EvalComparison:
    """Return the result of a comparison, without what is written to disk."""
    call, material = answered.call, answered.material
    faults = [*_guards(answered), *answered.outcome.faults]
    task, pairs = _task(answered)
    if not task:
        faults.append("no metric can be computed for the targets given")
    verdict, notes = ("invalid", []) if faults else _judge(answered, task, pairs)
    general = general_of(answered, TUNED) if TUNED in material.competitors.targets else None
    contamination = contamination_of(answered, task)
    ship, reasons = decide_ship(
        verdict, task, general, contamination, margin=call.margin, alpha=call.alpha
    )
    flips = flips_of(answered, task)
    arms = compare_arms(answered, task)
    first = task[0] if task else None
    return EvalComparison(
        verdict=verdict,
        ship=ship,
        sentence=_sentence(first),
        reasons=faults or reasons,
        cautions=[*answered.outcome.notes, *notes, *_cautions(answered, arms, general)],
        task=task,
        headroom=1 - first.base if first and first.better == "higher" and not faults else None,
        general=general,
        arms=arms,
        contamination=contamination,
        memorisation=memorisation_of(answered),
        format={
            side.name: look_at(material.test.questions, answered.test(side.name))
            for side in material.sides
        },
        latency=measure_speed(
            {side.name: answered.test(side.name) for side in material.sides},
            TUNED if TUNED in material.competitors.targets else BASE,
            _how(material),
        ),
        flips=flips,
        total=len(flips),
        unusable_rows=dict(material.test.unusable),
        margin=call.margin,
        alpha=call.alpha,
        fit_facts={} if faults else _facts(answered, task, arms, contamination),
    )


def _guards(answered: Answered) -> list[str]:
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


def _task(answered: Answered) -> tuple[list[TaskMetric], list[PairedComparison]]:
    call, material = answered.call, answered.material
    metrics, questions = material.metrics, material.test.questions
    if TUNED not in material.competitors.targets:
        return measure_base(metrics, questions, answered.test(BASE), alpha=call.alpha), []
    found = compare_task(
        [metric for metric in metrics if metric.needs == "text" or answered.same_tokens(TUNED)],
        questions,
        answered.test(BASE),
        answered.test(TUNED),
        alpha=call.alpha,
        margin=call.margin,
    )
    return [entry for entry, _ in found], [pair for _, pair in found]


def _judge(
    answered: Answered, task: list[TaskMetric], pairs: list[PairedComparison]
) -> tuple[Verdict, list[str]]:
    """Return the verdict of the first metric, with what must be known about it."""
    if not pairs:
        return "baseline", []
    margin, metric = answered.call.margin, METRICS[task[0].metric]
    verdict = verdict_of(pairs[0], margin, higher_is_better=metric.higher_is_better)
    same = _same_answer(answered, metric.name) if verdict == "improved" else None
    if same is None or verdict_of(same, margin, higher_is_better=True) == "improved":
        return verdict, []
    note = (
        f"always giving the commonest answer scores {same.base:.3g}: the tuned model is not shown "
        "to be better than that, so its gain over the base may be the form of the answers alone"
    )
    return ("tied" if same.p < same.alpha else "underpowered"), [note]


def _same_answer(answered: Answered, metric: str) -> PairedComparison | None:
    """Compare the tuned model with one that gives every row the commonest right answer.

    A model that learnt the form of the answers and nothing else beats a base that knows not even
    the form; it does not beat this. None where no right answer repeats, or the metric is no match.
    """
    questions = answered.material.test.questions
    commonest, times = Counter(q.reference.strip() for q in questions).most_common(1)[0]
    if metric not in _MATCHES or times == 1:
        return None
    return compare_metric(
        METRICS[metric],
        questions,
        dict.fromkeys((question.id for question in questions), Answer(commonest, "stop")),
        answered.test(TUNED),
        alpha=answered.call.alpha,
        margin=answered.call.margin,
    )


def _cautions(answered: Answered, arms: list[ArmResult], general: General | None) -> list[str]:
    material = answered.material
    found: list[str] = []
    unusable = material.test.unusable.total()
    if unusable:
        found.append(f"{unusable} rows of the data cannot be asked or scored and were left out")
    if TUNED in material.competitors.targets and not answered.same_tokens(TUNED):
        found.append("the models have different tokenizers: likelihoods are not compared")
    if general is not None and general.verdict == "unclear":
        found.append("the general rows are too few to say whether other abilities were kept")
    for arm in arms:
        prompt = material.competitors.arms[arm.name]
        if (prompt.system or prompt.few_shot) and (arm.tuned_ci95 or (1.0, 1.0))[0] <= 0:
            found.append(f"arm {arm.name!r}: a better prompt may reach the same without training")
    return found


def _sentence(first: TaskMetric | None) -> str:
    if first is None:
        return "nothing could be measured"
    low, high = first.ci95
    ends = f"95 % interval {low:.3g} to {high:.3g}, n = {first.n}"
    if first.diff is None or first.tuned is None or first.p is None:
        return f"{first.metric} {first.base:.3g} ({ends})"
    change = f"{first.metric} {first.base:.3g} -> {first.tuned:.3g}, {first.diff:+.3g}"
    return f"{change} ({ends}, p = {first.p:.2g})"


def _facts(
    answered: Answered,
    task: list[TaskMetric],
    arms: list[ArmResult],
    contamination: Contamination | None,
) -> dict[str, Any]:
    """Return what assess_fit accepts: scores 0..1 and what was measured beside them."""
    if not task or task[0].better != "higher":
        return {}
    material, first = answered.material, task[0]
    facts: dict[str, Any] = {"has_eval": True, "base_task_score": round(first.base, 4)}
    same = [arm.score for arm in arms if not material.competitors.changed(arm.name)]
    facts["prompt_score"] = round(max([first.base, *same]), 4)
    if first.tuned is not None:
        facts["tuned_score"] = round(first.tuned, 4)
    if first.metric == "accuracy":
        facts["n_classes"] = len({q.reference.strip() for q in material.test.questions})
    if contamination is not None:
        share = max(contamination.near, contamination.exact) / len(material.test.questions)
        facts["near_duplicate_test_fraction"] = round(share, 4)
    return facts


def _how(material: Material) -> str:
    local = any(isinstance(side.target, LocalTarget) for side in material.sides)
    return (
        "wall time of the batch that held the row; sides share batches"
        if local
        else "wall time of each request, up to 8 at once"
    )


def look_at(questions: Sequence[Question], answers: Answers) -> SideFormat:
    """Return the share of missing and of cut answers, and their mean length."""
    found = [answers.get(question.id, MISSING) for question in questions]
    texts = [answer.text for answer in found if answer.text is not None]
    return SideFormat(
        missing_fraction=(len(found) - len(texts)) / len(found),
        truncated_fraction=sum(a.finish_reason == "length" for a in found) / len(found),
        mean_characters=round(sum(map(len, texts)) / len(texts), 1) if texts else 0.0,
    )


def measure_speed(sides: dict[str, Answers], decisive: str, how: str) -> Latency | None:
    """Return the latency of every side that was timed, or None.

    Args:
        sides: Side → its answers to the test.
        decisive: The side whose figures stand first.
        how: How the times were taken.
    """
    speeds: dict[str, Speed] = {}
    for name, answers in sides.items():
        times = sorted(a.seconds for a in answers.values() if a.seconds is not None)
        if times:
            speeds[name] = Speed(p50_ms=_quantile(times, 0.5), p95_ms=_quantile(times, 0.95))
    if not speeds:
        return None
    first = speeds.get(decisive) or next(iter(speeds.values()))
    return Latency(p50_ms=first.p50_ms, p95_ms=first.p95_ms, sides=speeds, how=how)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
