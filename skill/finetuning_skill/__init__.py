"""What speaks to an agent: the MCP server, the command line, the demo and the knowledge.

Here: the skill's own texts, SKILL.md and the six knowledge files, and how a person approves a plan:
in the terminal, or when the host asks for the server. Before a plan spends money or sends data out,
a host that declares elicitation shows the question; the answer approves the plan up to the amount
the person names. A host that does not gets nothing asked: the tool then refuses and names the
terminal command. No argument that an assistant can fill approves anything. And how a schema is
written for an assistant to read: in few characters.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel, Field, ValidationError

from finetuning.errors import BadInputError, RunFailedError, UnknownNameError
from finetuning.records import ToolResult, Usd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.mcpserver import Context
    from mcp.types import InputRequiredResult

    from finetuning.approval import Plan

TOPICS: Final[dict[str, str]] = {
    "skill": "SKILL.md",
    "providers": "providers.md",
    "data-prep": "data-prep.md",
    "training": "training.md",
    "evaluation": "evaluation.md",
    "costs": "costs.md",
    "compliance": "compliance.md",
}
"""Topic → file. In a checkout the files lie at its root, in a wheel in ``knowledge``."""

CHECKLIST_HEADING: Final = "Decision checklist"


def _folder() -> Path:
    packaged = Path(__file__).parent / "knowledge"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def read_topic(topic: str) -> str:
    """Return one knowledge file as Markdown.

    Args:
        topic: A key of ``TOPICS``.

    Raises:
        UnknownNameError: The topic is not known.
    """
    if topic not in TOPICS:
        raise UnknownNameError("knowledge", "topic", topic, TOPICS)
    return (_folder() / TOPICS[topic]).read_text(encoding="utf-8")


def checklist() -> str:
    """Return the decision checklist of SKILL.md as Markdown.

    Raises:
        RunFailedError: SKILL.md has no section of that name.
    """
    text = read_topic("skill")
    found = re.search(rf"^## {CHECKLIST_HEADING}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise RunFailedError(
            "SKILL.md",
            "the checklist is missing",
            f"a section named {CHECKLIST_HEADING!r}",
            "Install the skill again",
        )
    return found.group(0).strip()


_SPEAKS_OF: Final = {
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "string": frozenset({"pattern", "minLength", "maxLength", "format"}),
    "array": frozenset({"items", "minItems", "maxItems", "prefixItems"}),
    "object": frozenset({"properties", "additionalProperties", "required"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
"""Keywords of JSON Schema that say something about values of one type only."""


def compact(schema: Any) -> Any:
    """Return a JSON Schema that says the same in fewer characters, for an assistant to read.

    Generated titles repeat the names, a default of null what "optional" says; alternatives that
    differ in their type alone become one schema with a list of types.
    """
    if isinstance(schema, list):
        return [compact(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    items = cast("dict[str, Any]", schema).items()
    made = {
        key: compact(value)
        for key, value in items
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
    merged = _merged(made.get("anyOf"))
    if merged is None or merged.keys() & made.keys():
        return made
    del made["anyOf"]
    return merged | made


def _merged(alternatives: Any) -> dict[str, Any] | None:
    """Return one schema for alternatives of different types; None where they need more."""
    if not isinstance(alternatives, list):
        return None
    kinds: list[str] = []
    rest: dict[str, Any] = {}
    for each in cast("list[dict[str, Any]]", alternatives):
        words = {key: each[key] for key in each if key != "type"}
        kind = each.get("type")
        if not isinstance(kind, str) or kind in kinds or not words.keys() <= _SPEAKS_OF[kind]:
            return None
        kinds.append(kind)
        rest |= words
    return None if {"number", "integer"} <= set(kinds) else {"type": kinds, **rest}


MODERN: Final = "2026-07-28"
"""First protocol revision that asks by returning ``input_required`` (specification changelog)."""

_KEY: Final = "approve"


class Approval(ToolResult):
    """What was approved."""

    plan_id: str
    tool: str
    max_usd: Usd
    cost_usd: Usd | None

    def summary(self) -> str:
        """Say what may now be spent."""
        return f"Plan {self.plan_id} ({self.tool}) may spend up to ${self.max_usd}."


def approve(plan_id: str, max_usd: str, *, by: str = "terminal") -> Approval:
    """Approve a plan up to an amount and record who did.

    Args:
        plan_id: The plan's id, from a dry run.
        max_usd: Most US dollars the plan may cost, 0 or more.
        by: Where the person said so.

    Raises:
        BadInputError: The plan does not exist or the amount is not one.
    """
    from finetuning import approval, audit

    try:
        amount = Decimal(max_usd)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise BadInputError(
            "approve",
            f"--max-usd is {max_usd!r}",
            "an amount of US dollars, 0 or more",
            f"Run: fine-tuning approve {plan_id} --max-usd 5 (a person does, in a terminal)",
        )
    plan = approval.approve_plan(plan_id, amount, by=by)
    audit.append("plan.approved", {"plan_id": plan_id, "by": by, "max_usd": str(amount)})
    return Approval(plan_id=plan_id, tool=plan.tool, max_usd=amount, cost_usd=plan.cost_usd)


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
    import anyio.to_thread

    plan = await anyio.to_thread.run_sync(_open_plan, given)
    if plan is None or not _can_ask(context):
        return None
    text = question(plan)
    if (context.protocol_version or "") < MODERN:
        from mcp.server.elicitation import AcceptedElicitation

        outcome = await context.elicit(text, Answer)
        if isinstance(outcome, AcceptedElicitation):
            await anyio.to_thread.run_sync(_approve, plan.plan_id, outcome.data)
        return None
    return await _ask_modern(plan, text, context)


async def _ask_modern(
    plan: Plan, text: str, context: Context[Any, Any]
) -> InputRequiredResult | None:
    import anyio.to_thread
    from mcp.server.elicitation import render_elicitation_schema
    from mcp.types import (
        ElicitRequest,
        ElicitRequestFormParams,
        ElicitResult,
        InputRequiredResult,
    )

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
    approve(plan_id, f"{answer.max_usd:.2f}", by="elicitation")
