r"""What can be told of lines from their bytes: doubts by tables, proofs by regular expressions.

Rows of the common shapes are a regular language once it is known which quotes begin and end a
text. These are made line feeds first, and line feeds ``\x01``: a text then is what no line feed
interrupts. No object is made of such a row; what the expressions refuse is decoded. They are
linear, and refuse at any doubt.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.data_prep.validate.typed import FIRST_LETTERS, QUICK_CHATS, SPACES, STARTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Places = NDArray[np.intp]
    Mask = NDArray[np.bool_]


def _any_of(starts: Iterable[str]) -> bytes:
    return b"|".join(re.escape(start.encode()) for start in sorted(starts))


def _other_second() -> bytes:
    """Return the expression of a start whose second sign begins no refusal."""
    seconds = {start[0]: b"" for start in STARTS}
    for start in STARTS:
        seconds[start[0]] += re.escape((start[1] + start[1].upper()).encode())
    firsts = ((first + first.upper()).encode() for first in seconds)
    both = zip(firsts, seconds.values(), strict=True)
    return b"|".join(rb"[%s][^\n\\%s]" % pair for pair in both)


_BLANK: Final = _any_of(sign for sign in SPACES if sign > " ")
_REFUSED: Final = rb"(?i:%s|i\\)|%s" % (
    _any_of(STARTS),
    _any_of(sign for sign in FIRST_LETTERS if sign > "~"),
)
_SAID: Final = rb"(?>[^\n\\\x80-\xff ]| *+(?:(?!%s)[^\n\\ ]|\\\"))" % _BLANK
_ANSWER: Final = rb"(?>[^\n\\IiAaSsUu\x80-\xff ]|%s| *+(?:(?!%s)[^\n\\ ]|\\\"))" % (
    _other_second(),
    _REFUSED,
)
"""How a text may begin, after spaces: not blank, and an answer not like a refusal."""


def _text(start: bytes) -> bytes:
    return rb"\n%s.*+\n" % start


LEADS: Final = b"\\<[\xc2\xc3\xe2\xef\xf3"
"""Bytes that begin what may be a fault: escapes, control tokens, signs that nobody sees."""


@functools.cache
def triples() -> NDArray[np.bool_]:
    """Return, by lead and the two bytes after it, whether a line with them is in doubt."""
    import numpy as np

    table = np.zeros((len(LEADS), 256, 256), dtype=np.bool_)
    escape, angle, square, c2, c3, e2, ef, f3 = table
    for mark in b"bf":
        escape[mark] = True
    angle[ord("|")] = True
    for start in (b"st", b"en", b"bo", b"eo", b"pa", b"un"):  # start_of_turn, bos, pad …
        angle[start[0], start[1]] = True
    square[ord("I"), ord("N")] = square[ord("/"), ord("I")] = True
    c2[0x80:0xA0] = c2[0xAD] = True  # controls; soft hyphen
    for second in (0x82, 0x83):  # Â and Ã before what UTF-8 read as Latin-1 gives
        c3[second, [0xC2, 0xC5, 0xC6, 0xCB, 0xE2]] = True
    c3[0xA2, 0xE2] = c3[0xAF, 0xC2] = c3[0xB0, 0xC5] = True
    e2[0x80, 0x8B] = e2[0x80, 0xA8:0xAF] = e2[0x81, 0xA0:0xB0] = True
    ef[0xBB, 0xBF] = ef[0xBF, 0xBD] = True
    f3[0xA0] = True
    return table.reshape(len(LEADS), -1)


@functools.cache
def units() -> NDArray[np.bool_]:
    r"""Return, by UTF-16 code unit, whether a ``\u`` escape of it puts a line in doubt.

    ASCII letters have no reason to be escaped: they could hide a role or a control token.
    """
    import numpy as np

    table = np.zeros(1 << 16, dtype=np.bool_)
    table[:0xA0] = True
    table[[0x22, 0x26, 0x27, 0x2F, 0x3D, 0x3E]] = False  # what makers of HTML escape
    table[[0xAD, 0x200B, 0xFEFF, 0xFFFD, 0xDB40]] = True  # the last begins the tag characters
    table[0x2028:0x202F] = table[0x2060:0x2070] = True
    return table


class Kind:
    """What the byte after a lead says; 0 is fine."""

    ASK_THIRD, UNIT, QUOTE, SLASH, END, ODD = range(1, 7)


@functools.cache
def pairs() -> NDArray[np.uint8]:
    """Return, by lead and the byte after it, what has to be looked at next."""
    import numpy as np

    table = np.zeros((256, 256), dtype=np.uint8)
    for lead, rows in zip(LEADS, triples().reshape(len(LEADS), 256, 256), strict=True):
        table[lead, rows.any(axis=1)] = Kind.ASK_THIRD
    table[:0x20] = Kind.ODD
    table[0x0A], table[0x0D] = Kind.END, 0
    escapes = table[0x5C]
    escapes[escapes == 0] = Kind.ODD
    escapes[list(b'u"\\/nrt')] = (Kind.UNIT, Kind.QUOTE, Kind.SLASH, 0, 0, 0, 0)
    return table.reshape(-1)


class Seen(NamedTuple):
    """What the bytes of a block show.

    Attributes:
        ends: Places of the line feeds.
        doubts: Places that put their line in doubt.
        odd: Places that only a decoder of JSON can judge.
        quoted: Places of slashes before quotes.
        escaped: How many quotes are escaped.
        wide: There are signs beyond ASCII.
    """

    ends: Places
    doubts: Places
    odd: Places
    quoted: Places
    escaped: int
    wide: bool


class Spelling(NamedTuple):
    """How JSON is written: what stands after a key and between values, and the order of keys."""

    colon: bytes
    comma: bytes
    by_name: bool

    def object(self, fields: dict[str, bytes]) -> bytes:
        """Return the expression of an object with these keys."""
        names = sorted(fields) if self.by_name else fields
        pairs = (b"\n%s\n%s%s" % (name.encode(), self.colon, fields[name]) for name in names)
        return rb"\{%s\}" % self.comma.join(pairs)

    def chat(self) -> bytes:
        """Return the expression of messages: system text or none, then user and answer in turn."""

        def turn(role: str, start: bytes) -> bytes:
            name = b"\n%s\n" % role.encode()
            return self.object({"role": name, "content": _text(start)})

        system = turn("system", _SAID) + self.comma
        two = turn("user", _SAID) + self.comma + turn("assistant", _ANSWER)
        list_ = rb"\[(?:%s)?+%s(?:%s%s)*+\]" % (system, two, self.comma, two)
        return self.object({"messages": list_})

    def pair(self) -> bytes:
        """Return the expression of prompt and completion that begin with different signs."""
        first, second = b" *+(%s)", rb" *+(?!\1)%s"
        if self.by_name:
            first, second = second, first
        prompt, completion = _text(first % _SAID), _text(second % _ANSWER)
        return self.object({"prompt": prompt, "completion": completion})

    def text(self) -> bytes:
        """Return the expression of one text."""
        return self.object({"text": _text(_SAID)})

    def alpaca(self) -> bytes:
        """Return the expression of instruction, input and output; an input may say nothing."""
        fields = {"instruction": _text(_SAID), "input": rb"\n.*+\n", "output": _text(_ANSWER)}
        short = {name: value for name, value in fields.items() if name != "input"}
        return b"(?:%s|%s)" % (self.object(fields), self.object(short))


_SPELLINGS: Final = [
    Spelling(colon, comma, by_name)
    for by_name in (False, True)
    for colon, comma in ((b": ", b", "), (b":", b","))
]
_SHAPES: Final[dict[str, Callable[[Spelling], bytes]]] = {
    **dict.fromkeys(QUICK_CHATS, Spelling.chat),
    **dict.fromkeys(("together_instruction", "trl_prompt_completion"), Spelling.pair),
    **dict.fromkeys(("together_text", "trl_text"), Spelling.text),
    "alpaca": Spelling.alpaca,
}


@functools.cache
def _rows(target: str, spelling: Spelling) -> re.Pattern[bytes]:
    """Return the expression of any number of lines with a row each."""
    row = _SHAPES[target](spelling)
    loop = b"*" if b"\\1" in row else b"*+"
    return re.compile(rb"(?:%s\r?+\x01)%s" % (row, loop))


class PlainRows:
    """Proves rows of one target."""

    def __init__(self, target: str) -> None:
        """Try the usual spelling first."""
        self._target = target
        self._spellings = list(_SPELLINGS)

    def refused(
        self, block: bytearray, signs: Bytes, seen: Seen, masks: tuple[Mask, Mask]
    ) -> dict[int, int]:
        """Return the numbers of the lines that are not proven, in their order.

        With the number comes how many quotes stand around texts, or -1 where that is in doubt.

        Args:
            block: Begins with whole lines.
            signs: These lines as numbers.
            seen: What they show.
            masks: Memory to work in.
        """
        import numpy as np

        ends = seen.ends
        _mark(signs, seen, masks)
        stops: list[int] = ends.tolist()
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1] + 1
        bad = set(np.searchsorted(ends, seen.odd).tolist())
        opened = signs[starts] == 0x7B
        opened &= signs.take(starts + 1, mode="clip") == 0x22
        opened &= signs.take(starts + 2, mode="clip") - 0x61 < 26  # unsigned: a to z
        for at in np.flatnonzero(~opened).tolist():  # the line feed before may be in a text
            bad.update((at, max(0, at - 1)))
        if seen.wide:
            wide = np.flatnonzero(np.maximum.reduceat(signs, starts) > 0x7F)
            if not _is_utf8(block, starts[wide].tolist(), ends[wide].tolist()):
                bad.update(wide.tolist())
        rest = sorted(bad.union(self._stops(masks[1].view(np.uint8).data, stops)))
        quotes = masks[0]
        return {
            at: -1 if at in bad else int(np.count_nonzero(quotes[starts[at] : stops[at]]))
            for at in rest
        }

    def _stops(self, lines: memoryview, ends: list[int]) -> list[int]:
        """Return the lines at which the expressions stop."""
        found: list[int] = []
        start, size = 0, ends[-1] + 1
        while start < size:
            stop = self._run(lines, start, size)
            if stop >= size:
                break
            at = bisect_left(ends, stop)
            found.append(at)
            start = ends[at] + 1
        return found

    def _run(self, lines: memoryview, start: int, size: int) -> int:
        """Return where the rows end that are written like the first of them."""
        for at, spelling in enumerate(self._spellings):
            found = _rows(self._target, spelling).match(lines, start, size)
            if found is not None and found.end() > start:
                if at:
                    self._spellings.insert(0, self._spellings.pop(at))
                return found.end()
        return start


def _mark(signs: Bytes, seen: Seen, masks: tuple[Mask, Mask]) -> None:
    r"""Write the lines to the second mask, quotes around texts as line feeds.

    Line feeds become ``\x01``; the first mask is left where these quotes are.
    """
    import numpy as np

    quotes, copy = masks[0], masks[1].view(np.uint8)
    np.equal(signs, 0x22, out=quotes)
    quotes[seen.quoted + 1] = False
    np.multiply(quotes.view(np.uint8), 0x22 ^ 0x0A, out=copy)
    np.bitwise_xor(signs, copy, out=copy)
    copy[seen.ends] = 0x01


def _is_utf8(block: bytearray, starts: list[int], ends: list[int]) -> bool:
    try:
        for start, end in zip(starts, ends, strict=True):  # one by one: in the core's own cache
            block[start:end].decode()
    except UnicodeDecodeError:
        return False
    return True
