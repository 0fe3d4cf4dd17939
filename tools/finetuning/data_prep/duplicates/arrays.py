"""Work on columns of numbers: in threads, in blocks, as sets, as joined clusters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint32]
    Places = NDArray[np.int64]
    Pairs = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    Long = NDArray[np.uint64]

_BLOCK_VALUES: Final = 1 << 14

PADDING: Final = 2**32 - 1
"""Fills the lines of a table of sets; no value is as high."""


def in_threads(work: Callable[..., Any], parts: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return what ``work`` makes of every part, in order; numpy lets two threads run at once."""
    from concurrent.futures import ThreadPoolExecutor

    jobs = list(parts)
    n_threads = min(len(jobs), os.cpu_count() or 1)
    if n_threads < 2:
        return [work(*part) for part in jobs]
    with ThreadPoolExecutor(n_threads) as pool:
        return [done.result() for done in [pool.submit(work, *part) for part in jobs]]


def spans(starts: Places, lengths: Places) -> Places:
    """Return the places of runs of ``lengths`` that begin at ``starts``, one after the other."""
    import numpy as np

    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)


def distinct(values: Places) -> Places:
    """Return each value once, in order."""
    import numpy as np

    ordered = np.sort(values)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    once: Places = ordered[fresh]
    return once


def without(rows: Places, gone: Places, n_rows: int) -> Places:
    """Return rows but for some; ``n_rows`` is how many there are in all."""
    import numpy as np

    stays = np.ones(n_rows, dtype=bool)
    stays[gone] = False
    left: Places = rows[stays[rows]]
    return left


def positions(ordered: Places, values: Places, *, after: bool = False) -> Places:
    """Return where values belong in ordered ones: before equals, or after them."""
    import numpy as np

    found: Any = np.searchsorted(ordered, values, side="right" if after else "left")
    return cast("Places", found)


def sorted_sets(values: Hashes, counts: Places) -> Hashes:
    """Return runs of values as the lines of a table: in order, each value once, rest padding.

    Short lines sort several times faster than one long array of the same values.

    Args:
        values: All runs, one after the other.
        counts: How long each is.
    """
    import numpy as np

    table = np.full((len(counts), int(counts.max(initial=0))), PADDING, dtype=np.uint32)
    table[np.arange(table.shape[1]) < counts[:, None]] = np.minimum(values, PADDING - 1)
    table.sort(axis=1)
    table[:, 1:][table[:, 1:] == table[:, :-1]] = PADDING
    return table


def alike_blocks(sizes: Places) -> Iterator[Places]:
    """Cut lines into blocks of lines of similar size that stay in the processor's cache."""
    import numpy as np

    order = np.argsort(sizes, kind="stable")
    first, ends = 0, np.cumsum(sizes[order])
    while first < len(order):
        goal = (int(ends[first - 1]) if first else 0) + _BLOCK_VALUES
        end = max(first + 1, int(ends.searchsorted(goal)))
        yield order[first:end]
        first = end


def mix_pairs(one: Hashes, two: Hashes) -> Hashes:
    """Return a hash of each word of ``one`` with that of ``two``, well mixed in all its bits."""
    import numpy as np

    mixed = one * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed += two
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def pair_hashes(hashes: Hashes) -> Hashes:
    """Return a hash of each word with the next one."""
    return mix_pairs(hashes[:-1], hashes[1:])


def components(n_rows: int, pairs: Pairs) -> Places:
    """Return per row the first row that it is joined to by pairs, directly or through others."""
    import numpy as np

    first = np.arange(n_rows)
    one, two = pairs[:, 0], pairs[:, 1]
    while True:
        low, high = np.minimum(first[one], first[two]), np.maximum(first[one], first[two])
        open_ = low != high
        if not open_.any():
            return first
        one, two = one[open_], two[open_]
        np.minimum.at(first, high[open_], low[open_])
        while not np.array_equal(shorter := first[first], first):
            first = shorter


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
