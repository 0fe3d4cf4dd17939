"""Duplicates: exact and near copies found, verified and clustered.

Here: rows that repeat rows of another set, of train or of files to keep out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from finetuning.data_prep.duplicates.arrays import Clusters, distinct
from finetuning.data_prep.duplicates.finding import Duplicates, find_duplicates
from finetuning.data_prep.duplicates.rows import Rows, as_rows, many_rows
from finetuning.data_prep.duplicates.twins import Search
from finetuning.data_prep.duplicates.words import Words
from finetuning.data_prep.examples import Content
from finetuning.data_prep.results import Leakage

if TYPE_CHECKING:
    from finetuning.data_prep.duplicates.arrays import Flags, Long, Pairs, Places

__all__ = [
    "LONG_RUN_WORDS",
    "Clusters",
    "Duplicates",
    "Rows",
    "Search",
    "find_duplicates",
    "measure_leakage",
    "overlapping",
]

_ODD: Final = 0x9E3779B97F4A7C15
_OTHER_SEED: Final = 1
"""Another permutation than that of the search, so that what it missed can be seen."""

LONG_RUN_WORDS: Final = 13
"""A shared run of so many words counts as contamination, the usual length of such checks."""


def measure_leakage(
    train: Rows | Sequence[Content], held_out: Rows | Sequence[Content], threshold: float
) -> Leakage:
    """Count the held-out rows that have a twin in train.

    Args:
        train: Rows to learn from.
        held_out: Rows of validation and test.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    import numpy as np

    border = len(train)
    rows = Rows.join([as_rows(train), as_rows(held_out)])
    known = set(rows.names()[:border])
    fresh = [row for row, name in enumerate(rows.names()) if row < border or name not in known]
    search = Search(rows, threshold, seed=_OTHER_SEED)
    pairs = search.twins(np.array(fresh, dtype=np.int64), _across(border))
    return Leakage(exact=len(rows) - len(fresh), near=len(distinct(pairs[:, 1])))


def _across(border: int) -> Callable[[Pairs], Flags]:
    """Return what says which pairs have one row below and one above the border."""
    return lambda pairs: (pairs[:, 0] < border) & (pairs[:, 1] >= border)


def _own_runs(words: Words, constant: Flags) -> tuple[Long, Places]:
    """Return the long runs of all rows that hold no constant text, and their rows."""
    import numpy as np

    count = max(len(words.hashes) - LONG_RUN_WORDS + 1, 0)
    before = np.concatenate([[0], np.cumsum(constant)])
    places = np.flatnonzero(before[LONG_RUN_WORDS:] == before[: len(before) - LONG_RUN_WORDS])
    if not count:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    runs = np.zeros(len(places), dtype=np.uint64)
    for offset in range(LONG_RUN_WORDS):
        runs = (runs ^ words.hashes[places + offset]) * np.uint64(_ODD)
        runs ^= runs >> np.uint64(31)
    return runs, np.searchsorted(words.starts, places, side="right") - 1


def overlapping(
    contents: Rows | Sequence[Content], others: Rows | Sequence[Content], threshold: float
) -> dict[int, int]:
    """Return the rows that repeat one of the others, each with the first such other.

    A row repeats another when it is the same, asks the same, is a near copy whatever it
    answers, or shares a run of 13 words that is not text common to many rows.

    Args:
        contents: Rows to judge.
        others: Rows that they must not repeat.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    import numpy as np

    if not len(contents) or not len(others):
        return {}
    rows, against = as_rows(contents), as_rows(others)
    found: dict[int, int] = {}
    exact: dict[int, int] = {}
    asked: dict[int, list[int]] = {}
    for number, (name, question) in enumerate(
        zip(against.names(), against.asked.tolist(), strict=True)
    ):
        exact.setdefault(name, number)
        asked.setdefault(question, []).append(number)
    constant = many_rows(len(against))
    for row, (name, question) in enumerate(zip(rows.names(), rows.asked.tolist(), strict=True)):
        same = asked.get(question, [])
        if name in exact:
            found[row] = exact[name]
        elif 0 < len(same) < constant:
            found[row] = same[0]
    left = np.array([row for row in range(len(rows)) if row not in found], dtype=np.int64)
    free = Rows.join([rows.take(left), against]).unlabelled()
    search, border = Search(free, threshold), len(left)
    pairs = search.twins(np.arange(len(free)), _across(border)).tolist()
    for one, two in [*pairs, *_shared_runs(free.words, search.template.constant, border)]:
        found.setdefault(int(left[one]), two - border)
    return found


def _shared_runs(words: Words, constant: Flags, border: int) -> list[tuple[int, int]]:
    """Return pairs of a row below and a row above the border that share a long run."""
    import numpy as np

    runs, rows = _own_runs(words, constant)
    above = rows >= border
    known, first = np.unique(runs[above], return_index=True)
    if not len(known):
        return []
    sought, seekers = runs[~above], rows[~above]
    places = np.minimum(np.searchsorted(known, sought), len(known) - 1)
    hits = np.flatnonzero(known[places] == sought)
    owners = rows[above][first[places[hits]]]
    return list(zip(seekers[hits].tolist(), owners.tolist(), strict=True))
