"""Tokens: exact where a tokenizer is on this machine, else with a band, never from a network.

Here: exact counts of many texts, in which what words of earlier texts cost is not counted again.
Other names are imported when they are used first: a server that starts counts nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from finetuning.errors import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]
    Places = NDArray[np.int64]

    from finetuning.tokens.counting import counter_for
    from finetuning.tokens.examples import (
        TokenCounter,
        TokenStats,
        TokenTally,
        count_examples,
        example_texts,
        frame_tokens,
        overhead_tokens,
        read_texts,
    )
else:
    __getattr__ = lazy(
        __name__,
        counting="counter_for",
        examples="TokenCounter TokenStats TokenTally count_examples example_texts "
        "frame_tokens overhead_tokens read_texts",
    )

__all__ = [
    "TextCounts",
    "TokenCounter",
    "TokenStats",
    "TokenTally",
    "count_examples",
    "counter_for",
    "example_texts",
    "frame_tokens",
    "overhead_tokens",
    "read_texts",
]

_PIECE_CHARACTERS: Final = 1_000_000
"""Longer texts are counted in pieces: no regular expression meets an unbounded run."""

_BATCH, _BATCH_CHARACTERS = 512, 300_000
"""Most texts that are cut into words at once, and most characters of several."""

_FEWEST_CHARACTERS, _UNLOADED_CHARACTERS = 2_000, 400_000
"""Less is counted whole; so is as much as the second where numpy is not loaded yet."""

_LONGEST_PAUSE, _TEXT, _STOP, _PAD = 64, b"\xff", b"\xfe", bytes(40)
"""Most batches counted whole in a row where words do not come again; bytes that no text in UTF-8
holds, before a text and after it; and what is read beyond."""

_NO_WORD, _ODD, _PROBES = 2**64 - 1, 0x9E3779B97F4A7C15, 4
_TABLES: Final = ((1, 17), (2, 17), (4, 15))
"""Tables of known words: numbers of eight bytes that the longest takes, and bits of a place."""


class _Known:
    """Tokens of words met before, by their bytes; where places are rare, words push others out.

    A word is a few numbers of eight bytes; what lies beyond its end is 0, which no word holds.
    """

    def __init__(self, eights: int, bits: int) -> None:
        """Make room for words of up to so many numbers."""
        import numpy as np

        self.eights, self._last = eights, (1 << bits) - 1
        self._shift, self._odd = np.uint64(64 - bits), np.uint64(_ODD)
        self._claims = np.zeros(1 << bits, dtype=np.int32)
        self._words = np.full((eights, 1 << bits), _NO_WORD, dtype=np.uint64)
        self._tokens = np.zeros(1 << bits, dtype=np.uint8)

    def _places(self, words: Numbers) -> Places:
        mixed = words[0] * self._odd
        for more in words[1:]:
            mixed = ((mixed ^ (mixed >> self._shift)) + more) * self._odd
        places: Places = (mixed >> self._shift).astype("int64")
        return places

    def _stand_at(self, places: Places, words: Numbers) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self._words[0][places] == words[0]
        for known, more in zip(self._words[1:], words[1:], strict=True):
            same &= known[places] == more
        return same

    def find(self, words: Numbers) -> tuple[NDArray[np.uint8], Places]:
        """Return the tokens of words, and which words are not known."""
        import numpy as np

        places = self._places(words)
        tokens = self._tokens[places]
        left = np.flatnonzero(~self._stand_at(places, words))
        places = places[left]
        for _ in range(_PROBES - 1):
            places = (places + 1) & self._last
            same = self._stand_at(places, words[:, left])
            tokens[left[same]] = self._tokens[places[same]]
            left, places = left[~same], places[~same]
        return tokens, left

    def learn(self, words: Numbers, tokens: Places) -> None:
        """Keep words, each of which is given once."""
        import numpy as np

        places = self._places(words)
        for probe in range(_PROBES):
            free = (self._words[0][places] == _NO_WORD) | (probe == _PROBES - 1)
            own = np.arange(len(places), dtype=np.int32)
            self._claims[places] = own
            chosen = free & (self._claims[places] == own)  # one of those that meet at a place
            self._words[:, places[chosen]] = words[:, chosen]
            self._tokens[places[chosen]] = tokens[chosen]
            words, tokens = words[:, ~chosen], tokens[~chosen]
            places = (places[~chosen] + 1) & self._last


@functools.cache
def _white() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return by byte what it says as the last one of a sign, and as the one before that.

    0: it is no white space; 1: it is, if the byte before it can be in white space; 2: it may be.
    """
    import numpy as np

    spaces = [chr(code).encode() for code in range(0x80, 0x3001) if chr(code).isspace()]
    last, before = np.zeros(256, dtype=np.uint8), np.zeros(256, dtype=np.bool_)
    last[:0x21] = last[0x7F] = 2
    last[[sign[-1] for sign in spaces]] = 1
    before[[sign[-2] for sign in spaces]] = True
    return last, before


