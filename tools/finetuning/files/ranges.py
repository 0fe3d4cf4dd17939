"""A file of lines cut into ranges that any process can read, where bytes are lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from finetuning.errors import BadInputError
from finetuning.files.chunks import (
    CHUNK_BYTES,
    MAX_LINE_BYTES,
    UTF16_32_MARKS,
    FileGuard,
    compression_of,
    fault,
    split_lines,
)
from finetuning.records import Finding


class LineRange(NamedTuple):
    """Whole lines of a file, to be read where and when it suits.

    Attributes:
        start: First byte.
        size: Bytes, the last line's end included.
        line: Physical number of the first line.
    """

    start: int
    size: int
    line: int


def has_ranges(path: Path) -> bool:
    """Say whether the bytes of a file are its lines: neither packed nor in UTF-16 or UTF-32."""
    if path.is_dir() or compression_of(path) is not None:
        return False
    with path.open("rb") as stream:
        head = stream.read(4)
    return not head.startswith(tuple(mark for mark, _ in UTF16_32_MARKS))


def line_ranges(path: Path, size: int) -> Iterator[LineRange]:
    """Yield the lines of a file in ranges of about ``size`` bytes, at flat memory.

    A range ends after a line feed; a line that is longer makes its range longer. A byte-order
    mark is in none.

    Args:
        path: A file that :func:`has_ranges`.
        size: At least so many bytes, but for the last range.

    Raises:
        BadInputError: The file changed meanwhile.
    """
    guard = FileGuard(path)
    with path.open("rb") as stream:
        start = 3 if stream.read(3) == codecs.BOM_UTF8 else 0
        stream.seek(start)
        place, line, lines, before = start, 1, 0, b""
        while chunk := stream.read(min(CHUNK_BYTES, size)):
            cut = chunk.rfind(b"\n") + 1 if place + len(chunk) - start >= size else 0
            lines += _line_ends(before, chunk[:cut] if cut else chunk)
            if cut:
                yield LineRange(start, place + cut - start, line)
                start, line, lines = place + cut, line + lines, 0
                lines = _line_ends(b"", chunk[cut:])
            place += len(chunk)
            before = chunk[-1:]
        if place > start:
            yield LineRange(start, place - start, line)
    guard.check()


def _line_ends(before: bytes, chunk: bytes) -> int:
    """Count the line ends in a chunk; CR LF counts once, also where ``before`` ends with CR."""
    returns = chunk.count(b"\r")
    if not returns:
        return chunk.count(b"\n") - (before == b"\r" and chunk[:1] == b"\n")
    pairs = chunk.count(b"\r\n") + (before == b"\r" and chunk[:1] == b"\n")
    return chunk.count(b"\n") + returns - pairs


def lines_in(path: Path, part: LineRange) -> Iterator[tuple[int, bytes | Finding]]:
    """Yield number and bytes of each line of a range that is not blank.

    Of a line that is too long comes a finding instead, at flat memory.

    Raises:
        BadInputError: The file is shorter than it was.
    """
    for number, raw in enumerate(split_lines(_range_chunks(path, part)), start=part.line):
        line = raw.strip()
        if len(raw) > MAX_LINE_BYTES and line:
            message = "the line is longer than 160 MiB"
            yield number, fault("line_too_long", line=number, message=message)
        elif line:
            yield number, line


def line_blocks(path: Path, part: LineRange, size: int) -> Iterator[bytearray] | None:
    """Return the lines of a range in blocks that end with a line feed.

    None where a line feed is not all that ends a line, or a line is longer than several blocks:
    :func:`lines_in` reads any range.

    Args:
        path: The file.
        part: Its lines.
        size: Bytes of a block, about.
    """
    if part.size > MAX_LINE_BYTES:
        return None
    data = b"".join(_range_chunks(path, part))
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    return _cut(data if data.endswith(b"\n") else data + b"\n", size)


def _cut(data: bytes, size: int) -> Iterator[bytearray]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", min(start + size, len(data) - 1)) + 1
        yield bytearray(data[start:end])
        start = end


def _range_chunks(path: Path, part: LineRange) -> Iterator[bytes]:
    left = part.size
    with path.open("rb") as stream:
        stream.seek(part.start)
        while left and (chunk := stream.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
    if left:
        raise BadInputError(
            str(path),
            "the file changed while it was read",
            "a file that nobody writes to",
            "Wait until its writer is done, then call again",
        )
