"""Rows as columns of numbers, and the text that many of them share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from finetuning.data_prep.duplicates import (
    PADDING,
    alike_blocks,
    distinct,
    in_threads,
    pair_hashes,
    positions,
    sorted_sets,
    spans,
)
from finetuning.data_prep.duplicates.words import Words, read_words
from finetuning.data_prep.examples import Content

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates import Flags, Hashes, Long, Places

RUN_WORDS: Final = 8
"""A run of this many words that many rows share is constant text: a template, a signature."""

_LOW: Final = 2**64 - 1
_RUN: Final = 0x01000193
_COUNTED_BLOCKS: Final = 32
_SAMPLED: Final = 25
"""Word pairs are counted in a sample of rows in which a common one occurs so often or more: a
run that just reaches the limit is then expected twice as often as is asked for."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What rows are compared by, as columns; it holds no text and can go to another process.

    Attributes:
        exact: Digest of the whole row in two halves, the high one first: shape (rows, 2).
        asked: Digest of the prompt.
        answered: Digest of the answer: of its label, JSON or call, else of its words.
        key: Digest of an answer that is a label, JSON or a call; 0 for prose.
        family: Rows of one family (not 0) are never twins.
        words: Their words.
    """

    exact: Long
    asked: Long
    answered: Long
    key: Long
    family: Places
    words: Words

    @classmethod
    def of(cls, contents: Sequence[Content]) -> Rows:
        """Return the columns of some rows; call it once per block of 1,000 rows or more."""
        import numpy as np

        def column(values: Iterable[int]) -> Long:
            return np.array([value & _LOW for value in values], dtype=np.uint64)

        high = column(content.exact >> 64 for content in contents)
        return cls(
            exact=np.stack([high, column(content.exact for content in contents)], axis=1),
            asked=column(content.asked for content in contents),
            answered=column(content.answered for content in contents),
            key=column(content.key for content in contents),
            family=np.array([content.family for content in contents], dtype=np.int64),
            words=read_words([c.prompt for c in contents], [c.answer for c in contents]),
        )

    @classmethod
    def join(cls, blocks: Iterable[Rows]) -> Rows:
        """Return the rows of all blocks, one after the other."""
        import numpy as np

        parts = list(blocks) or [cls.of([])]
        words = [part.words for part in parts]
        return cls(
            np.concatenate([part.exact for part in parts]),
            np.concatenate([part.asked for part in parts]),
            np.concatenate([part.answered for part in parts]),
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.family for part in parts]),
            Words.of(
                np.concatenate([part.hashes for part in words]),
                np.concatenate([np.diff(part.starts) for part in words]),
                np.concatenate([part.middles - part.starts[:-1] for part in words]),
            ),
        )

    def take(self, rows: Sequence[int] | Places) -> Rows:
        """Return some of the rows, in that order."""
        import numpy as np

        at = np.asarray(rows, dtype=np.int64)
        return Rows(
            self.exact[at], self.asked[at], self.answered[at], self.key[at], self.family[at],
            self.words.take(at),
        )  # fmt: skip

    def unlabelled(self) -> Rows:
        """Return the rows without what keeps some from being twins: labels and families."""
        return dataclasses.replace(self, key=self.key * 0, family=self.family * 0)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.asked)

    def names(self) -> list[int]:
        """Return the digests of the whole rows as numbers, as :attr:`Content.exact` has them."""
        halves = self.exact.astype(">u8").tobytes()
        return [int.from_bytes(halves[at : at + 16]) for at in range(0, len(halves), 16)]


def as_rows(rows: Rows | Sequence[Content]) -> Rows:
    """Return rows as columns, whichever way they come."""
    return rows if isinstance(rows, Rows) else Rows.of(rows)


def many_rows(n_rows: int) -> int:
    """Return how many rows must share a run of words before it counts as constant text.

    Ten, or the square root of the rows where that is more; in small files half of the rows,
    but at least five.
    """
    return min(max(10, math.isqrt(n_rows)), max(5, math.ceil(n_rows / 2)))


def _buckets(hashes: Hashes, bits: int) -> Places:
    import numpy as np

    return (hashes >> np.uint32(32 - bits)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of words in a block of rows.

    Attributes:
        first: First row of the block.
        end: The row after its last.
        starts: One bit per word of the block: a run starts there.
        buckets: Bucket of each run.
    """

    first: int
    end: int
    starts: NDArray[np.uint8]
    buckets: Hashes

    def places(self) -> Places:
        """Return the words of the block at which a run starts."""
        import numpy as np

        return np.flatnonzero(np.unpackbits(self.starts))


