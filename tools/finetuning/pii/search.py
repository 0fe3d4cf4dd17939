"""Search a file piece by piece: rows where there are rows, raw text where there are not.

A line that no reader can decode may hold personal data all the same, so it is searched as it
stands; text files are searched whole, not only their question-and-answer pairs. Findings are
counted and paged, redacted rows written.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from finetuning.files import atomic_write, fault, read_records, sniff_format
from finetuning.files.chunks import read_chunks, split_lines, utf8_chunks
from finetuning.pii import RedactMode, Span
from finetuning.pii.lines import LineSearch, Tally
from finetuning.pii.rows import KeyNames, Leaf, open_row, redact_leaves, search_leaves
from finetuning.records import Json, Record

_BLOCK_BYTES: Final = 1 << 18
_BATCH_CHARACTERS: Final = 4_000_000
"""Text searched at once: large enough for the prefilter, small enough for flat memory."""


class Block(NamedTuple):
    """Raw text that is no row.

    Attributes:
        source: Name of its file.
        line: First physical line.
        text: The text.
        whole: It is a text file as a whole, not a row that could not be decoded.
    """

    source: str
    line: int
    text: str
    whole: bool


def read_pieces(path: Path, tally: Tally) -> Iterator[Record | Block]:
    """Yield everything of a file that can be searched.

    Args:
        path: A resolved path.
        tally: Counts the rows that no reader could decode; their raw text follows the rows,
            where the format has lines.

    Raises:
        BadInputError: The file as a whole cannot be read.
    """
    form = sniff_format(path)
    if form == "text_folder":
        yield from _text_block(path)
        return
    gaps: list[tuple[int, int | None]] = []
    for item in read_records(path, source=path.name):
        if gaps and gaps[-1][1] is None:
            gaps[-1] = (gaps[-1][0], item.line)
        if isinstance(item, Record):
            yield item
        elif item.severity == "error":
            tally.reject(item)
            gaps.append((item.line or 1, None))
    if form in {"jsonl", "csv", "tsv"}:
        yield from _raw_blocks(path, gaps)
    else:
        tally.n_unsearched += len(gaps)


def _text_block(path: Path) -> Iterator[Block]:
    lines = split_lines(utf8_chunks(read_chunks(path), name=path.name))
    yield Block(path.name, 1, b"".join(lines).decode("utf-8", "replace"), whole=True)


def _raw_blocks(path: Path, gaps: list[tuple[int, int | None]]) -> Iterator[Block]:
    """Yield the physical lines of each gap, from its first line up to that of the next row."""
    if not gaps:
        return
    waiting = iter(gaps)
    first, following = next(waiting)
    held: list[bytes] = []
    number = size = 0
    for line in split_lines(utf8_chunks(read_chunks(path), name=path.name)):
        number += 1
        if (following is not None and number >= following) or size > _BLOCK_BYTES:
            yield from _raw_block(path, held, number)
            held, size = [], 0
            if following is not None and number >= following:
                first, following = next(waiting, (sys.maxsize, None))
        if number >= first:
            held.append(line)
            size += len(line)
    yield from _raw_block(path, held, number + 1)


def _raw_block(path: Path, held: list[bytes], following: int) -> Iterator[Block]:
    if held:
        text = b"".join(held).decode("utf-8", "replace")
        yield Block(path.name, following - len(held), text, whole=False)


class Sink:
    """Writes redacted rows in the format that the file's ending names."""

    def __init__(self, stream: IO[str], ending: str) -> None:
        """Write to ``stream``; ``ending`` is the target's, with the dot."""
        self._stream = stream
        self._ending = ending
        self._count = 0
        self._table: Any = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, target: Path) -> Generator[Sink]:
        """Open a target that appears only when it is whole."""
        with atomic_write(target) as stream:
            sink = cls(stream, target.suffix.lower())
            yield sink
            if sink._ending == ".json":
                stream.write("\n]\n" if sink._count else "[]\n")

    def text(self, text: str) -> None:
        """Write a text file's text."""
        self._stream.write(text)

    def row(self, row: Mapping[str, Json]) -> None:
        """Write one row."""
        if self._ending in {".csv", ".tsv"}:
            self._table_row(row)
        else:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            if self._ending == ".json":
                line = ("[\n" if not self._count else ",\n") + line
            else:
                line += "\n"
            self._stream.write(line)
        self._count += 1

    def _table_row(self, row: Mapping[str, Json]) -> None:
        if self._table is None:
            separator = "\t" if self._ending == ".tsv" else ","
            self._table = csv.writer(self._stream, delimiter=separator, lineterminator="\n")
            self._table.writerow(row)
        self._table.writerow(row.values())


