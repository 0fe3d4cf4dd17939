"""Every target is written so that its own validator finds nothing to refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.data_prep import prepare_data, validate_jsonl
from finetuning.data_prep.convert import Columns, Converter, Unusable
from finetuning.data_prep.convert.codes import HOLDS, NOTES
from finetuning.data_prep.examples import is_plain
from finetuning.data_prep.quality import RowWriter
from finetuning.data_prep.targets import TargetName
from finetuning.data_prep.validate import validate_row
from finetuning.records import Record

TARGETS: tuple[Any, ...] = get_args(TargetName)
CHATS = [name for name in TARGETS if HOLDS[name].form in {"chat", "pair", "text", "graded"}]
WITH_TOOLS = [name for name in CHATS if HOLDS[name].tools]

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "clock", "arguments": '{"zone": "UTC"}'},
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
TOOL_CHAT = {
    "messages": [
        {"role": "user", "content": "what time is it"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        {"role": "assistant", "content": "It is noon."},
    ],
    "tools": [CLOCK],
}
LONG_CHAT = {
    "messages": [
        {"role": "assistant", "content": "Welcome!"},
        {"role": "user", "content": "first"},
        {"role": "user", "content": "and second", "name": "kim"},
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "one", "weight": 0, "reasoning": "hm"},
        {"role": "user", "content": "third"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "bye"},
    ],
    "extra": {"x": 1},
}


def rows_of(target: str, *rows: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str], set[str]]:
    """Return the rows of a target, the reasons for those that cannot be, and the notes."""
    records = [Record("data", line, row) for line, row in enumerate(rows, start=1)]
    made = Converter(target, Columns(), "per_conversation").convert(records, "data")
    writer = RowWriter(target, plain=all(map(is_plain, made.examples)))
    reasons = [found.reason for found in made.rejections]
    written: list[dict[str, Any]] = []
    notes: set[str] = set()
    for example in made.examples:
        try:
            written.append(json.loads(writer.raw(example)))
            notes.update(example.notes)
        except Unusable as error:
            reasons.append(error.code)
    return written, reasons, notes


@pytest.mark.parametrize("target", CHATS)
def test_plain_chat_fits_every_target_for_chats(target: str) -> None:
    (row,), reasons, _ = rows_of(target, {"prompt": "what is it", "completion": "a boat"})
    assert reasons == []
    assert [found for found in validate_row(target, row) if found.severity == "error"] == []


@pytest.mark.parametrize("target", CHATS)
def test_long_chat_is_made_to_fit_and_every_change_is_noted(target: str) -> None:
    (row,), reasons, notes = rows_of(target, LONG_CHAT)
    assert reasons == []
    assert notes <= NOTES.keys()
    text = json.dumps(row)
    assert all(word in text for word in ("first", "and second", "be brief", "third"))
    holds = HOLDS[target]
    assert ("weights_left_out" in notes) == (not holds.weights)
    assert ("names_left_out" in notes) == (not holds.names)
    assert "reasoning_left_out" in notes
    assert ("turns_merged" in notes) == holds.alternating
    assert ("leading_turns_cut" in notes) == holds.alternating
    assert ("keys_left_out" in notes) == (holds.form != "graded")


@pytest.mark.parametrize("target", CHATS)
def test_tool_calls_are_kept_whole_or_refused_by_name(target: str) -> None:
    rows, reasons, _ = rows_of(target, TOOL_CHAT)
    if target in WITH_TOOLS:
        assert reasons == []
        text = json.dumps(rows[0])
        assert all(word in text for word in ("clock", "UTC", "12:00"))
        assert "tools" in rows[0]
    else:
        assert reasons == ["tools_not_allowed"]


@pytest.mark.parametrize("target", CHATS)
def test_images_are_kept_or_refused_by_name(target: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "what is it"}, image]
    rows, reasons, _ = rows_of(
        target,
        {
            "messages": [
                {"role": "user", "content": content},
                {"role": "assistant", "content": "a boat"},
            ]
        },
    )
    if HOLDS[target].media:
        assert "image/png" in json.dumps(rows[0])
    else:
        assert reasons == ["image_not_allowed"]


@pytest.mark.parametrize("target", [name for name in TARGETS if HOLDS[name].form == "preference"])
def test_preference_fits_every_target_for_preferences(target: str) -> None:
    row = {"prompt": "what is it", "chosen": "a red boat", "rejected": "go away"}
    with_system = {
        "prompt": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "what is it"},
        ],
        "chosen": [{"role": "assistant", "content": "a red boat"}],
        "rejected": [{"role": "assistant", "content": "go away"}],
    }
    for rows in ((row,), (with_system,), (row, with_system)):
        made, reasons, _ = rows_of(target, *rows)
        assert reasons == []
        assert len(made) == len(rows)
        assert len({isinstance(item.get("prompt"), str) for item in made}) == 1
    _, reasons, _ = rows_of(target, {"prompt": "a", "completion": "b"})
    assert reasons == ["pair_missing"]
    _, reasons, _ = rows_of(target, {**row, "rejected": ""})
    assert reasons == ["answer_missing"]


def test_preference_gives_its_good_answer_to_targets_for_chats() -> None:
    row = {"prompt": "what is it", "chosen": "a red boat", "rejected": "go away"}
    (made,), _, notes = rows_of("trl_prompt_completion", row)
    assert made == {"prompt": "what is it", "completion": "a red boat"}
    assert notes == {"rejected_left_out"}


def test_judged_answers_are_written_as_texts_or_all_as_turns() -> None:
    good = {"prompt": "what is it", "completion": "a red boat", "label": True}
    bad = {
        "prompt": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "what is it"},
        ],
        "completion": [{"role": "assistant", "content": "no"}],
        "label": False,
    }
    (plain,), _, _ = rows_of("trl_kto", good)
    assert plain == good
    made, _, _ = rows_of("trl_kto", good, bad)
    assert [row["label"] for row in made] == [True, False]
    assert all(isinstance(row["prompt"], list) for row in made)
    (kept,), reasons, notes = rows_of("trl_messages", good, bad)
    assert kept["messages"][1]["content"] == "a red boat"
    assert (reasons, notes) == (["answer_disliked"], {"verdict_left_out"})


def test_grader_gets_the_answer_as_reference_and_other_keys_stay() -> None:
    answered = {"messages": [{"role": "user", "content": "2+2"}], "answer_key": "4"}
    chat = {"prompt": "3+3", "completion": "six or 6"}
    rows, reasons, notes = rows_of("openai_rft", answered, chat)
    assert reasons == []
    assert rows[0] == answered
    assert rows[1]["reference_answer"] == "six or 6"
    assert notes == {"reference_moved"}


def test_several_turns_become_one_prompt_led_by_roles() -> None:
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    (row,), _, notes = rows_of("trl_prompt_completion", {"messages": turns})
    assert row == {"prompt": "be brief\n\nuser: a\nassistant: b\nuser: c", "completion": "d"}
    assert notes == {"system_folded", "turns_flattened"}
    (text,), _, _ = rows_of("trl_text", {"prompt": "a", "completion": "b"})
    assert text == {"text": "a\n\nb"}


@pytest.mark.parametrize("target", ["sharegpt", "vertex_sft"])
def test_arguments_that_are_not_json_are_refused_where_an_object_is_wanted(target: str) -> None:
    broken = {**CALL, "function": {"name": "clock", "arguments": "{zone"}}
    chat = json.loads(json.dumps(TOOL_CHAT))
    chat["messages"][1]["tool_calls"] = [broken]
    assert rows_of(target, chat)[1] == ["arguments_not_json"]


@pytest.mark.parametrize("target", ["sharegpt", "mistral_chat"])
def test_words_beside_a_tool_call_are_refused_where_they_have_no_place(target: str) -> None:
    chat = json.loads(json.dumps(TOOL_CHAT))
    chat["messages"][1]["content"] = "let me look"
    assert rows_of(target, chat)[1] == ["tools_not_allowed"]


def test_tools_that_are_never_called_are_left_out_by_name() -> None:
    row = {"prompt": "what is it", "completion": "a boat", "tools": [CLOCK]}
    (made,), reasons, notes = rows_of("trl_prompt_completion", row)
    assert (made.keys(), reasons) == ({"prompt", "completion"}, [])
    assert notes == {"tools_left_out"}
    (kept,), _, _ = rows_of("trl_messages", row)
    assert kept["tools"] == [CLOCK]


def test_mistral_ids_of_nine_characters_are_kept_and_others_made() -> None:
    chat = json.loads(json.dumps(TOOL_CHAT).replace("call_1", "abcdefgh1"))
    for before, kept in ((chat, True), (TOOL_CHAT, False)):
        (row,), _, _ = rows_of("mistral_chat", before)
        made = row["messages"][1]["tool_calls"][0]["id"]
        assert len(made) == 9
        assert (made == "abcdefgh1") == kept
        assert row["messages"][2]["tool_call_id"] == made


@pytest.mark.parametrize("target", WITH_TOOLS)
def test_round_trip_keeps_content_and_tool_calls(target: str) -> None:
    if HOLDS[target].form == "graded":
        return
    (written,), _, _ = rows_of(target, TOOL_CHAT)
    (back,), reasons, _ = rows_of("openai_chat", written)
    assert reasons == []
    roles = [turn["role"] for turn in back["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    call = back["messages"][1]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("clock", {"zone": "UTC"})
    assert back["messages"][3]["content"] == "It is noon."
    assert back["tools"][0]["function"]["name"] == "clock"


def test_deeply_nested_rows_are_rejected_and_not_a_crash(
    tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    deep = "[" * 600 + "]" * 600
    source = write_lines(
        "in.jsonl",
        f'{{"messages": [{{"role": "user", "content": "q"}}], "reference": {deep}}}',
        f'{{"question": {deep}, "answer": "a"}}',
        json.dumps({"prompt": "q", "completion": deep}),
        json.dumps({"prompt": "q", "completion": deep.replace("[[", "[ [", 1)}),
    )
    result = prepare_data(
        sources=[str(source)], target="openai_rft", output_dir=str(tmp_path / "out")
    )
    assert result.reasons == {"too_deep": 2}
    assert result.rows.read == 4
    chat = json.loads(json.dumps(TOOL_CHAT))
    chat["messages"][1]["tool_calls"][0]["function"]["arguments"] = f'{{"a": {deep}}}'
    assert rows_of("vertex_sft", chat)[1] == ["too_deep"]
    rows, reasons, _ = rows_of("openai_rft", {"messages": [], "x": json.loads(deep)})
    assert (rows, reasons) == ([], ["prompt_missing"])


WORDS = st.text(alphabet="abc XYZ\n\t.:<>{}[]\"'é中👍", max_size=24)
TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "human", "bot", "tool", "x"]),
        "content": st.one_of(WORDS, st.none(), st.lists(st.fixed_dictionaries({"text": WORDS}))),
    },
    optional={"weight": st.sampled_from([0, 1, 0.5]), "name": WORDS},
)
ROW = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=6)}),
    st.fixed_dictionaries({"prompt": WORDS, "completion": WORDS}),
    st.fixed_dictionaries({"instruction": WORDS, "input": WORDS, "output": WORDS}),
    st.fixed_dictionaries({"prompt": WORDS, "chosen": WORDS, "rejected": WORDS}),
    st.fixed_dictionaries({"prompt": WORDS, "completion": WORDS, "label": st.booleans()}),
    st.fixed_dictionaries({"text": WORDS}),
    st.dictionaries(WORDS, WORDS, max_size=3),
)


@given(rows=st.lists(ROW, min_size=1, max_size=8), target=st.sampled_from(TARGETS))
@settings(max_examples=150, deadline=None)
def test_whatever_is_converted_is_clean_and_no_row_is_lost(
    rows: list[dict[str, Any]], target: str
) -> None:
    made, reasons, _ = rows_of(target, *rows)
    expected = sum(
        2 if target == "trl_kto" and row.keys() == {"prompt", "chosen", "rejected"} else 1
        for row in rows
    )
    assert len(made) + len(reasons) in {len(rows), expected, *range(len(rows), expected + 1)}
    for row in made:
        assert [found for found in validate_row(target, row) if found.severity == "error"] == []


def _many(row: dict[str, str], count: int = 40) -> list[str]:
    return [
        json.dumps({key: f"{text} {number} {number * 7919}" for key, text in row.items()})
        for number in range(count)
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_written_files_pass_the_validator_of_every_target(
    target: Any, tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    form = HOLDS[target].form
    row = {"prompt": "which boat is number", "completion": "the red one near pier"}
    if form == "preference":
        row = {"prompt": "which boat", "chosen": "the red one", "rejected": "go away"}
    lines = _many(row)
    if form == "binary":
        lines = [
            line[:-1] + f', "label": {flag}}}'
            for line, flag in zip(lines, ["true", "false"] * 20, strict=True)
        ]
    if form == "text":
        lines = _many({"text": "the boat at the pier"})
    source = write_lines("in.jsonl", *lines)
    result = prepare_data(
        sources=[str(source)], target=target, output_dir=str(tmp_path / "out"), split="0.8,0.1,0.1"
    )
    assert result.rows.rejected == 0
    assert result.rows.train >= 25
    checked = validate_jsonl(result.files["train"], target=target, count_tokens=False)
    assert {code for code, n in checked.counts.items() if n} <= {
        "few_rows",
        "service_closed",
        "too_few_rows",
    }
