"""Sending prompts to another machine: planned first, priced, and approved by a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import NamedTuple

from finetuning import approval
from finetuning.evaluation.call import WHERE, Call
from finetuning.evaluation.results import EvalComparison, RemotePlan
from finetuning.evaluation.targets import HttpTarget, Side
from finetuning.records import Json, NextCall
from finetuning.tokens import counter_for


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


def require_approval(sending: Sending, plan_id: str | None) -> None:
    """Refuse to send unless a person approved exactly this.

    Raises:
        NotAllowedError: Nobody approved, or a file, argument or price changed since.
    """
    if sending.hosts:
        approval.use_plan(
            plan_id or _create(sending),
            WHERE,
            arguments=sending.arguments,
            files=sending.files,
            cost_usd=sending.cost_usd,
        )


def _create(sending: Sending) -> str:
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
