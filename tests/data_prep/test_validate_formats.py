"""Faults of rows that are not plain messages: parts, pairs, prompts, texts, old formats."""

from __future__ import annotations

from typing import Any

import pytest

from finetuning.data_prep.validate import TARGETS, validate_row

U = {"role": "user", "content": "What is due?"}
A = {"role": "assistant", "content": "Nothing is due."}
B = {"role": "assistant", "content": "Two things."}


def part(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"text": text} for text in texts]}


def turn(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text} for text in texts]}


def converse(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"schemaVersion": "bedrock-conversation-2024", "messages": list(messages), **more}


def nova(*candidates: Any, **more: Any) -> dict[str, Any]:
    last = {"role": "assistant", "candidates": list(candidates), **more}
    return {"messages": [part("user", "q"), last]}


GOOD = {"content": [{"text": "yes"}], "preferenceLabel": "preferred"}
POOR = {"content": [{"text": "no"}], "preferenceLabel": "non-preferred"}


def scored(*pairs: tuple[Any, str]) -> dict[str, Any]:
    completions = [{"score": score, "completion": turn("model", text)} for score, text in pairs]
    return {"contents": [turn("user", "q")], "completions": completions}


def found(target: str, row: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(item.severity[0], item.code, item.field) for item in validate_row(target, row)]


PAIR = {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [B]}
SHARE = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}


FINE: list[tuple[str, dict[str, Any]]] = [
    ("bedrock_converse", converse(part("user", "q"), part("assistant", "a"))),
    (
        "bedrock_converse",
        converse(part("user", "q"), part("assistant", "a"), system=[{"text": "s"}]),
    ),
    (
        "bedrock_converse",
        converse({"role": "user", "content": [{"image": {}}]}, part("assistant", "a")),
    ),
    ("nova_dpo", nova(GOOD, POOR)),
    ("vertex_sft", {"contents": [turn("user", "q"), turn("model", "a")]}),
    (
        "vertex_sft",
        {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [
                turn("user", "q"),
                {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]},
                turn("model", "a"),
            ],
            "tools": [{}],
        },
    ),
    ("vertex_preference", scored((1, "a"), (0, "b"))),
    ("vertex_preference", scored((0.0, "a"), (1.0, "b"))),
    ("openai_preference", PAIR),
    ("together_instruction", {"prompt": "q", "completion": "a", "weight": 1}),
    ("bedrock_prompt_completion", {"prompt": "q", "completion": "a"}),
    ("together_text", {"text": "t"}),
    ("trl_text", {"text": "t", "source": "x"}),
    ("trl_prompt_completion", {"prompt": "q", "completion": "a", "id": 1}),
    ("trl_prompt_completion", {"prompt": [U], "completion": [A]}),
    ("trl_preference", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("trl_preference", {"chosen": [U, A], "rejected": [U, B]}),
    ("trl_kto", {"prompt": "q", "completion": "a", "label": False}),
    ("trl_kto", {"prompt": [U], "completion": [A], "label": True}),
    ("alpaca", {"instruction": "i", "input": "", "output": "o"}),
    ("alpaca", {"instruction": "i", "output": "o", "history": [["a", "b"]], "system": ""}),
    ("alpaca", {"instruction": "i", "output": "o", "history": []}),
    ("sharegpt", SHARE),
    (
        "sharegpt",
        {"conversations": [{"from": "system", "value": "s"}, *SHARE["conversations"]]},
    ),
    ("sharegpt", {**SHARE, "system": "s", "id": 1}),
]


@pytest.mark.parametrize(("target", "row"), FINE)
def test_rows_of_each_format_have_no_finding(target: str, row: dict[str, Any]) -> None:
    assert found(target, row) == []


