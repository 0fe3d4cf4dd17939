"""Says of most lines of a block, at memory speed, that nothing is wrong with them.

A block of whole lines is decoded at once into typed rows, and its bytes are searched at once
for what could be a fault of a text; a line in doubt is named and takes the checks in full. Lines
that are not named would have passed these. Nothing here is imported but msgspec and numpy, so
that a child process starts fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.data_prep.validate.plain import PlainRows
from finetuning.data_prep.validate.quick import QuickCheck

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Places = NDArray[np.intp]
    Mask = NDArray[np.bool_]

BLOCK_BYTES: Final = 128 << 10
"""Bytes of a block: what fits a core's own cache is searched and decoded fastest."""

_PAUSE_BLOCKS: Final = 15
"""Blocks that are decoded at once after one in which most rows had to be."""

_LEADS: Final = b"\\<[\xc2\xc3\xe2\xef\xf3"
"""Bytes that begin what may be a fault: escapes, control tokens, signs that nobody sees."""


class Skimmed(NamedTuple):
    """What is known of a block.

    Attributes:
        n_lines: Lines of the block.
        doubtful: Number in the block, counted from 0, and bytes of lines to check in full.
        rows: The other lines' rows, in their order.
    """

    n_lines: int
    doubtful: list[tuple[int, bytes]]
    rows: list[Any]


def _triples() -> NDArray[np.bool_]:
    """Return, by lead and the two bytes after it, whether a line with them is in doubt."""
    import numpy as np

    table = np.zeros((len(_LEADS), 256, 256), dtype=np.bool_)
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
    return table.reshape(len(_LEADS), -1)


def _units() -> NDArray[np.bool_]:
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


_ASK_THIRD, _UNIT, _QUOTE, _SLASH, _END, _ODD = 1, 2, 3, 4, 5, 6
"""What the byte after a lead says: kinds of :func:`_pairs`; 0 is fine."""


class Seen(NamedTuple):
    """What the bytes of a block show.

    Attributes:
        ends: Places of the line feeds.
        doubts: Places that put their line in doubt.
        odd: Places that only a decoder of JSON can judge.
        escaped: How many quotes are escaped.
    """

    ends: Places
    doubts: Places
    odd: Places
    escaped: int


