"""Every input shape is read as one inner shape, and nothing is lost in silence."""

from __future__ import annotations

from typing import Any

import pytest

from finetuning.data_prep.convert import Columns, Converter, shape_of
from finetuning.data_prep.examples import Example
from finetuning.records import Finding, Record

PAIR = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]


def convert(
    *rows: dict[str, Any],
    target: str = "trl_messages",
    columns: Columns | None = None,
    mode: Any = "per_conversation",
) -> tuple[list[Example], list[str]]:
    records = [Record("data", line, row) for line, row in enumerate(rows, start=1)]
    made = Converter(target, columns or Columns(), mode).convert(records, "data")
    return made.examples, [rejection.reason for rejection in made.rejections]


def only(*rows: dict[str, Any], **more: Any) -> Example:
    examples, reasons = convert(*rows, **more)
    assert reasons == []
    (example,) = examples
    return example


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("openai_chat", {"messages": PAIR}),
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "human", "value": "hello"},
                    {"from": "gpt", "value": "hi there"},
                ]
            },
        ),
        ("alpaca", {"instruction": "hello", "input": "", "output": "hi there"}),
        ("trl_prompt_completion", {"prompt": "hello", "completion": "hi there"}),
        ("trl_prompt_completion", {"prompt": PAIR[:1], "completion": PAIR[1:]}),
        (
            "bedrock_converse",
            {
                "schemaVersion": "bedrock-conversation-2024",
                "messages": [
                    {"role": "user", "content": [{"text": "hello"}]},
                    {"role": "assistant", "content": [{"text": "hi there"}]},
                ],
            },
        ),
        (
            "vertex_sft",
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "hello"}]},
                    {"role": "model", "parts": [{"text": "hi there"}]},
                ]
            },
        ),
        (
            "openai_chat",
            {
                "messages": [
                    {"role": "User", "content": "hello"},
                    {"role": "Chatbot", "content": "hi there"},
                ]
            },
        ),
        (None, {"question": "hello", "answer": "hi there"}),
        (None, {"Customer Message": "hello", "Reply": "hi there"}),
    ],
)
def test_shape_is_told_and_read_as_the_same_chat(shape: str | None, row: dict[str, Any]) -> None:
    found = shape_of(row)
    assert (found.name if found else None) == shape
    if "Customer Message" in row:
        example = only(row, columns=Columns(prompt="Customer Message"))
    else:
        example = only(row)
    assert example.messages == PAIR


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("trl_preference", {"prompt": "hello", "chosen": "hi there", "rejected": "no"}),
        (
            "trl_preference",
            {
                "chosen": PAIR,
                "rejected": [PAIR[0], {"role": "assistant", "content": "no"}],
            },
        ),
        (
            "openai_preference",
            {
                "input": {"messages": PAIR[:1]},
                "preferred_output": PAIR[1:],
                "non_preferred_output": [{"role": "assistant", "content": "no"}],
            },
        ),
        (
            "nova_dpo",
            {
                "schemaVersion": "bedrock-conversation-2024",
                "messages": [
                    {"role": "user", "content": [{"text": "hello"}]},
                    {
                        "role": "assistant",
                        "candidates": [
                            {"content": [{"text": "no"}], "preferenceLabel": "non-preferred"},
                            {"content": [{"text": "hi there"}], "preferenceLabel": "preferred"},
                        ],
                    },
                ],
            },
        ),
        (
            "vertex_preference",
            {
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
                "completions": [
                    {"score": 0, "completion": {"role": "model", "parts": [{"text": "no"}]}},
                    {"score": 1, "completion": {"role": "model", "parts": [{"text": "hi there"}]}},
                ],
            },
        ),
    ],
)
def test_preferences_of_every_dialect_are_read_alike(shape: str, row: dict[str, Any]) -> None:
    found = shape_of(row)
    assert found is not None
    assert found.name == shape
    example = only(row, target="trl_preference")
    assert example.messages == PAIR[:1]
    assert example.chosen == PAIR[1:]
    assert example.rejected == [{"role": "assistant", "content": "no"}]


