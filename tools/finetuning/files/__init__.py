"""Files: which may be touched, how rows are read, how results are written whole.

Here: what a data file is, told by its content, its rows, and the faults that a reader reports.
The rest is imported when it is used first: a server that starts reads and writes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.errors import BadInputError, lazy
from finetuning.records import Finding, Record, Severity

if TYPE_CHECKING:
    from finetuning.files.paths import (
        data_files,
        digest,
        files_below,
        new_output_folder,
        resolve_read,
        resolve_write,
        sha256_file,
    )
    from finetuning.files.writing import (
        atomic_write,
        whole_folder,
        write_json,
        write_jsonl,
        write_text,
    )
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(
        __name__,
        paths="data_files digest files_below new_output_folder resolve_read resolve_write "
        "sha256_file",
        writing="atomic_write whole_folder write_json write_jsonl write_text",
    )

__all__ = [
    "READER_CODES",
    "Code",
    "atomic_write",
    "data_files",
    "digest",
    "fault",
    "files_below",
    "new_output_folder",
    "read_records",
    "resolve_read",
    "resolve_write",
    "sha256_file",
    "sniff_format",
    "whole_folder",
    "write_json",
    "write_jsonl",
    "write_text",
]


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


_HEAD_BYTES: Final = 1 << 16
_SAMPLE_BYTES: Final = 8192
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
    from finetuning.files.chunks import read_chunks, utf8_chunks

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


def _json_or_jsonl(path: Path, head: bytes) -> str:
    """Return json or jsonl; a ``.json`` file of one line is a document, too."""
    from finetuning.files.json_rows import is_document

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
    from finetuning.files.text_rows import TEXT_SUFFIXES, first_line, separator_of, text_files

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
    if path.suffix.lower() in TEXT_SUFFIXES and "\t" not in first_line(head):
        return "text_folder"
    return "tsv" if separator == "\t" else "csv"


def _rows(path: Path, source: str) -> Iterator[Record | Finding]:
    """Choose the reader by content; readers are imported when needed, to start fast."""
    from finetuning.files.chunks import read_chunks, utf8_chunks

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
    from finetuning.files.text_rows import separator_of, table_rows

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
