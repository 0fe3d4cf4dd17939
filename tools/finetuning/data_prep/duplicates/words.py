"""Texts as arrays of word hashes, with the text that many rows share marked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from finetuning.data_prep.examples import Content

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_SCRIPTS: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD: Final = rf"[{_SCRIPTS}]|[\w&&[^{_SCRIPTS}]]+"
"""A word; one character in scripts that put no space between words."""

RUN_WORDS: Final = 8
"""A run of this many words that many rows share is constant text: a template, a signature."""

_BLOCK_ROWS: Final = 20_000
_ODD: Final = 0x9E3779B97F4A7C15
_ANSWER: Final = 0xD6E8FEB86659FD93
_MARKS: Final = (0x1B873593CC9E2D51, 0x85EBCA6BC2B2AE35, 0x27D4EB2F165667C5)


def many_rows(n_rows: int) -> int:
    """Return how many rows must share a run of words before it counts as constant text.

    Ten, or the square root of the rows where that is more; in small files half of the rows,
    but at least five.
    """
    return min(max(10, math.isqrt(n_rows)), max(5, math.ceil(n_rows / 2)))


@dataclass(frozen=True, slots=True)
class Words:
    """The words of all rows, one after the other.

    Attributes:
        hashes: Word hashes; each row is mark, prompt, mark, answer, mark.
        starts: Where each row starts; one more entry ends the last row.
        middles: Where the answer of each row starts (its mark).
        constant: Words inside text that many rows share, and the marks.
    """

    hashes: Hashes
    starts: Places
    middles: Places
    constant: Flags

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def has_constant_text(self, row: int) -> bool:
        """Say whether a row has word pairs that :meth:`shingles` leaves out."""
        flags = self.constant[self.starts[row] : self.starts[row + 1]]
        return bool((flags[:-1] & flags[1:]).any())

    def answer(self, row: int) -> frozenset[int]:
        """Return the word pairs of a row's answer; none for an empty one."""
        start, end = int(self.middles[row]), int(self.starts[row + 1])
        pairs = mix(self.hashes[start : end - 1], self.hashes[start + 1 : end])
        return frozenset(pairs.tolist()) if end - start > 2 else frozenset()

    def of_rows(self, rows: Sequence[int]) -> Words:
        """Return the words of some of the rows, constant text marked anew among these."""
        import numpy as np

        chosen = np.zeros(len(self), dtype=bool)
        chosen[list(rows)] = True
        lengths = np.diff(self.starts)
        asked = (self.middles - self.starts[:-1])[chosen]
        return _marked(self.hashes[np.repeat(chosen, lengths)], lengths[chosen], asked)

    def same_marks(self, rows: Sequence[int], others: Words) -> bool:
        """Say whether ``others``, the words of these rows, has the same words marked."""
        import numpy as np

        chosen = np.zeros(len(self), dtype=bool)
        chosen[list(rows)] = True
        marks = self.constant[np.repeat(chosen, np.diff(self.starts))]
        return bool(np.array_equal(marks, others.constant))

    def shingles(self, row: int, *, whole: bool = False) -> frozenset[int]:
        """Return the word pairs of a row, without those inside constant text.

        Args:
            row: Its number.
            whole: Take the constant text, too.
        """
        start, end = int(self.starts[row]), int(self.starts[row + 1])
        pairs = mix(self.hashes[start : end - 1], self.hashes[start + 1 : end])
        if not whole:
            inside = self.constant[start : end - 1] & self.constant[start + 1 : end]
            pairs = pairs[~inside]
        return frozenset(pairs.tolist())


def mix(one: Hashes, two: Hashes) -> Hashes:
    """Return a hash of each pair of neighbours."""
    import numpy as np

    mixed = (one * np.uint64(_ODD)) ^ two
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(_ODD)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _word_hashes(texts: Sequence[str]) -> tuple[Hashes, Places]:
    """Return the word hashes of texts, and how many each text has."""
    import numpy as np
    import polars as pl

    words = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_WORD)
    counts = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode().drop_nulls()
    return flat.hash(0).to_numpy().astype(np.uint64), counts


