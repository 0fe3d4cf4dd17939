"""Bytes and lines of a file, whatever wraps them, and the faults that a reader reports.

gzip, zstd, UTF-16, BOM, CR or CRLF: everything streams, and a file that changes while it is read
is an error, never garbage. ``READER_CODES`` is the part of the closed list of finding codes that
belongs to files; ``finetuning.data_prep.validate.CODES`` holds these and the validator's.
"""

from __future__ import annotations

import codecs
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.errors import BadInputError
from finetuning.records import Finding, Severity

CHUNK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 160 << 20
"""Longest line that is read: ten base64 images of 10 MB (Together's limit) are 134 MB."""

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
UTF16_32_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark starts with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class DamagedFileError(BadInputError):
    """A compressed or UTF-16 file that breaks off or is malformed."""


def compression_of(path: Path) -> str | None:
    """Return ``"gzip"``, ``"zstd"`` or None, by the first bytes of the file."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if head == ZSTD_MAGIC else None


def _identity(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_ino, state.st_size, state.st_mtime_ns


class FileGuard:
    """Remembers what a file was when reading began, and says if it is that no longer."""

    def __init__(self, path: Path) -> None:
        """Take the file's identity, size and time of change."""
        self._path = path
        self._before = _identity(path.stat())

    def check(self) -> None:
        """Compare with the file of now.

        Raises:
            BadInputError: The file was written, replaced or removed meanwhile.
        """
        try:
            same = _identity(self._path.stat()) == self._before
        except OSError:
            same = False
        if not same:
            raise BadInputError(
                str(self._path),
                "the file changed while it was read",
                "a file that nobody writes to",
                "Wait until its writer is done, then call again",
            )


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _gzip(path: Path) -> Iterator[bytes]:
    import gzip

    with gzip.open(path, "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _zstd(path: Path) -> Iterator[bytes]:
    """Yield the text of a zstd file; polars (core) has the decoder that Python 3.11 lacks."""
    import polars as pl

    for frame in pl.scan_lines(path).collect_batches():
        yield "".join(f"{line}\n" for line in frame.to_series()).encode()


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file in pieces of about 1 MiB.

    Raises:
        BadInputError: The compressed data are damaged, or the file changed meanwhile.
    """
    guard = FileGuard(path)
    packed = compression_of(path)
    if packed is None:
        yield from _plain(path)
    else:
        try:
            yield from _gzip(path) if packed == "gzip" else _zstd(path)
        except (EOFError, OSError, zlib.error, _polars_error()) as error:
            guard.check()
            raise DamagedFileError(
                str(path),
                f"the {packed} data are cut off or damaged",
                "a whole file of UTF-8 text",
                "Make or download the file again, or unpack it yourself",
            ) from error
    guard.check()


def _polars_error() -> type[Exception]:
    """Return the base error of polars without importing polars where it was not used."""
    import sys

    module = sys.modules.get("polars")
    return module.exceptions.PolarsError if module else EOFError


def utf8_chunks(chunks: Iterable[bytes], *, name: str) -> Iterator[bytes]:
    """Yield the same text as UTF-8 without a byte-order mark.

    A UTF-8 mark is dropped, UTF-16 and UTF-32 with a mark are converted; anything else passes
    as it is, so that a bad byte stays visible to the row that holds it.

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
        raise DamagedFileError(
            name,
            f"the file starts like {encoding.upper()} but is malformed",
            "UTF-8 text",
            "Save the file as UTF-8 and call again",
        ) from error


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield physical lines with their line ends: ``\n``, ``\r\n`` or ``\r``.

    Of a line over ``MAX_LINE_BYTES`` the start is kept (at least one byte more than the limit),
    so that the caller can tell; the rest of it is skipped at flat memory.
    """
    tail: list[bytes] = []  # the unfinished line
    held = 0
    carriage = b""  # a final CR waits: it may be the first half of CR LF
    for chunk in chunks:
        piece = carriage + chunk
        carriage = b"\r" if piece.endswith(b"\r") else b""
        lines = (piece[:-1] if carriage else piece).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and tail:
            tail.append(lines[0])
            lines[0] = b"".join(tail)
            tail, held = [], 0
        yield from lines
        if rest and held <= MAX_LINE_BYTES:
            tail.append(rest[: MAX_LINE_BYTES + 1 - held])
            held += len(rest)
    if tail or carriage:
        yield b"".join(tail) + carriage


class Code(NamedTuple):
    """One entry of the closed list of fault codes.

    Attributes:
        severity: ``error`` where a provider or trainer rejects it, else ``warning``.
        meaning: What is wrong, in one sentence.
        example: A short row or fragment that has the fault.
        fix: What mends it.
    """

    severity: Severity
    meaning: str
    example: str
    fix: str


READER_CODES: Final[dict[str, Code]] = {
    "invalid_utf8": Code(
        "error",
        "The line holds bytes that are not UTF-8.",
        '{"text": "caf\\xe9"} saved as Latin-1',
        "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 IN > OUT",
    ),
    "json_invalid": Code(
        "error",
        "The line is not valid JSON.",
        '{"text": "a" "b"}',
        "Write the row with a JSON library instead of by hand",
    ),
    "not_object": Code(
        "error",
        "The row is valid JSON but not an object.",
        '["a", "b"]',
        "Make each row an object, {…}",
    ),
    "line_too_long": Code(
        "error",
        "One line is longer than 160 MiB, more than ten base64 images of 10 MB.",
        "a whole data set without line ends",
        "Put each row on a line of its own",
    ),
    "nul_character": Code(
        "error",
        "The row holds a NUL byte.",
        "abc\\x00def",
        "Remove the NUL bytes, for example: tr -d '\\000' < IN > OUT",
    ),
    "csv_quotes": Code(
        "error",
        "A quoted field is not closed, or text follows its closing quote.",
        '"a" b,c',
        "Double every quote inside a quoted field, or export the table again",
    ),
    "column_count": Code(
        "error",
        "The row has more or fewer fields than the header.",
        "a,b,c under the header x,y",
        "Quote fields that hold the separator or a line end",
    ),
    "array_broken": Code(
        "error",
        "The JSON array breaks off or is malformed; the rows after this place were not read.",
        '[{"text": "a"}, {"text": ',
        "Repair the file at this row, or save it as JSON Lines",
    ),
    "empty_text_file": Code(
        "warning",
        "A file of the folder holds no text.",
        "an empty notes.md",
        "Remove the file or fill it",
    ),
}


def fault(code: str, *, line: int | None, message: str, field: str | None = None) -> Finding:
    """Return the finding of a reader's code at one place of the file."""
    entry = READER_CODES[code]
    return Finding(
        line=line,
        field=field,
        code=code,
        severity=entry.severity,
        message=message,
        fix=entry.fix,
    )