class _Open(NamedTuple):
    line: int
    copy: dict[str, Json]
    leaves: list[Leaf]


class Search:
    """One scan: what is looked for, how it is replaced, and where it is counted."""

    def __init__(
        self, wanted: frozenset[str], detector: str, redact: RedactMode, tally: Tally
    ) -> None:
        """Take the types, the detector, the way of redaction and the tally."""
        self._types = sorted(wanted)
        self._detector = detector
        self._mode: RedactMode = redact
        self._tally = tally

    def file(self, source: Path, label: str | None, sink: Sink | None) -> None:
        """Search one file; with a sink, also write it redacted.

        Args:
            source: A resolved path.
            label: Name of the file in its findings, None where there is only one.
            sink: Takes the redacted rows or text.
        """
        if sink is None and self._detector == "fast" and sniff_format(source) == "jsonl":
            self._lines(source, label)
            return
        names = KeyNames(self._mode, self._types)
        batch: list[_Open] = []
        size = 0
        for piece in read_pieces(source, self._tally):
            if isinstance(piece, Block):
                self._flush(batch, label, sink)
                batch = []
                self._block(piece, label, sink)
                continue
            size += self._open(piece, names, label, batch)
            if size > _BATCH_CHARACTERS:
                self._flush(batch, label, sink)
                batch, size = [], 0
        self._flush(batch, label, sink)

    def _lines(self, source: Path, label: str | None) -> None:
        """Search a JSON Lines file, then its lines that no reader could decode as they stand."""
        gaps: list[tuple[int, int | None]] = []
        rows = 0
        for seen in LineSearch(self._types, self._tally.told).file(source):
            rows += seen.rows
            for hit in seen.hits:
                self._tally.count(label, hit)
            self._tally.count_more(seen.rest)
            for number, code, message in seen.unread:
                self._tally.reject(fault(code, line=number, message=message))
                first = gaps.pop()[0] if gaps and gaps[-1][1] == number else number
                gaps.append((first, number + 1))
        if not rows and not gaps:
            read_records(source, source=source.name)  # says that there is none
        self._tally.rows += rows
        for block in _raw_blocks(source, gaps):
            self._block(block, label, None)

    def _open(self, row: Record, names: KeyNames, label: str | None, batch: list[_Open]) -> int:
        self._tally.rows += 1
        copy, leaves = open_row(row.data, names.safe)
        for field, key, span in names.take_found():
            self._tally.add(label, row.line, field, span, key[span.start : span.end])
        batch.append(_Open(row.line, copy, leaves))
        return sum(len(leaf.text) for leaf in leaves)

    def _flush(self, batch: list[_Open], label: str | None, sink: Sink | None) -> None:
        owners = [row.line for row in batch for _ in row.leaves]
        leaves = [leaf for row in batch for leaf in row.leaves]
        for number, span, value in sorted(self._found(leaves, sink)):
            self._tally.add(label, owners[number], leaves[number].pointer, span, value)
        if sink is not None:
            for row in batch:
                sink.row(row.copy)

    def _found(self, leaves: list[Leaf], sink: Sink | None) -> Iterator[tuple[int, Span, str]]:
        if sink is not None:
            yield from redact_leaves(leaves, self._mode, types=self._types, detector=self._detector)
            return
        spans = search_leaves(leaves, types=self._types, detector=self._detector)
        for number, found in enumerate(spans):
            for span in found:
                yield number, span, leaves[number].text[span.start : span.end]

    def _block(self, block: Block, label: str | None, sink: Sink | None) -> None:
        """Search raw text; of a row that could not be decoded nothing is ever written."""
        if block.whole:
            self._tally.rows += 1
        elif sink is not None:
            return
        name = label
        place: dict[str, Json] = {}
        leaf = Leaf(place, "text", "", "", block.text)
        for _, span, value in sorted(self._found([leaf], sink)):
            before = block.text.count("\n", 0, span.start)
            column = block.text.rfind("\n", 0, span.start) + 1
            moved = span._replace(start=span.start - column, end=span.end - column)
            self._tally.add(name, block.line + before, "", moved, value)
        if sink is not None:
            sink.text(str(place.get("text", block.text)))
