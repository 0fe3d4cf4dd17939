"""Which rows are copies of which, and which rows belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetuning.data_prep.duplicates.clusters import Clusters, copies
from finetuning.data_prep.duplicates.twins import find_twins
from finetuning.data_prep.duplicates.words import many_rows, read_words
from finetuning.data_prep.examples import Content

_ROUNDS: Final = 4
"""Removing rows can make text constant no longer, or only then; twins are sought again so often."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among rows.

    Attributes:
        exact: Copy → the row that stays for it.
        near: Near copy → the row that stays for it.
        cluster: Per row, the first row of its cluster: rows of one cluster are copies of each
            other, or ask the same, and belong on one side of a split.
        sizes: Sizes of the clusters of near copies, largest first (exact copies not counted).
    """

    exact: dict[int, int]
    near: dict[int, int]
    cluster: list[int]
    sizes: list[int]


def exact_copies(
    contents: Sequence[Content], rank: Sequence[tuple[float, ...]]
) -> tuple[dict[int, int], list[int]]:
    """Return copy → the row that stays for it, and the rows that stay."""
    best: dict[int, int] = {}
    for row, content in enumerate(contents):
        kept = best.setdefault(content.exact, row)
        if rank[row] > rank[kept]:
            best[content.exact] = row
    gone = {
        row: best[content.exact]
        for row, content in enumerate(contents)
        if best[content.exact] != row
    }
    return gone, [row for row in range(len(contents)) if row not in gone]


def same_question(contents: Sequence[Content], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of rows that ask the same, unless so many do that it is a constant prompt."""
    asking: dict[int, list[int]] = {}
    for row in rows:
        asking.setdefault(contents[row].asked, []).append(row)
    enough = many_rows(len(rows))
    groups = [group for group in asking.values() if 1 < len(group) < enough]
    return [(group[0], row) for group in groups for row in group[1:]]


def find_duplicates(
    contents: Sequence[Content],
    *,
    threshold: float,
    rank: Sequence[tuple[float, ...]],
) -> Duplicates:
    """Find exact and near copies, and what belongs together.

    Args:
        contents: The rows.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
        rank: Per row, how much it is worth keeping; the highest of a cluster stays.

    Returns:
        Copies with the rows that stay for them, and clusters. Calling again with the rows
        that stay finds nothing more.
    """
    exact, left = exact_copies(contents, rank)
    clusters = Clusters(len(contents))
    clusters.join_all(exact.items())
    near: dict[int, int] = {}
    twins_of_all = Clusters(len(contents))
    words = read_words([contents[row] for row in left])
    for _ in range(_ROUNDS):
        pairs, judge = find_twins([contents[row] for row in left], words, threshold)
        groups = Clusters(len(left))
        groups.join_all(pairs)
        gone = copies(groups.groups(), judge, [rank[row] for row in left])
        twins_of_all.join_all((left[one], left[two]) for one, two in pairs)
        near |= {left[copy]: left[kept] for copy, kept in gone.items()}
        stay = [place for place in range(len(left)) if place not in gone]
        left, before, words = [left[place] for place in stay], words, words.of_rows(stay)
        if before.same_marks(stay, words):
            break
    clusters.join_all((row, twins_of_all.first(row)) for row in range(len(contents)))
    clusters.join_all(same_question(contents, left))
    sizes = Counter(twins_of_all.first(row) for row in range(len(contents)) if row not in exact)
    return Duplicates(
        exact=exact,
        near=_final(near),
        cluster=[clusters.first(row) for row in range(len(contents))],
        sizes=sorted((size for size in sizes.values() if size > 1), reverse=True),
    )


def _final(near: dict[int, int]) -> dict[int, int]:
    """Point every copy at a row that stays to the end (a later round may take one away)."""

    def last(row: int) -> int:
        while row in near:
            row = near[row]
        return row

    return {row: last(kept) for row, kept in near.items()}
