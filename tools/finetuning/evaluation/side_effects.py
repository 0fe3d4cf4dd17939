"""What training did beside the task: test rows it saw, rows it knows by heart; whether to ship."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.metrics import METRICS, Answers, row_scores, scorable, tokens
from finetuning.evaluation.results import (
    Contamination,
    General,
    Memorisation,
    Ship,
    TaskMetric,
    Verbatim,
    Verdict,
)
from finetuning.evaluation.targets import MISSING, Job

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


def decide_ship(
    verdict: Verdict,
    task: Sequence[TaskMetric],
    general: General | None,
    contamination: Contamination | None,
    *,
    margin: float,
    alpha: float,
) -> tuple[Ship | None, list[str]]:
    """Return whether to ship, with the reasons against it.

    Args:
        verdict: Of the first metric.
        task: All metrics.
        general: What the training cost elsewhere, if measured.
        contamination: Overlap of test and training rows, if measured.
        margin: Loss of another metric that does not matter.
        alpha: Two-sided error rate over all metrics.
    """
    if verdict == "baseline":
        return None, []
    if verdict in {"invalid", "underpowered"}:
        return "needs_more_data", []
    if verdict == "worse":
        return "no", [f"{task[0].metric} is worse"]
    if verdict == "tied":
        return "no", ["nothing was gained; ship only if it is cheaper or faster"]
    reasons = [f"{entry.metric} is worse" for entry in task[1:] if _lost(entry, margin, alpha)]
    if general is not None and general.verdict == "worse":
        reasons.append("general ability is worse")
    if reasons:
        return "no", reasons
    clean = contamination.without if contamination and contamination.fraction > 0 else None
    if contamination and contamination.fraction > 0 and (clean is None or clean.p >= alpha):
        return "needs_more_data", ["the gain is not shown on rows that training did not see"]
    return "yes", []


def _lost(entry: TaskMetric, margin: float, alpha: float) -> bool:
    loss = (entry.diff or 0.0) * (-1 if entry.better == "higher" else 1)
    return loss > margin and entry.p_holm is not None and entry.p_holm < alpha


MOST_ROWS: Final = 200
"""Training rows that are scored: the area under the curve is then known to about .05."""


COPY: Final = 50
"""Words in a row that count as a copy; the length of the usual extraction studies.

Source: Carlini et al., arXiv 2202.07646 (50 tokens; checked 2026-11-20)."""


_ANCHOR: Final = 8


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
) -> Memorisation:
    """Return how much better training rows are known; empty where nothing can be scored.

    Only training rows that were as hard for the base as the test rows count.
    """
    test_rows = scorable(METRICS["nll"], test, *unseen)
    if not test_rows:
        return Memorisation()
    new = [row_scores(METRICS["nll"], test_rows, side) for side in unseen]
    train_rows = _alike(scorable(METRICS["nll"], train, *seen), seen[0], new[0])
    if not train_rows:
        return Memorisation()
    known = [row_scores(METRICS["nll"], train_rows, side) for side in seen]
    # the base says how easy a row is by itself: what it gained since is what training added
    gained = [before - after for before, after in zip(*known, strict=True)]
    unknown = [before - after for before, after in zip(*new, strict=True)]
    auc = _auc(gained, unknown)
    base_gap, tuned_gap = (fmean(new[k]) - fmean(known[k]) for k in (0, 1))
    return Memorisation(
        n_train=len(train_rows),
        n_unseen=len(test_rows),
        train_nll=(fmean(known[0]), fmean(known[1])),
        unseen_nll=(fmean(new[0]), fmean(new[1])),
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


def find_copies(train: Sequence[Question], test: Sequence[Question], answers: Answers) -> Verbatim:
    """Return the answers that hold 50 words or more of a training answer, word for word.

    Words that already stand in the row's own prompt do not count: repeating them is no memory.

    Args:
        train: The training rows.
        test: The held-out rows.
        answers: The tuned model's answers to them.
    """
    said = {q.id: tokens(answers.get(q.id, MISSING).text or "") for q in test}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for name, words in said.items():
        for at in range(len(words) - _ANCHOR + 1):
            places.setdefault(tuple(words[at : at + _ANCHOR]), []).append((name, at))
    longest: dict[str, int] = {}
    where: dict[str, tuple[int, int]] = {}
    for row in train if places else ():
        words = tokens(row.reference)
        for at in range(0, len(words) - _ANCHOR + 1, COPY - _ANCHOR + 1):
            for name, start in places.get(tuple(words[at : at + _ANCHOR]), ()):
                first, last = _stretch(words, at, said[name], start)
                if last - first > longest.get(name, 0):
                    longest[name], where[name] = last - first, (first, last)
    asked = {question.id: f" {' '.join(tokens(question.asked()))} " for question in test}
    copied = [
        name
        for name, length in longest.items()
        if length >= COPY and f" {' '.join(said[name][slice(*where[name])])} " not in asked[name]
    ]
    return Verbatim(
        words=COPY,
        rows=len(copied),
        longest=max((longest[name] for name in copied), default=0),
        ids=sorted(copied)[:20],
    )


def _stretch(words: Sequence[str], at: int, said: Sequence[str], start: int) -> tuple[int, int]:
    """Return first and last place in ``said`` of the longest common run through an anchor."""
    back = 0
    while back < min(at, start) and words[at - back - 1] == said[start - back - 1]:
        back += 1
    ahead = _ANCHOR
    while (
        at + ahead < len(words)
        and start + ahead < len(said)
        and words[at + ahead] == said[start + ahead]
    ):
        ahead += 1
    return start - back, start + ahead
