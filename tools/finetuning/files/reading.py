"""What a data file is, told by its content, and its rows: one door to every input format."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from finetuning.errors import BadInputError
from finetuning.files.chunks import read_chunks, utf8_chunks
from finetuning.records import Finding, Record

_HEAD_BYTES: Final = 1 << 16
_SAMPLE_BYTES: Final = 8192
_SEPARATORS: Final = (",", "\t", ";", "|")
_MAGIC: Final = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV"),
    (b"%PDF", "a PDF", "Extract its text first"),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV"),
    (b"\x89PNG", "an image", "Name a data file"),
)
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\x1b")


def read_head(path: Path) -> bytes:
    """Return the first 64 KiB of a file as UTF-8 without a byte-order mark, unpacked.

    Raises:
        BadInputError: The file is empty, binary, or its compressed data are damaged.
    """
    head = b""
    for chunk in utf8_chunks(read_chunks(path), name=str(path)):
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    head = head[:_HEAD_BYTES]
    if not head.strip():
        raise BadInputError(
            str(path), "the file is empty", "at least one row", "Check how it was exported"
        )
    if not head.startswith(b"PAR1"):
        _refuse_binary(path, head)
    return head


def control_bytes(head: bytes) -> int:
    """Return how many bytes of a file's start no text has; 0 where they are too few to matter."""
    sample = head[:_SAMPLE_BYTES]
    found = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in sample)
    return found if found > 0.05 * len(sample) else 0


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, what, step in _MAGIC:
        if head.startswith(magic):
            raise BadInputError(str(path), f"the file is {what}", "text or Parquet", step)
    found = control_bytes(head)
    if found:
        raise BadInputError(
            str(path),
            f"the file is binary ({found} control bytes at its start)",
            "CSV, TSV, JSON, JSON Lines or Parquet in UTF-8",
            "Export it as one of these; UTF-16 text needs its byte-order mark",
        )


def separator_of(path: Path, head: bytes) -> str:
    """Return the separator of a table: the one found most often in its header line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    unquoted = "".join(_first_line(head).split('"')[::2])
    counts = {mark: unquoted.count(mark) for mark in _SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def _first_line(head: bytes) -> str:
    lines = head.decode("utf-8", "replace").splitlines()
    return next((line for line in lines if line.strip()), "")


def _is_json(line: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(line), kind)
    except (ValueError, RecursionError):
        return False


def is_document(head: bytes) -> bool:
    """Tell a JSON document (an array, or objects over many lines) from JSON Lines.

    Args:
        head: The first bytes of a file whose text starts with ``{`` or ``[``.
    """
    text = head[:_HEAD_BYTES].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    if text.startswith("["):
        return len(lines) == 1 or not _is_json(lines[0], list)
    if len(lines) == 1 or _is_json(lines[0], dict) or lines[1].lstrip().startswith("{"):
        return False
    in_a_text = re.sub(r"\\.", "", lines[0]).count('"') % 2  # a raw line end cuts a row in two
    return not in_a_text and lines[0].rstrip().endswith(("{", "[", ","))


def _json_or_jsonl(path: Path, head: bytes) -> str:
    """Return json or jsonl; a ``.json`` file of one line is a document, too."""
    if is_document(head):
        return "json"
    single = path.suffix.lower() == ".json" and len(head.split()) and b"\n" not in head.strip()
    return "json" if single else "jsonl"


def sniff_format(path: Path) -> str:
    """Return what the content is: csv, tsv, json, jsonl, parquet or text_folder.

    gzip and zstd are looked through; a single text or Markdown file counts as a folder of one.

    Raises:
        BadInputError: The file is empty, binary or damaged, or the folder holds no text.
    """
    from finetuning.files.text_rows import TEXT_SUFFIXES, text_files

    if path.is_dir():
        if not text_files(path):
            raise BadInputError(
                str(path),
                "the folder holds no .txt or .md file",
                "a data file, or a folder of text or Markdown files",
                "Name one file inside it",
            )
        return "text_folder"
    head = read_head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.lstrip()[:1] in {b"{", b"["}:
        return _json_or_jsonl(path, head)
    separator = separator_of(path, head)
    if path.suffix.lower() in TEXT_SUFFIXES and "\t" not in _first_line(head):
        return "text_folder"
    return "tsv" if separator == "\t" else "csv"


def _rows(path: Path, source: str) -> Iterator[Record | Finding]:
    """Choose the reader by content; readers are imported when needed, to start fast."""
    form = sniff_format(path)
    if form == "parquet":
        from finetuning.files.json_rows import parquet_rows

        return parquet_rows(path, source)
    if form == "text_folder":
        from finetuning.files.text_rows import text_rows

        return text_rows(path, source)
    chunks = utf8_chunks(read_chunks(path), name=str(path))
    if form in {"json", "jsonl"}:
        from finetuning.files.json_rows import json_rows, jsonl_rows

        return json_rows(chunks, source) if form == "json" else jsonl_rows(chunks, source)
    from finetuning.files.text_rows import table_rows

    return table_rows(chunks, source, separator_of(path, read_head(path)))


def read_records(path: Path, *, source: str | None = None) -> Iterator[Record | Finding]:
    """Return the rows of a data file one at a time; a bad row comes as a Finding.

    CSV, TSV, a JSON array, JSON Lines, Parquet, any of the text forms in gzip or zstd, and a
    folder of text or Markdown files. The format is told by the content. Lines are physical and
    counted from 1 (CSV header = 1); Parquet and JSON arrays count rows. Memory stays flat.

    Args:
        path: A resolved path (see ``resolve_read``).
        source: Name that the records carry; by default the path.

    Raises:
        BadInputError: At once for an empty or binary file or one without rows; later if the
            file is damaged in the middle or changes while it is read.
    """
    rows = _rows(path, str(path) if source is None else source)
    first = next(rows, None)
    if first is None:
        raise BadInputError(
            str(path), "the file holds no rows", "at least one row", "Check how it was exported"
        )
    return itertools.chain([first], rows)
