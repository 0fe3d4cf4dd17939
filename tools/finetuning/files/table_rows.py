"""Rows of CSV and TSV files, with the physical line where each row starts."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator

from finetuning.files.chunks import MAX_LINE_BYTES, split_lines
from finetuning.files.faults import fault
from finetuning.records import Finding, Record


class _Lines:
    """Hands lines to the csv parser and remembers those of the row it is at."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.number = 0  # the last line handed out
        self.row: list[str] = []  # the lines of the current row
        self._again: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.pop()
        else:
            line = next(self._lines).decode("utf-8", "surrogateescape")
        self.number += 1
        self.row.append(line)
        return line

    def begin_row(self) -> int:
        """Forget the last row and return the number of the line that comes next."""
        self.row = []
        return self.number + 1

    def replay(self) -> None:
        """Hand out all lines of the current row once more, but for the first."""
        again = self.row[1:]
        self._again.extend(reversed(again))
        self.number -= len(again)


def _column_names(header: list[str]) -> list[str]:
    """Return header names that are all different and none empty."""
    names: list[str] = []
    taken: set[str] = set()
    for position, name in enumerate(header, start=1):
        base = name.strip() or f"column_{position}"
        suffixes = (f"_{number}" for number in itertools.count(2))
        unique = base
        while unique in taken:
            unique = base + next(suffixes)
        taken.add(unique)
        names.append(unique)
    return names


def _check_text(fields: list[str], line: int) -> Finding | None:
    text = "\x1f".join(fields)
    if "\0" in text:
        message = f"{text.count(chr(0))} NUL characters in the row"
        return fault("nul_character", line=line, message=message)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        column = 1 + text.count("\x1f", 0, error.start)
        message = f"a byte that is not UTF-8 in column {column}"
        return fault("invalid_utf8", line=line, message=message)
    return None


def _row(fields: list[str], names: list[str], line: int, source: str) -> Record | Finding:
    broken = _check_text(fields, line)
    if broken:
        return broken
    if len(fields) != len(names):
        message = f"the row has {len(fields)} fields, the header {len(names)}"
        return fault("column_count", line=line, message=message)
    return Record(source, line, dict(zip(names, fields, strict=True)))


def table_rows(chunks: Iterable[bytes], source: str, separator: str) -> Iterator[Record | Finding]:
    """Yield one record or finding per row of a table; every value is a string.

    Quoted fields may hold separators and line ends. After a quote that is never closed, reading
    goes on with the next line, so that one stray quote costs one row. Empty column names become
    ``column_<n>``, repeated ones get ``_2``, ``_3``…
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _Lines(split_lines(chunks))
    names: list[str] | None = None
    while True:
        start = lines.begin_row()
        try:
            fields = next(csv.reader(lines, delimiter=separator, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            quotes = lines.row[0].count('"') if lines.row else 0
            lines.replay()
            message = f"{error}; {quotes} quotes on the line where the row starts"
            yield fault("csv_quotes", line=start, message=message)
            continue
        if not any(field.strip() for field in fields):
            continue
        if names is None:
            names = _column_names(fields)
            continue
        yield _row(fields, names, start, source)