def _pairs(triples: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return, by lead and the byte after it, what has to be looked at next."""
    import numpy as np

    table = np.zeros((256, 256), dtype=np.uint8)
    for lead, rows in zip(_LEADS, triples.reshape(len(_LEADS), 256, 256), strict=True):
        table[lead, rows.any(axis=1)] = _ASK_THIRD
    table[:0x20] = _ODD
    table[0x0A], table[0x0D] = _END, 0
    escapes = table[0x5C]
    escapes[escapes == 0] = _ODD
    for mark, kind in zip(b'u"\\/nrt', (_UNIT, _QUOTE, _SLASH, 0, 0, 0, 0), strict=True):
        escapes[mark] = kind
    return table.reshape(-1)


class ByteSearch:
    """Finds the places of a block that put their line in doubt."""

    def __init__(self) -> None:
        """Make the tables."""
        import numpy as np

        self._np = np
        self._lead = np.zeros(256, dtype=np.intp)
        self._lead[list(_LEADS)] = range(len(_LEADS))
        self._triples = _triples()
        self._pairs = _pairs(self._triples)
        self._units = _units()
        self._digit = np.full(256, 1 << 16, dtype=np.int64)
        for value, digit in enumerate("0123456789abcdef"):
            self._digit[[ord(digit), ord(digit.upper())]] = value
        self._mask = self._more = np.empty(0, dtype=np.bool_)

    def masks(self, signs: Bytes) -> tuple[Mask, Mask]:
        """Return two masks of a block to write into."""
        if len(self._mask) < len(signs):
            self._mask = self._np.empty(len(signs) + BLOCK_BYTES, dtype=self._np.bool_)
            self._more = self._np.empty_like(self._mask)
        return self._mask[: len(signs)], self._more[: len(signs)]

    def where(self, signs: Bytes, byte: int) -> Mask:
        """Return where a byte stands, until the next call."""
        return self._np.equal(signs, byte, out=self.masks(signs)[0])

    def _leads(self, block: bytearray, signs: Bytes) -> Places:
        """Return the places of all controls and of what begins what may be a fault."""
        np = self._np
        mask, more = self.masks(signs)
        np.less(signs, 0x20, out=mask)
        for lead in b"\\<[":
            if block.find(lead, 0, len(signs)) >= 0:
                np.logical_or(mask, np.equal(signs, lead, out=more), out=mask)
        if signs.max() > 0x7F:
            np.greater_equal(signs, 0xC2, out=more)
            if np.count_nonzero(more) > len(signs) // 20:  # mostly Chinese: not its own leads
                np.greater_equal(signs, 0xEF, out=more)
                np.logical_or(mask, more, out=mask)
                np.less_equal(signs - 0xC2, 0x20, out=more)  # unsigned: C2 to E2
            np.logical_or(mask, more, out=mask)
        places: Places = np.flatnonzero(mask)
        return places

    def search(self, block: bytearray, signs: Bytes) -> Seen:
        """Return what the bytes of a block show.

        Args:
            block: Begins with whole lines.
            signs: These lines as numbers.
        """
        np = self._np
        places = self._leads(block, signs)
        pairs = signs[places].astype(np.uint16)
        pairs <<= 8
        pairs |= signs.take(places + 1, mode="clip")
        kinds = self._pairs[pairs]
        counts = np.bincount(kinds, minlength=7).tolist()
        found, odd = [places[:0]], [places[:0]]
        if counts[_ASK_THIRD]:
            found.append(self._thirds(signs, places[kinds == _ASK_THIRD]))
        if counts[_UNIT]:
            doubtful, halves = self._escaped_units(signs, places[kinds == _UNIT])
            found.append(doubtful)
            odd.append(halves)
        if block.find(b"\x7f", 0, len(signs)) >= 0:
            found.append(np.flatnonzero(self.where(signs, 0x7F)))
        if counts[_ODD]:
            odd.append(places[kinds == _ODD])
        quotes: int = counts[_QUOTE]
        if quotes and counts[_SLASH]:
            slashes = places[kinds == _SLASH]
            odd.append(slashes[signs.take(slashes + 2, mode="clip") == 0x22])
            slashes = signs[places] == 0x5C
            quotes = self._escaped_quotes(places[slashes], kinds[slashes])
        ends = places if counts[_END] == len(places) else places[kinds == _END]
        return Seen(ends, np.concatenate(found), np.concatenate(odd), quotes)

    def _thirds(self, signs: Bytes, places: Places) -> Places:
        """Return those places whose three bytes are in doubt."""
        np = self._np
        keys = signs.take(places + 1, mode="clip").astype(np.intp) << 8
        keys |= signs.take(places + 2, mode="clip")
        found: Places = places[self._triples[self._lead[signs[places]], keys]]
        return found

    def _escaped_units(self, signs: Bytes, slashes: Places) -> tuple[Places, Places]:
        r"""Return the ``\u`` escapes that are in doubt, and those of half a sign."""
        np = self._np
        digits = [self._digit[signs.take(slashes + at, mode="clip")] for at in (2, 3, 4, 5)]
        units = (digits[0] << 12) + (digits[1] << 8) + (digits[2] << 4) + digits[3]
        doubtful = self._units[np.minimum(units, 0xFFFF)] | (units > 0xFFFF)
        again = signs.take(slashes + 6, mode="clip") == 0x5C
        again &= signs.take(slashes + 7, mode="clip") == 0x75
        doubtful |= again & np.isin(units, (0xC2, 0xC3, 0xE2, 0xEF, 0xF0))  # mojibake
        return slashes[doubtful], slashes[(units & 0xF800) == 0xD800]

    def _escaped_quotes(self, slashes: Places, kinds: NDArray[np.uint8]) -> int:
        """Count the quotes that belong to texts: those after an odd number of slashes."""
        np = self._np
        order = np.arange(len(slashes))
        begins = np.ones(len(slashes), dtype=np.bool_)
        begins[1:] = slashes[1:] != slashes[:-1] + 1
        run = np.maximum.accumulate(np.where(begins, order, 0))
        return int(np.count_nonzero((kinds == _QUOTE) & (((order - run) & 1) == 0)))


def text_quotes(raw: bytes) -> int:
    """Count the quotes of a line that are not part of a text."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return raw.count(b'"')


class Skimmer:
    """Skims blocks of one format."""

    def __init__(self, check: QuickCheck, plain: PlainRows | None = None) -> None:
        """Prepare the decoder and the tables.

        Args:
            check: Decides about decoded rows.
            plain: Proves rows that are not wanted themselves without decoding them.
        """
        import msgspec
        import numpy as np

        self._np = np
        self._decoder = msgspec.json.Decoder(check.row_type)
        self._check = check
        self._plain = plain
        self._pause = 0
        self._search = ByteSearch()
        self._faults = (msgspec.MsgspecError, ValueError, RecursionError)
        self._held: list[Any] = []

    def skim(self, block: bytearray, size: int) -> Skimmed | None:
        """Return which lines must be checked in full; None if other signs end lines, too.

        Args:
            block: Begins with whole lines, the last one's line feed included.
            size: Bytes of these lines.
        """
        np = self._np
        signs = np.frombuffer(block, np.uint8, size)
        seen = self._search.search(block, signs)
        ends, before = seen.ends, seen.ends - 1
        if block.find(b"\r", 0, size) >= 0:
            returns = int(np.count_nonzero(self._search.where(signs, 0x0D)))
            before -= signs[before] == 0x0D
            if returns != int(np.count_nonzero(signs[ends - 1] == 0x0D)):
                return None
        doubts = set(np.searchsorted(ends, seen.doubts).tolist())
        rest = self._unproven(block, signs, seen)
        if rest is not None:
            return self._line_by_line(block, ends, doubts, rest)
        rows = self._rows(block, signs, ends, before)
        if rows is None:
            return self._line_by_line(block, ends, doubts, range(len(ends)))
        quotes = self._check.quick(rows)
        total = int(np.count_nonzero(self._search.where(signs, 0x22))) - seen.escaped
        if -1 in quotes or sum(quotes) != total:
            lines = self._lines(block, ends, range(len(rows)))
            doubts.update(at for at, raw in lines if not self._proven(rows[at], raw, quotes[at]))
        fine = [row for at, row in enumerate(rows) if at not in doubts] if doubts else rows
        return Skimmed(len(ends), self._lines(block, ends, sorted(doubts)), fine)

    def _unproven(self, block: bytearray, signs: Bytes, seen: Seen) -> list[int] | None:
        """Return the lines that must be decoded, or None where it is better to decode all."""
        if self._plain is None or self._pause:
            self._pause = max(0, self._pause - 1)
            return None
        rest = self._plain.refused(block, signs, seen.ends, seen.odd, self._search.masks(signs))
        if 2 * len(rest) > len(seen.ends):
            self._pause = _PAUSE_BLOCKS
            return None
        return rest

    def _proven(self, row: Any, raw: bytes, quotes: int) -> bool:
        """Say that a row is without fault, and that no key of it stands twice."""
        found = text_quotes(raw) if quotes >= 0 else -1
        return quotes >= 0 and (found == quotes or found == self._check.careful(row))

    def _rows(
        self, block: bytearray, signs: Bytes, ends: Places, before: Places
    ) -> list[Any] | None:
        """Decode a block if each of its lines holds one row; None where that is in doubt.

        A line feed with ``}`` before and ``{`` after it stands between two rows, for inside a
        value a comma would be needed. As many rows as lines are one row a line then.
        """
        closed = before[0] >= 0 and (signs[before] == 0x7D).all()
        opened = signs[0] == 0x7B and (signs[ends[:-1] + 1] == 0x7B).all()
        if not (closed and opened):
            return None
        try:
            rows = self._decoder.decode_lines(memoryview(block)[: len(signs)])
        except self._faults:
            return None
        self._held = rows  # until the next block: no memory goes back and forth to the system
        return rows if len(rows) == len(ends) else None

    def _lines(
        self, block: bytearray, ends: Places, wanted: Iterable[int]
    ) -> list[tuple[int, bytes]]:
        """Return numbers and bytes of lines."""
        stops: list[int] = ends.tolist()
        return [(at, bytes(block[stops[at - 1] + 1 if at else 0 : stops[at] + 1])) for at in wanted]

    def _line_by_line(
        self, block: bytearray, ends: Places, doubts: set[int], wanted: Iterable[int]
    ) -> Skimmed:
        """Skim lines that cannot be decoded together; only these rows are returned."""
        decode, quick = self._decoder.decode, self._check.quick
        rows: list[Any] = []
        for at, raw in self._lines(block, ends, wanted):
            try:
                row = None if at in doubts else decode(raw)
            except self._faults:
                row = None
            if row is None or not self._proven(row, raw, quick([row])[0]):
                doubts.add(at)
            else:
                rows.append(row)
        return Skimmed(len(ends), self._lines(block, ends, sorted(doubts)), rows)
