"""Evaluation: is the tuned model really better, what did it cost elsewhere, what went wrong.

Here: compare_eval, base and tuned on the same held-out rows, with a verdict that holds.
The way of one comparison: read, plan, have it approved, ask, judge, write. What a step needs is
imported when it is taken: servers import this module at their start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from finetuning.errors import NotAllowedError
from finetuning.evaluation.diagnose import RunDiagnosis, diagnose_run
from finetuning.evaluation.results import WHERE, Arm, EvalComparison, RemotePlan
from finetuning.records import Json, NextCall, Usd

if TYPE_CHECKING:
    from finetuning.evaluation.inputs import Call
    from finetuning.evaluation.material import Material
    from finetuning.evaluation.targets import Side

__all__ = ["Arm", "EvalComparison", "RunDiagnosis", "compare_eval", "diagnose_run"]


def compare_eval(
    data: str,
    base: str,
    tuned: str | None = None,
    arms: list[Arm] | None = None,
    metrics: str | list[str] = "auto",
    general: str = "builtin",
    train: str | None = None,
    margin: float = 0.02,
    alpha: float = 0.05,
    cluster_column: str | None = None,
    log: str | None = None,
    max_tokens: int = 512,
    language: Literal["en", "zh"] = "en",
    output_dir: str | None = None,
    overwrite: bool = False,
    dry_run: bool | None = None,
    plan_id: str | None = None,
    price_in_usd_per_mtok: Usd | None = None,
    price_out_usd_per_mtok: Usd | None = None,
    limit: int | None = 10,
    offset: int = 0,
) -> EvalComparison:
    """Compare a tuned model with its base on held-out rows and say whether to ship.

    Paired verdict with an interval, what was lost elsewhere, memorisation, contamination. Without
    `tuned` it measures the base: do that before any training. A target is `local:DIR`,
    `local:DIR+ADAPTER`, `run:RUN_ID`, `recorded:FILE` or `http://HOST/v1#MODEL`.

    Args:
        data: Held-out rows: a file, or a folder of prepare_data (its test.jsonl is used). Rows
            are prompt/completion or messages that end in the right answer.
        base: Target to compare with.
        tuned: Target to judge; leave it out to measure the base alone.
        arms: More competitors, for example the base with a better prompt: name, target, and
            optionally system and few_shot (1 to 64 examples from `train`).
        metrics: auto (by what the references look like) or names: accuracy, macro_f1,
            exact_match, json_match, json_field_f1, json_parse_rate, token_f1, nll. The first
            one decides.
        general: What else must not get worse: builtin (66 short texts over six domains), none,
            or a file of prompt/completion, messages or text rows.
        train: Training rows (file or folder), to look for test rows among them and for
            memorisation.
        margin: Difference that does not matter, 0..1 in the metric's unit.
        alpha: Two-sided error rate, between 0 and 1.
        cluster_column: Column that names rows which belong together (customer, document).
        log: Training log of the tuned model, for the curve; a run: target brings its own.
        max_tokens: Most tokens to write per answer, 1 to 32768.
        language: Language of the report: en or zh.
        output_dir: New folder for report, result and answers; default is under the reports.
        overwrite: Replace the results in output_dir.
        dry_run: Only say what would run; default true if a target is another machine.
        plan_id: Plan of a dry run that a person approved.
        price_in_usd_per_mtok: What a server elsewhere charges for a million tokens read.
        price_out_usd_per_mtok: What it charges for a million tokens written.
        limit: Most flips to list, at least 1; None lists all.
        offset: Flips to skip.

    Returns:
        Verdict, metrics with intervals, general ability, flips (ids only) and the report's path.

    Raises:
        BadInputError: An argument, a file or a model cannot be used.
        NotAllowedError: Prompts would leave the machine without approval.
        RunFailedError: The process that runs a local model broke.

    Source: arXiv 2411.00640, arXiv 2503.01747 (checked 2026-11-20); knowledge: evaluation.md
    """
    given = dict(locals())
    from finetuning.evaluation.inputs import Call

    return run_comparison(Call(**given))


def run_comparison(call: Call) -> EvalComparison:
    """Return the verdict of one call (see ``compare_eval``), or the plan of a dry run."""
    from finetuning.evaluation.asking import ask_all
    from finetuning.evaluation.assembly import assemble
    from finetuning.evaluation.material import TUNED, Answered, gather
    from finetuning.evaluation.report import provenance_of, read_training, write_all
    from finetuning.files import new_output_folder
    from finetuning.runs import count_look

    call.check()
    folder = new_output_folder(
        call.output_dir, where=WHERE, name="compare-eval", overwrite=call.overwrite
    )
    material = gather(call)
    training = read_training(call.log, material.competitors.targets.get(TUNED))
    sending = _sending(call, material)
    if call.dry_run or (call.dry_run is None and sending.hosts and call.plan_id is None):
        return plan_only(sending, call)
    refuse_offline(material.sides)
    require_approval(sending, call.plan_id)
    outcome = ask_all(material.sides, call.max_tokens)
    answered = Answered(call, material, outcome)
    result = assemble(answered).model_copy(
        update={
            "training": training.note,
            "test_looks": count_look(material.test.sha256),
            "provenance": provenance_of(answered),
        }
    )
    return write_all(result, answered, training.lines, folder)


class Sending(NamedTuple):
    """What a run would send.

    Attributes:
        arguments: The call's arguments, which the plan is bound to.
        files: Files that are read, whose content the plan is bound to.
        steps: What would happen, in words.
        cost_usd: Most it can cost, or None where no price is known.
        hosts: Machines that prompts would go to.
    """

    arguments: Mapping[str, Json]
    files: Sequence[Path]
    steps: list[str]
    cost_usd: Decimal | None
    hosts: Sequence[str]


def _sending(call: Call, material: Material) -> Sending:
    return Sending(
        arguments=call.bound(),
        files=list(material.files.values()),
        steps=describe_steps(material),
        cost_usd=price_sides(
            material.sides,
            call.max_tokens,
            call.price_in_usd_per_mtok,
            call.price_out_usd_per_mtok,
        ),
        hosts=material.competitors.remote,
    )


def describe_steps(material: Material) -> list[str]:
    """Return what would happen, in words without row content."""
    from finetuning.evaluation.targets import HttpTarget, LocalTarget

    steps: list[str] = []
    for side in material.sides:
        asked = sum(len(job.questions) for job in side.jobs if job.generate)
        scored = sum(len(job.questions) for job in side.jobs if job.nll)
        if isinstance(side.target, LocalTarget):
            steps.append(f"{side.name}: answer {asked} and score {scored} rows on this machine")
        elif isinstance(side.target, HttpTarget):
            place = "this machine" if side.target.loopback else side.target.host
            steps.append(f"{side.name}: send {asked} prompts to {place}")
        else:
            steps.append(f"{side.name}: read recorded answers")
    return steps


def price_sides(
    sides: Sequence[Side], max_tokens: int, price_in: Decimal | None, price_out: Decimal | None
) -> Decimal | None:
    """Return the most that remote sides can cost in USD, or None where no price is known.

    Args:
        sides: All sides.
        max_tokens: Most tokens to write per answer.
        price_in: USD per million tokens read, or None.
        price_out: USD per million tokens written, or None.
    """
    from finetuning.evaluation.targets import HttpTarget
    from finetuning.tokens import counter_for

    questions = [
        question
        for side in sides
        if isinstance(side.target, HttpTarget) and not side.target.loopback
        for job in side.jobs
        if job.generate
        for question in job.questions
    ]
    if not questions:
        return Decimal(0)
    if price_in is None or price_out is None:
        return None
    sent = sum(counter_for().count([question.asked() for question in questions]))
    total = sent * price_in + len(questions) * max_tokens * price_out
    return (total / 1_000_000).quantize(Decimal("0.0001"), rounding=ROUND_UP)


def plan_only(sending: Sending, call: Call) -> EvalComparison:
    """Return the answer of a dry run; a plan to approve is kept where data would leave."""
    plan = RemotePlan(
        steps=sending.steps,
        cost_usd=sending.cost_usd,
        data_leaves_machine=bool(sending.hosts),
    )
    if not sending.hosts:
        run = NextCall(tool=WHERE, args=call.again(dry_run=False), why="runs the comparison")
        return EvalComparison(plan=plan, next=[run])
    plan_id = _create(sending)
    run = NextCall(
        tool=WHERE,
        args=call.again(dry_run=False, plan_id=plan_id),
        why="runs the comparison once a person has approved the plan",
    )
    return EvalComparison(plan=plan, plan_id=plan_id, needs_approval=True, next=[run])


def refuse_offline(sides: Sequence[Side]) -> None:
    """Refuse servers elsewhere while offline mode is set.

    Raises:
        NotAllowedError: A server is not on this machine and offline mode is set.
    """
    from finetuning.evaluation.targets import HttpTarget
    from finetuning.settings import settings

    for target in (side.target for side in sides):
        if isinstance(target, HttpTarget) and not target.loopback and settings().offline:
            raise NotAllowedError(
                "compare_eval",
                f"{target.host!r} is another machine and FINE_TUNING_OFFLINE=1",
                "a target on this machine",
                "Use local:, run: or recorded:, or unset FINE_TUNING_OFFLINE",
            )


def require_approval(sending: Sending, plan_id: str | None) -> None:
    """Refuse to send unless a person approved exactly this.

    Raises:
        NotAllowedError: Nobody approved, or a file, argument or price changed since.
    """
    from finetuning import approval

    if sending.hosts:
        approval.use_plan(
            plan_id or _create(sending),
            WHERE,
            arguments=sending.arguments,
            files=sending.files,
            cost_usd=sending.cost_usd,
        )


def _create(sending: Sending) -> str:
    from finetuning import approval

    plan = approval.create_plan(
        WHERE,
        arguments=sending.arguments,
        files=sending.files,
        steps=sending.steps,
        cost_usd=sending.cost_usd,
        data_leaves_machine=True,
        price_from_caller=True,  # price_in/out_usd_per_mtok are arguments of the call
    )
    return plan.plan_id
