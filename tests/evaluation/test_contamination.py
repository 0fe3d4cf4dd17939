"""Contamination: every overlap of test and training rows is found, and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.side_effects import NEAR, find_overlap

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def rows(*texts: tuple[str, str]) -> list[Question]:
    return [Question(str(k), k, p, None, c) for k, (p, c) in enumerate(texts, 1)]


def test_the_same_row_is_found_whatever_its_case_and_spacing() -> None:
    found = find_overlap(rows(("Hello there", "Yes!")), rows(("hello  THERE", "yes")))
    assert found.exact == found.same_prompt == {"1"}


def test_the_same_prompt_with_another_answer_is_found() -> None:
    found = find_overlap(rows(("a b c", "yes")), rows(("a b c", "no")))
    assert found.same_prompt == {"1"}
    assert not found.exact


def test_thirteen_words_in_a_row_are_found_inside_other_text() -> None:
    test = rows((f"quite new words {LONG}", "x"), ("nothing shared at all", "y"))
    train = rows((f"{LONG} and {'other words follow here ' * 20}", "z"))
    assert find_overlap(test, train).ngram == {"1"}


def test_rows_without_any_overlap_are_clean() -> None:
    found = find_overlap(rows(("a b c d", "e")), rows(("f g h i", "j")))
    assert found.any == set()


def test_texts_without_a_prompt_do_not_share_an_empty_prompt() -> None:
    assert find_overlap(rows(("", "a b c d")), rows(("", "e f g h"))).any == set()


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1, max_size=6),
)
def test_near_rows_equal_those_of_comparing_every_pair(
    test: list[list[str]], train: list[list[str]]
) -> None:
    found = find_overlap(
        rows(*((" ".join(words), "z") for words in test)),
        rows(*((" ".join(words), "z") for words in train)),
    )

    def triples(words: list[str]) -> set[tuple[str, ...]]:
        whole = [*words, "z"]
        size = min(3, len(whole))
        return {tuple(whole[k : k + size]) for k in range(len(whole) - size + 1)}

    expected = {
        str(number)
        for number, words in enumerate(test, 1)
        if any(
            len(triples(words) & triples(other)) / len(triples(words) | triples(other)) >= NEAR
            for other in train
        )
    }
    assert found.near == expected
