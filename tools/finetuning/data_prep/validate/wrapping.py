"""What a file shows as a whole: how it is wrapped, its name, its size, how many rows it has."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from finetuning.data_prep.targets import Target
from finetuning.data_prep.validate.codes import finding
from finetuning.data_prep.validate.reports import Limits
from finetuning.files.chunks import (
    UTF16_32_MARKS,
    DamagedFileError,
    compression_of,
    read_chunks,
    utf8_chunks,
)
from finetuning.files.reading import control_bytes, is_document
from finetuning.records import Finding

_BEDROCK_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Opened(NamedTuple):
    """A file whose wrapping is known.

    Attributes:
        findings: What is wrong with the wrapping.
        form: Rows on lines, rows in a JSON document, or nothing that can be read.
        chunks: The unpacked UTF-8 text without byte-order mark.
    """

    findings: list[Finding]
    form: Literal["lines", "document", "nothing"]
    chunks: Iterator[bytes]


def _nothing(*findings: Finding) -> Opened:
    return Opened(list(findings), "nothing", iter(()))


def _wrapping(path: Path, first: bytes, *, wants_bom: bool) -> list[Finding]:
    """Return findings about compression and encoding, by the first bytes."""
    found: list[Finding] = []
    packed = compression_of(path)
    if packed:
        found.append(finding("compressed_file", f"the file is {packed}"))
    if first.startswith(tuple(mark for mark, _ in UTF16_32_MARKS)):
        found.append(finding("utf16", "the file starts with a UTF-16 or UTF-32 mark"))
    elif first.startswith(codecs.BOM_UTF8):
        if not wants_bom:
            found.append(finding("utf8_bom", "a byte-order mark at byte 0", line=1))
    elif wants_bom and first.strip():
        found.append(finding("bom_missing", "no byte-order mark at byte 0", line=1))
    return found


def _unreadable(head: bytes) -> Finding | None:
    """Return the finding of a file that is not text."""
    controls = control_bytes(head)
    if not controls:
        return None
    even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
    if max(even, odd) > 0.3 * len(head[:4096]) / 2 and min(even, odd) < max(even, odd) / 4:
        return finding("utf16", "every second byte is NUL: UTF-16 without a mark")
    return finding("binary_file", f"{controls} control bytes at the start of the file")


def open_file(path: Path, *, wants_bom: bool) -> Opened:
    """Return how a file is wrapped, and its text.

    Args:
        path: A resolved path.
        wants_bom: The target asks for a byte-order mark (Azure).
    """
    packed_chunks = read_chunks(path)
    try:
        first = next(packed_chunks, b"")
    except DamagedFileError:
        return _nothing(finding("damaged_file", "the file is compressed, and cut off or damaged"))
    found = _wrapping(path, first, wants_bom=wants_bom)
    chunks = utf8_chunks(itertools.chain([first], packed_chunks), name=path.name)
    try:
        head = next(chunks, b"")
    except DamagedFileError:
        return _nothing(finding("damaged_file", "the file starts like UTF-16 or UTF-32"))
    unreadable = _unreadable(head)
    if unreadable:
        return _nothing(*found, unreadable)
    text = itertools.chain([head], chunks)
    start = head.lstrip()
    if start[:1] in {b"[", b"{"} and is_document(start):
        code = "array_wrapped" if start.startswith(b"[") else "pretty_printed"
        found.append(finding(code, "rows do not stand one to a line", line=1))
        return Opened(found, "document", text)
    return Opened(found, "lines", text)


def check_before(path: Path, size: int, target: Target, limits: Limits) -> list[Finding]:
    """Return what can be said before the first row is read."""
    found: list[Finding] = []
    if target.closed:
        found.append(finding("service_closed", target.closed))
    if target.name.startswith("fireworks") and path.suffix != ".jsonl":
        found.append(finding("file_name", "the name does not end in .jsonl"))
    if target.name.startswith("bedrock") and not _BEDROCK_NAME.fullmatch(path.name):
        found.append(finding("file_name", "the name has other signs than letters, digits, _ - ."))
    if limits.max_bytes is not None and size > limits.max_bytes:
        message = f"{size} bytes; at most {limits.max_bytes}"
        found.append(finding("file_too_large", message))
    return found


def check_after(n_rows: int, limits: Limits) -> list[Finding]:
    """Return what can be said once all rows are counted."""
    least, advised, most = limits.min_rows, limits.advised_rows, limits.max_rows
    if least is not None and n_rows < least:
        return [finding("too_few_rows", f"{n_rows} rows; at least {least}")]
    if advised is not None and n_rows < advised:
        return [finding("few_rows", f"{n_rows} rows; {advised} or more are advised")]
    if most is not None and n_rows > most:
        return [finding("too_many_rows", f"{n_rows} rows; at most {most}")]
    return []