FAULTY: list[tuple[str, dict[str, Any], list[tuple[str, str, str | None]]]] = [
    (
        "bedrock_converse",
        {"messages": [part("user", "q"), part("assistant", "a")]},
        [("e", "schema_version", "/schemaVersion")],
    ),
    (
        "bedrock_converse",
        converse(part("user", "q")),
        [("e", "last_not_assistant", "/messages/0")],
    ),
    (
        "bedrock_converse",
        converse(part("assistant", "a"), part("assistant", "b")),
        [("e", "first_not_user", "/messages/0"), ("e", "not_alternating", "/messages/1")],
    ),
    (
        "bedrock_converse",
        converse(part("User", "q"), part("bot", "a")),
        [("e", "role_case", "/messages/0/role"), ("e", "unknown_role", "/messages/1/role")],
    ),
    (
        "bedrock_converse",
        converse({"role": 5, "content": [{"text": "q"}]}, part("assistant", "a")),
        [("e", "unknown_role", "/messages/0/role")],
    ),
    (
        "bedrock_converse",
        converse({"content": [{"text": "q"}]}, 5, part("assistant", "a"), x=1),
        [
            ("e", "unknown_key", "/x"),
            ("e", "missing_key", "/messages/0/role"),
            ("e", "wrong_type", "/messages/1"),
            ("e", "missing_key", "/messages/1/content"),
        ],
    ),
    (
        "bedrock_converse",
        converse(
            {"role": "user", "content": [{"toolResult": {}}, {"foo": 1}, 5, {"text": 5}]},
            part("assistant", " "),
            system=[5, {}],
        ),
        [
            ("e", "wrong_type", "/system/0"),
            ("e", "missing_key", "/system/1/text"),
            ("e", "tools_not_allowed", "/messages/0/content/0"),
            ("e", "invalid_part", "/messages/0/content/1"),
            ("e", "wrong_type", "/messages/0/content/2"),
            ("e", "wrong_type", "/messages/0/content/3/text"),
            ("e", "empty_content", "/messages/1/content"),
        ],
    ),
    (
        "bedrock_converse",
        {"schemaVersion": "bedrock-conversation-2024"},
        [("e", "missing_key", "/messages")],
    ),
    (
        "nova_dpo",
        {"messages": [part("user", "q"), part("assistant", "a")]},
        [
            ("e", "pair_missing", "/messages/1/candidates"),
        ],
    ),
    ("nova_dpo", nova(GOOD), [("e", "pair_count", "/messages/1/candidates")]),
    ("nova_dpo", nova(GOOD, GOOD), [("e", "pair_scores", "/messages/1/candidates")]),
    (
        "nova_dpo",
        nova(GOOD, {**POOR, "content": GOOD["content"]}),
        [
            ("w", "pair_identical", "/messages/1/candidates"),
        ],
    ),
    (
        "nova_dpo",
        nova(5, {"preferenceLabel": "preferred"}),
        [
            ("e", "wrong_type", "/messages/1/candidates/0"),
            ("e", "missing_key", "/messages/1/candidates/0/content"),
            ("e", "missing_key", "/messages/1/candidates/1/content"),
            ("e", "pair_scores", "/messages/1/candidates"),
        ],
    ),
    (
        "vertex_sft",
        {"contents": [turn("user", "q"), turn("assistant", "a")]},
        [
            ("e", "unknown_role", "/contents/1/role"),
        ],
    ),
    (
        "vertex_sft",
        {"contents": [turn("user", "q")]},
        [
            ("e", "last_not_assistant", "/contents/0"),
            ("e", "no_assistant", "/contents"),
        ],
    ),
    (
        "vertex_sft",
        {"contents": [{"role": "user"}, turn("model", "a")], "systemInstruction": "s", "x": 1},
        [
            ("e", "unknown_key", "/x"),
            ("e", "wrong_type", "/systemInstruction"),
            ("e", "missing_key", "/contents/0/parts"),
        ],
    ),
    (
        "vertex_preference",
        {"contents": [turn("user", "q"), turn("model", "a")]},
        [
            ("e", "last_not_user", "/contents/1"),
            ("e", "pair_missing", "/completions"),
        ],
    ),
    ("vertex_preference", scored((1, "a"), (1, "b")), [("e", "pair_scores", "/completions")]),
    ("vertex_preference", scored((1, "a")), [("e", "pair_count", "/completions")]),
    (
        "vertex_preference",
        scored((1, "a"), (0, "a")),
        [("w", "pair_identical", "/completions")],
    ),
    (
        "vertex_preference",
        {"contents": [turn("user", "q")], "completions": [5, {"score": 0, "completion": {}}]},
        [
            ("e", "wrong_type", "/completions/0"),
            ("e", "wrong_type", "/completions/0/completion"),
            ("e", "missing_key", "/completions/1/completion/parts"),
            ("e", "pair_scores", "/completions"),
        ],
    ),
    (
        "openai_preference",
        {"preferred_output": [A]},
        [
            ("e", "missing_key", "/input"),
            ("e", "pair_missing", "/non_preferred_output"),
        ],
    ),
    (
        "openai_preference",
        {**PAIR, "non_preferred_output": [A]},
        [
            ("w", "pair_identical", "/non_preferred_output"),
        ],
    ),
    (
        "openai_preference",
        {**PAIR, "input": {"messages": [U, A]}},
        [
            ("e", "last_not_user", "/input/messages/1"),
        ],
    ),
    ("openai_preference", {**PAIR, "input": 5}, [("e", "wrong_type", "/input")]),
    (
        "openai_preference",
        {**PAIR, "preferred_output": [U]},
        [
            ("e", "no_assistant", "/preferred_output"),
            ("e", "unknown_role", "/preferred_output"),
        ],
    ),
    (
        "openai_preference",
        {**PAIR, "preferred_output": [A, B]},
        [
            ("w", "pair_count", "/preferred_output"),
        ],
    ),
    (
        "openai_preference",
        {**PAIR, "preferred_output": [{**A, "weight": 1}]},
        [
            ("e", "unknown_key", "/preferred_output/0/weight"),
        ],
    ),
    (
        "together_instruction",
        {"prompt": " ", "completion": 5, "x": 1},
        [
            ("w", "unknown_key", "/x"),
            ("e", "empty_content", "/prompt"),
            ("e", "wrong_type", "/completion"),
        ],
    ),
    (
        "together_instruction",
        {"prompt": "same", "completion": "same "},
        [
            ("w", "answer_repeats_prompt", "/completion"),
        ],
    ),
    ("together_instruction", {"prompt": "q"}, [("e", "missing_key", "/completion")]),
    (
        "bedrock_prompt_completion",
        {"prompt": "q", "completion": "a", "x": 1},
        [
            ("e", "unknown_key", "/x"),
        ],
    ),
    ("together_text", {"text": ""}, [("e", "empty_content", "/text")]),
    ("trl_text", {}, [("e", "missing_key", "/text")]),
    ("trl_prompt_completion", {"prompt": [U], "completion": "a"}, [("e", "wrong_type", None)]),
    ("trl_prompt_completion", {"prompt": [U]}, [("e", "missing_key", "/completion")]),
    (
        "trl_preference",
        {"prompt": 5, "chosen": "a"},
        [
            ("e", "wrong_type", "/prompt"),
            ("e", "pair_missing", "/rejected"),
        ],
    ),
    (
        "trl_preference",
        {"chosen": "a", "rejected": "a"},
        [("w", "pair_identical", "/rejected")],
    ),
    ("trl_preference", {"chosen": "a", "rejected": [A]}, [("e", "wrong_type", None)]),
    (
        "trl_kto",
        {"prompt": "q", "completion": "a", "label": "yes"},
        [
            ("e", "invalid_label", "/label"),
        ],
    ),
    ("trl_kto", {"prompt": "q", "completion": "a"}, [("e", "missing_key", "/label")]),
    (
        "trl_kto",
        {"label": True},
        [
            ("e", "missing_key", "/prompt"),
            ("e", "missing_key", "/completion"),
        ],
    ),
    ("alpaca", {"instruction": "i"}, [("e", "missing_key", "/output")]),
    (
        "alpaca",
        {"instruction": "i", "output": "", "input": 5, "history": [["a"], 5]},
        [
            ("e", "empty_content", "/output"),
            ("e", "wrong_type", "/input"),
            ("e", "wrong_type", "/history/0"),
            ("e", "wrong_type", "/history/1"),
        ],
    ),
    ("sharegpt", {}, [("e", "missing_key", "/conversations")]),
    (
        "sharegpt",
        {
            "conversations": [
                5,
                {"value": "x"},
                {"from": 5, "value": "x"},
                {"from": "Human", "value": "x"},
                {"from": "bob", "value": ""},
                {"from": "gpt"},
            ],
            "system": 5,
        },
        [
            ("e", "wrong_type", "/system"),
            ("e", "wrong_type", "/conversations/0"),
            ("e", "missing_key", "/conversations/1/from"),
            ("e", "wrong_type", "/conversations/2/from"),
            ("e", "role_case", "/conversations/3/from"),
            ("e", "unknown_role", "/conversations/4/from"),
            ("e", "empty_content", "/conversations/4/value"),
            ("e", "missing_key", "/conversations/5/value"),
        ],
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "gpt", "value": "a"},
                {"from": "human", "value": "q"},
                {"from": "human", "value": "q"},
                {"from": "system", "value": "s"},
            ]
        },
        [
            ("e", "system_not_first", "/conversations/3"),
            ("e", "first_not_user", "/conversations/0"),
            ("e", "not_alternating", "/conversations/2"),
            ("w", "last_not_assistant", "/conversations/2"),
        ],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "q"}]},
        [
            ("e", "no_assistant", "/conversations"),
        ],
    ),
    ("sharegpt", {"conversations": [{"from": "system", "value": "q"}]}, []),
]


