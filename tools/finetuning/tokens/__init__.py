"""Tokens: exact where a tokenizer is on this machine, else with a band, never from a network.

Here: exact counts of many texts, in which what words of earlier texts cost is not counted again.
Other names are imported when they are used first: a server that starts counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from finetuning.errors import lazy

if TYPE_CHECKING:
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

_WORD_CHARACTERS: Final = 40
_MOST_WORDS: Final = 100_000
"""Longest word that is kept, and how many: at most about 12 MB."""


class _Words(dict[str, float]):
    """Tokens of words met before; a word is what stands between two single spaces.

    Both pre-tokenizers begin a new piece at a space between two signs that are no white space,
    whatever stands before it, and tokens never cross pieces: so the tokens of a text are those
    of its words, each with the space before it. Where white space runs are longer, this does
    not hold; such words count as not-a-number, and their text is counted as a whole.
    """

    def __init__(self, count: Callable[[str], int], space: str) -> None:
        super().__init__()
        self._count = count
        self._space = space
        self.met = 0

    def __missing__(self, word: str) -> float:
        """Count a word that was not met yet; only short ones are kept."""
        if not word or word[-1].isspace() or (self._space and word[0].isspace()):
            return math.nan
        self.met += 1
        found = self._count(self._space + word)
        if len(word) <= _WORD_CHARACTERS:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = found
        return found


_BATCH, _LONG, _HOARD, _REST, _GAIN, _WORD = 64, 200_000, 10_000.0, 0.012, 0.09, 4.5
"""Texts and most characters of a batch; microseconds that learning words may cost; per character,
what whole texts set aside for it and what known words gain; what a new word costs (one core of a
server, measured 2026-11-20)."""


class TextCounts:
    """Counts texts as a whole, and many texts by their words; the counts are the same.

    Learning words costs more than it gains at first. So the first 800,000 characters are counted
    as whole texts, and again, for twice as long each time, where words do not come again.
    """

    def __init__(self, encode: Callable[[str], list[int]], *, learns: bool = False) -> None:
        """Take the tokenizer's function for one text; ``learns`` words from the first text on."""
        self._encode = encode
        self._first, self._others = _Words(self._whole, ""), _Words(self._whole, " ")
        self._saved, self._rest, self._learns = _HOARD if learns else 0.0, _REST, learns

    def _whole(self, text: str) -> int:
        starts = range(0, len(text), _PIECE_CHARACTERS)
        return sum(len(self._encode(text[at : at + _PIECE_CHARACTERS])) for at in starts)

    def _by_words(self, text: str) -> int:
        start, space, rest = text.partition(" ")
        found = self._first[start]
        if space:
            found += sum(map(self._others.__getitem__, rest.split(" ")))
        if math.isnan(found):
            self._saved -= 2 * len(text) * _GAIN
            return self._whole(text)
        return int(found)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        found: list[int] = []
        for at in range(0, len(texts), _BATCH):
            part = texts[at : at + _BATCH]
            size = sum(map(len, part))
            if not self._learns or size > _LONG:
                many = size > _LONG
                found += map(self._whole, part) if many else map(len, map(self._encode, part))
                self._saved = min(self._saved + size * self._rest, _HOARD)
                self._learns = self._learns or self._saved >= _HOARD
                continue
            met = self._first.met + self._others.met
            found += map(self._by_words, part)
            new = self._first.met + self._others.met - met
            self._saved = min(self._saved + size * _GAIN - new * _WORD, _HOARD)
            if self._saved < 0:
                self._saved, self._rest, self._learns = 0.0, self._rest / 2, False
        return found
