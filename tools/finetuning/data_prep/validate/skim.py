"""Says of most lines of a block, at memory speed, that nothing is wrong with them.

A block of whole lines is decoded at once into typed rows, and its bytes are searched at once
for what could be a fault of a text; a line in doubt is named and takes the checks in full. Lines
that are not named would have passed these. Nothing here is imported but msgspec and numpy, so
that a child process starts fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.data_prep.validate.plain import LEADS, Kind, PlainRows, Seen, pairs, triples, units
from finetuning.data_prep.validate.quick import QuickCheck

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Places = NDArray[np.intp]
    Mask = NDArray[np.bool_]

BLOCK_BYTES: Final = 128 << 10
"""Bytes of a block: what fits a core's own cache is searched and decoded fastest."""

_PAUSE_BLOCKS: Final = 31
"""Blocks that are decoded at once after one in which most rows had to be."""


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


class ByteSearch:
    """Finds the places of a block that put their line in doubt."""

    def __init__(self) -> None:
        """Make the tables."""
        import numpy as np

        self._np = np
        self._lead = np.zeros(256, dtype=np.intp)
        self._lead[list(LEADS)] = range(len(LEADS))
        self._triples = triples()
        self._pairs = pairs()
        self._units = units()
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
        near = more.view(np.uint8)
        np.less(np.add(signs, 0x40, out=near), 0x60, out=mask)  # 0 to 1F, and from C0 on
        if np.count_nonzero(mask) > len(signs) // 20:  # mostly Chinese: not its own leads
            np.greater_equal(signs, 0xEF, out=mask)
            np.logical_or(mask, np.less(signs, 0x20, out=more), out=mask)
            np.logical_or(mask, np.less_equal(signs - 0xC2, 0x20, out=more), out=mask)  # to E2
        np.less_equal(np.subtract(signs, 0x5B, out=near), 1, out=more)  # [ and backslash
        np.logical_or(mask, more, out=mask)
        if block.find(b"<", 0, len(signs)) >= 0:
            np.logical_or(mask, np.equal(signs, 0x3C, out=more), out=mask)
        return self._true(len(signs))

    def _true(self, size: int) -> Places:
        """Return where the mask holds: by eights first, most of which are empty."""
        np = self._np
        self._mask[size : size + 7] = False
        eights = self._mask[: (size + 7) & ~7].view(np.uint64)
        some = np.flatnonzero(eights != 0)
        inside = np.flatnonzero(eights[some].view(np.bool_))
        places: Places = some.take(inside >> 3)
        places <<= 3
        places += inside & 7
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
        if counts[Kind.ASK_THIRD]:
            found.append(self._thirds(signs, places[kinds == Kind.ASK_THIRD]))
        if counts[Kind.UNIT]:
            doubtful, halves = self._escaped_units(signs, places[kinds == Kind.UNIT])
            found.append(doubtful)
            odd.append(halves)
        if block.find(b"\x7f", 0, len(signs)) >= 0:
            found.append(np.flatnonzero(self.where(signs, 0x7F)))
        if counts[Kind.ODD]:
            odd.append(places[kinds == Kind.ODD])
        quoted, escaped = places[kinds == Kind.QUOTE], counts[Kind.QUOTE]
        if escaped and counts[Kind.SLASH]:
            slashes = places[kinds == Kind.SLASH]
            odd.append(slashes[signs.take(slashes + 2, mode="clip") == 0x22])
            slashes = signs[places] == 0x5C
            escaped = self._escaped_quotes(places[slashes], kinds[slashes])
        ends = places if counts[Kind.END] == len(places) else places[kinds == Kind.END]
        doubts, wide = np.concatenate(found), bool(signs.max() > 0x7F)
        return Seen(ends, doubts, np.concatenate(odd), quoted, escaped, wide)

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
        return int(np.count_nonzero((kinds == Kind.QUOTE) & (((order - run) & 1) == 0)))


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
            return self._line_by_line(block, ends, doubts, dict.fromkeys(range(len(ends)), -1))
        quotes = self._check.quick(rows)
        total = int(np.count_nonzero(self._search.where(signs, 0x22))) - seen.escaped
        if -1 in quotes or sum(quotes) != total:
            lines = self._lines(block, ends, range(len(rows)))
            doubts.update(
                at for at, raw in lines if not self._proven(rows[at], quotes[at], text_quotes(raw))
            )
        fine = [row for at, row in enumerate(rows) if at not in doubts] if doubts else rows
        return Skimmed(len(ends), self._lines(block, ends, sorted(doubts)), fine)

    def _unproven(self, block: bytearray, signs: Bytes, seen: Seen) -> dict[int, int] | None:
        """Return the lines that must be decoded, or None where it is better to decode all.

        With the line comes how many quotes of it are not part of a text, or -1.
        """
        if self._plain is None or self._pause:
            self._pause = max(0, self._pause - 1)
            return None
        rest = self._plain.refused(block, signs, seen, self._search.masks(signs))
        if 2 * len(rest) > len(seen.ends):
            self._pause = _PAUSE_BLOCKS
            return None
        return rest

    def _proven(self, row: Any, quotes: int, found: int) -> bool:
        """Say that a row is without fault, and that no key of it stands twice."""
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
        self, block: bytearray, ends: Places, doubts: set[int], wanted: dict[int, int]
    ) -> Skimmed:
        """Skim lines that cannot be decoded together; only these rows are returned."""
        decode, quick = self._decoder.decode, self._check.quick
        rows: list[Any] = []
        for at, raw in self._lines(block, ends, wanted):
            try:
                row = None if at in doubts else decode(raw)
            except self._faults:
                row = None
            found = wanted[at] if wanted[at] >= 0 else text_quotes(raw)
            if row is None or not self._proven(row, quick([row])[0], found):
                doubts.add(at)
            else:
                rows.append(row)
        return Skimmed(len(ends), self._lines(block, ends, sorted(doubts)), rows)
