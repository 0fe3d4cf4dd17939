"""Languages, classes and agreement are told by simple, stated rules."""

from __future__ import annotations

import pytest

from finetuning.data_prep.examples import (
    Content,
    Example,
    annotator_agreement,
    answer_conflicts,
    content_of,
)
from finetuning.data_prep.quality import class_counts, language_of, languages
from finetuning.records import Record


def made(prompt: str, answer: str, annotator: str | None = None) -> tuple[Example, Content]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    example = Example(Record("x", 1, {}), "chat", turns, annotator=annotator)
    return example, content_of(example)


def contents(*pairs: tuple[str, str]) -> list[Content]:
    return [made(*pair)[1] for pair in pairs]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the parcel that I ordered for you?", "en"),
        ("Wo ist das Paket und wie lange muss ich warten?", "de"),
        ("Où est le colis que vous avez envoyé pour nous ?", "fr"),
        ("¿Dónde está el paquete que pedí por la tienda?", "es"),
        ("我的包裹在哪里", "zh"),
        ("荷物はどこですか", "ja"),
        ("내 소포는 어디에 있나요", "ko"),
        ("Где моя посылка", "ru"),
        ("أين طردي", "ar"),
        ("พัสดุของฉันอยู่ที่ไหน", "th"),
        ("12345 !!", "unknown"),
        ("", "unknown"),
        ("zzz qqq", "unknown"),
    ],
)
def test_language_is_told_by_script_and_common_words(text: str, language: str) -> None:
    assert language_of(text) == language


def test_languages_are_counted_commonest_first() -> None:
    assert list(languages(["the boat is on", "the end of it", "где она"]).items()) == [
        ("en", 2),
        ("ru", 1),
    ]


def test_conflicts_are_rows_whose_prompt_has_another_answer() -> None:
    rows = contents(("q", "yes"), ("Q ", "no"), ("r", "yes"), ("r", "YES."))
    assert answer_conflicts(rows) == 0.5
    assert answer_conflicts([]) == 0.0


def test_agreement_counts_pairs_of_annotators() -> None:
    rows = [made("q", "yes", "a"), made("q", "yes", "b"), made("q", "no", "c"), made("r", "no")]
    examples, compared = [row[0] for row in rows], [row[1] for row in rows]
    assert annotator_agreement(examples, compared) == pytest.approx(1 / 3)
    assert annotator_agreement(examples[:1], compared[:1]) is None


def test_answers_are_classes_when_they_are_short_few_and_repeated() -> None:
    rows = contents(*((f"q{n}", "yes" if n % 2 else "no") for n in range(8)))
    classes = class_counts(rows)
    assert classes is not None
    assert sorted(classes.values()) == [4, 4]
    assert class_counts(rows[:6]) is None
    assert class_counts(contents(*((f"q{n}", "yes") for n in range(8)))) is None
    assert (
        class_counts([*rows, *contents(("q", "a long answer of very many words, all new"))]) is None
    )
