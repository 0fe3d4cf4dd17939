"""Approval: nothing is spent and nothing is sent before a person said yes to exactly that.

Here: who may go ahead. A plan is approved, checked, and used once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

from finetuning import audit
from finetuning.approval.plans import (
    Plan,
    create_plan,
    digest_of,
    digests_of,
    money,
    now,
    plans_folder,
    price_key,
    read_plan,
    shown,
    standing_approval,
    store,
)
from finetuning.errors import BadInputError, NotAllowedError
from finetuning.records import Json

__all__ = [
    "Plan",
    "approve_plan",
    "check_plan",
    "create_plan",
    "read_plan",
    "resume_plan",
    "use_plan",
]


def approve_plan(plan_id: str, max_usd: Decimal, *, by: str = "terminal") -> Plan:
    """Record that a person approves a plan up to an amount. Never called on a tool's argument.

    Args:
        plan_id: The plan.
        max_usd: Most US dollars it may cost, 0 or more.
        by: Where the person said so.

    Raises:
        UnknownNameError: There is no such plan.
        BadInputError: The amount is not one, or lies below the price.
        NotAllowedError: The price is unknown, or the plan was already carried out.
    """
    plan = read_plan(plan_id)
    if not max_usd.is_finite() or max_usd < 0:
        raise BadInputError(
            "approve",
            f"the maximum is {max_usd}",
            "US dollars, 0 or more",
            _ask(plan),
        )
    _refuse_used(plan)
    price = _known_price(plan)
    if price > max_usd:
        raise BadInputError(
            "approve",
            f"the plan costs ${money(price)}, more than the maximum of ${money(max_usd)}",
            f"a maximum of at least {money(price)}",
            _ask(plan),
        )
    approved = plan.model_copy(
        update={
            "approved": True,
            "approved_max_usd": max_usd,
            "approved_by": by,
            "approved_at": now(),
        }
    )
    store(approved)
    return approved


def check_plan(
    plan_id: str,
    tool: str,
    *,
    arguments: Mapping[str, Json],
    files: Sequence[Path],
    cost_usd: Decimal | None,
) -> Plan:
    """Return the plan if a person approved exactly this call at this price.

    ``FINE_TUNING_MAX_USD``, set by a person, approves every plan up to its amount; unset it
    approves nothing, not even a price of 0, and never a price that the caller stated.

    Args:
        plan_id: The plan.
        tool: The tool that is about to act.
        arguments: Its arguments as they are now.
        files: Its files as they are now.
        cost_usd: The price as it is now; None is unknown.

    Raises:
        UnknownNameError: There is no such plan.
        NotAllowedError: Not approved, changed since, already carried out, or the price is
            unknown or above what was approved.
        BadInputError: FINE_TUNING_MAX_USD is not an amount.
    """
    plan = read_plan(plan_id)
    _refuse_used(plan)
    _refuse_changed(plan, tool, arguments, digests_of(files, missing_ok=True), cost_usd)
    price = _known_price(plan)
    standing = None if plan.price_from_caller else standing_approval()
    if plan.approved and plan.approved_max_usd is not None and price <= plan.approved_max_usd:
        return plan
    if standing is not None and price <= standing:
        return plan.model_copy(
            update={
                "approved": True,
                "approved_max_usd": standing,
                "approved_by": "FINE_TUNING_MAX_USD",
            }
        )
    if plan.approved or standing is not None:
        highest = max(x for x in (plan.approved_max_usd, standing) if x is not None)
        what = f"the price of ${money(price)} is above the approved ${money(highest)}"
    else:
        what = f"{plan.plan_id} is not approved (price ${money(price)})"
    raise NotAllowedError(tool, what, "the approval of a person", _ask(plan))


def use_plan(
    plan_id: str,
    tool: str,
    *,
    arguments: Mapping[str, Json],
    files: Sequence[Path],
    cost_usd: Decimal | None,
) -> Plan:
    """Check a plan as ``check_plan`` does and mark it as carried out, once only.

    The caller that spends or sends calls this last before it acts: of two calls at once, one
    gets the plan and the other an error, so one approval never pays twice. The audit log says
    what is about to be spent or sent and who approved it, also if the call is then cut off.

    Args:
        plan_id: The plan.
        tool: The tool that is about to act.
        arguments: Its arguments as they are now.
        files: Its files as they are now.
        cost_usd: The price as it is now; None is unknown.

    Raises:
        UnknownNameError: There is no such plan.
        NotAllowedError: As ``check_plan``, or another call was first.
        BadInputError: FINE_TUNING_MAX_USD is not an amount.
        RunFailedError: The audit log cannot be written.
    """
    plan = check_plan(plan_id, tool, arguments=arguments, files=files, cost_usd=cost_usd)
    used = plan.model_copy(update={"used_at": now()})
    audit.check_log()
    try:
        mark = os.open(
            plans_folder() / f"{plan.plan_id}.used", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
    except FileExistsError:
        _refuse_used(used)
    else:
        os.close(mark)
    store(used)
    _record("plan.used", used)
    return used


def _record(event: str, plan: Plan) -> None:
    kept = {"plan_id", "tool", "cost_usd", "data_leaves_machine", "files", "approved_by"}
    audit.append(event, plan.model_dump(mode="json", include=kept | {"approved_max_usd"}))


def resume_plan(
    plan_id: str,
    tool: str,
    *,
    arguments: Mapping[str, Json],
    files: Sequence[Path],
    spent_usd: Decimal,
    rest_usd: Decimal | None,
) -> Plan:
    """Return a plan that was begun and not finished, if the whole stays within its approval.

    For work that a crash cut off: same tool, arguments and files, and what was spent so far
    together with the rest costs no more than a person approved.

    Args:
        plan_id: The plan, which ``use_plan`` gave out before.
        tool: The tool that is about to go on.
        arguments: Its arguments as they are now.
        files: Its files as they are now.
        spent_usd: What was spent under the plan so far, at most.
        rest_usd: What the rest costs, at most; None is unknown.

    Raises:
        UnknownNameError: There is no such plan.
        NotAllowedError: It was never begun or approved, something changed, or the rest would
            cost more than is left.
    """
    plan = read_plan(plan_id)
    _refuse_changed(plan, tool, arguments, digests_of(files, missing_ok=True), plan.cost_usd)
    limit = plan.approved_max_usd
    if plan.used_at is None or not plan.approved or limit is None:
        raise NotAllowedError(
            tool, f"{plan_id} was never begun", "a plan whose work was cut off", _ask(plan)
        )
    if rest_usd is None or spent_usd + rest_usd > limit:
        raise NotAllowedError(
            tool,
            f"${money(spent_usd)} are spent and the rest costs {shown(rest_usd)}, more than the "
            f"approved ${money(limit)}",
            "the approval of a person for the rest",
            "Make a new plan with dry_run=true: it prices only what is left",
        )
    _record("plan.resumed", plan)
    return plan


def _refuse_used(plan: Plan) -> None:
    if plan.used_at is None and not (plans_folder() / f"{plan.plan_id}.used").exists():
        return
    raise NotAllowedError(
        plan.tool,
        f"{plan.plan_id} was already carried out",
        "a plan that was not",
        "Make a new plan with dry_run=true",
    )


def _refuse_changed(
    plan: Plan,
    tool: str,
    arguments: Mapping[str, Json],
    files: Mapping[str, str],
    cost_usd: Decimal | None,
) -> None:
    """Say which part of a plan is no longer what was planned."""
    if plan.tool != tool:
        _changed(plan, f"it was made for {plan.tool}, not for {tool}")
    for name in sorted(plan.files.keys() | files.keys()):
        if plan.files.get(name) != files.get(name):
            _changed(plan, f"the file {name!r} changed since")
    if price_key(plan.cost_usd) != price_key(cost_usd):
        _changed(plan, f"the price changed from {shown(plan.cost_usd)} to {shown(cost_usd)}")
    if plan.digest != digest_of(tool, arguments, files, cost_usd):
        _changed(plan, "an argument changed since")


def _changed(plan: Plan, what: str) -> NoReturn:
    raise NotAllowedError(
        plan.tool,
        f"{plan.plan_id} is void: {what}",
        "the call that was planned",
        "Make a new plan with dry_run=true and have a person approve it",
    )


def _known_price(plan: Plan) -> Decimal:
    if plan.cost_usd is not None:
        return plan.cost_usd
    raise NotAllowedError(
        plan.tool,
        f"the price of {plan.plan_id} is unknown, and no approval covers an unknown price",
        "a known price",
        "Give the price with prices={…}, or choose a provider whose price is in the catalogue",
    )


def _ask(plan: Plan) -> str:
    price = plan.cost_usd or Decimal(0)
    command = f"fine-tuning approve {plan.plan_id} --max-usd {money(price)}"
    return f"Run: {command} (a person does, in a terminal)"
