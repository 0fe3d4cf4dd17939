"""One door to every input format: rows with their place, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from finetuning.errors import BadInputError
from finetuning.files.chunks import read_chunks, utf8_chunks
from finetuning.files.formats import read_head, separator_of, sniff_format
from finetuning.records import Finding, Record


def _rows(path: Path, source: str) -> Iterator[Record | Finding]:
    """Choose the reader by content; readers are imported when needed, to start fast."""
    form = sniff_format(path)
    if form == "parquet":
        from finetuning.files.parquet_rows import parquet_rows

        return parquet_rows(path, source)
    if form == "text_folder":
        from finetuning.files.text_rows import text_rows

        return text_rows(path, source)
    chunks = utf8_chunks(read_chunks(path), name=str(path))
    if form in {"json", "jsonl"}:
        from finetuning.files.json_rows import json_rows, jsonl_rows

        return json_rows(chunks, source) if form == "json" else jsonl_rows(chunks, source)
    from finetuning.files.table_rows import table_rows

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
