"""Rows whose values are all texts: of CSV and TSV tables, and of text and Markdown files."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from finetuning.files import fault, files_below
from finetuning.files.chunks import MAX_LINE_BYTES, read_chunks, split_lines, utf8_chunks
from finetuning.records import Finding, Record

TEXT_SUFFIXES: Final = frozenset({".txt", ".md", ".markdown"})
_SEPARATORS: Final = (",", "\t", ";", "|")
_LABEL: Final = re.compile(
    r"^\s*(?:#{1,6}\s*)?(?:[-*]\s+)?(?:\*\*|__)?"
    r"(?:(?P<ask>q|question|user|customer|prompt|frage|pregunta|问题?|用户)"
    r"|(?P<reply>a|answer|assistant|agent|completion|antwort|respuesta|答案?|回答|助手))"
    r"\s*\d{0,5}\s*(?:\*\*|__)?\s*[:：]\s*(?:\*\*|__)?\s*",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"^#{1,6}\s+(?P<title>.*\S)\s*#*\s*$")
_FENCE: Final = re.compile(r"^\s*(?:```|~~~)")


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


class _Pair:
    """One question with the lines of its answer, as they are collected."""

    def __init__(self, line: int, question: str) -> None:
        self.line = line
        self.question = [question]
        self.answer: list[str] | None = None

    def add(self, text: str) -> None:
        (self.question if self.answer is None else self.answer).append(text)

    def data(self) -> dict[str, str] | None:
        prompt = "\n".join(self.question).strip()
        completion = "\n".join(self.answer or []).strip()
        return {"prompt": prompt, "completion": completion} if prompt and completion else None


def _labelled(lines: list[str]) -> Iterator[_Pair]:
    """Pairs of the form ``Q: … A: …`` (Question/Answer, User/Assistant, 问/答…)."""
    pair: _Pair | None = None
    fenced = False
    for number, line in enumerate(lines, start=1):
        fenced ^= bool(_FENCE.match(line))
        label = None if fenced else _LABEL.match(line)
        if label and label["ask"]:
            if pair:
                yield pair
            pair = _Pair(number, line[label.end() :])
        elif label and pair and pair.answer is None:
            pair.answer = [line[label.end() :]]
        elif pair:
            pair.add(line)
    if pair:
        yield pair


def _headed(lines: list[str]) -> Iterator[_Pair]:
    """Pairs of a Markdown heading that asks (ends in ``?`` or ``？``) and the text below it."""
    pair: _Pair | None = None
    fenced = False
    for number, line in enumerate(lines, start=1):
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading:
            if pair:
                yield pair
            asks = heading["title"].endswith(("?", "？"))
            pair = _Pair(number, heading["title"]) if asks else None
            if pair:
                pair.answer = []
        elif pair:
            pair.add(line)
    if pair:
        yield pair


def text_files(folder: Path) -> list[Path]:
    """Return the text and Markdown files of a folder and its sub-folders, by name."""
    return [
        file
        for file in files_below(folder)
        if file.suffix.lower() in TEXT_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def _file_rows(file: Path, source: str) -> Iterator[Record | Finding]:
    raw = b"".join(split_lines(utf8_chunks(read_chunks(file), name=source)))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = 1 + len(raw[: error.start].splitlines())
        message = f"{source}: byte 0x{raw[error.start]:02x} is not UTF-8"
        yield fault("invalid_utf8", line=line, message=message)
        return
    if not text.strip():
        yield fault("empty_text_file", line=None, message=f"{source} holds no text")
        return
    lines = re.split(r"\r\n|\r|\n", text)
    found = False
    for pairs in (_labelled, _headed):
        for pair in pairs(lines):
            data = pair.data()
            if data:
                found = True
                yield Record(source, pair.line, {**data})
        if found:
            return
    yield Record(source, 1, {"text": text.strip()})


def text_rows(path: Path, source: str) -> Iterator[Record | Finding]:
    """Yield ``prompt``/``completion`` pairs of a text file or of a folder of them.

    A pair starts at a line ``Q:`` (``Question:``, ``User:``, ``问：`` …) or at a Markdown
    heading that ends in a question mark. A file without any pair is one row ``{"text": …}``.
    The source of a row is the file it came from; its line is where the question starts.
    """
    if path.is_file():
        yield from _file_rows(path, source)
        return
    for file in text_files(path):
        yield from _file_rows(file, f"{source}/{file.relative_to(path).as_posix()}")


def separator_of(path: Path, head: bytes) -> str:
    """Return the separator of a table: the one found most often in its header line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    unquoted = "".join(first_line(head).split('"')[::2])
    counts = {mark: unquoted.count(mark) for mark in _SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def first_line(head: bytes) -> str:
    """Return the first line of a file's start that is not blank."""
    lines = head.decode("utf-8", "replace").splitlines()
    return next((line for line in lines if line.strip()), "")
