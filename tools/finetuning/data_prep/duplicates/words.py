"""Texts as arrays of word hashes; many texts squeezed at once."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep.duplicates import in_threads
from finetuning.data_prep.examples import Content, content_of_texts, squeeze

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates import Flags, Hashes, Long, Places

LONGEST_WORD_BYTES: Final = 64
"""Words up to here are hashed many at once, eight bytes after eight; longer ones singly."""

_CHATS: Final = 128
_BLOCK_BYTES: Final = 1 << 19
_BLOCK_WORDS: Final = 1 << 17
_THREADED_BLOCKS: Final = 32
_MARKS: Final = (b" \xf8 ", b" \xf9 ", b" \xfa ")
"""Bytes that no text in UTF-8 holds: before the prompt, before the answer, after it."""

_FIRST_MARK: Final = 0xF8
_SPACE: Final = 32
_ODD: Final = 0x9E3779B97F4A7C15
ANSWER_FLIP: Final = 0x8FEB8665
"""Words of an answer are hashed apart from those of a prompt by these bits."""

_SINGLE: Final = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x19FF), (0x2E80, 0x2FDF),
    (0x3005, 0x3007), (0x3021, 0x303B), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)  # fmt: skip
"""Thai, Lao, Burmese, Khmer, Han and Kana: no space between words, so characters count.

Source: Unicode 17, Blocks.txt (checked 2026-11-20)."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of all rows, one after the other.

    Attributes:
        hashes: Word hashes; each row is mark, prompt, mark, answer, mark.
        starts: Where each row starts; one more entry ends the last row.
        middles: Where the answer of each row starts (its mark).
    """

    hashes: Hashes
    starts: Places
    middles: Places

    @classmethod
    def of(cls, hashes: Hashes, lengths: Places, asked: Places) -> Words:
        """Return words of rows.

        Args:
            hashes: Of all rows.
            lengths: Words of each row, its three marks included.
            asked: Words of each row before the mark of its answer, the first mark included.
        """
        import numpy as np

        starts = np.concatenate([np.zeros(1, np.int64), lengths]).cumsum()
        # from another process: a type that is equal, but on which numpy takes its slow ways
        return cls(hashes.view(np.uint32), starts, starts[:-1] + asked)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def marks(self) -> Places:
        """Return the places of the marks, three per row, in order."""
        import numpy as np

        return np.stack([self.starts[:-1], self.middles, self.starts[1:] - 1], axis=1).ravel()

    def take(self, rows: Places) -> Words:
        """Return the words of some rows, in that order."""
        import numpy as np

        breaks = np.flatnonzero(rows[1:] != rows[:-1] + 1) + 1
        first = rows[np.concatenate([breaks[:0], np.zeros(min(1, len(rows)), np.int64), breaks])]
        last = rows[np.concatenate([breaks - 1, np.arange(len(rows))[-1:]])]
        cuts = zip(self.starts[first].tolist(), self.starts[last + 1].tolist(), strict=True)
        hashes = np.concatenate([self.hashes[:0], *(self.hashes[a:b] for a, b in cuts)])
        lengths = np.diff(self.starts)[rows]
        return Words.of(hashes, lengths, (self.middles - self.starts[:-1])[rows])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Cut the rows into blocks that stay in the processor's cache (first, end)."""
        first = 0
        while first < len(self):
            goal = int(self.starts[first]) + _BLOCK_WORDS
            end = min(max(first + 1, int(self.starts.searchsorted(goal)) - 1), len(self))
            yield first, end
            first = end


@functools.cache
def _ascii_fold() -> bytes:
    """Return a table: small letters for capital ones, a space for what is in no word."""
    table = bytearray(range(256))
    for code in range(128):
        worded = chr(code).isalnum() or chr(code) == "_"
        table[code] = ord(chr(code).lower()) if worded else _SPACE
    return bytes(table)


@functools.cache
def _fold_tables() -> tuple[Hashes, Flags, Flags]:
    """Return, by code point: the folded one, whether it is a word alone, whether it is known."""
    import numpy as np

    n_codes = 0x110000
    return (
        np.zeros(n_codes, dtype=np.uint32), np.zeros(n_codes, bool), np.zeros(n_codes, bool),
    )  # fmt: skip


def _learn(codes: Hashes) -> None:
    """Fill the tables for code points that were not met before."""
    folded, single, known = _fold_tables()
    for code in codes.tolist():
        small = chr(code).lower()[0]
        category = unicodedata.category(small)
        worded = category[0] in "LMN" or category == "Pc"
        folded[code] = ord(small) if worded else _SPACE
        single[code] = worded and any(low <= code <= high for low, high in _SINGLE)
        known[code] = True


def _fold(texts: Sequence[str]) -> list[bytes]:
    """Return texts in small letters, words apart by spaces, in UTF-8."""
    import numpy as np

    coded = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(coded, dtype=np.uint32)
    folded, single, known = _fold_tables()
    fresh = codes[~known[codes]]
    if len(fresh):
        _learn(np.unique(fresh))
    alone = single[codes]
    widths = np.where(alone, 3, 1)
    out = np.repeat(folded[codes], widths)
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])
    out[places[:-1][alone]] = _SPACE
    out[places[1:][alone] - 1] = _SPACE
    edges = places[np.cumsum([0, *map(len, texts)])].tolist()
    whole = out.tobytes().decode("utf-32-le")
    return [whole[a:b].encode() for a, b in itertools.pairwise(edges)]