class _Cut:
    """The words of some texts: each begins at a space behind a sign, or where its text begins.

    Both pre-tokenizers end a piece at a space behind any sign that is no white space, whatever
    follows, and tokens never cross pieces: so the tokens of a text are those of its words, each
    with the space before it. Further white space belongs to the word after it.

    ``data`` holds all texts; words begin at ``starts``, behind their space, or with a mark where
    a text begins, and have ``sizes`` bytes; ``firsts`` says which word is the first of each text.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        """Find the words."""
        import numpy as np

        parts = [part for text in texts for part in (_STOP, _TEXT, text)]
        self.data = b"".join((*parts, _STOP, _PAD))
        signs = np.frombuffer(self.data, dtype=np.uint8)
        counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts + 2)])
        spaces = signs == ord(" ")
        spaces[edges] = True
        places = np.flatnonzero(spaces)
        last, before = _white()
        white = last[signs[places - 1]]
        if white.any():
            white[white == 1] = before[signs[places[white == 1] - 2]]
            white[np.searchsorted(places, edges)] = 0
            places = places[white == 0]
        self.starts = places[:-1] + 1
        self.sizes = places[1:] - self.starts
        self.firsts = np.searchsorted(places, edges[:-1])

    def words(self, which: Places, eights: int) -> Numbers:
        """Return some words as so many numbers each."""
        import numpy as np

        numbers = np.ndarray(len(self.data) - 7, dtype="<u8", buffer=self.data, strides=(1,))
        kept = np.array([256**count - 1 for count in range(9)], dtype=np.uint64)
        starts, sizes = self.starts[which], self.sizes[which]
        found = np.empty((eights, len(which)), dtype=np.uint64)
        for at, column in enumerate(found):
            column[:] = numbers[starts + 8 * at] & kept[np.clip(sizes - 8 * at, 0, 8)]
        return found


class TextCounts:
    """Counts texts as a whole, and many texts by their words; the counts are the same."""

    def __init__(
        self, encode: Callable[[str], list[int]], sizes: bytes, *, learns: bool = False
    ) -> None:
        """Take the tokenizer's function for one text, and the bytes of each token.

        ``learns`` cuts texts into words from the first one on.
        """
        self._encode, self._sizes, self._known = encode, sizes, list[_Known]()
        self._fewest, self._left = (0, 0) if learns else (_FEWEST_CHARACTERS, _UNLOADED_CHARACTERS)
        self._pause = self._paused = 0

    def _whole(self, text: str) -> int:
        starts = range(0, len(text), _PIECE_CHARACTERS)
        return sum(len(self._encode(text[at : at + _PIECE_CHARACTERS])) for at in starts)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        starts = range(0, len(texts), _BATCH)
        return [count for at in starts for count in self._batch(texts[at : at + _BATCH])]

    def _batch(self, texts: Sequence[str]) -> list[int]:
        size, middle = sum(map(len, texts)), len(texts) // 2
        if middle and size > _BATCH_CHARACTERS:
            return self._batch(texts[:middle]) + self._batch(texts[middle:])
        counted = self._by_words(texts) if self._is_worth(size) else None
        return list(map(self._whole, texts)) if counted is None else counted

    def _is_worth(self, size: int) -> bool:
        if not self._fewest <= size <= _PIECE_CHARACTERS:
            return False
        if self._left > 0 and "numpy" not in sys.modules:
            self._left -= size
            return False
        self._paused -= 1
        return self._paused < 0

    def _by_words(self, texts: Sequence[str]) -> list[int] | None:
        """Count by words; None where a text holds what has no UTF-8 form, or zeros."""
        import numpy as np

        try:
            cut = _Cut([text.encode() for text in texts])
        except UnicodeEncodeError:
            return None
        if cut.data.find(0, 0, -len(_PAD)) >= 0:
            return None
        self._known = self._known or [_Known(*table) for table in _TABLES]
        tokens = np.zeros(len(cut.sizes), dtype=np.int64)
        new = [np.flatnonzero(cut.sizes > 8 * _TABLES[-1][0])]
        for known, which in self._by_size(cut.sizes):
            tokens[which], left = known.find(cut.words(which, known.eights))
            new.append(which[left])
        if any(map(len, new)):
            self._learn(cut, np.concatenate(new), tokens)
        counts: list[int] = np.add.reduceat(tokens, cut.firsts).tolist()
        return counts

    def _by_size(self, sizes: Places) -> Iterator[tuple[_Known, Places]]:
        """Yield the tables of known words, each with the words that fit no smaller one."""
        import numpy as np

        fewest = -1
        for known in self._known:
            yield known, np.flatnonzero((sizes > fewest) & (sizes <= 8 * known.eights))
            fewest = 8 * known.eights

    def _learn(self, cut: _Cut, new: Places, tokens: Places) -> None:
        """Count the words that are new, and keep them."""
        starts = cut.starts[new]
        spans = zip(starts.tolist(), (starts + cut.sizes[new]).tolist(), strict=True)
        words = [cut.data[start:end] for start, end in spans]
        first = {word: at for at, word in enumerate(words)}
        counts = dict(zip(first, self._count_words(list(first)), strict=True))
        tokens[new] = [counts[word] for word in words]
        once = new[list(first.values())]
        for known, which in self._by_size(cut.sizes[once]):
            known.learn(cut.words(once[which], known.eights), tokens[once[which]])
        if 2 * int(cut.sizes[once].sum()) < len(cut.data):
            self._pause = 0
        else:  # words that do not come again
            self._pause = min(2 * self._pause + 1, _LONGEST_PAUSE)
            self._paused = self._pause

    def _count_words(self, words: Sequence[bytes]) -> list[int]:
        """Count words, most of them in one text: what each has there it has everywhere."""
        import numpy as np

        texts = [
            word[1:].decode() if word.startswith(_TEXT) else f" {word.decode()}" for word in words
        ]
        joins = [text.startswith(" ") and not text[-1].isspace() for text in texts]
        together = [text for text, joined in zip(texts, joins, strict=True) if joined]
        found = np.frombuffer(self._sizes, dtype=np.uint8)[self._encode("".join(together))]
        ends = np.cumsum(found, dtype=np.int64)
        sizes = [len(word) + 1 for word, joined in zip(words, joins, strict=True) if joined]
        edges = np.searchsorted(ends, np.cumsum(sizes), side="right")
        counted = iter(np.diff(edges, prepend=0).tolist())
        return [
            next(counted) if joined else len(self._encode(text))
            for text, joined in zip(texts, joins, strict=True)
        ]
