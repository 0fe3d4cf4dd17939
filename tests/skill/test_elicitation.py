from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client
from mcp.types import CallToolResult, ElicitResult, TextContent

from finetuning import approval
from finetuning_skill import approve, dispatch, server

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]
both_eras = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def a_plan(tmp_path: Path) -> approval.Plan:
    """Make the plan that a dry run of a comparison on another machine leaves."""
    file = tmp_path / "test.jsonl"
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}"} for i in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answer = dispatch.call("compare_eval", given(file))
    plan_id = getattr(answer, "plan_id", None)
    assert isinstance(plan_id, str)
    return approval.read_plan(plan_id)


def given(file: Path) -> dict[str, Any]:
    return {
        "data": str(file),
        "base": "http://model.example/v1#m",
        "general": "none",
        "price_in_usd_per_mtok": "1000",
        "price_out_usd_per_mtok": "1000",
    }


class Person:
    """Answers the host's question and remembers what was asked."""

    def __init__(
        self, action: Literal["accept", "decline", "cancel"], max_usd: float = 2.0
    ) -> None:
        self.action: Literal["accept", "decline", "cancel"] = action
        self.max_usd = max_usd
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        content: Any = {"max_usd": self.max_usd} if self.action == "accept" else None
        return ElicitResult(action=self.action, content=content)


async def launch(mode: Mode, plan: approval.Plan, person: Person | None) -> CallToolResult:
    arguments = {**given(Path(next(iter(plan.files)))), "plan_id": plan.plan_id, "dry_run": False}
    async with Client(server.build_server(), mode=mode, elicitation_callback=person) as client:
        return await client.call_tool("compare_eval", arguments)


@both_eras
async def test_a_person_who_accepts_approves_the_plan_up_to_their_amount(
    mode: Mode, tmp_path: Path
) -> None:
    plan, person = a_plan(tmp_path), Person("accept", 9.0)
    await launch(mode, plan, person)
    stored = approval.read_plan(plan.plan_id)
    assert stored.approved
    assert stored.approved_max_usd == Decimal("9.00")
    assert stored.approved_by == "elicitation"
    assert len(person.asked) == 1
    assert f"${plan.cost_usd}" in person.asked[0]
    assert "Data leaves this machine" in person.asked[0]


@both_eras
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_does_not_accept_approves_nothing(
    mode: Mode, action: Literal["decline", "cancel"], tmp_path: Path
) -> None:
    plan, person = a_plan(tmp_path), Person(action)
    answer = await launch(mode, plan, person)
    assert answer.is_error
    assert not approval.read_plan(plan.plan_id).approved


@both_eras
async def test_a_host_that_cannot_ask_is_told_the_terminal_command(
    mode: Mode, tmp_path: Path
) -> None:
    plan = a_plan(tmp_path)
    answer = await launch(mode, plan, None)
    block = answer.content[0]
    assert isinstance(block, TextContent)
    assert answer.is_error
    assert f"fine-tuning approve {plan.plan_id} --max-usd" in block.text
    assert not approval.read_plan(plan.plan_id).approved


async def test_an_approved_plan_is_not_asked_again(tmp_path: Path) -> None:
    plan, person = a_plan(tmp_path), Person("accept")
    approve(plan.plan_id, "9")
    await launch("auto", plan, person)
    assert person.asked == []


async def test_a_plan_that_does_not_exist_is_the_tools_own_error(tmp_path: Path) -> None:
    plan, person = a_plan(tmp_path), Person("accept")
    missing = plan.model_copy(update={"plan_id": "plan-none"})
    answer = await launch("auto", missing, person)
    assert answer.is_error
    assert person.asked == []


def test_approving_in_a_terminal_loads_no_protocol() -> None:
    code = (
        "import sys\n"
        "from finetuning_skill.cli import run\n"
        "code = run(['approve', 'plan_000000000000', '--max-usd', '1'])\n"
        "print(code, sorted({'mcp', 'anyio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
