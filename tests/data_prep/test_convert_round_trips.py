"""Whatever is converted is clean, no row is lost, and a way back brings the same chat."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning.data_prep.convert import Columns, Converter, Unusable
from finetuning.data_prep.convert.codes import CONVERT_CODES, HOLDS, NOTES
from finetuning.data_prep.examples import Example
from finetuning.data_prep.quality import RowWriter
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate import CODES, validate_row
from finetuning.records import Record

Row = dict[str, Any]

CHATS = [name for name, holds in HOLDS.items() if holds.form == "chat"]
WITH_TOOLS = [name for name in CHATS if HOLDS[name].tools]
PREFERENCES = [name for name, holds in HOLDS.items() if holds.form == "preference"]

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    str.strip
)
plain = st.text("abc def?", min_size=1, max_size=20).filter(str.strip)
name = st.sampled_from(["weather", "search", "add_row"])
arguments = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.one_of(st.integers(-99, 99), plain, st.lists(st.booleans(), max_size=2), st.none()),
    max_size=3,
)
result = st.one_of(plain, arguments.map(json.dumps), st.just('{"result": "x"}'))


@st.composite
def exchange(draw: st.DrawFn, words: st.SearchStrategy[str], *, tools: bool) -> list[Row]:
    """Return turns from a question to its answer, with calls between them where wanted."""
    turns: list[Row] = [{"role": "user", "content": draw(words)}]
    for _ in range(draw(st.integers(0, 2)) if tools else 0):
        number = draw(st.integers(0, 3))  # ids may repeat
        function = {"name": draw(name), "arguments": json.dumps(draw(arguments))}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        turns += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": draw(result)},
        ]
    return [*turns, {"role": "assistant", "content": draw(words)}]


@st.composite
def chat(draw: st.DrawFn, words: st.SearchStrategy[str] = text, *, tools: bool = True) -> Row:
    turns: list[Row] = []
    if draw(st.booleans()):
        turns.append({"role": "system", "content": draw(words)})
    for part in draw(st.lists(exchange(words, tools=tools), min_size=1, max_size=3)):
        turns += part
    used = {call["function"]["name"] for turn in turns for call in turn.get("tool_calls", ())}
    row: Row = {"messages": turns}
    if used:
        parameters: Row = {"type": "object", "properties": {}}
        row["tools"] = [
            {"type": "function", "function": {"name": one, "parameters": parameters}}
            for one in sorted(used)
        ]
    return row


@st.composite
def pair(draw: st.DrawFn) -> Row:
    turns = draw(chat(plain, tools=False))["messages"][:-1]
    good, bad = draw(st.tuples(plain, plain).filter(lambda both: both[0] != both[1]))
    return {
        "prompt": turns,
        "chosen": [{"role": "assistant", "content": good}],
        "rejected": [{"role": "assistant", "content": bad}],
    }


any_row = st.one_of(
    chat(),
    chat(tools=False),
    pair(),
    st.fixed_dictionaries({"prompt": text, "completion": st.text(max_size=5)}),
    st.fixed_dictionaries({"prompt": text, "completion": text, "label": st.booleans()}),
    st.fixed_dictionaries({"instruction": text, "input": st.text(max_size=5), "output": text}),
    st.fixed_dictionaries({"text": st.text(max_size=20)}),
    st.dictionaries(st.sampled_from("question answer messages role".split()), st.text(max_size=5)),
    st.fixed_dictionaries({"messages": st.lists(st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "weight"]),
        st.one_of(st.none(), st.integers(), st.sampled_from(["user", "bot", "tool", "x"])),
    ), max_size=3)}),
)  # fmt: skip


def convert(
    target: str, *rows: Row, mode: Any = "per_conversation"
) -> tuple[list[Example], list[str]]:
    records = [Record("in", line, row) for line, row in enumerate(rows, start=1)]
    made = Converter(target, Columns(), mode).convert(records, "in")
    return made.examples, [rejection.reason for rejection in made.rejections]


def written(target: str, row: Row) -> Row:
    (example,), reasons = convert(target, row)
    assert reasons == []
    return json.loads(RowWriter(target, plain=False).raw(example))


def meant(example: Example) -> list[Any]:
    """Return what a chat says, without ids of calls and spelling of JSON."""

    def value(words: Any) -> Any:
        try:
            return json.loads(words)
        except (TypeError, ValueError):
            return words

    return [
        (
            turn["role"],
            value(turn.get("content")) or None,
            [
                (call["function"]["name"], value(call["function"]["arguments"]))
                for call in turn.get("tool_calls", ())
            ],
        )
        for turn in [*example.messages, *example.chosen, *example.rejected]
    ]


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(any_row, min_size=1, max_size=4))
def test_every_row_is_a_clean_row_or_a_named_rejection(target: str, rows: list[Row]) -> None:
    examples, reasons = convert(target, *rows)
    both = HOLDS[target].form == "binary"  # a preference pair gives one good and one bad answer
    assert len({example.record.line for example in examples}) + len(reasons) == len(rows) or both
    assert set(reasons) <= CODES.keys() | CONVERT_CODES.keys()
    writer = RowWriter(target, plain=False)
    refused: set[str] = set()
    for example in examples:
        assert set(example.notes) <= NOTES.keys()
    for example in examples:
        try:
            raw = writer.raw(example)
        except Unusable as error:
            refused.add(error.code)
            continue
        found = validate_row(target, json.loads(raw))
        assert [finding for finding in found if finding.severity == "error"] == []
    assert refused <= CODES.keys() | CONVERT_CODES.keys()


@pytest.mark.parametrize("target", CHATS)
@settings(max_examples=20, deadline=None)
@given(row=chat(plain, tools=False))
def test_chat_comes_back_from_every_chat_format(target: str, row: Row) -> None:
    (before,), _ = convert("openai_chat", row)
    (after,), _ = convert("openai_chat", written(target, row))
    assert meant(after) == meant(before)


@pytest.mark.parametrize("target", [name for name in WITH_TOOLS if name != "sharegpt"])
@settings(max_examples=20, deadline=None)
@given(row=chat(plain))
def test_tool_calls_and_results_come_back_from_every_format_that_holds_them(
    target: str, row: Row
) -> None:
    (before,), _ = convert("openai_chat", row)
    back = written(target, row)
    (after,), _ = convert("openai_chat", back)
    assert meant(after) == meant(before)
    assert [tool["function"]["name"] for tool in after.tools] == [
        tool["function"]["name"] for tool in before.tools
    ]


@pytest.mark.parametrize("target", PREFERENCES)
@settings(max_examples=20, deadline=None)
@given(row=pair())
def test_preference_pair_comes_back_from_every_preference_format(target: str, row: Row) -> None:
    (before,), _ = convert("openai_preference", row)
    (after,), _ = convert("openai_preference", written(target, row))
    assert meant(after) == meant(before)


@settings(max_examples=20, deadline=None)
@given(row=chat(plain))
def test_one_example_per_reply_keeps_every_turn_before_it(row: Row) -> None:
    turns = row["messages"]
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    examples, reasons = convert("openai_chat", row, mode="per_reply")
    assert reasons == []
    assert [len(example.messages) for example in examples] == [at + 1 for at in answers]


@pytest.mark.parametrize(
    ("target", "row", "reason"),
    [
        ("bedrock_converse", "tools", "tools_not_allowed"),
        ("nova_dpo", "image", "image_not_allowed"),
        ("trl_preference", "image", "image_not_allowed"),
        ("vertex_sft", "picture", "image_not_allowed"),
        ("together_text", "tools", "tools_not_allowed"),
    ],
)
def test_what_a_target_cannot_hold_is_named(target: str, row: str, reason: str) -> None:
    part = [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": "a"}
    rows: dict[str, Row] = {
        "tools": {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                answer,
            ]
        },
        "picture": {"messages": [{"role": "user", "content": part}, answer]},
        "image": {
            "prompt": [{"role": "user", "content": part}],
            "chosen": [answer],
            "rejected": [{"role": "assistant", "content": "b"}],
        },
    }
    assert convert(target, rows[row]) == ([], [reason])