def test_prompt_column_names_the_prompt_of_a_preference() -> None:
    row = {"q": "hello", "chosen": "hi there", "rejected": "no"}
    example = only(row, target="trl_preference", columns=Columns(prompt="q"))
    assert example.messages == PAIR[:1]


def test_one_preference_becomes_two_judged_answers() -> None:
    examples, _ = convert(
        {"prompt": "hello", "chosen": "hi there", "rejected": "no"}, target="trl_kto"
    )
    assert [example.liked for example in examples] == [True, False]
    assert {example.family for example in examples} == {1}
    assert all("one_of_several" in example.notes for example in examples)


@pytest.mark.parametrize(
    ("cell", "liked"), [(True, True), ("yes", True), ("0", False), ("thumbs_down", False)]
)
def test_label_column_says_good_or_bad(cell: Any, liked: bool) -> None:
    row = {"question": "hello", "answer": "hi there", "rating": cell}
    example = only(row, target="trl_kto", columns=Columns(label="rating"))
    assert (example.kind, example.liked) == ("binary", liked)


def test_label_that_says_neither_good_nor_bad_is_no_verdict() -> None:
    _, reasons = convert(
        {"question": "hello", "answer": "hi", "rating": "maybe"},
        target="trl_kto",
        columns=Columns(label="rating"),
    )
    assert reasons == ["verdict_missing"]


def test_running_text_is_read_with_its_companions_left_beside() -> None:
    assert only({"text": "once upon a time", "id": "7"}, target="trl_text").text.startswith("once")
    named = only({"body": "once", "kind": "x"}, target="trl_text", columns=Columns(content="body"))
    assert named.text == "once"
    table = only({"text": "once", "kind": "x"}, target="together_text")
    assert table.text == "once"


def test_system_texts_beside_the_turns_are_kept() -> None:
    system = {"role": "system", "content": "be brief"}
    for row in (
        {"messages": PAIR, "system": "be brief"},
        {"prompt": "hello", "completion": "hi there", "system": "be brief"},
        {"question": "hello", "answer": "hi there", "system_prompt": "be brief"},
        {"instruction": "hello", "input": None, "output": "hi there", "system": "be brief"},
        {
            "conversations": [
                {"from": "human", "value": "hello"},
                {"from": "gpt", "value": "hi there"},
            ],
            "system": "be brief",
        },
        {
            "schemaVersion": "x",
            "system": [{"text": "be brief"}],
            "messages": PAIR,
        },
        {
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "hello"}]},
                {"role": "model", "parts": [{"text": "hi there"}]},
            ],
        },
    ):
        assert only(row).messages == [system, *PAIR]
    assert only({"messages": PAIR}, columns=Columns(system="be brief")).messages[0] == system


def test_alpaca_history_becomes_earlier_turns() -> None:
    row = {"instruction": "c", "input": "d", "output": "e", "history": [["a", "b"]]}
    turns = [(turn["role"], turn["content"]) for turn in only(row).messages]
    assert turns == [("user", "a"), ("assistant", "b"), ("user", "c\n\nd"), ("assistant", "e")]


def test_context_column_goes_before_the_prompt() -> None:
    row = {"question": "who?", "answer": "me", "passage": "It was me."}
    example = only(row, columns=Columns(prompt="question", context="passage"))
    assert example.messages[0]["content"] == "It was me.\n\nwho?"
    chat = {"messages": PAIR, "passage": "It was me."}
    placed = only(chat, columns=Columns(context="passage"))
    assert [turn["content"] for turn in placed.messages] == ["It was me.\n\nhello", "hi there"]
    text = only({"text": "once", "lang": "It was me."}, target="trl_text",
                columns=Columns(context="lang"))  # fmt: skip
    assert text.text == "It was me.\n\nonce"
    without = only({**chat, "passage": None}, columns=Columns(context="passage"))
    assert without.messages == PAIR


