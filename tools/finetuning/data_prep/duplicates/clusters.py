"""Clusters of twins, and which row of a cluster stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


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
