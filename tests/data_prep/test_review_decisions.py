"""A sheet holds the riskiest rows and a fair sample; decisions apply to the rows that were seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.data_prep.review import (
    FORMAT,
    ReviewSampler,
    Shown,
    meaning_of,
    read_reviews,
    row_digest,
)
from finetuning.errors import BadInputError, NotAllowedError
from finetuning.pages import text_fields

Write = Callable[..., Path]
TARGET = "trl_prompt_completion"


def raw(number: int, length: int = 20) -> bytes:
    return orjson.dumps({"prompt": f"question {number}", "completion": "x" * length})


def head(**more: Any) -> dict[str, Any]:
    return {"format": FORMAT, "sheet": "s", "target": TARGET, **more}


def decision(seen: bytes, word: str, **more: Any) -> dict[str, Any]:
    return {"digest": row_digest(seen), "decision": word, "source": "s", "line": 7, **more}


def saved(write_lines: Write, *lines: dict[str, Any]) -> str:
    return str(write_lines("reviews.jsonl", *map(json.dumps, lines)))


def sampled(size: int, *, seed: int = 0) -> list[Shown]:
    sampler = ReviewSampler(size, seed=seed)
    for number in range(400):
        sampler.add(
            raw(number, 2_000 if number == 77 else 1 if number == 78 else 20),
            source="a.csv" if number % 4 else "b.csv",
            line=number,
            notes=["refusal"] if number in {5, 6} else ["role_renamed"],
            label="rare" if number == 200 else f"label {number % 3}",
        )
    return sampler.rows()


def test_sheet_begins_with_the_riskiest_and_says_why_each_row_is_on_it() -> None:
    rows = sampled(40)
    assert len(rows) == 40
    assert {row.line for row in rows[:2]} == {5, 6}
    why = {row.line: row.why for row in rows}
    assert why[5][0] == why[6][0] == "refusal"
    assert "longest" in why[77]
    assert "shortest" in why[78]
    assert "rare_label" in why[200]
    assert all(codes for codes in why.values())
    assert all(meaning_of(code) for codes in why.values() for code in codes)


def test_half_of_the_sheet_is_drawn_evenly_from_sources_and_labels() -> None:
    drawn = [row for row in sampled(40) if row.why == ("drawn",)]
    assert len(drawn) >= 20
    counts = Counter((row.source, row.label) for row in drawn)
    assert len(counts) >= 6
    assert max(counts.values()) - min(counts.values()) <= 3


def test_same_rows_and_seed_give_the_same_sheet_and_another_seed_another() -> None:
    assert sampled(20) == sampled(20)
    assert {row.line for row in sampled(20)} != {row.line for row in sampled(20, seed=1)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab"), st.booleans()), max_size=80),
    st.integers(0, 30),
)
def test_sheet_has_as_many_different_rows_as_asked_for_and_there_are(
    offered: list[tuple[int, str, bool]], size: int
) -> None:
    sampler = ReviewSampler(size)
    for number, source, risky in offered:
        sampler.add(raw(number), source=source, line=number, notes=["mojibake"] * risky)
    rows = sampler.rows()
    assert len({row.digest for row in rows}) == len(rows)
    assert len(rows) == min(size, len({number for number, _, _ in offered}))


def test_a_row_of_two_sources_takes_one_place_on_the_sheet() -> None:
    sampler = ReviewSampler(4)
    for source in "ab":
        for number in range(4):
            sampler.add(raw(number), source=source, line=number)
    assert len({row.digest for row in sampler.rows()}) == 4


def test_a_sheet_is_filled_where_one_of_many_sources_holds_nearly_all_rows() -> None:
    sampler = ReviewSampler(60)
    for number in range(20):
        sampler.add(raw(number), source=f"small {number}", line=1)
    for number in range(1_000):
        sampler.add(raw(100 + number), source="large", line=number)
    assert len(sampler.rows()) == 60


def test_many_sources_do_not_make_the_sample_large() -> None:
    sampler = ReviewSampler(10)
    for number in range(3_000):
        sampler.add(raw(number), source=f"file {number}", line=1)
    held = vars(sampler)["_strata"]
    assert len(held) <= 201
    assert len(sampler.rows()) == 10


def test_sheet_is_one_page_without_any_text_that_ends_its_script(tmp_path: Path) -> None:
    sampler = ReviewSampler(2)
    row = {"prompt": "</script><script>alert(1)</script>", "completion": "\u2028"}
    sampler.add(orjson.dumps(row), source="s", line=None)
    path = tmp_path / "review.html"
    sampler.write(path, target=TARGET)
    page = path.read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    assert "\u2028" not in page


def test_empty_sheet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    assert ReviewSampler(5).write(path, target=TARGET) == 0
    assert "no row to review" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"prompt": "a", "completion": "b"}, ["prompt", "completion"]),
        (
            {"conversations": [{"from": "human", "value": "a"}], "system": "s"},
            ["human", "system"],
        ),
        (
            {"contents": [{"role": "user", "parts": [{"text": "a"}]}]},
            ["user"],
        ),
        (
            {"input": {"messages": [{"role": "user", "content": "a"}]},
             "preferred_output": [{"role": "assistant", "content": "b"}]},
            ["user · input", "assistant · preferred_output"],
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}],
             "tools": [{"type": "function"}]},
            ["assistant · tool_calls · name", "assistant · tool_calls · arguments"],
        ),
    ],
)  # fmt: skip
def test_texts_of_a_row_are_named_by_who_says_them(row: Any, labels: list[str]) -> None:
    fields = list(text_fields(row))
    assert [label for _, label in fields] == labels
    for path, _ in fields:
        value: Any = row
        for step in path:
            value = value[step]
        assert isinstance(value, str)


def test_approved_stays_edited_replaces_rejected_goes(write_lines: Write) -> None:
    changed = {"prompt": "question 2", "completion": "better"}
    path = saved(
        write_lines,
        head(),
        decision(raw(1), "reject"),
        decision(raw(1), "approve"),  # the last word counts
        decision(raw(2), "edit", row=changed),
        decision(raw(3), "reject"),
    )
    reviews = read_reviews(path, target=TARGET, where="reviews_file")
    assert reviews.decide(raw(1)) == (raw(1), None)
    assert reviews.decide(raw(2)) == (orjson.dumps(changed), "edited_in_review")
    assert reviews.decide(raw(3)) == (None, "review_rejected")
    assert reviews.decide(raw(4)) == (raw(4), None)
    reviews.decide(raw(3))
    assert reviews.counts == {"approved": 1, "edited": 1, "rejected": 1}
    assert reviews.findings() == []


def test_decision_about_a_row_that_changed_is_refused(write_lines: Write) -> None:
    path = saved(write_lines, head(), decision(raw(1), "reject"), decision(raw(2), "approve"))
    reviews = read_reviews(path, target=TARGET, where="reviews_file")
    assert reviews.decide(raw(1, length=21)) == (raw(1, length=21), None)
    reviews.decide(raw(2))
    (found,) = reviews.findings()
    assert (found.code, found.line) == ("review_stale", 7)
    assert found.message.startswith("1 of 2 decisions")


def test_edited_row_that_the_target_cannot_hold_goes_with_the_reason(write_lines: Write) -> None:
    path = saved(
        write_lines,
        head(),
        decision(raw(1), "edit", row={"prompt": "q", "completion": " "}),
        decision(raw(2), "edit", row={"prompt": "q"}),
    )
    reviews = read_reviews(path, target=TARGET, where="reviews_file")
    assert reviews.decide(raw(1)) == (None, "empty_content")
    assert reviews.decide(raw(2)).code == "missing_key"
    assert reviews.counts["rejected"] == 2


def test_edited_row_is_redacted_like_the_others(write_lines: Write) -> None:
    row = {"prompt": "q", "completion": "write to jo.doe@mail.example.com"}
    path = saved(write_lines, head(), decision(raw(1), "edit", row=row))
    masked = read_reviews(path, target=TARGET, redact="mask", where="reviews_file")
    made = masked.decide(raw(1)).raw
    assert made is not None
    assert b"jo.doe" not in made


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([{"prompt": "a"}], "no format"),
        ([head(target="openai_chat")], "sheet is for target 'openai_chat'"),
        ([head(), {"digest": "x"}], "line 2 is no decision"),
        ([head(), {"digest": "x", "decision": "keep"}], "line 2 is no decision"),
        ([head(), {"digest": "x", "decision": "edit"}], "line 2 edits a row without giving it"),
    ],
)
def test_file_that_no_sheet_saved_is_refused(
    lines: list[dict[str, Any]], what: str, write_lines: Write
) -> None:
    with pytest.raises(BadInputError, match=what):
        read_reviews(saved(write_lines, *lines), target=TARGET, where="reviews_file")


def test_reviews_outside_the_readable_folders_are_refused() -> None:
    with pytest.raises(NotAllowedError):
        read_reviews("/etc/hostname", target=TARGET, where="reviews_file")
