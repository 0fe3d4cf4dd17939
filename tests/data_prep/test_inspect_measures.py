"""Languages, classes, contradictions and agreement are told by stated rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.examples import Content, Example, Message, content_of
from finetuning.data_prep.quality import (
    TextCounts,
    class_sizes,
    contradictions,
    count_files,
    count_texts,
)
from finetuning.data_prep.survey import guess_language, label_agreement
from finetuning.records import Record
from finetuning.tokens import count_examples, counter_for


def content(prompt: str, answer: str) -> Content:
    turns: list[Message] = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": answer},
    ]
    return content_of(Example(Record("x", 1, {}), "chat", turns))


def rows(*pairs: tuple[str, str]) -> Rows:
    return Rows.of([content(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the parcel that I ordered for you?", "en"),
        ("“Where is the parcel that I ordered…”", "en"),
        ("Wo ist das Paket und wie lange muss ich warten?", "de"),
        ("Où est le colis que vous avez envoyé pour nous ?", "fr"),
        ("¿Dónde está el paquete que pedí por la tienda?", "es"),
        ("我的包裹在哪里", "zh"),
        ("荷物はどこですか", "ja"),
        ("내 소포는 어디에 있나요", "ko"),
        ("Где моя посылка", "ru"),
        ("أين طردي", "ar"),
        ("พัสดุของฉันอยู่ที่ไหน", "th"),
        ("Use API v2, 请看文档和示例代码", "zh"),
        ("12345 !!", "unknown"),
        ("", "unknown"),
        ("zzz qqq", "unknown"),
    ],
)
def test_language_is_told_by_script_and_common_words(text: str, language: str) -> None:
    found, confidence = guess_language(text)
    assert found == language
    assert (confidence > 0) == (language != "unknown")
    assert confidence <= 1


def test_language_of_mixed_words_is_told_with_less_confidence() -> None:
    clear = guess_language("the boat is on the river and it is not for you")[1]
    mixed = guess_language("the boat is on the river, und das ist nicht für dich")[1]
    assert mixed < clear


@given(st.text(max_size=300))
def test_any_text_has_a_language_or_none(text: str) -> None:
    name, confidence = guess_language(text)
    assert 0 <= confidence <= 1
    assert len(name) == 2 or (name, confidence) == ("unknown", 0.0)


def test_texts_are_counted_once_whatever_their_blocks() -> None:
    chats = [
        {"messages": [
            {"role": "user", "content": "где она"}, {"role": "assistant", "content": "x"},
        ]},
        {"messages": [
            {"role": "user", "content": "what is the time"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "noon"},
            {"role": "assistant", "content": "it is noon"},
        ]},
    ]  # fmt: skip
    raws = [orjson.dumps(chat) for chat in chats]
    whole = count_texts(raws)
    parts = [count_texts([raw]) for raw in raws]
    assert TextCounts.join(parts) == whole
    assert whole.languages == {"ru": 1, "en": 1}
    assert whole.tools == {"clock"}
    stats = count_examples(chats, counter_for(None))
    assert sum(length * times for length, times in whole.lengths.items()) == stats.total
    assert whole.mean_confidence() is not None
    assert TextCounts().mean_confidence() is None


def test_files_are_counted_by_several_processes_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"prompt": "what is the time in the house", "completion": "где она"}
    for name in "abc":
        (tmp_path / name).write_bytes((orjson.dumps({**row, "prompt": name}) + b"\n") * 3)
    files = sorted(tmp_path.iterdir())
    one = TextCounts.join(count_files([file]) for file in files)
    assert count_files(files) == one
    assert one.rows == 9
    monkeypatch.setenv("PYTHONMALLOC", "no such allocator")  # the children die at their start
    assert count_files(files) == one
    assert count_files([]) == TextCounts()


def test_contradictions_are_rows_whose_prompt_has_another_answer() -> None:
    found = rows(("q", "yes"), ("Q ", "no"), ("r", "yes"), ("r", "YES."), ("s", "yes"))
    flags = contradictions(found.asked, found.answered)
    assert flags.tolist() == [True, True, False, False, False]
    empty = rows()
    assert contradictions(empty.asked, empty.answered).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_contradictions_are_found_wherever_the_rows_stand(pairs: list[tuple[int, int]]) -> None:
    asked = np.array([pair[0] for pair in pairs], dtype=np.uint64)
    answered = np.array([pair[1] for pair in pairs], dtype=np.uint64)
    answers: dict[int, set[int]] = {}
    for prompt, answer in pairs:
        answers.setdefault(prompt, set()).add(answer)
    expected = [len(answers[prompt]) > 1 for prompt, _ in pairs]
    assert contradictions(asked, answered).tolist() == expected


def test_answers_are_classes_when_they_are_short_few_and_repeated() -> None:
    def sizes(*pairs: tuple[str, str]) -> list[int] | None:
        found = rows(*pairs)
        lengths = np.array([len(answer) for _, answer in pairs], dtype=np.int32)
        counts = class_sizes(found.key, lengths)
        return None if counts is None else sorted(counts.tolist())

    labels = [(f"q{n}", "yes" if n % 2 else "no") for n in range(8)]
    assert sizes(*labels) == [4, 4]
    assert sizes(*labels[:6]) is None
    assert sizes(*((f"q{n}", "yes") for n in range(8))) is None
    assert sizes(*labels, ("q", "a long answer of very many words, all new")) is None
    assert sizes() is None


def test_agreement_is_krippendorffs_alpha_beside_the_raw_share() -> None:
    # Krippendorff 2011, section B: two observers, ten units, nominal binary data
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    votes = [(unit, "meg", value) for unit, value in enumerate(meg)]
    votes += [(unit, "owen", value) for unit, value in enumerate(owen)]
    found = label_agreement(votes)
    assert found is not None
    assert abs(found.raw - 0.6) < 1e-9
    assert found.alpha is not None
    assert abs(found.alpha - 0.095) < 0.0005
    assert (found.prompts, found.annotators) == (10, 2)


def test_agreement_takes_gaps_and_many_annotators() -> None:
    # Krippendorff 2011, section C: four observers, twelve units, nominal data with gaps
    table = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    votes = [
        (unit, observer, value)
        for observer, values in table.items()
        for unit, value in enumerate(values)
        if value is not None
    ]
    found = label_agreement(votes)
    assert found is not None
    assert found.alpha is not None
    assert abs(found.alpha - 0.743) < 0.0005
    assert found.prompts == 11


def test_agreement_needs_a_prompt_with_two_annotators_and_two_answers() -> None:
    assert label_agreement([]) is None
    assert label_agreement([(1, "a", "x"), (2, "b", "y")]) is None
    same = label_agreement([(1, "a", "x"), (1, "b", "x")])
    assert same is not None
    assert (same.raw, same.alpha) == (1.0, None)
