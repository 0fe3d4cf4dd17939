"""Is it fair, how did the other competitors do, what do a judge or people on a sheet prefer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.call import judge_target, judging_cost
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.judging import (
    Choice,
    Pair,
    Verdicts,
    ask_judge,
    kappa,
    pairs_of,
    preference,
    read_verdicts,
    settled,
)
from finetuning.evaluation.material import BASE, TUNED, Answered
from finetuning.evaluation.metrics import METRICS, Answers, Metric
from finetuning.evaluation.results import (
    WHERE,
    Arm,
    ArmResult,
    EvalComparison,
    General,
    Preference,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.scoring import compare_general, compare_metric, measure_base, verdict_of
from finetuning.evaluation.targets import MISSING, RecordedTarget, Target, VendorTarget
from finetuning.files import digest, read_records, resolve_read, write_text
from finetuning.pages.sheets import blind_sheet
from finetuning.records import Finding
from finetuning.statistics import PairedComparison

_MOST_CUT = 0.2
"""Share of answers cut at max_tokens above which a score measures the limit, too."""
MOST_ON_SHEET: Final = 200
"""Rows of one sheet, drawn by a seed where there are more: about an hour of a person."""
_FORMAT: Final = "fine-tuning blind_ab 1"
_UNREAD_FRACTION: Final = 0.05


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
    """Return what may make the comparison unfair and cannot be settled here."""
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


def give_opinions(result: EvalComparison, answered: Answered, folder: Path) -> EvalComparison:
    """Return the result with what the judge and people said; write a sheet if one is wanted."""
    call = answered.call
    if not (call.judge or call.reviews_file or call.review != "none"):
        return result
    questions = answered.material.test.questions
    sides = answered.test(BASE), answered.test(TUNED)
    sheet = Sheet.of(pairs_of(questions, *sides))
    human: dict[str, Choice] = sheet.read(call.reviews_file) if call.reviews_file else {}
    cautions: list[str] = []
    changes: dict[str, Any] = {}
    if human:
        known: dict[str, Choice] = {**settled(questions, *sides), **human}
        changes["review"] = preference("person", known, questions, *sides, alpha=call.alpha)
    if call.judge:
        judged, notes = _judged(answered, human)
        changes["judge"] = judged
        cautions += notes
    if call.review == "blind_ab":
        path = folder / "review.html"
        write_text(path, sheet.draw())
        changes["review_file"] = str(path)
    return result.model_copy(update={**changes, "cautions": [*result.cautions, *cautions]})


def _judged(answered: Answered, human: Mapping[str, Choice]) -> tuple[Preference | None, list[str]]:
    call, questions = answered.call, answered.material.test.questions
    sides = answered.test(BASE), answered.test(TUNED)
    target = judge_target(str(call.judge))
    pairs = pairs_of(questions, *sides)
    answers, notes = ask_judge(target, pairs)
    verdicts = read_verdicts(pairs, answers)
    choices: dict[str, Choice] = {**settled(questions, *sides), **verdicts.choices}
    found = preference(str(call.judge), choices, questions, *sides, alpha=call.alpha)
    notes += _doubts(answered, target, verdicts, len(pairs))
    if found is None:
        return None, [*notes, "the judge gave no verdict that can be read"]
    both = max(1, len(verdicts.choices))
    agreement, rows = kappa(verdicts.choices, human)
    cost = judging_cost(answered.call, target, list(answers.values()))
    return found.model_copy(
        update={
            "no_verdict": verdicts.unread,
            "first_place": verdicts.first / both,
            "second_place": verdicts.second / both,
            "kappa": agreement,
            "kappa_n": rows,
            "calls": len(answers),
            "cost_usd": cost,
        }
    ), notes


def _doubts(answered: Answered, target: Target, verdicts: Verdicts, n: int) -> list[str]:
    """Return why the judge is to be read with care."""
    found: list[str] = []
    if verdicts.unread > _UNREAD_FRACTION * n:
        found.append(f"judge: {verdicts.unread} of {n} rows have no verdict that can be read")
    for place, rows in (("first", verdicts.first), ("second", verdicts.second)):
        if rows > n / 4:
            found.append(f"judge: on {rows} of {n} rows the {place} place won in both orders")
    same = [
        name
        for name, other in answered.material.competitors.targets.items()
        if other.spec == target.spec
    ]
    if same:
        found.append(f"judge: it is {same[0]} itself; models prefer their own answers")
    return found


class Sheet(NamedTuple):
    """The rows that a person sees; the name is a digest of them: other sheets are refused."""

    pairs: list[Pair]
    name: str

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Sheet:
        """Return the sheet of some rows; the same rows give the same sheet."""
        shown = [[pair.question.id, pair.base, pair.tuned] for pair in pairs]
        name = digest(shown)[:24]
        drawn = random.Random(name).sample(list(pairs), min(MOST_ON_SHEET, len(pairs)))
        return cls(drawn, name)

    def swapped(self, key: str) -> bool:
        """Say whether the tuned model's answer stands first."""
        return int(digest([self.name, key])[:8], 16) % 2 == 1

    def draw(self) -> str:
        """Return the page; nothing on it says which side is which."""
        rows = [
            {
                "id": pair.question.id,
                "question": pair.question.asked(),
                "reference": pair.question.reference,
                "answers": [pair.tuned, pair.base]
                if self.swapped(pair.question.id)
                else [pair.base, pair.tuned],
            }
            for pair in self.pairs
        ]
        return blind_sheet({"format": _FORMAT, "sheet": self.name, "rows": rows})

    def read(self, file: str) -> dict[str, Choice]:
        """Return id → choice of a file that was saved from this sheet."""
        where = f"{WHERE}: reviews_file"
        found: dict[str, Choice] = {}
        head = ""
        ids = {pair.question.id for pair in self.pairs}
        for record in read_records(resolve_read(file, where=where)):
            if isinstance(record, Finding):
                continue
            row = record.data
            head = str(row.get("sheet", head))
            key, side = row.get("id"), row.get("choice")
            if isinstance(key, str) and key in ids and side in ("first", "second", "tie"):
                tuned_first = self.swapped(key)
                won = "tuned" if (side == "first") == tuned_first else "base"
                found[key] = "tie" if side == "tie" else cast("Choice", won)
        if head != self.name or not found:
            raise BadInputError(
                where,
                "the file was saved from another sheet" if found or head else "no choice in it",
                "reviews of these rows and these answers",
                "Use the recorded answers of the call that wrote the sheet as base and tuned",
            )
        return found
