from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client
from mcp.types import CallToolResult, TextContent

from finetuning.errors import BadInputError
from finetuning.tokens import counter_for
from finetuning_skill import TOPICS, checklist, dispatch, read_topic, server

pytestmark = pytest.mark.anyio
Mode = Literal["auto", "legacy"]
both_eras = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def text_of(answer: CallToolResult) -> str:
    block = answer.content[0]
    assert isinstance(block, TextContent)
    return block.text


async def call(mode: Mode, name: str, **arguments: Any) -> CallToolResult:
    async with Client(server.build_server(), mode=mode) as client:
        return await client.call_tool(name, arguments)


@both_eras
async def test_every_tool_is_listed_with_schemas_and_all_four_hints(mode: Mode) -> None:
    async with Client(server.build_server(), mode=mode) as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == list(dispatch.TOOLS)
    for tool in tools:
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema is not None
        assert tool.output_schema["type"] == "object"
        assert len(str(tool.description).splitlines()[0]) < 80
        hints = tool.annotations
        assert hints is not None
        values = (
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        )
        assert None not in values


async def test_read_only_and_open_world_hints_follow_the_contract() -> None:
    read_only = {name for name, row in dispatch.TOOLS.items() if row.read_only}
    assert read_only == {
        "inspect_environment",
        "assess_fit",
        "inspect_data",
        "compare_providers",
        "get_run",
        "verify_audit_log",
    }
    leaves = {name for name, row in dispatch.TOOLS.items() if row.open_world}
    assert leaves == {"configure_training", "launch_lora", "compare_eval", "capture_outputs"}


async def test_the_list_of_tools_is_small_enough_to_load() -> None:
    tools = [server.wire_tool(name) for name in dispatch.TOOLS]
    inputs = sum(len(json.dumps(tool.input_schema)) + len(str(tool.description)) for tool in tools)
    assert inputs < 50_000


@both_eras
async def test_quick_tools_answer_with_structured_content_and_a_short_text(mode: Mode) -> None:
    answer = await call(mode, "assess_fit", facts={})
    assert not answer.is_error
    assert answer.structured_content is not None
    assert answer.structured_content["verdict"] == "build_eval_first"
    assert len(text_of(answer)) < 1000


@both_eras
async def test_detached_tools_answer_with_their_own_result(
    mode: Mode, write_lines: Callable[..., Path]
) -> None:
    rows = [json.dumps({"prompt": f"p {i}", "completion": f"c {i}"}) for i in range(15)]
    path = write_lines("rows.jsonl", *rows)
    answer = await call(mode, "validate_jsonl", path=str(path), target="trl_prompt_completion")
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    assert answer.structured_content["n_rows"] == 15


async def test_work_beyond_the_wait_returns_a_run_that_get_run_finishes(
    write_lines: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MCP_WAIT_SECONDS", 0.0)
    path = write_lines("rows.jsonl", json.dumps({"prompt": "p", "completion": "c"}))
    answer = await call("auto", "validate_jsonl", path=str(path), target="trl_prompt_completion")
    assert answer.structured_content is not None
    assert set(answer.structured_content) >= {"run_id", "status", "next"}
    monkeypatch.undo()
    follow = answer.structured_content["next"][0]
    monkeypatch.setenv("FINE_TUNING_HOME", str(path.parent / "home"))
    done = await call("auto", follow["tool"], **{**follow["args"], "wait_seconds": 40})
    assert done.structured_content is not None, text_of(done)
    assert done.structured_content["status"] == "succeeded"
    assert done.structured_content["result"]["n_rows"] == 1


@both_eras
@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("validate_jsonl", {"path": "none.jsonl", "target": "openai_chat"}, "none.jsonl"),
        ("validate_jsonl", {"path": "x", "target": "openai_caht"}, "openai_chat"),
        ("get_run", {"run_id": "nope"}, "nope"),
        ("get_run", {"run": "nope"}, "run_id"),
        ("no_such_tool", {}, "no_such_tool"),
        ("assess_fit", {"facts": {"prompt_score": 92}}, "0.92?"),
    ],
)
async def test_errors_are_results_that_the_model_can_read(
    mode: Mode, name: str, arguments: dict[str, Any], part: str
) -> None:
    answer = await call(mode, name, **arguments)
    assert answer.is_error
    assert part in text_of(answer)
    assert "expected" in text_of(answer)


async def test_a_wait_over_mcp_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(name: str, given: dict[str, Any], *, surface: str) -> None:
        seen.update(given)
        raise BadInputError(name, "stopped here", "nothing", "Stop")

    monkeypatch.setattr(dispatch, "call", record)
    await server.build_server().call_tool("get_run", {"run_id": "x", "wait_seconds": 500})
    assert seen["wait_seconds"] == 40.0


@both_eras
async def test_knowledge_files_are_resources_and_the_checklist_is_a_prompt(mode: Mode) -> None:
    async with Client(server.build_server(), mode=mode) as client:
        listed = {str(item.uri) for item in (await client.list_resources()).resources}
        assert listed == {f"knowledge://{topic}" for topic in TOPICS}
        read = await client.read_resource("knowledge://costs")
        assert getattr(read.contents[0], "text", "") == read_topic("costs")
        prompt = await client.get_prompt("checklist")
        message = prompt.messages[0].content
        assert isinstance(message, TextContent)
        assert message.text == checklist()


async def test_results_stay_under_two_thousand_tokens(write_lines: Callable[..., Path]) -> None:
    path = write_lines("bad.jsonl", *["{broken"] * 400)
    answer = await call("auto", "validate_jsonl", path=str(path), target="openai_chat")
    assert answer.structured_content is not None
    (n_tokens,) = counter_for().count([json.dumps(answer.structured_content)])
    assert n_tokens <= 2_000
    assert answer.structured_content["next_offset"] is not None


def test_http_refuses_an_address_that_is_not_this_machine() -> None:
    with pytest.raises(BadInputError, match="loopback"):
        server.serve(["--http", "--host", "0.0.0.0"])
