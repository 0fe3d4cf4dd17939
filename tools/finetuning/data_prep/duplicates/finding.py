"""Which rows are copies of which, which of them stay, and which belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from finetuning.data_prep.duplicates.candidates import SemanticJudge, semantic_twins
from finetuning.data_prep.duplicates.twins import find_twins
from finetuning.data_prep.duplicates.words import many_rows, read_words
from finetuning.data_prep.examples import Content
from finetuning.data_prep.results import Engine

_ROUNDS: Final = 4
"""Removing rows can make text constant no longer, or only then; twins are sought again so often."""


class Judge(Protocol):
    """Says whether two rows are twins."""

    def twins(self, one: int, two: int) -> bool:
        """Say whether two rows are twins."""
        ...


class Clusters:
    """Rows joined into clusters (union-find); a cluster is named by its first row."""

    def __init__(self, n_rows: int) -> None:
        """Start with every row alone."""
        self._parent = list(range(n_rows))

    def first(self, row: int) -> int:
        """Return the first row of a row's cluster."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, one: int, two: int) -> None:
        """Put two rows into one cluster."""
        one, two = self.first(one), self.first(two)
        self._parent[max(one, two)] = min(one, two)

    def join_all(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Put the rows of every pair into one cluster."""
        for one, two in pairs:
            self.join(one, two)

    def groups(self) -> list[list[int]]:
        """Return the clusters of more than one row, in the order of their first rows."""
        found: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            found.setdefault(self.first(row), []).append(row)
        return [rows for rows in found.values() if len(rows) > 1]


def copies(
    groups: Iterable[Sequence[int]], judge: Judge, rank: Sequence[tuple[float, ...]]
) -> dict[int, int]:
    """Return the rows that can go, each with the row that stays in its place.

    In each cluster the best row stays and takes away its own twins; what is left is judged
    again, so that a chain of small differences never removes a row without a twin that stays.

    Args:
        groups: Clusters of row numbers.
        judge: Compares two rows exactly.
        rank: Per row; the highest stays, the earliest among equals.
    """
    kept_for: dict[int, int] = {}
    for group in groups:
        left = sorted(group, key=lambda row: (tuple(-value for value in rank[row]), row))
        while left:
            best, *others = left
            gone = {row for row in others if judge.twins(best, row)}
            kept_for.update(dict.fromkeys(gone, best))
            left = [row for row in others if row not in gone]
    return kept_for


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


class _Search:
    """Rows that are left while copies are sought and, if wanted, taken away."""

    def __init__(
        self,
        contents: Sequence[Content],
        rank: Sequence[tuple[float, ...]],
        left: list[int],
        remove: bool,
    ) -> None:
        self.contents, self.rank, self.left, self.remove = contents, rank, left, remove
        self.gone: dict[int, int] = {}
        self.twins = Clusters(len(contents))

    def rest(self) -> list[Content]:
        """Return the contents of the rows that are left."""
        return [self.contents[row] for row in self.left]

    def take(self, pairs: Iterable[tuple[int, int]], judge: Judge) -> list[int]:
        """Join pairs of places among the rows left; return the places that stay."""
        groups = Clusters(len(self.left))
        for one, two in pairs:
            groups.join(one, two)
            self.twins.join(self.left[one], self.left[two])
        rank = [self.rank[row] for row in self.left]
        gone = copies(groups.groups(), judge, rank) if self.remove else {}
        self.gone |= {self.left[copy]: self.left[kept] for copy, kept in gone.items()}
        stay = [place for place in range(len(self.left)) if place not in gone]
        self.left = [self.left[place] for place in stay]
        return stay

    def near(self, threshold: float, engine: Engine) -> None:
        """Seek near copies until taking some away brings no new ones to light."""
        words = read_words(self.rest())
        for _ in range(_ROUNDS):
            pairs, judge = find_twins(self.rest(), words, threshold, engine=engine)
            stay = self.take(pairs, judge)
            before, words = words, words.of_rows(stay)
            if before.same_marks(stay, words):
                break

    def semantic(self) -> None:
        """Seek rows that mean the same in other words."""
        pairs = semantic_twins(self.rest())
        judge = SemanticJudge(self.rest(), pairs)
        self.take([pair for pair in pairs if judge.twins(*pair)], judge)


def find_duplicates(
    contents: Sequence[Content],
    *,
    threshold: float,
    rank: Sequence[tuple[float, ...]],
    near: bool = True,
    engine: Engine = "local",
    semantic: bool = False,
) -> Duplicates:
    """Find exact and near copies, and what belongs together.

    Args:
        contents: The rows.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
        rank: Per row, how much it is worth keeping; the highest of a cluster stays.
        near: Take near copies away; false only puts them into one cluster.
        engine: What groups the bands.
        semantic: Take away rows that mean the same in other words, too.

    Returns:
        Copies with the rows that stay for them, and clusters. Calling again with the rows
        that stay finds nothing more.

    Raises:
        MissingExtraError: The package of the engine or of the semantic search is missing.
        BadInputError: The encoder of the semantic search is not on this machine.
    """
    exact, left = exact_copies(contents, rank)
    search = _Search(contents, rank, left, near)
    search.near(threshold, engine)
    if semantic:
        search.remove = True
        search.semantic()
    clusters = Clusters(len(contents))
    clusters.join_all(exact.items())
    clusters.join_all((row, search.twins.first(row)) for row in range(len(contents)))
    clusters.join_all(same_question(contents, search.left))
    sizes = Counter(search.twins.first(row) for row in range(len(contents)) if row not in exact)
    return Duplicates(
        exact=exact,
        near=_final(search.gone),
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
