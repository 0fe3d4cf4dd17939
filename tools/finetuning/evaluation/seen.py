"""What training saw: test rows that stand in it, and training rows the model knows by heart."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from finetuning.evaluation.metrics import METRICS, tokens
from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import Memorisation
from finetuning.evaluation.scoring import Answers, row_scores, scorable
from finetuning.evaluation.targets import Job

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


MOST_ROWS: Final = 200
"""Training rows that are scored: the area under the curve is then known to about .05."""


def memorisation_job(train: Sequence[Question], seed: int = 0) -> Job:
    """Return a random sample of the training rows, to be scored and not answered."""
    rows = list(train)
    if len(rows) > MOST_ROWS:
        rows = random.Random(seed).sample(rows, MOST_ROWS)
    return Job("train", rows, generate=False, nll=True)


def measure_memorisation(
    train: Sequence[Question],
    test: Sequence[Question],
    seen: tuple[Answers, Answers],
    unseen: tuple[Answers, Answers],
) -> Memorisation | None:
    """Return how much better training rows are known, or None where nothing can be scored.

    Only training rows that were as hard for the base as the test rows count.

    Args:
        train: The training rows that were scored.
        test: The held-out rows.
        seen: Answers of base and tuned on the training rows.
        unseen: Answers of base and tuned on the held-out rows.
    """
    test_rows = scorable(METRICS["nll"], test, *unseen)
    if not test_rows:
        return None
    new = [row_scores(METRICS["nll"], test_rows, side) for side in unseen]
    train_rows = _alike(scorable(METRICS["nll"], train, *seen), seen[0], new[0])
    if not train_rows:
        return None
    known = [row_scores(METRICS["nll"], train_rows, side) for side in seen]
    # the base says how easy a row is by itself: what it gained since is what training added
    gained = [before - after for before, after in zip(*known, strict=True)]
    unknown = [before - after for before, after in zip(*new, strict=True)]
    auc = _auc(gained, unknown)
    base_gap, tuned_gap = (_mean(new[k]) - _mean(known[k]) for k in (0, 1))
    return Memorisation(
        n_train=len(train_rows),
        n_unseen=len(test_rows),
        train_nll=(_mean(known[0]), _mean(known[1])),
        unseen_nll=(_mean(new[0]), _mean(new[1])),
        gap=tuned_gap - base_gap,
        auc=auc,
        auc_ci95=_auc_interval(auc, len(gained), len(unknown)),
    )


def _alike(rows: list[Question], base: Answers, unseen: Sequence[float]) -> list[Question]:
    """Keep the training rows that were as hard for the base as the unseen ones.

    Rows of another kind (general rows that were mixed in) would say something about the kind.
    """
    low, high = min(unseen), max(unseen)
    room = 0.05 * (high - low)
    scores = row_scores(METRICS["nll"], rows, base)
    return [r for r, nll in zip(rows, scores, strict=True) if low - room <= nll <= high + room]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the chance that a value of the first list exceeds one of the second."""
    import numpy as np

    ordered = np.sort(np.asarray(lower))
    below = np.searchsorted(ordered, higher, side="left")
    upto = np.searchsorted(ordered, higher, side="right")
    return float((below + upto).sum() / (2 * len(higher) * len(lower)))


def _auc_interval(auc: float, first: int, second: int) -> tuple[float, float]:
    """Return Hanley and McNeil's 95 % interval (Radiology 143, 1982; from memory)."""
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (first - 1) * (q1 - auc**2) + (second - 1) * (q2 - auc**2)
    half = 1.96 * math.sqrt(max(spread, 0.25 / min(first, second)) / (first * second))
    return max(0.0, auc - half), min(1.0, auc + half)
