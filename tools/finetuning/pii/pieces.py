"""A file as what can be searched: rows where there are rows, raw text where there are not.

A line that no reader can decode may hold personal data all the same, so it is searched as it
stands; text files are searched whole, not only their question-and-answer pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.files import data_files, read_records, resolve_read, sniff_format
from finetuning.files.chunks import read_chunks, split_lines, utf8_chunks
from finetuning.files.paths import SPLITS
from finetuning.files.text_rows import text_files
from finetuning.records import Finding, Record

_BLOCK_BYTES: Final = 1 << 18
_SAMPLE: Final = 5


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


@dataclass(slots=True)
class Unreadable:
    """What could not be read as rows.

    Attributes:
        count: Rows that the reader rejected.
        unsearched: Those of them whose raw text could not be searched either.
        sample: The first findings, for the report.
    """

    count: int = 0
    unsearched: int = 0
    sample: list[Finding] = field(default_factory=list["Finding"])

    def add(self, finding: Finding) -> None:
        """Count one rejected row."""
        self.count += 1
        if len(self.sample) < _SAMPLE:
            self.sample.append(finding)


def input_files(path: str, *, where: str) -> dict[str, Path]:
    """Return the files to search by name: one file, a prepared folder's splits, a text folder.

    Raises:
        NotAllowedError: Outside the readable folders.
        BadInputError: Missing, or a folder without data.
    """
    found = resolve_read(path, where=where, kind="any")
    if found.is_dir() and any((found / f"{split}.jsonl").exists() for split in SPLITS):
        return {file.name: file for file in data_files(path, where=where).values()}
    if found.is_dir():
        sniff_format(found)  # says so if the folder holds no text
        return {file.relative_to(found).as_posix(): file for file in text_files(found)}
    return {found.name: found}


def read_pieces(path: Path, unreadable: Unreadable) -> Iterator[Record | Block]:
    """Yield everything of a file that can be searched.

    Args:
        path: A resolved path.
        unreadable: Counts the rows that no reader could decode; their raw text follows the
            rows, where the format has lines.

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
            unreadable.add(item)
            gaps.append((item.line or 1, None))
    if form in {"jsonl", "csv", "tsv"}:
        yield from _raw_blocks(path, gaps)
    else:
        unreadable.unsearched += len(gaps)


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
