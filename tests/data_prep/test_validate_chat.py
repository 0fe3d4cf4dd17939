"""Faults of rows of messages: roles, order, contents, calls, weights, by target."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetuning.data_prep.targets import CHAT_RULES
from finetuning.data_prep.validate import validate_row

U: dict[str, Any] = {"role": "user", "content": "What is due?"}
A: dict[str, Any] = {"role": "assistant", "content": "Nothing is due."}
S: dict[str, Any] = {"role": "system", "content": "You help."}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "find", "parameters": {}}}]


def call(name: str = "c1", arguments: Any = '{"q": 1}', **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "type": "function",
        "function": {"name": "find", "arguments": arguments},
        **more,
    }


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answer(name: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": "3 rows"}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def found(target: str, row: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(item.severity[0], item.code, item.field) for item in validate_row(target, row)]


@pytest.mark.parametrize(
    "row",
    [
        chat(U, A),
        chat(S, U, A, U, A),
        chat(S, U, {**A, "weight": 0}, U, {**A, "weight": 1}),
        chat({**U, "name": "anna"}, A),
        chat(U, asks(call()), answer(), A, tools=TOOLS, parallel_tool_calls=False),
        chat(U, asks(call("a"), call("b")), answer("b"), answer("a"), A, tools=TOOLS),
        chat(U, asks(call()), tools=TOOLS),
        chat(U, {**asks(call()), "content": "I look."}, tools=TOOLS),
        chat(U, {"role": "assistant", "content": None, "refusal": "No."}),
        chat({"role": "user", "content": [{"type": "text", "text": "a"}]}, A),
        chat(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            A,
        ),
        chat(U, {**A, "content": "Grüße, 世界 🏴\U000e0067\U000e007f"}),
    ],
)
def test_rows_that_openai_takes_have_no_finding(row: dict[str, Any]) -> None:
    assert found("openai_chat", row) == []


@pytest.mark.parametrize("target", sorted(set(CHAT_RULES) - {"openai_rft", "cohere_chat"}))
def test_the_plain_conversation_is_fine_everywhere(target: str) -> None:
    assert found(target, chat(U, A, U, A)) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, [("e", "missing_key", "/messages")]),
        (chat(), [("e", "empty_list", "/messages")]),
        ({"messages": "x"}, [("e", "wrong_type", "/messages")]),
        (chat(U, A, id=1), [("w", "unknown_key", "/id")]),
        (chat(U, 5), [("e", "wrong_type", "/messages/1")]),
        (chat(U, {"content": "x"}), [("e", "missing_key", "/messages/1/role")]),
        (chat(U, {**A, "role": None}), [("e", "wrong_type", "/messages/1/role")]),
        (chat(U, {**A, "role": "bot"}), [("e", "unknown_role", "/messages/1/role")]),
        (chat(U, {**A, "role": "Assistant"}), [("e", "role_case", "/messages/1/role")]),
        (chat(U, {**A, "role": "аssistant"}), [("e", "role_lookalike", "/messages/1/role")]),
        (chat(U, {**A, "role": "assistant\u200b"}), [("e", "role_lookalike", "/messages/1/role")]),
        (chat({**S, "role": "developer"}, U, A), [("w", "role_unverified", "/messages/0/role")]),
        (chat(U, {**A, "x": 1}), [("e", "unknown_key", "/messages/1/x")]),
        (chat(U, {"role": "assistant"}), [("e", "missing_content", "/messages/1/content")]),
        (chat(U, {**A, "content": ""}), [("e", "empty_content", "/messages/1/content")]),
        (chat({**S, "content": " "}, U, A), [("w", "empty_content", "/messages/0/content")]),
        (chat(U, {**A, "content": 5}), [("e", "wrong_type", "/messages/1/content")]),
        (chat(U, {**A, "content": []}), [("e", "empty_list", "/messages/1/content")]),
        (
            chat({**U, "content": [{"type": "text", "text": " "}]}, A),
            [("e", "empty_content", "/messages/0/content")],
        ),
        (chat(U, U, A), [("w", "not_alternating", "/messages/1")]),
        (chat(U, S, A), [("w", "system_not_first", "/messages/1")]),
        (chat(S, S, U, A), [("w", "several_systems", "/messages/1")]),
        (chat(S, U), [("e", "no_assistant", "/messages")]),
        (chat(U, A, U), [("e", "last_not_assistant", "/messages/2")]),
        (chat(U, {**A, "weight": 2}), [("e", "invalid_weight", "/messages/1/weight")]),
        (chat(U, {**A, "weight": True}), [("e", "invalid_weight", "/messages/1/weight")]),
        (chat({**U, "weight": 1}, A), [("e", "misplaced_weight", "/messages/0/weight")]),
        (chat(U, {**A, "weight": 0}), [("e", "all_weights_zero", "/messages")]),
    ],
)
def test_a_fault_of_a_conversation_is_named_with_its_place(
    row: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    assert found("openai_chat", row) == expected


IMAGE = "/messages/0/content/0"


@pytest.mark.parametrize(
    ("part", "target", "code", "field"),
    [
        (5, "openai_chat", "wrong_type", IMAGE),
        ({"type": "video"}, "openai_chat", "invalid_part", IMAGE + "/type"),
        ({"type": 5}, "openai_chat", "invalid_part", IMAGE + "/type"),
        ({"type": "text"}, "openai_chat", "missing_key", IMAGE + "/text"),
        ({"type": "text", "text": 5}, "openai_chat", "wrong_type", IMAGE + "/text"),
        ({"type": "image_url"}, "openai_chat", "image_invalid", IMAGE),
        ({"type": "image_url", "image_url": "cat.png"}, "openai_chat", "image_invalid", IMAGE),
        (
            {"type": "image_url", "image_url": {"url": "data:text/html;base64,AA"}},
            "openai_chat",
            "image_invalid",
            IMAGE,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
            "together_chat",
            "image_invalid",
            IMAGE,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
            "mistral_chat",
            "image_not_allowed",
            IMAGE,
        ),
        (
            {"image": "data:image/png;base64," + "A" * 14_000_000},
            "openai_chat",
            "image_too_large",
            IMAGE,
        ),
    ],
)
def test_a_fault_of_a_part_is_named_with_its_place(
    part: Any, target: str, code: str, field: str
) -> None:
    row = chat({"role": "user", "content": [part, {"type": "text", "text": "x"}]}, A)
    assert found(target, row) == [("e", code, field)]


def test_images_are_for_users_and_at_most_ten() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    row = chat({"role": "user", "content": [image] * 11}, {"role": "assistant", "content": [image]})
    assert found("openai_chat", row) == [
        ("e", "image_not_allowed", "/messages/1/content/0"),
        ("e", "too_many_images", "/messages"),
    ]


CALL = "/messages/1/tool_calls/0"
ARGUMENTS = CALL + "/function/arguments"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (chat(U, asks(call())), [("w", "tools_missing", "/tools")]),
        (
            chat(U, asks(call()), tools={}),
            [("e", "wrong_type", "/tools"), ("w", "tools_missing", "/tools")],
        ),
        (chat(U, asks(call()), tools=[]), [("e", "unknown_tool", CALL + "/function/name")]),
        (
            chat(U, A, tools=[5]),
            [("e", "wrong_type", "/tools/0"), ("e", "tool_definition", "/tools/0")],
        ),
        (chat(U, A, tools=[{"function": {"name": "a b"}}]), [("e", "tool_definition", "/tools/0")]),
        (
            chat(U, A, tools=[{"function": {"name": "a", "parameters": 5}}]),
            [("e", "tool_definition", "/tools/0")],
        ),
        (
            chat(U, asks(call(arguments={"q": 1})), tools=TOOLS),
            [("e", "arguments_not_string", ARGUMENTS)],
        ),
        (
            chat(U, asks(call(arguments="{q")), tools=TOOLS),
            [("e", "arguments_not_json", ARGUMENTS)],
        ),
        (
            chat(U, asks(call(arguments="[1]")), tools=TOOLS),
            [("e", "arguments_not_json", ARGUMENTS)],
        ),
        (chat(U, asks(call("")), tools=TOOLS), [("e", "invalid_tool_call", CALL + "/id")]),
        (chat(U, asks(call(type="x")), tools=TOOLS), [("e", "invalid_tool_call", CALL + "/type")]),
        (
            chat(U, asks(call(function=5)), tools=TOOLS),
            [("e", "invalid_tool_call", CALL + "/function")],
        ),
        (
            chat(U, asks(call(function={"name": "find"})), tools=TOOLS),
            [("e", "missing_key", ARGUMENTS)],
        ),
        (
            chat(U, asks(call(function={"name": 5, "arguments": "{}"})), tools=TOOLS),
            [("e", "invalid_tool_call", CALL + "/function/name")],
        ),
        (chat(U, {**asks(), "tool_calls": [5]}, tools=TOOLS), [("e", "wrong_type", CALL)]),
        (
            chat(U, asks(call(), call()), answer(), A, tools=TOOLS),
            [("e", "duplicate_tool_call_id", "/messages/1/tool_calls/1/id")],
        ),
        (
            chat(U, asks(call()), A, tools=TOOLS),
            [
                ("e", "unanswered_tool_call", CALL),
                ("w", "not_alternating", "/messages/2"),
            ],
        ),
        (
            chat(U, asks(call()), answer("c2"), U, A, tools=TOOLS),
            [
                ("e", "unmatched_tool_result", "/messages/2/tool_call_id"),
                ("e", "unanswered_tool_call", CALL),
            ],
        ),
        (
            chat(U, asks(call()), answer(), answer(), A, tools=TOOLS),
            [("e", "unmatched_tool_result", "/messages/3/tool_call_id")],
        ),
        (
            chat(U, {"role": "tool", "content": "x"}, A),
            [("e", "unmatched_tool_result", "/messages/1/tool_call_id")],
        ),
        (
            chat({**U, "tool_calls": [call()]}, A),
            [("e", "invalid_tool_call", "/messages/0/tool_calls")],
        ),
        (
            chat(U, {"role": "assistant", "function_call": {"name": "find", "arguments": "{}"}}),
            [("w", "deprecated_function_call", "/messages/1")],
        ),
        (
            chat(U, {**A, "tool_calls": []}),
            [("w", "empty_list", "/messages/1/tool_calls")],
        ),
        (
            chat(U, A, functions=[{"name": "a b"}]),
            [("e", "tool_definition", "/functions/0")],
        ),
    ],
)
def test_a_fault_of_a_call_is_named_with_its_place(
    row: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    assert found("openai_chat", row) == expected


@pytest.mark.parametrize(
    ("target", "row", "expected"),
    [
        ("together_chat", chat(U, U, A), [("e", "not_alternating", "/messages/1")]),
        ("together_chat", chat(A, U, A), [("e", "first_not_user", "/messages/0")]),
        ("together_chat", chat(U, A, weight=0.5), []),
        ("together_chat", chat(U, A, weight=-1), [("e", "invalid_weight", "/weight")]),
        (
            "together_chat",
            chat(U, A, text="x"),
            [
                ("w", "unknown_key", "/text"),
                ("e", "two_formats", None),
            ],
        ),
        ("fireworks_chat", chat(U, S, A), [("e", "system_not_first", "/messages/1")]),
        ("aliyun_chat", chat(U, {**A, "weight": 1}), [("w", "unknown_key", "/messages/1/weight")]),
        ("openai_rft", chat(U, answer_key="7"), []),
        ("openai_rft", chat(U, A), [("e", "last_not_user", "/messages/1")]),
        ("trl_messages", chat(U, A, U, note=1), [("w", "last_not_assistant", "/messages/2")]),
        (
            "trl_messages",
            chat(U, asks(call(arguments={"q": 1}))),
            [("w", "tools_missing", "/tools")],
        ),
        (
            "trl_messages",
            chat(U, asks(call("")), {"role": "tool", "content": "x"}, A, tools=TOOLS),
            [],
        ),
        (
            "mistral_chat",
            chat(U, asks(call()), tools=TOOLS),
            [
                ("e", "tool_call_id_length", CALL + "/id"),
            ],
        ),
        (
            "mistral_chat",
            chat(U, {**asks(call("123456789")), "content": "x"}, tools=TOOLS),
            [
                ("e", "content_with_tool_calls", "/messages/1"),
            ],
        ),
        ("bedrock_claude3", chat(U, A, system="You help."), []),
        ("bedrock_claude3", chat(U, A, system=5), [("e", "wrong_type", "/system")]),
        ("bedrock_claude3", chat(S, U, A), [("e", "unknown_role", "/messages/0/role")]),
        (
            "bedrock_claude3",
            chat(U, answer(), A, tools=TOOLS),
            [
                ("e", "unknown_key", "/tools"),
                ("e", "tools_not_allowed", "/tools"),
                ("e", "unknown_role", "/messages/1/role"),
                ("e", "tools_not_allowed", "/messages/1"),
            ],
        ),
        ("cohere_chat", chat({**U, "role": "User"}, {**A, "role": "Chatbot"}), []),
        (
            "cohere_chat",
            chat({**U, "role": "User"}, A),
            [("e", "unknown_role", "/messages/1/role")],
        ),
    ],
)
def test_targets_differ_where_their_providers_do(
    target: str, row: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    assert found(target, row) == expected


def test_messages_name_roles_and_lengths_but_never_text() -> None:
    secret = "Anna Example, 4 Elm Street"
    row = chat(
        {"role": secret, "content": secret},
        {"role": "assistant", "content": secret, "weight": secret, secret: 1},
        asks(call(secret, secret)),
        {"role": "tool", "tool_call_id": secret + "x", "content": secret},
        {
            "role": "user",
            "content": [{"type": secret}, {"type": "text", "text": secret + "\u200b"}],
        },
    )
    shown = [
        item.model_dump(exclude={"field"})
        for target in CHAT_RULES
        for item in validate_row(target, row)
    ]
    assert len(shown) > 50
    assert secret not in json.dumps(shown)
