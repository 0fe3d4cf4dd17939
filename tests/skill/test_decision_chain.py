"""From a raw file to a decision over MCP: facts are passed on, no number is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from finetuning_skill import server

pytestmark = pytest.mark.anyio
DEMO = Path(server.__file__).parent / "demo"
LONGEST_ANSWER = 32


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Session:
    """Calls tools, counts the calls, and refuses an answer that is an error."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls = 0

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        assert answer.structured_content is not None
        return answer.structured_content

    async def finished(self, started: dict[str, Any]) -> dict[str, Any]:
        """Return a tool's result, waiting for its run where it took longer than a call may."""
        if "run_id" not in started:
            return started
        run = await self.call("get_run", run_id=started["run_id"], wait_seconds=40)
        result: dict[str, Any] = run["result"]
        return result


async def test_facts_go_from_the_file_and_the_baseline_into_the_decision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    async with Client(server.build_server()) as client:
        session = Session(client)
        seen = await session.call("inspect_data", path=str(DEMO / "orders.csv"))
        prepared = await session.call("prepare_data", **seen["suggested_args"])
        measured = await session.finished(
            await session.call(
                "compare_eval",
                data=str(Path(prepared["files"]["test"]).parent),
                base=f"local:{DEMO / 'base'}",
                general="none",
                max_tokens=LONGEST_ANSWER,
            )
        )
        facts = {**seen["fit_facts"], **prepared["fit_facts"], **measured["fit_facts"]}
        answer = await session.call("assess_fit", facts=facts)
    assert session.calls <= 6
    assert measured["verdict"] == "baseline"
    assert answer["fit_facts"] == facts
    gate = next(gate for gate in answer["gates"] if gate["name"] == "evaluation")
    assert gate["status"] == "pass"
    assert facts["n_examples"] > 1_000
    assert facts["near_duplicate_test_fraction"] == 0
    assert facts["prompt_score"] == facts["base_task_score"] < 0.1  # it never saw an order
    assert 0 < facts["invalid_syntax_fraction"] < 0.3  # far less than it gets wrong
    assert answer["verdict"] == "prompt_first"
    assert "prompt_score" in answer["decisive_facts"]
    assert any("grammar" in step for step in answer["must_do"])
    assert answer["questions"]
    assert set(answer["flip_points"][0]) == {"fact", "from", "to", "verdict"}


async def test_the_file_and_recorded_answers_are_enough_for_a_decision(tmp_path: Path) -> None:
    """Two measurements and the decision; the answers came from anywhere, as a file."""
    import json

    rows = [
        {"prompt": f"Ticket {n}: parcel {n * 7} has not come.", "completion": label}
        for n, label in enumerate(["delivery", "refund", "account"] * 40)
    ]
    wrong = {"delivery": "refund", "refund": "account", "account": "delivery"}
    answers = [
        {"id": n + 1, "output": row["completion"] if n % 5 else wrong[row["completion"]]}
        for n, row in enumerate(rows)
    ]
    for name, lines in (("rows", rows), ("answers", answers)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    async with Client(server.build_server()) as client:
        session = Session(client)
        seen = await session.call("inspect_data", path=str(tmp_path / "rows.jsonl"))
        measured = await session.call(
            "compare_eval",
            data=str(tmp_path / "rows.jsonl"),
            base=f"recorded:{tmp_path / 'answers.jsonl'}",
        )
        facts = {**seen["fit_facts"], **measured["fit_facts"]}
        answer = await session.call("assess_fit", facts=facts)
    assert session.calls == 3
    assert facts["prompt_score"] == 0.8
    assert facts["n_examples"] == len(rows)
    assert answer["verdict"] == "prompt_first"
    assert [question["fact"] for question in answer["questions"]]
