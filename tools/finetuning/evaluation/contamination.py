"""Test rows that training saw: the same, 13 words in a row, or nearly the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from finetuning.evaluation.metrics import tokens
from finetuning.evaluation.questions import Question

NGRAM: Final = 13
"""Words in a row that make a copy; the length that decontamination of benchmarks uses."""

NEAR: Final = 0.5
"""Jaccard overlap of word triples from which two rows are nearly the same."""

_SHINGLE: Final = 3


class Overlap(NamedTuple):
    """Ids of test rows by how training saw them."""

    exact: set[str]
    same_prompt: set[str]
    ngram: set[str]
    near: set[str]

    @property
    def any(self) -> set[str]:
        """Rows that training saw in any of these ways."""
        return self.exact | self.same_prompt | self.ngram | self.near


def find_overlap(test: Sequence[Question], train: Sequence[Question]) -> Overlap:
    """Return which test rows stand in the training rows, exactly or nearly.

    Args:
        test: Held-out rows.
        train: Rows the model was trained on.
    """
    train_words = [_words(question) for question in train]
    test_words = [_words(question) for question in test]
    whole = {tuple(words) for words in train_words}
    prompts = {tuple(tokens(question.asked())) for question in train} - {()}
    grams = {gram for words in train_words for gram in _grams(words, NGRAM)}
    near = _near(test_words, train_words)
    found = Overlap(set(), set(), set(), set())
    for number, (question, words) in enumerate(zip(test, test_words, strict=True)):
        if tuple(words) in whole:
            found.exact.add(question.id)
        if tuple(tokens(question.asked())) in prompts:
            found.same_prompt.add(question.id)
        if not grams.isdisjoint(_grams(words, NGRAM)):
            found.ngram.add(question.id)
        if number in near:
            found.near.add(question.id)
    return found


def _words(question: Question) -> list[str]:
    return tokens(f"{question.asked()} {question.reference}")


def _grams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[k : k + size]) for k in range(len(words) - size + 1))


def _near(test: Sequence[Sequence[str]], train: Sequence[Sequence[str]]) -> set[int]:
    """Return numbers of test rows near to any training row, without comparing all pairs.

    Two sets with a Jaccard overlap of t share one of their rarest |set| - ceil(t |set|) + 1
    elements, so only rows that meet there are compared (prefix filter; nothing is missed).
    """
    test_sets, train_sets = ([_shingles(words) for words in side] for side in (test, train))
    common = Counter(shingle for side in (test_sets, train_sets) for s in side for shingle in s)
    index: dict[tuple[str, ...], list[int]] = {}
    for number, shingles in enumerate(train_sets):
        for shingle in _rarest(shingles, common):
            index.setdefault(shingle, []).append(number)
    found: set[int] = set()
    for number, shingles in enumerate(test_sets):
        candidates = {k for shingle in _rarest(shingles, common) for k in index.get(shingle, ())}
        if any(_jaccard(shingles, train_sets[k]) >= NEAR for k in candidates):
            found.add(number)
    return found


def _shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams(words, min(_SHINGLE, max(1, len(words)))))


def _rarest(
    shingles: frozenset[tuple[str, ...]], common: Counter[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    ordered = sorted(shingles, key=lambda shingle: (common[shingle], shingle))
    needed = -int(-NEAR * len(ordered) // 1)
    return ordered[: len(ordered) - needed + 1]


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0