def _encoded(texts: Sequence[str]) -> list[bytes]:
    """Return texts as bytes in which words are told by ASCII rules alone."""
    other = [place for place, text in enumerate(texts) if not text.isascii()]
    if not other:
        return [text.encode() for text in texts]
    made = [text.encode() if text.isascii() else b"" for text in texts]
    for place, folded in zip(other, _fold([texts[place] for place in other]), strict=True):
        made[place] = folded
    return made


def _word_hashes(text: bytes) -> tuple[Hashes, Places]:
    """Return the hash of each word of a text, and the places of the marks among the words."""
    import numpy as np

    padded = np.frombuffer(text.translate(_ascii_fold()) + b" " * 16, dtype=np.uint8)
    folded = padded[: len(text)]
    inside = folded != _SPACE
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, lengths = edges[0::2], edges[1::2] - edges[0::2]
    hashes = _hash_spans(padded, starts, lengths)
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(_ODD)
    return (hashes >> np.uint64(32)).astype(np.uint32), np.flatnonzero(
        folded[starts] >= _FIRST_MARK
    )


def _hash_spans(text: NDArray[np.uint8], starts: Places, lengths: Places) -> Long:
    """Return a hash of each span of bytes, eight bytes of all spans at a time."""
    import numpy as np
    import xxhash

    eights = np.ndarray(len(text) - 7, dtype="<u8", buffer=text, strides=(1,))
    kept = np.array([256**count - 1 for count in range(9)], dtype=np.uint64)
    hashes = lengths.astype(np.uint64)
    live: Any = slice(None)
    places, left = starts, lengths
    while len(places):
        chunk = eights[places]
        chunk &= kept[np.minimum(left, 8)]
        mixed = (hashes[live] ^ chunk) * np.uint64(_ODD)
        hashes[live] = mixed ^ (mixed >> np.uint64(29))
        more = np.flatnonzero((left > 8) & (left <= LONGEST_WORD_BYTES))
        live = more if isinstance(live, slice) else live[more]
        places, left = places[more] + 8, left[more] - 8
    for number in np.flatnonzero(lengths > LONGEST_WORD_BYTES).tolist():
        word = text[starts[number] : starts[number] + lengths[number]]
        hashes[number] = xxhash.xxh3_64_intdigest(word.tobytes())
    return hashes


def _block(prompts: Sequence[str], answers: Sequence[str]) -> tuple[Hashes, Places, Places]:
    """Return the words of some rows with their marks, each row's length, and its answer's place."""
    import numpy as np

    before, middle, after = _MARKS
    parts: list[bytes] = []
    for prompt, answer in zip(_encoded(prompts), _encoded(answers), strict=True):
        parts += (before, prompt, middle, answer, after)
    hashes, marks = _word_hashes(b"".join(parts))
    first, second, last = marks.reshape(-1, 3).T
    lengths = last + 1 - first
    flips = np.tile(np.array([0, ANSWER_FLIP], dtype=np.uint32), len(first))
    sizes = np.stack([second - first, last + 1 - second], axis=1).ravel()
    hashes ^= np.repeat(flips, sizes)
    return hashes, lengths, second - first


def _text_blocks(
    prompts: Sequence[str], answers: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    first = size = 0
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        size += len(prompt) + len(answer) + 9
        if size >= _BLOCK_BYTES or row == len(prompts):
            yield prompts[first:row], answers[first:row]
            first, size = row, 0


def read_words(prompts: Sequence[str], answers: Sequence[str]) -> Words:
    """Return the words of rows."""
    import numpy as np

    _ascii_fold()  # made once here, not in two threads at a time
    _fold_tables()
    jobs = list(_text_blocks(prompts, answers))
    if len(jobs) < _THREADED_BLOCKS:  # a block of a worker process, which has one core
        parts = [_block(*job) for job in jobs]
    else:
        parts = in_threads(_block, jobs)
    none = np.empty(0, np.int64)
    hashes = np.concatenate([none.astype(np.uint32), *(part[0] for part in parts)])
    lengths = np.concatenate([none, *(part[1] for part in parts)])
    return Words.of(hashes, lengths, np.concatenate([none, *(part[2] for part in parts)]))


def _squeezed(texts: Sequence[str]) -> list[str]:
    """Return what :func:`squeeze` makes of texts, in one pass where they are ASCII."""
    import numpy as np

    plain = [text if text.isascii() else "" for text in texts]
    codes = np.frombuffer(bytearray(" ".join(["", *plain, ""]).encode()), dtype=np.uint8)
    codes[np.flatnonzero((codes - np.uint8(9) < 5) | (codes - np.uint8(28) < 4))] = _SPACE
    white, spaced = codes == _SPACE, codes.tobytes()
    again = np.flatnonzero(white[1:] & white[:-1]) + 1
    cuts = zip([0, *(again + 1).tolist()], [*again.tolist(), len(codes)], strict=True)
    whole = b"".join([spaced[start:stop] for start, stop in cuts]).decode()
    ends = np.cumsum(np.fromiter(map(len, ["", *plain]), np.int64, len(plain) + 1) + 1)
    starts = (ends - np.searchsorted(again, ends)).tolist()
    return [
        whole[start:stop].strip(" ") if text or not other else squeeze(other)
        for start, stop, text, other in zip(starts, starts[1:], plain, texts, strict=False)
    ]


def contents_of_chats(chats: Sequence[Sequence[tuple[str, str]]]) -> list[Content]:
    """Return what chats of texts are compared by; call it for a block of many.

    Args:
        chats: Role and text of each turn of each.
    """
    made: list[Content] = []
    for start in range(0, len(chats), _CHATS):
        some = chats[start : start + _CHATS]
        spelt = iter(_squeezed([text for turns in some for _, text in turns]))
        made += [content_of_texts(turns, spelt=spelt) for turns in some]
    return made
