"""A person approves a plan: in the terminal, or when the host asks for the server."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from finetuning.errors import BadInputError
from finetuning.records import ToolResult, Usd


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