def test_values_that_are_not_text_are_written_as_json() -> None:
    example = only({"text_in": "3 boxes", "record": {"n": 3}}, columns=Columns("text_in", "record"))
    assert example.messages[1]["content"] == '{"n": 3}'
    assert example.notes == ("value_as_text",)


def test_chat_in_a_cell_of_a_table_is_read_from_its_json() -> None:
    cell = '[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]'
    assert only({"messages": cell}).messages == PAIR


def test_tool_calls_of_every_dialect_become_openai_calls_with_matching_ids() -> None:
    call = {"name": "clock", "arguments": '{"zone": "UTC"}'}
    expected = {"type": "function", "function": call}
    rows: list[dict[str, Any]] = [
        {
            "conversations": [
                {"from": "human", "value": "time?"},
                {
                    "from": "function_call",
                    "value": '{"name": "clock", "arguments": {"zone": "UTC"}}',
                },
                {"from": "observation", "value": "12:00"},
                {"from": "gpt", "value": "noon"},
            ],
            "tools": '[{"name": "clock", "parameters": {}}]',
        },
        {
            "contents": [
                {"role": "user", "parts": [{"text": "time?"}]},
                {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "clock", "args": {"zone": "UTC"}}}],
                },
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"name": "clock", "response": {"t": "12:00"}}}],
                },
                {"role": "model", "parts": [{"text": "noon"}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "clock", "parameters": {}}]}],
        },
        {
            "messages": [
                {"role": "user", "content": "time?"},
                {"role": "assistant", "function_call": {**call}},
                {"role": "function", "name": "clock", "content": "12:00"},
                {"role": "assistant", "content": "noon"},
            ],
            "functions": [{"name": "clock", "parameters": {}}],
        },
    ]
    for row in rows:
        example = only(row)
        asked, calling, told, answer = example.messages
        assert (asked["content"], answer["content"]) == ("time?", "noon")
        (made,) = calling["tool_calls"]
        assert {key: made[key] for key in expected} == expected
        assert told["role"] == "tool"
        assert told["tool_call_id"] == made["id"]
        assert example.tools == [
            {"type": "function", "function": {"name": "clock", "parameters": {}}}
        ]


