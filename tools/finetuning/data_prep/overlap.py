"""Rows that repeat other rows in part: for benchmarks, old test sets and replay rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finetuning.data_prep.duplicates.twins import find_twins
from finetuning.data_prep.duplicates.words import Words, many_rows, read_words, run_hashes
from finetuning.data_prep.examples import Content

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONG_RUN_WORDS: Final = 13
"""A shared run of so many words counts as contamination, the usual length of such checks."""


def _own_runs(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the long runs of all rows that hold no constant text, and their rows."""
    import numpy as np

    runs = run_hashes(words.hashes, LONG_RUN_WORDS)
    before = np.concatenate([[0], np.cumsum(words.constant)])
    clean = before[LONG_RUN_WORDS:] == before[:-LONG_RUN_WORDS] if len(runs) else runs == 0
    places = np.flatnonzero(clean)
    rows = np.searchsorted(words.starts, places, side="right") - 1
    return runs[places], rows


def overlapping(
    contents: Sequence[Content], others: Sequence[Content], threshold: float
) -> dict[int, int]:
    """Return the rows that repeat one of the others, each with the first such other.

    A row repeats another when it is the same, asks the same, is a near copy whatever it
    answers, or shares a run of 13 words that is not text common to many rows.

    Args:
        contents: Rows to judge.
        others: Rows that they must not repeat.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    if not contents or not others:
        return {}
    found: dict[int, int] = {}
    exact: dict[int, int] = {}
    asked: dict[int, list[int]] = {}
    for number, other in enumerate(others):
        exact.setdefault(other.exact, number)
        asked.setdefault(other.asked, []).append(number)
    constant = many_rows(len(others))
    for row, content in enumerate(contents):
        same = asked.get(content.asked, [])
        if content.exact in exact:
            found[row] = exact[content.exact]
        elif 0 < len(same) < constant:
            found[row] = same[0]
    left = [row for row in range(len(contents)) if row not in found]
    free = [
        dataclasses.replace(content, key=0, family=0)
        for content in [*(contents[row] for row in left), *others]
    ]
    words, border = read_words(free), len(left)
    pairs, _ = find_twins(free, words, threshold, wanted=lambda one, two: one < border <= two)
    for one, two in [*pairs, *_shared_runs(words, border)]:
        found.setdefault(left[one], two - border)
    return found


def _shared_runs(words: Words, border: int) -> list[tuple[int, int]]:
    """Return pairs of a row below and a row above the border that share a long run."""
    import numpy as np

    runs, rows = _own_runs(words)
    above = rows >= border
    known, first = np.unique(runs[above], return_index=True)
    if not len(known):
        return []
    sought, seekers = runs[~above], rows[~above]
    places = np.minimum(np.searchsorted(known, sought), len(known) - 1)
    hits = np.flatnonzero(known[places] == sought)
    owners = rows[above][first[places[hits]]]
    return list(zip(seekers[hits].tolist(), owners.tolist(), strict=True))