def _block(contents: Sequence[Content]) -> tuple[Hashes, Places, Places]:
    """Return the words of some rows with their marks, each row's length and its middle mark."""
    import numpy as np

    asked, n_asked = _word_hashes([content.prompt for content in contents])
    answered, n_answered = _word_hashes([content.answer for content in contents])
    lengths = n_asked + n_answered + 3
    starts = np.concatenate([[0], np.cumsum(lengths)])
    hashes = np.empty(int(starts[-1]), dtype=np.uint64)
    spoken = np.ones(len(hashes), dtype=bool)
    for mark, places in zip(
        _MARKS, (starts[:-1], starts[:-1] + n_asked + 1, starts[1:] - 1), strict=True
    ):
        hashes[places] = mark
        spoken[places] = False
    part = np.repeat(np.tile([False, True], len(contents)), _interleave(n_asked, n_answered))
    joined = np.empty(len(part), dtype=np.uint64)
    joined[~part] = asked
    joined[part] = answered ^ np.uint64(_ANSWER)
    hashes[spoken] = joined
    return hashes, lengths, n_asked + 1


def _interleave(one: Places, two: Places) -> Places:
    import numpy as np

    return np.stack([one, two], axis=1).ravel()


def run_hashes(hashes: Hashes, length: int) -> Hashes:
    """Return a hash of the run of ``length`` words that starts at each place."""
    import numpy as np

    count = len(hashes) - length + 1
    runs = np.zeros(max(count, 0), dtype=np.uint64)
    for offset in range(length if count > 0 else 0):
        runs *= np.uint64(_ODD)
        runs += hashes[offset : offset + count]
    runs ^= runs >> np.uint64(31)
    return runs


def _constant(hashes: Hashes, starts: Places, enough: int) -> Flags:
    """Mark the words of every run that at least ``enough`` rows share."""
    import numpy as np

    marks = np.isin(hashes, np.array(_MARKS, dtype=np.uint64))
    runs = run_hashes(hashes, RUN_WORDS)
    if not len(runs):
        return marks
    bits = np.uint64(64 - max(16, min(26, len(runs).bit_length() + 1)))
    buckets = ((runs * np.uint64(_ODD)) >> bits).astype(np.int64)
    often = np.bincount(buckets)[buckets] >= enough
    crowded = np.flatnonzero(often)
    often[crowded] = _shared(runs[crowded], crowded, starts, enough)
    covered = np.zeros(len(hashes) + 1, dtype=np.int64)
    covered[: len(often)] += often
    covered[RUN_WORDS : RUN_WORDS + len(often)] -= often
    return (np.cumsum(covered[:-1]) > 0) | marks


def _shared(runs: Hashes, places: Places, starts: Places, enough: int) -> Flags:
    """Say which runs really occur in ``enough`` different rows."""
    import numpy as np

    rows = np.searchsorted(starts, places, side="right")
    order = np.argsort(runs, kind="stable")  # places rise, so rows do within equal runs
    sorted_runs, sorted_rows = runs[order], rows[order]
    new_run = np.ones(len(order), dtype=bool)
    new_run[1:] = sorted_runs[1:] != sorted_runs[:-1]
    new_row = new_run.copy()
    new_row[1:] |= sorted_rows[1:] != sorted_rows[:-1]
    number = np.cumsum(new_run) - 1
    n_rows = np.bincount(number, weights=new_row)
    shared = np.empty(len(order), dtype=bool)
    shared[order] = n_rows[number] >= enough
    return shared


def blocks(contents: Sequence[Content]) -> Iterator[Sequence[Content]]:
    """Cut rows into blocks of a size that keeps memory flat."""
    for start in range(0, len(contents), _BLOCK_ROWS):
        yield contents[start : start + _BLOCK_ROWS]


def _marked(hashes: Hashes, lengths: Places, asked: Places) -> Words:
    import numpy as np

    starts = np.concatenate([np.zeros(1, np.int64), lengths]).cumsum()
    constant = _constant(hashes, starts, many_rows(len(lengths)))
    return Words(hashes, starts, starts[:-1] + asked, constant)


def read_words(contents: Sequence[Content]) -> Words:
    """Return the words of rows, with the text that many of them share marked."""
    import numpy as np

    parts = [_block(block) for block in blocks(contents)]
    none = np.empty(0, np.int64)
    hashes = np.concatenate([none.astype(np.uint64), *(part[0] for part in parts)])
    lengths = np.concatenate([none, *(part[1] for part in parts)])
    return _marked(hashes, lengths, np.concatenate([none, *(part[2] for part in parts)]))
