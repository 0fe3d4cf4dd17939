"""Bytes and lines of a file, whatever wraps them, also by ranges that any process can read.

gzip, zstd, UTF-16, BOM, CR or CRLF: everything streams, and a file that changes while it is read
is an error, never garbage.
"""

from __future__ import annotations

import codecs
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.errors import BadInputError
from finetuning.files import fault
from finetuning.files.paths import most_zstd_bytes
from finetuning.records import Finding

CHUNK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 160 << 20
"""Longest line that is read: ten base64 images of 10 MB (Together's limit) are 134 MB."""

BOMB_BYTES: Final = 1 << 29
BOMB_RATIO: Final = 200  # what unpacks to more than both is refused: rows shrink to a tenth

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
UTF16_32_MARKS: Final = (  # UTF-32 first: its mark starts with the two bytes of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class DamagedFileError(BadInputError):
    """A compressed or UTF-16 file that breaks off or is malformed."""


def compression_of(path: Path) -> str | None:
    """Return ``"gzip"``, ``"zstd"`` or None, by the first bytes of the file."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return {GZIP_MAGIC: "gzip"}.get(head[:2], "zstd" if head == ZSTD_MAGIC else None)


def _changed(path: Path) -> BadInputError:
    what, expected = "the file changed while it was read", "a file that nobody writes to"
    return BadInputError(str(path), what, expected, "Call again when its writer is done")


class FileGuard:
    """Remembers what a file was when reading began, and says if it is that no longer."""

    def __init__(self, path: Path) -> None:
        """Take the file's identity, size and time of change."""
        self._path = path
        self._before = self._identity()

    def _identity(self) -> tuple[int, int, int]:
        state = self._path.stat()
        return state.st_ino, state.st_size, state.st_mtime_ns

    def check(self) -> None:
        """Compare with the file of now.

        Raises:
            BadInputError: The file was written, replaced or removed meanwhile.
        """
        try:
            same = self._identity() == self._before
        except OSError:
            same = False
        if not same:
            raise _changed(self._path)


def _plain_or_gzip(path: Path, packed: str | None) -> Iterator[bytes]:
    import gzip

    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            _refuse_bomb(path, stream.tell() if packed else 0)
            yield chunk


def _refuse_bomb(path: Path, unpacked: int) -> None:
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * path.stat().st_size:
        what = f"it unpacks to more than {BOMB_RATIO} times its size"
        step = "If it is what it seems, unpack it yourself and name the result"
        raise BadInputError(str(path), what, "a packed file of rows", step)


def _zstd(path: Path) -> Iterator[bytes]:
    """Yield the text of a zstd file; polars (core) has the decoder that Python 3.11 lacks."""
    import polars as pl

    _refuse_bomb(path, most_zstd_bytes(path))
    for frame in pl.scan_lines(path).collect_batches():
        yield "".join(f"{line}\n" for line in frame.to_series()).encode()


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file in pieces of about 1 MiB.

    Raises:
        BadInputError: The data are damaged or a bomb, or the file changed meanwhile.
    """
    guard = FileGuard(path)
    packed = compression_of(path)
    try:
        yield from _zstd(path) if packed == "zstd" else _plain_or_gzip(path, packed)
    except (EOFError, OSError, zlib.error, _polars_error()) as error:
        if packed is None:
            raise
        guard.check()
        what, expected = f"the {packed} data are cut off or damaged", "a whole file of UTF-8 text"
        step = "Make or download the file again, or unpack it yourself"
        raise DamagedFileError(str(path), what, expected, step) from error
    guard.check()


def _polars_error() -> type[Exception]:
    """Return the base error of polars without importing polars where it was not used."""
    module = sys.modules.get("polars")
    return module.exceptions.PolarsError if module else EOFError


def utf8_chunks(chunks: Iterable[bytes], *, name: str) -> Iterator[bytes]:
    """Yield the same text as UTF-8 without a byte-order mark.

    A UTF-8 mark is dropped, UTF-16 and UTF-32 with a mark are converted; the rest stays as it is,
    a bad byte visible to its row.

    Raises:
        BadInputError: A UTF-16 or UTF-32 file is cut off or malformed.
    """
    pieces = iter(chunks)
    first = next(pieces, b"")
    encoding = next((name for mark, name in UTF16_32_MARKS if first.startswith(mark)), None)
    if encoding is None:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(first).encode()
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        what = f"the file starts like {encoding.upper()} but is malformed"
        step = "Save the file as UTF-8 and call again"
        raise DamagedFileError(name, what, "UTF-8 text", step) from error


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield physical lines with their line ends: ``\n``, ``\r\n`` or ``\r``.

    A line over ``MAX_LINE_BYTES`` comes as one NUL more than the limit, so that the caller can
    tell; its bytes are skipped, and the NULs take no room before somebody reads them.
    """
    tail: list[bytes] = []  # the unfinished line
    held = 0
    carriage = b""  # a final CR waits: it may be the first half of CR LF
    for chunk in chunks:
        piece = carriage + chunk
        carriage = b"\r" if piece.endswith(b"\r") else b""
        lines = (piece[:-1] if carriage else piece).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and held:
            lines[0] = _whole_line([*tail, lines[0]], held)
            tail, held = [], 0
        yield from lines
        tail.append(rest)
        held += len(rest)
        if held > MAX_LINE_BYTES:
            tail.clear()
    if held or carriage:
        yield _whole_line([*tail, carriage], held)


def _whole_line(parts: list[bytes], held: int) -> bytes:
    return b"".join(parts) if held <= MAX_LINE_BYTES else bytes(MAX_LINE_BYTES + 1)


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

    A range ends after a line feed; a longer line makes its range longer. A byte-order mark is
    in none.

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
    pairs = (chunk.count(b"\r\n") if returns else 0) + (before == b"\r" and chunk[:1] == b"\n")
    return chunk.count(b"\n") + returns - pairs


def lines_in(path: Path, part: LineRange) -> Iterator[tuple[int, bytes | Finding]]:
    """Yield number and bytes of each line of a range that is not blank; a finding if too long.

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
    return _blocks_of(data if data.endswith(b"\n") else data + b"\n", size)


def _blocks_of(data: bytes, size: int) -> Iterator[bytearray]:
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
        raise _changed(path)
