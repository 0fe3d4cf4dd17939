"""Evaluation: is the tuned model really better, what did it cost elsewhere, what went wrong.

Here: compare_eval, base and tuned on the same held-out rows, with a verdict that holds.
The way of one comparison: read, plan, have it approved, ask, judge, write. What a step needs is
imported when it is taken: servers import this module at their start.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from finetuning.evaluation.capture import CapturedOutputs, capture_outputs
from finetuning.evaluation.diagnose import RunDiagnosis, diagnose_run
from finetuning.evaluation.results import WHERE, Arm, EvalComparison, RemotePlan
from finetuning.records import NextCall, Usd

if TYPE_CHECKING:
    from finetuning.evaluation.call import Call
    from finetuning.evaluation.material import Material
    from finetuning.evaluation.sending import Item, Sending
    from finetuning.evaluation.targets import Side

__all__ = [
    "Arm",
    "CapturedOutputs",
    "EvalComparison",
    "RunDiagnosis",
    "capture_outputs",
    "compare_eval",
    "diagnose_run",
]


def compare_eval(
    data: str,
    base: str,
    tuned: str | None = None,
    arms: list[Arm] | None = None,
    metrics: str | list[str] = "auto",
    general: str = "builtin",
    train: str | None = None,
    judge: str | None = None,
    review: Literal["none", "blind_ab"] = "none",
    reviews_file: str | None = None,
    label_agreement: float | None = None,
    margin: float = 0.02,
    alpha: float = 0.05,
    cluster_column: str | None = None,
    log: str | None = None,
    baseline: str | None = None,
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
    `local:DIR+ADAPTER`, `run:RUN_ID`, `recorded:FILE`, `http://HOST/v1#MODEL`, `openai:MODEL`,
    `azure:DEPLOYMENT`, `anthropic:MODEL`, `bedrock:ID` or `vertex:ID`.

    Args:
        data: Held-out rows: a file, or a folder of prepare_data (its test.jsonl is used). Rows
            are prompt/completion or messages that end in the right answer.
        base: Target to compare with.
        tuned: Target to judge; leave it out to measure the base alone.
        arms: More competitors, for example the base with a better prompt: name, target, and
            optionally system and few_shot (1 to 64 examples from `train`).
        metrics: auto (by what the references look like) or names (a wrong one lists all).
            The first one decides. On the command line also FILE.py:function or module:function.
        general: What else must not get worse: builtin (210 short texts), none, or a file.
        train: Training rows (file or folder), to look for test rows among them and for
            memorisation.
        judge: Target that says of each row which answer is better, asked in both orders.
        review: blind_ab writes an offline sheet on which a person chooses, sides shuffled.
        reviews_file: File that was saved from that sheet, to be analysed.
        label_agreement: How often two people agree on the right answer, 0..1: the ceiling.
        margin: Difference that does not matter, 0..1 in the metric's unit.
        alpha: Two-sided error rate, between 0 and 1.
        cluster_column: Column that names rows which belong together (customer, document).
        log: Training log of the tuned model, for the curve; a run: target brings its own.
        baseline: result.json of an accepted earlier comparison, or its answers: a gate for CI.
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
    from finetuning.evaluation.call import Call

    return run_comparison(Call(**given))


def run_comparison(call: Call) -> EvalComparison:
    """Return the verdict of one call (see ``compare_eval``), or the plan of a dry run."""
    from finetuning.evaluation.arms import give_opinions
    from finetuning.evaluation.asking import ask_all
    from finetuning.evaluation.assembly import assemble
    from finetuning.evaluation.call import judge_target
    from finetuning.evaluation.material import TUNED, Answered, gather
    from finetuning.evaluation.report import provenance_of, read_training, write_all
    from finetuning.evaluation.sending import refuse_offline, require_approval
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
    judges = [judge_target(call.judge)] if call.judge else []
    refuse_offline(WHERE, [*judges, *(side.target for side in material.sides)])
    require_approval(sending, call.plan_id)
    wanted = call.metrics != "auto" and any(m.needs == "nll" for m in material.metrics)
    outcome = ask_all(material.sides, call.max_tokens, score=wanted)
    answered = Answered(call, material, outcome)
    result = assemble(answered).model_copy(
        update={
            "training": training.note,
            "test_looks": count_look(material.test.sha256),
            "provenance": provenance_of(answered),
        }
    )
    result = give_opinions(result, answered, folder)
    return write_all(result, answered, training.lines, folder)


def _sending(call: Call, material: Material) -> Sending:
    from finetuning.evaluation.call import judge_prices, judge_target, price_judge
    from finetuning.evaluation.sending import Sending, host_of

    cost, said = price_sides(
        material.sides,
        call.max_tokens,
        call.price_in_usd_per_mtok,
        call.price_out_usd_per_mtok,
    )
    steps, hosts = describe_steps(material, call.max_tokens), list(material.competitors.remote)
    if call.judge:
        judge = judge_target(call.judge)
        rows = material.test.questions
        host = host_of(judge)
        place = host or "this machine"
        steps.append(f"judge: ask {place} at most {2 * len(rows)} times, with both answers")
        if host:
            hosts = sorted({*hosts, host})
            more = price_judge(rows, call.max_tokens, judge_prices(call, judge))
            cost = None if cost is None or more is None else cost + more
            said = said or call.price_in_usd_per_mtok is not None
    return Sending(
        tool=WHERE,
        arguments=call.bound(),
        files=list(material.files.values()),
        steps=steps,
        cost_usd=cost,
        hosts=hosts,
        price_from_caller=said,
    )


def describe_steps(material: Material, max_tokens: int) -> list[str]:
    """Return what would happen, in words without row content."""
    from finetuning.evaluation.sending import AnswerStore, host_of, unpaid
    from finetuning.evaluation.targets import LocalTarget, RecordedTarget

    steps: list[str] = []
    for side in material.sides:
        jobs = [job for job in side.jobs if job.generate]
        asked = sum(len(job.questions) for job in jobs)
        scored = sum(len(job.questions) for job in side.jobs if job.nll)
        if isinstance(side.target, LocalTarget):
            steps.append(f"{side.name}: answer {asked} and score {scored} rows on this machine")
        elif isinstance(side.target, RecordedTarget):
            steps.append(f"{side.name}: read recorded answers")
        else:
            place = host_of(side.target) or "this machine"
            new = len(unpaid(side.target, items_of(side, max_tokens), AnswerStore()))
            known = "" if new == asked else f" ({asked - new} more are known)"
            steps.append(f"{side.name}: send {new} prompts to {place}{known}")
    return steps


def items_of(side: Side, max_tokens: int) -> list[Item]:
    """Return the requests of one side."""
    from finetuning.evaluation.sending import Item
    from finetuning.evaluation.servers import Params

    return [
        Item(question, Params(max_tokens))
        for job in side.jobs
        if job.generate
        for question in job.questions
    ]


def price_sides(
    sides: Sequence[Side], max_tokens: int, price_in: Decimal | None, price_out: Decimal | None
) -> tuple[Decimal | None, bool]:
    """Return the most that other machines can cost in USD, and whether the caller said so.

    None where a price is not known. What was paid for before costs nothing.

    Args:
        sides: All sides.
        max_tokens: Most tokens to write per answer.
        price_in: USD per million tokens read, or None to look it up.
        price_out: USD per million tokens written, or None.
    """
    from finetuning.evaluation.sending import (
        AnswerStore,
        Prices,
        find_prices,
        price_items,
        unpaid,
    )
    from finetuning.evaluation.targets import HttpTarget, VendorTarget, is_remote

    total: Decimal | None = Decimal(0)
    said = False
    for side in sides:
        target = side.target
        if not isinstance(target, HttpTarget | VendorTarget) or not is_remote(target):
            continue
        prices = None
        if price_in is not None and price_out is not None:
            prices, said = Prices(price_in, price_out, "the caller"), True
        else:
            prices = find_prices(target)
        items = unpaid(target, items_of(side, max_tokens), AnswerStore())
        cost = price_items(target, items, prices)
        total = None if total is None or cost is None else total + cost
    return total, said


def plan_only(sending: Sending, call: Call) -> EvalComparison:
    """Return the answer of a dry run; a plan to approve is kept where data would leave."""
    from finetuning.evaluation.sending import create_plan

    plan = RemotePlan(
        steps=sending.steps,
        cost_usd=sending.cost_usd,
        data_leaves_machine=bool(sending.hosts),
    )
    if not sending.hosts:
        run = NextCall(tool=WHERE, args=call.again(dry_run=False), why="runs the comparison")
        return EvalComparison(plan=plan, next=[run])
    plan_id = create_plan(sending)
    run = NextCall(
        tool=WHERE,
        args=call.again(dry_run=False, plan_id=plan_id),
        why="runs the comparison once a person has approved the plan",
    )
    return EvalComparison(plan=plan, plan_id=plan_id, needs_approval=True, next=[run])
