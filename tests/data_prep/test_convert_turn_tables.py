"""Tables with one turn per row become one chat per conversation, no turn lost."""

from __future__ import annotations

from typing import Any

import pytest

from finetuning.data_prep.convert import Columns, Converter, turn_columns
from finetuning.data_prep.convert.turns import time_key
from finetuning.data_prep.examples import Example
from finetuning.records import Record


def records(*rows: tuple[str, str, str, str]) -> list[Record]:
    names = ("ticket_id", "author", "created_at", "body")
    return [
        Record("tickets", line, dict(zip(names, row, strict=True)))
        for line, row in enumerate(rows, start=2)
    ]


TICKETS = records(
    ("1", "customer", "2026-01-01T10:00", "where is it"),
    ("2", "customer", "2026-01-01T10:01", "hello"),
    ("1", "agent", "2026-01-01T10:05", "on its way"),
    ("2", "agent", "2026-01-01T10:06", "hi"),
    ("1", "customer", "2026-01-01T10:02", "my order, I mean"),
)


def convert(
    rows: list[Record], columns: Columns | None = None, mode: Any = "per_conversation"
) -> tuple[list[Example], list[str]]:
    made = Converter("trl_messages", columns or Columns(), mode).convert(rows, "tickets")
    return made.examples, [rejection.reason for rejection in made.rejections]


def said(example: Example) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in example.messages]


def test_turns_are_gathered_by_conversation_in_the_order_of_their_times() -> None:
    (first, second), reasons = convert(TICKETS)
    assert reasons == []
    assert said(first) == [
        ("user", "where is it"),
        ("user", "my order, I mean"),
        ("assistant", "on its way"),
    ]
    assert said(second) == [("user", "hello"), ("assistant", "hi")]
    assert (first.record.line, second.record.line) == (2, 3)
    assert first.time == "2026-01-01T10:05"
    assert "role_renamed" in first.notes


def test_named_columns_win_over_guessed_ones() -> None:
    columns = Columns(conversation="ticket_id", role="author", content="body", time="created_at")
    assert convert(TICKETS, columns) == convert(TICKETS)


def test_unreadable_times_leave_the_order_of_the_file_and_are_noted() -> None:
    rows = records(("1", "agent", "soon", "hi"), ("1", "user", "2026", "q"), ("1", "bot", "", "a"))
    (example,), _ = convert(rows)
    assert [text for _, text in said(example)] == ["hi", "q", "a"]
    assert "times_unreadable" in example.notes


def test_empty_turns_are_noted_and_rows_without_an_id_stand_alone() -> None:
    rows = records(
        ("1", "user", "1", "q"),
        ("1", "user", "2", " "),
        ("1", "bot", "3", "a"),
        ("", "user", "4", "lost"),
        ("", "user", "5", "lost too"),
    )
    (example,), reasons = convert(rows)
    assert said(example) == [("user", "q"), ("assistant", "a")]
    assert "empty_turns_left_out" in example.notes
    assert reasons == ["answer_missing", "answer_missing"]


def test_conversation_with_an_unknown_role_is_one_rejection() -> None:
    rows = records(("1", "user", "1", "q"), ("1", "pat", "2", "a"))
    assert convert(rows) == ([], ["unknown_role"])
    columns = Columns(role_map={"pat": "assistant"})
    assert said(convert(rows, columns)[0][0])[-1] == ("assistant", "a")


def test_one_example_per_reply_keeps_earlier_turns_as_context() -> None:
    rows = records(
        ("1", "user", "1", "a"),
        ("1", "bot", "2", "b"),
        ("1", "user", "3", "c"),
        ("1", "bot", "4", "d"),
    )
    examples, _ = convert(rows, mode="per_reply")
    assert [said(example)[-1][1] for example in examples] == ["b", "d"]
    assert len({example.family for example in examples}) == 1
    weighted = Converter("openai_chat", Columns(), "per_reply").convert(rows, "t").examples
    assert weighted[1].messages[1]["weight"] == 0
    assert "weight" not in weighted[1].messages[3]


def test_unreadable_contents_and_missing_times_are_no_reason_to_stop() -> None:
    rows = [
        Record("t", 2 + n, {"ticket_id": "1", "author": who, "body": f"text {n}"})
        for n, who in enumerate(("user", "bot"))
    ]
    (example,), _ = convert(rows)
    assert (example.time, example.notes) == (None, ("role_renamed",))


def test_trailing_question_is_cut_and_noted() -> None:
    rows = records(("1", "user", "1", "q"), ("1", "bot", "2", "a"), ("1", "user", "3", "thanks"))
    (example,), _ = convert(rows)
    assert said(example)[-1] == ("assistant", "a")
    assert "trailing_turns_cut" in example.notes


def test_ticket_export_with_one_row_per_ticket_is_no_table_of_turns() -> None:
    rows = [
        Record("t", line, {"ticket_id": str(line), "author": "x", "message": "q", "reply": "a"})
        for line in range(2, 6)
    ]
    assert turn_columns(rows, Columns()) is None
    assert turn_columns([], Columns()) is None
    examples, _ = convert(rows)
    assert said(examples[0]) == [("user", "q"), ("assistant", "a")]


def test_chats_with_conversation_ids_are_no_table_of_turns() -> None:
    row: dict[str, Any] = {"conversation_id": "1", "role": "x", "content": "y", "messages": []}
    assert turn_columns([Record("t", 1, row)] * 2, Columns()) is None


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-02", 86400.0),
        (17, 17.0),
        ("2.5", 2.5),
        ("nan", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_as_numbers_that_sort(cell: Any, moment: float | None) -> None:
    assert time_key(cell) == moment
