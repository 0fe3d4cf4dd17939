"""Rows become questions: what is asked, what counts as right, and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.errors import BadInputError
from finetuning.evaluation.call import held_out_file
from finetuning.evaluation.inputs import Question, message_text, read_questions

Write = Callable[..., Path]


def read(path: Path, **options: Any) -> list[Question]:
    return read_questions(path, where="test", **options).questions


def test_raw_rows_chat_rows_and_conversational_prompts_are_understood(write_lines: Write) -> None:
    user, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    parts = {"role": "user", "content": [{"type": "text", "text": "he"}, {"type": "image"}, 3]}
    path = write_lines(
        "rows.jsonl",
        json.dumps({"prompt": "a", "completion": "b", "id": 7, "domain": "x"}),
        json.dumps({"messages": [user, answer]}),
        json.dumps({"prompt": [parts], "completion": [answer]}),
        json.dumps({"prompt": "n", "completion": 4.5}),
    )
    first, second, third, fourth = read(path)
    assert (first.id, first.prompt, first.reference, first.group) == ("7", "a", "b", "x")
    assert (second.id, second.messages, second.reference) == ("2", (user,), "ho")
    assert second.asked() == "hi"
    assert third.asked() == "he"
    assert fourth.reference == "4.5"
    assert message_text({"content": None}) == ""


def test_a_csv_with_the_right_columns_is_a_test_set(write_lines: Write) -> None:
    questions = read(write_lines("rows.csv", "prompt,completion", "a,b", "c,d"))
    assert [(q.id, q.prompt, q.reference) for q in questions] == [("2", "a", "b"), ("3", "c", "d")]


def test_rows_that_cannot_be_scored_are_counted_by_reason(write_lines: Write) -> None:
    path = write_lines(
        "rows.jsonl",
        '{"prompt": "a", "completion": "b"}',
        '{"prompt": "a", "completion": " "}',
        '{"prompt": "a"}',
        '{"prompt": "a", "completion": true}',
        '{"messages": [{"role": "user", "content": "a"}]}',
        '{"messages": "x"}',
        '{"text": "only text"}',
        "{broken",
    )
    found = read_questions(path, where="test")
    assert len(found.questions) == 1
    assert found.unusable == {
        "empty_reference": 1,
        "no_reference": 3,
        "unknown_shape": 2,
        "json_invalid": 1,
    }


def test_plain_texts_are_questions_only_where_they_are_wanted(write_lines: Write) -> None:
    path = write_lines("rows.jsonl", '{"text": "a text"}')
    (question,) = read(path, texts=True)
    assert (question.prompt, question.reference) == ("", "a text")
    with pytest.raises(BadInputError, match="none of the 1 rows"):
        read(path)


def test_ids_that_repeat_are_noticed(write_lines: Write) -> None:
    row = '{"id": "x", "prompt": "a", "completion": "b"}'
    found = read_questions(write_lines("rows.jsonl", row, row), where="test")
    assert found.repeated_ids == ("x",)


def test_a_cluster_column_must_be_there_on_every_row(write_lines: Write) -> None:
    rows = ['{"prompt": "a", "completion": "b", "customer": 3}'] * 2
    path = write_lines("rows.jsonl", *rows)
    assert [q.cluster for q in read(path, cluster_column="customer")] == ["3", "3"]
    path = write_lines("more.jsonl", rows[0], '{"prompt": "secret", "completion": "b"}')
    with pytest.raises(BadInputError, match="line 2") as caught:
        read(path, cluster_column="customer")
    assert "secret" not in str(caught.value)


def test_a_prepared_folder_gives_its_test_rows(write_lines: Write) -> None:
    path = write_lines("ready/test.jsonl", '{"prompt": "a", "completion": "b"}')
    write_lines("ready/train.jsonl", '{"prompt": "a", "completion": "b"}')
    assert held_out_file(str(path.parent)) == path
    assert held_out_file(str(path)) == path
    path.unlink()
    with pytest.raises(BadInputError, match=r"no test\.jsonl"):
        held_out_file(str(path.parent))
