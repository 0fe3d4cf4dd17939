"""Leakage: held-out rows that have a twin in train, counted on the result."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning.data_prep.duplicates.twins import find_twins
from finetuning.data_prep.duplicates.words import read_words
from finetuning.data_prep.examples import Content
from finetuning.data_prep.prepared import Leakage

_OTHER_SEED = 1
"""Other permutations than those of the search, so that what it missed can be seen."""


def measure_leakage(
    train: Sequence[Content], held_out: Sequence[Content], threshold: float
) -> Leakage:
    """Count the held-out rows that have a twin in train.

    Args:
        train: Rows to learn from.
        held_out: Rows of validation and test.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    known = {content.exact for content in train}
    exact = sum(content.exact in known for content in held_out)
    fresh = [content for content in held_out if content.exact not in known]
    border = len(train)
    rows = [*train, *fresh]
    pairs, _ = find_twins(
        rows,
        read_words(rows),
        threshold,
        seed=_OTHER_SEED,
        wanted=lambda one, two: one < border <= two,
    )
    return Leakage(exact=exact, near=len({two for _, two in pairs}))