def test_odd_turns_of_each_dialect_are_read_or_refused() -> None:
    turns = [{"role": "user", "content": "hello"}, {"from": "gpt", "value": "hi there", "x": 1}]
    mixed = only({"conversations": turns})
    assert mixed.messages == PAIR
    assert "keys_left_out" in mixed.notes
    weighted = only(
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a", "weight": 1},
            ]
        },
        target="openai_chat",
    )
    assert weighted.messages[1]["weight"] == 1
    parts = [{"text": "hello"}, {"text": "again"}]
    joined = only(
        {
            "contents": [
                {"role": "user", "parts": parts},
                {"role": "model", "parts": [{"text": "a"}]},
            ]
        }
    )
    assert joined.messages[0]["content"] == "hello\nagain"
    assert "parts_joined" in joined.notes
    called = {"name": "f", "args": {"a": 1}}
    nested = {"messages": [PAIR[0], {"role": "assistant", "tool_calls": [called]}]}
    assert only(nested).messages[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    dated = only({"messages": [{**PAIR[0], "sent": "today"}, PAIR[1]]})
    assert dated.messages == PAIR
    assert dated.notes == ("keys_left_out",)
    empty: dict[str, Any] = {"messages": [PAIR[0], {"role": "assistant", "content": []}]}
    assert convert(empty)[1] == ["answer_missing"]
    no_prompt = {"chosen": "a", "rejected": "b"}
    assert convert(no_prompt, target="trl_preference")[1] == ["prompt_missing"]
    assert convert({"text": " "}, target="trl_text")[1] == ["empty_content"]
    assert convert({"messages": PAIR[1:]}, target="alpaca")[1] == ["answer_missing"]


def test_two_columns_one_of_them_known_are_told_whole() -> None:
    assert only({"question": "hello", "gist": "hi there"}).messages == PAIR
    assert only({"xyz": "hello", "answer": "hi there"}).messages == PAIR
    assert convert({"question": "hello"})[1] == ["unknown_shape"]
    assert convert({"q": "a", "z": "b"}, columns=Columns(prompt="q"))[1] == []
    assert convert({"q": "a", "y": "1", "z": "b"}, columns=Columns(prompt="q"))[1] == [
        "unknown_shape"
    ]


def test_ids_of_tool_calls_are_kept_where_there_are_any() -> None:
    call = {"id": "abc", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    example = only(
        {
            "messages": [
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "abc", "content": "done"},
                {"role": "assistant", "content": "done"},
            ]
        }
    )
    assert example.messages[1]["tool_calls"] == [call]
    assert "tool_ids_added" not in example.notes


def test_text_parts_are_joined_and_other_parts_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    joined = only({"messages": [{"role": "user", "content": parts}, PAIR[1]]})
    assert joined.messages[0]["content"] == "a\nb"
    assert "parts_joined" in joined.notes
    kept = only({"messages": [{"role": "user", "content": ["a", image]}, PAIR[1]]})
    assert kept.messages[0]["content"] == [{"type": "text", "text": "a"}, image]


def test_unknown_roles_are_rejected_until_the_role_map_says_what_they_mean() -> None:
    row = {"messages": [{"role": "moderator", "content": "be brief"}, *PAIR]}
    assert convert(row) == ([], ["unknown_role"])
    example = only(row, columns=Columns(role_map={"Moderator": "system"}))
    assert example.messages[0] == {"role": "system", "content": "be brief"}


HOSTILE: list[tuple[dict[str, Any], str | None]] = [
    ({"a": 1, "b": 2}, "unknown_shape"),
    ({}, "unknown_shape"),
    ({"messages": "hello"}, "message_malformed"),
    ({"messages": 5}, "message_malformed"),
    ({"messages": [1]}, "message_malformed"),
    ({"messages": [{"role": 1, "content": "x"}]}, "message_malformed"),
    ({"messages": [{"role": "user", "content": 5}]}, "message_malformed"),
    ({"messages": [{"role": "user", "content": [5]}]}, "message_malformed"),
    ({"messages": PAIR, "tools": "nonsense"}, None),
    ({"messages": PAIR, "tools": [1]}, "message_malformed"),
    ({"messages": []}, "answer_missing"),
    ({"messages": PAIR[:1]}, "answer_missing"),
    ({"messages": PAIR[1:]}, "prompt_missing"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"x": 1}]}]}, "message_malformed"),
    ({"instruction": "a", "output": "b", "history": 3}, "message_malformed"),
    ({"instruction": "a", "output": "b", "history": [["x"]]}, "message_malformed"),
    ({"prompt": "", "completion": "b"}, "prompt_missing"),
    ({"prompt": "a", "completion": None}, "answer_missing"),
    ({"prompt": "a", "completion": "  "}, "answer_missing"),
    ({"conversations": [{"from": "function_call", "value": "{"}]}, "message_malformed"),
    ({"contents": [{"role": "user", "parts": [{"fileData": {}}]}]}, "image_not_allowed"),
    ({"contents": [], "completions": [1]}, "message_malformed"),
    ({"contents": [], "completions": []}, "pair_missing"),
    ({"input": 1, "preferred_output": [], "non_preferred_output": []}, "message_malformed"),
    ({"messages": [{"role": "assistant", "candidates": []}]}, "pair_missing"),
    ({"text": "once upon a time"}, "turns_not_held"),
]


@pytest.mark.parametrize(("row", "reason"), HOSTILE)
def test_hostile_row_is_rejected_with_its_code(row: dict[str, Any], reason: str | None) -> None:
    _, reasons = convert(row)
    assert reasons == ([reason] if reason else [])


def test_faults_of_the_reader_are_rejections_with_their_line() -> None:
    fault = Finding(line=3, code="json_invalid", severity="error", message="m", fix="f")
    made = Converter("trl_messages", Columns(), "per_conversation").convert([fault], "data")
    (rejection,) = made.rejections
    assert (rejection.source, rejection.line, rejection.reason) == ("data", 3, "json_invalid")
