"""Asks the person, through the host, before a plan spends money or sends data out.

A host that declares elicitation shows the question; the answer approves the plan up to the
amount the person names. A host that does not gets nothing asked: the tool then refuses and
names the terminal command. No argument that an assistant can fill approves anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from mcp.server.elicitation import AcceptedElicitation, render_elicitation_schema
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel, Field, ValidationError

from finetuning_skill import approvals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.mcpserver import Context

    from finetuning.approval import Plan

MODERN: Final = "2026-07-28"
"""First protocol revision that asks by returning ``input_required`` (specification changelog)."""

_KEY: Final = "approve"


class Answer(BaseModel):
    """What the person fills in."""

    max_usd: float = Field(ge=0, description="Most US dollars this plan may cost.")


def question(plan: Plan) -> str:
    """Return the question for a plan; it follows from the plan alone."""
    price = "an unknown amount" if plan.cost_usd is None else f"${plan.cost_usd}"
    leaves = "Data leaves this machine. " if plan.data_leaves_machine else ""
    steps = "; ".join(plan.steps)
    return f"Approve plan {plan.plan_id} ({plan.tool})? It costs {price}. {leaves}Steps: {steps}."


def _can_ask(context: Context[Any, Any]) -> bool:
    capabilities = context.client_capabilities
    asked = capabilities.elicitation if capabilities is not None else None
    return asked is not None and (asked.form is not None or asked.url is None)


def _open_plan(given: Mapping[str, Any]) -> Plan | None:
    """Return the plan these arguments would carry out, if nobody has approved it yet."""
    plan_id = given.get("plan_id")
    if not isinstance(plan_id, str) or given.get("dry_run") is not False:
        return None
    from finetuning import approval
    from finetuning.errors import FineTuningError

    try:
        plan = approval.read_plan(plan_id)
    except FineTuningError:
        return None  # the tool itself says what is wrong with it
    return None if plan.approved else plan


async def ask(
    name: str, given: Mapping[str, Any], context: Context[Any, Any]
) -> InputRequiredResult | None:
    """Ask for the approval that a call needs, if the host can ask.

    Args:
        name: Name of the tool.
        given: Its arguments.
        context: The request.

    Returns:
        The question to hand to the client (protocol from 2026-07-28), or None when the call
        can go on: approved now, nothing to approve, or a host that cannot ask.
    """
    plan = await anyio.to_thread.run_sync(_open_plan, given)
    if plan is None or not _can_ask(context):
        return None
    text = question(plan)
    if (context.protocol_version or "") < MODERN:
        outcome = await context.elicit(text, Answer)
        if isinstance(outcome, AcceptedElicitation):
            await anyio.to_thread.run_sync(_approve, plan.plan_id, outcome.data)
        return None
    return await _ask_modern(plan, text, context)


async def _ask_modern(
    plan: Plan, text: str, context: Context[Any, Any]
) -> InputRequiredResult | None:
    answer = (context.input_responses or {}).get(_KEY)
    if isinstance(answer, ElicitResult) and context.request_state == plan.digest:
        if answer.action == "accept":
            try:
                wanted = Answer.model_validate(answer.content)
            except ValidationError:
                return None
            await anyio.to_thread.run_sync(_approve, plan.plan_id, wanted)
        return None
    params = ElicitRequestFormParams(
        message=text, requested_schema=render_elicitation_schema(Answer)
    )
    return InputRequiredResult(
        input_requests={_KEY: ElicitRequest(params=params)}, request_state=plan.digest
    )


def _approve(plan_id: str, answer: Answer) -> None:
    approvals.approve(plan_id, f"{answer.max_usd:.2f}", by="elicitation")
