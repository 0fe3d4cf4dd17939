"""Duplicates: exact and near copies found, verified and clustered.

Here: work on columns of numbers (in threads, in blocks, as sets, as joined clusters), and the rows
that repeat rows of another set, of train or of files to keep out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import lazy
from finetuning.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates.finding import Duplicates, find_duplicates
    from finetuning.data_prep.duplicates.rows import Rows
    from finetuning.data_prep.duplicates.twins import Search, leakage_of, measure_leakage
    from finetuning.data_prep.duplicates.words import Words
    from finetuning.data_prep.examples import Content

    Hashes = NDArray[np.uint32]
    Places = NDArray[np.int64]
    Pairs = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    Long = NDArray[np.uint64]
else:
    _HOMES = {
        "finding": "Duplicates find_duplicates",
        "rows": "Rows",
        "twins": "Search leakage_of measure_leakage",
    }
    __getattr__ = lazy(__name__, **_HOMES)

__all__ = [
    "LONG_RUN_WORDS",
    "Duplicates",
    "Rows",
    "Search",
    "components",
    "find_duplicates",
    "leakage_of",
    "measure_leakage",
    "overlapping",
    "write_signatures",
]

_BLOCK_VALUES: Final = 1 << 14

PADDING: Final = 2**32 - 1
"""Fills the lines of a table of sets; no value is as high."""

_ODD: Final = 0x9E3779B97F4A7C15
LONG_RUN_WORDS: Final = 13
"""A shared run of so many words counts as contamination, the usual length of such checks."""


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

    from finetuning.data_prep.duplicates.rows import Rows, as_rows, many_rows
    from finetuning.data_prep.duplicates.twins import Search

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


def write_signatures(path: Path, rows: Rows, places: Sequence[tuple[str, int]]) -> None:
    """Write the MinHash signature and band keys of every row, so that any engine can cluster.

    Args:
        path: Of the Parquet file.
        rows: The rows.
        places: Source and line of each.
    """
    import numpy as np
    import polars as pl

    from finetuning.data_prep.duplicates.candidates import band_keys, n_bands, sign
    from finetuning.data_prep.duplicates.rows import Template

    template = Template(rows.words, np.empty(0, dtype=np.int64))
    signatures = sign(rows.words, template.constant)
    bands = [band_keys(signatures, rows.key, band) for band in range(n_bands(len(rows)))]
    columns = {
        "source": [source for source, _ in places],
        "line": [line for _, line in places],
        "signature": pl.Series(signatures.tolist(), dtype=pl.List(pl.UInt32)),
        "bands": pl.Series(np.stack(bands, axis=1).tolist(), dtype=pl.List(pl.UInt64)),
    }
    with atomic_write(path, binary=True) as stream:
        pl.DataFrame(columns).write_parquet(stream)
