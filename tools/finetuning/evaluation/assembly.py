"""From answers to the result: guards, metrics, verdict, flips, arms and what else changed."""

from __future__ import annotations

from typing import Any

from finetuning.evaluation.arms import (
    compare_arms,
    fairness_notes,
    general_of,
    guards,
    paired,
)
from finetuning.evaluation.call import accepted_answers, headroom_of
from finetuning.evaluation.habits import (
    SAFETY,
    look_at,
    measure_canaries,
    measure_safety,
    measure_speed,
    new_habits,
)
from finetuning.evaluation.material import BASE, TUNED, Answered
from finetuning.evaluation.metrics import METRICS, flips_of
from finetuning.evaluation.results import (
    ArmResult,
    Contamination,
    EvalComparison,
    Flip,
    Gate,
    General,
    Memorisation,
    Subset,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.scoring import (
    compare_task,
    judge,
    measure_base,
    sentence_of,
)
from finetuning.evaluation.side_effects import (
    decide_ship,
    find_copies,
    find_overlap,
    measure_memorisation,
)
from finetuning.evaluation.targets import Job, LocalTarget
from finetuning.statistics import PairedComparison


def assemble(answered: Answered) -> EvalComparison:
    """Return the result of a comparison, without what is written to disk."""
    call, material = answered.call, answered.material
    faults = [*guards(answered), *answered.outcome.faults]
    task, pairs = _task(answered)
    if not task:
        faults.append("no metric can be computed for the targets given")
    verdict: Verdict = "invalid" if faults else "baseline"
    notes = answered.outcome.notes
    if not faults and pairs:
        metric, questions = METRICS[task[0].metric], material.test.questions
        tuned = answered.test(TUNED)
        verdict, more = judge(metric, pairs[0], questions, tuned, margin=call.margin)
        notes = [*notes, *more]
    general = _elsewhere(answered) if TUNED in material.competitors.targets else None
    contamination = contamination_of(answered, task)
    ship, reasons = decide_ship(
        verdict, task, general, contamination, margin=call.margin, alpha=call.alpha
    )
    first = task[0] if task else None
    gate = gate_of(answered, task)
    if gate is not None and gate.verdict == "worse" and ship is not None:
        ship, reasons = "no", [*reasons, f"{gate.against} had better answers"]
    flips = _flips(answered, first)
    arms = compare_arms(answered, task)
    return EvalComparison(
        verdict=verdict,
        ship=ship,
        sentence=sentence_of(first),
        reasons=faults or reasons,
        cautions=[
            *notes,
            *_less_careful(general, call.alpha),
            *fairness_notes(answered, verdict),
            *_cautions(answered, arms, general),
        ],
        task=task,
        headroom=None if faults else headroom_of(first, call.label_agreement),
        general=general,
        arms=arms,
        contamination=contamination,
        memorisation=memorisation_of(answered),
        gate=gate,
        format={
            side.name: look_at(material.test.questions, answered.test(side.name))
            for side in material.sides
        },
        latency=measure_speed(
            {side.name: answered.test(side.name) for side in material.sides},
            TUNED if TUNED in material.competitors.targets else BASE,
            local=any(isinstance(side.target, LocalTarget) for side in material.sides),
        ),
        flips=flips,
        total=len(flips),
        unusable_rows=dict(material.test.unusable),
        margin=call.margin,
        alpha=call.alpha,
        fit_facts={} if faults else _facts(answered, task, arms, contamination),
    )


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


def _cautions(answered: Answered, arms: list[ArmResult], general: General | None) -> list[str]:
    material = answered.material
    found: list[str] = []
    unusable = material.test.unusable.total()
    if unusable:
        found.append(f"{unusable} rows of the data cannot be asked or scored and were left out")
    if TUNED in material.competitors.targets:
        sides, call = (answered.test(BASE), answered.test(TUNED)), answered.call
        found += new_habits(material.test.questions, *sides, alpha=call.alpha, margin=call.margin)
        if not answered.same_tokens(TUNED):
            found.append("the models have different tokenizers: likelihoods are not compared")
    if general is not None and general.verdict == "unclear":
        found.append("the general rows are too few to say whether other abilities were kept")
    for arm in arms:
        prompt = material.competitors.arms[arm.name]
        if (prompt.system or prompt.few_shot) and (arm.tuned_ci95 or (1.0, 1.0))[0] <= 0:
            found.append(f"arm {arm.name!r}: a better prompt may reach the same without training")
    return found


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
    same = [arm for arm in arms if not material.competitors.changed(arm.name)]
    facts["prompt_score"] = round(max([first.base, *(arm.score for arm in same)]), 4)
    if any(material.competitors.arms[arm.name].few_shot for arm in same):
        facts["prompts_tried"] = ["zero_shot", "few_shot"]
    parsed = [metric.base for metric in task if metric.metric == "json_parse_rate"]
    if parsed and facts["prompt_score"] == facts["base_task_score"]:
        facts["invalid_syntax_fraction"] = round(1 - parsed[0], 4)
    if first.tuned is not None:
        facts["tuned_score"] = round(first.tuned, 4)
    if first.metric == "accuracy":
        facts["n_classes"] = len({q.reference.strip() for q in material.test.questions})
    if answered.call.label_agreement is not None:
        facts["label_agreement"] = answered.call.label_agreement
    if contamination is not None:
        share = max(contamination.near, contamination.exact) / len(material.test.questions)
        facts["near_duplicate_test_fraction"] = round(share, 4)
    return facts


def _flips(answered: Answered, first: TaskMetric | None) -> list[Flip]:
    if first is None or first.tuned is None:
        return []
    base, tuned = answered.test(BASE), answered.test(TUNED)
    return flips_of(METRICS[first.metric], answered.material.test.questions, base, tuned)


_MOST_IDS = 20


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
    sides = answered.test(BASE), answered.test(TUNED)
    result = paired(answered, METRICS[task[0].metric], clean, *sides)
    if result is None:
        return None
    return Subset(**_figures(result))


def _figures(pair: PairedComparison) -> dict[str, Any]:
    return pair.model_dump(include=set(Subset.model_fields))


def _elsewhere(answered: Answered) -> General | None:
    """Return what the tuned model lost elsewhere, with its refusals where they were asked."""
    general = general_of(answered, TUNED)
    safety = measure_safety(*(answered.job(name, SAFETY) for name in (BASE, TUNED)))
    return general if general is None else general.model_copy(update={"safety": safety})


def _less_careful(general: General | None, alpha: float) -> list[str]:
    found = general.safety if general is not None else None
    if found is None or found["p"] >= alpha or found["tuned_refused"] >= found["base_refused"]:
        return []
    return ["the tuned model refuses fewer harmful requests than the base"]


def gate_of(answered: Answered, task: list[TaskMetric]) -> Gate | None:
    """Return the deciding metric against answers that were accepted before, if any were named.

    Raises:
        BadInputError: The file holds no answer to a row of the data.
    """
    call, questions = answered.call, answered.material.test.questions
    scored = [entry for entry in task if METRICS[entry.metric].needs == "text"]
    if call.baseline is None or not scored:
        return None
    name = TUNED if TUNED in answered.material.competitors.targets else BASE
    before = accepted_answers(call.baseline, Job("test", questions))
    metric = METRICS[scored[0].metric]
    found = paired(answered, metric, questions, before, answered.test(name))
    assert found is not None  # noqa: S101 - a metric of texts scores every row
    low, high = found.ci
    verdict = "not_worse" if low > -call.margin else "worse" if high < 0 else "unclear"
    return Gate(against=call.baseline, verdict=verdict, **_figures(found))


def memorisation_of(answered: Answered) -> Memorisation | None:
    """Return whether the tuned model knows its training rows, where that can be measured."""
    material, found = answered.material, Memorisation()
    if material.train is None or TUNED not in material.competitors.targets:
        return None
    test, tuned = material.test.questions, answered.test(TUNED)
    if material.seen is not None and answered.same_tokens(TUNED):
        seen = [answered.job(name, material.seen.name) for name in (BASE, TUNED)]
        unseen = (answered.test(BASE), tuned)
        found = measure_memorisation(material.seen.questions, test, (seen[0], seen[1]), unseen)
    more: dict[str, Any] = {"verbatim": find_copies(material.train.questions, test, tuned)}
    if material.canaries is not None:
        sides = [answered.job(name, material.canaries.name) for name in (BASE, TUNED)]
        more["canaries"] = measure_canaries(material.canaries, *sides)
    return found.model_copy(update=more)