@pytest.mark.parametrize(("target", "row", "expected"), FAULTY)
def test_a_fault_of_a_row_is_named_with_its_place(
    target: str, row: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    assert found(target, row) == expected


@pytest.mark.parametrize(
    ("target", "row"),
    [
        ("openai_chat", {"instruction": "i", "output": "o"}),
        ("openai_chat", SHARE),
        ("openai_chat", PAIR),
        ("trl_messages", {"prompt": "q", "completion": "a"}),
        ("together_text", {"messages": [U, A]}),
        ("vertex_sft", {"messages": [U, A]}),
        ("trl_preference", PAIR),
        ("alpaca", {"text": "t"}),
    ],
)
def test_a_row_of_another_format_is_one_finding(target: str, row: dict[str, Any]) -> None:
    assert found(target, row) == [("e", "wrong_format", None)]


@pytest.mark.parametrize("target", TARGETS)
def test_a_row_in_two_formats_is_said_for_every_target(target: str) -> None:
    messages = {"messages": [U]} if target == "openai_rft" else {"messages": [U, A]}
    row = next((row for name, row in FINE if name == target), messages)
    both = {**row, "text": "t"} if "text" not in row else {**row, "messages": [U, A]}
    if target == "openai_rft":
        assert "two_formats" not in {code for _, code, _ in found(target, both)}
        both = {**row, "prompt": "q", "completion": "a"}
    severity = "e" if target.startswith("together") else "w"
    assert [item for item in found(target, both) if item[1] == "two_formats"] == [
        (severity, "two_formats", None)
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cafÃ© au lait", "mojibake"),
        ("donâ€™t", "mojibake"),
        ("a \ufffd b", "mojibake"),
        ("zero\u200bwidth", "invisible_character"),
        ("abc\u202edef", "invisible_character"),
        ("tag\U000e0041", "invisible_character"),
        ("bell\u0007", "control_in_text"),
        ("end<|im_end|>", "special_token"),
        ("[INST] do [/INST]", "special_token"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no views.", "refusal"),
        ("Unfortunately, I cannot do this.", "refusal"),
        ("很抱歉，我无法回答。", "refusal"),
    ],
)
def test_texts_that_harm_the_model_are_warnings(text: str, code: str) -> None:
    row = {"messages": [U, {"role": "assistant", "content": text}]}
    assert found("trl_messages", row) == [("w", code, "/messages/1/content")]
    other = {"prompt": "q", "completion": text}
    assert found("trl_prompt_completion", other) == [("w", code, "/completion")]


@pytest.mark.parametrize(
    "text",
    [
        "NÃO, São Paulo, naïve château",
        "مرحبا\u200fabc, نمی\u200cدانم",
        "👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f",
        "I'm sorry to hear that; here is your refund.",
        "As an airline, we rebook you.",
        "a < b and b > c, <s>old</s>",
        "data:image/png;base64,Ã©",
    ],
)
def test_texts_that_only_look_odd_are_left_alone(text: str) -> None:
    assert found("trl_prompt_completion", {"prompt": "q", "completion": text}) == []


def test_a_refusal_is_no_fault_in_a_question_or_a_rejected_answer() -> None:
    no = "I'm sorry, but I can't help."
    assert found("trl_preference", {"prompt": no, "chosen": "yes", "rejected": no}) == []
    row = {"messages": [{"role": "user", "content": no}, A]}
    assert found("trl_messages", row) == []


@pytest.mark.parametrize("word", ["User:", "[EOS]", "<image>", "Assistant:"])
def test_reserved_words_fail_bedrock_only(word: str) -> None:
    row = {"prompt": f"a {word} b", "completion": "c"}
    assert found("bedrock_prompt_completion", row) == [("e", "reserved_word", "/prompt")]
    assert found("trl_prompt_completion", row) == []