class Template:
    """Finds the text that many rows share, and keeps it up to date as rows go.

    Word pairs are counted first, in buckets; only runs whose pairs are all common are counted
    themselves, once per row.

    Attributes:
        words: The words of all rows, those that are gone included.
        n_rows: How many rows are left.
        constant: Words inside text that many of the rows left share, and the marks.
    """

    def __init__(self, words: Words, gone: Places) -> None:
        """Look for text that many of these rows share, but for those that are gone."""
        self.words = words
        self.n_rows = len(words)
        size = len(words.hashes).bit_length()
        self._pair_bits = min(20, max(12, size - 3))
        self._run_bits = min(22, max(18, size + 11))  # two runs hardly ever share a bucket
        self._begin(gone)

    def _leave(self, gone: Places) -> None:
        """Count the runs of some rows no longer."""
        left = self.words.take(gone)
        runs = in_threads(self._runs, ((left, *block) for block in left.blocks()))
        self._counts -= self._count(left, runs)
        self.n_rows -= len(gone)
        self._shared = self._counts >= many_rows(self.n_rows)

    def _begin(self, gone: Places) -> None:
        import numpy as np

        self.n_rows = len(self.words)
        self._fewest = (len(self.words) - len(gone)) // 4
        least = many_rows(self._fewest)  # so that it holds while so many rows are left
        step = max(1, least // _SAMPLED)
        sample = self.words.take(np.arange(0, len(self.words), step)) if step > 1 else self.words
        counts = np.zeros(1 << self._pair_bits, dtype=np.int64)
        for block in sample.blocks():
            counts += np.bincount(self._pairs(sample, *block), minlength=len(counts))
        self._common = counts >= least // step
        self._crowded = in_threads(
            self._runs, ((self.words, *block) for block in self.words.blocks())
        )
        self._counts = self._count(self.words, self._crowded)
        self._leave(gone)
        self._gone = gone
        self.constant = np.zeros(len(self.words.hashes), dtype=bool)
        self._flag(self.words, self._crowded, self.constant)

    def _pairs(self, words: Words, first: int, end: int) -> Places:
        span = slice(int(words.starts[first]), int(words.starts[end]))
        return _buckets(pair_hashes(words.hashes[span]), self._pair_bits)

    def _runs(self, words: Words, first: int, end: int) -> Runs:
        """Find the runs of a block whose pairs are all common."""
        import numpy as np

        part = self._common[self._pairs(words, first, end)]
        part[words.starts[first + 1 : end] - words.starts[first] - 1] = False  # from row to row
        for step in (1, 2, 3):  # 2, 4, then 7 pairs in a row
            part = part[:-step] & part[step:] if len(part) > step else part[:0]
        places = np.flatnonzero(part)
        runs = np.zeros(len(places), dtype=np.uint32)
        hashes = words.hashes[int(words.starts[first]) :]
        for offset in range(RUN_WORDS if len(places) else 0):
            runs = (runs ^ hashes[offset:][places]) * np.uint32(_RUN)
            runs ^= runs >> np.uint32(15)
        return Runs(first, end, np.packbits(part), runs >> np.uint32(32 - self._run_bits))

    def _count(self, words: Words, blocks: Sequence[Runs]) -> Places:
        """Return in how many rows the runs of each bucket occur."""
        import numpy as np

        counts = np.zeros(1 << self._run_bits, dtype=np.int64)

        def count(block: Runs) -> Places:
            starts = words.starts[block.first : block.end + 1] - words.starts[block.first]
            borders = positions(block.places(), starts)
            sizes = borders[1:] - borders[:-1]
            ends, found = np.cumsum(sizes), [np.empty(0, dtype=np.int64)]
            for lines in alike_blocks(sizes):
                part = block.buckets[spans((ends - sizes)[lines], sizes[lines])]
                table = sorted_sets(part, sizes[lines])
                found.append(table[table != PADDING].astype(np.int64))
            return np.concatenate(found)

        for at in range(0, len(blocks), _COUNTED_BLOCKS):
            found = in_threads(count, ((block,) for block in blocks[at : at + _COUNTED_BLOCKS]))
            counts += np.bincount(np.concatenate(found), minlength=len(counts))
        return counts

    def _flag(self, words: Words, blocks: Sequence[Runs], flags: Flags) -> None:
        """Flag the marks, and the words of every run that many rows share."""

        def flag(block: Runs) -> None:
            part = flags[int(words.starts[block.first]) : int(words.starts[block.end])]
            part[block.places()[self._shared[block.buckets]]] = True
            for step in (1, 2, 4):  # from the first word of each run to all eight
                part[step:] |= part[:-step].copy()

        in_threads(flag, ((block,) for block in blocks))
        flags[words.marks()] = True

    def without(self, gone: Places) -> Places:
        """Leave out some rows; return the rows in which other words are constant now."""
        import numpy as np

        before, shared = self.constant, self._shared
        self._gone = np.concatenate([self._gone, gone])
        if self.n_rows - len(gone) < self._fewest:
            self._begin(self._gone)
            changed = np.flatnonzero(before != self.constant)
            return distinct(positions(self.words.starts, changed, after=True) - 1)
        self._leave(gone)
        turned = shared != self._shared
        rows = self._rows_with(turned) if turned.any() else np.empty(0, dtype=np.int64)
        words = self.words.take(rows)
        flags = np.zeros(len(words.hashes), dtype=bool)
        runs = in_threads(self._runs, ((words, *block) for block in words.blocks()))
        self._flag(words, runs, flags)
        self.constant[spans(self.words.starts[rows], np.diff(words.starts))] = flags
        return rows

    def _rows_with(self, buckets: Flags) -> Places:
        """Return the rows that have a run of one of some buckets."""
        import numpy as np

        def find(block: Runs) -> Places:
            places = block.places()[buckets[block.buckets]] + self.words.starts[block.first]
            return distinct(positions(self.words.starts, places, after=True) - 1)

        found = in_threads(find, ((block,) for block in self._crowded))
        return np.concatenate([np.empty(0, dtype=np.int64), *found])
