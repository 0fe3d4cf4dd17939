"""Rows as JSON values, from JSON Lines files, JSON documents and Parquet files."""

from __future__ import annotations

import base64
import codecs
import datetime
import decimal
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, cast

from finetuning.errors import BadInputError
from finetuning.files import fault
from finetuning.files.chunks import MAX_LINE_BYTES, FileGuard, split_lines
from finetuning.records import Finding, Json, Record

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()
_ROW_KEYS: Final = frozenset(
    {"messages", "conversations", "contents", "comments", "conversation_parts"}
)
"""Keys whose list belongs to a row, not to a file of rows."""
_NEAR_END: Final = 16
"""A syntax error this close to the end of the buffer may be a token that was cut in half."""


def read_row(source: str, line: int, raw: bytes) -> Record | Finding:
    """Decode one row strictly (no NaN, no lone surrogates, no bad UTF-8)."""
    import orjson

    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _explain(line, raw, error)
    if isinstance(value, dict):
        return Record(source, line, cast("dict[str, Json]", value))
    kind = type(value).__name__
    return fault("not_object", line=line, message=f"the row is a JSON {kind}, not an object")


def _explain(line: int, raw: bytes, error: ValueError) -> Finding:
    if b"\0" in raw:
        return fault("nul_character", line=line, message=f"{raw.count(0)} NUL bytes in the row")
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        message = f"byte 0x{raw[bad.start]:02x} at byte {bad.start} of the line is not UTF-8"
        return fault("invalid_utf8", line=line, message=message)
    column = getattr(error, "colno", None)
    message = f"not valid JSON from character {column} of {len(raw)} bytes"
    return fault("json_invalid", line=line, message=message)


def jsonl_rows(chunks: Iterable[bytes], source: str) -> Iterator[Record | Finding]:
    """Yield one record or finding per non-blank line, with its physical line number."""
    for number, raw in enumerate(split_lines(chunks), start=1):
        line = raw.strip()
        if not line:
            continue
        if len(raw) > MAX_LINE_BYTES:
            yield fault("line_too_long", line=number, message="the line is longer than 160 MiB")
            continue
        yield read_row(source, number, line)


class _Window:
    """The text of a document from the place of reading on, filled from its chunks as needed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.place = 0
        self.at_end = False

    def fill(self) -> None:
        """Add about as much text as is unread, so that retries stay linear in the whole."""
        unread = self.text[self.place :]
        wanted = max(len(unread), 1)
        added: list[str] = []
        while wanted > 0 and not self.at_end:
            chunk = next(self._chunks, None)
            self.at_end = chunk is None
            added.append(self._decoder.decode(chunk or b"", final=self.at_end))
            wanted -= len(added[-1])
        self.text, self.place = unread + "".join(added), 0

    def peek(self) -> str:
        """Skip white space and return the next character ("" at the end)."""
        while True:
            space = _SPACE.match(self.text, self.place)
            self.place = space.end() if space else self.place
            if self.place < len(self.text) or self.at_end:
                return self.text[self.place : self.place + 1]
            self.fill()

    def element(self) -> bytes | None:
        """Cut the next JSON value off; None where it is broken or never ends."""
        while True:
            unread = len(self.text) - self.place
            try:
                end = _DECODER.raw_decode(self.text, self.place)[1]
                if end < len(self.text) or self.at_end:
                    break
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self.text) - _NEAR_END
                cut = near_end or error.msg.startswith("Unterminated")
                if self.at_end or not cut or unread > MAX_LINE_BYTES:
                    return None
            except (RecursionError, ValueError):  # nested too deeply; an integer of 4,301 digits
                return None
            self.fill()
        value = self.text[self.place : end].encode("utf-8", "surrogateescape")
        self.place = end
        return value


Element = tuple[int, bytes] | Finding
"""The number of an element, counted from 1, and its bytes; or what is wrong."""


def _broken(number: int, message: str) -> Finding:
    return fault("array_broken", line=number, message=message)


def _array_elements(window: _Window) -> Iterator[Element]:
    window.place += 1  # the opening bracket
    number = 0
    following = window.peek()
    while following != "]":
        number += 1
        element = window.element() if following else None
        if element is None:
            yield _broken(number, f"the array breaks off or is malformed at row {number}")
            return
        yield number, element
        following = _after_element(window)
    window.place += 1
    if window.peek():
        yield _broken(number + 1, "text follows the closing bracket of the array")


def _after_element(window: _Window) -> str:
    """Return "]" at the end of the array, the start of the next element, or "" if broken."""
    mark = window.peek()
    if mark == "]":
        return mark
    if mark != ",":
        return ""
    window.place += 1
    start = window.peek()
    return "" if start == "]" else start  # a comma promises one more row


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
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    every = (found[0] for found in re.finditer(r"[^\r\n]+", text))
    lines = list(itertools.islice(filter(str.strip, every), 2))
    if text.startswith("["):
        return len(lines) == 1 or not _is_json(lines[0], list)
    if len(lines) == 1 or _is_json(lines[0], dict) or lines[1].lstrip().startswith("{"):
        return False
    in_a_text = re.sub(r"\\.", "", lines[0]).count('"') % 2  # a raw line end cuts a row in two
    return not in_a_text and lines[0].rstrip().endswith(("{", "[", ","))


def json_elements(chunks: Iterable[bytes]) -> Iterator[Element]:
    """Yield the raw elements of a JSON document, one at a time.

    Those of the array, or else the values that stand one after the other.
    """
    window = _Window(chunks)
    if window.peek() == "[":
        yield from _array_elements(window)
        return
    number = 0
    while window.peek():
        number += 1
        element = window.element()
        if element is None:
            yield _broken(number, f"the document breaks off or is malformed at row {number}")
            return
        yield number, element


def json_rows(chunks: Iterable[bytes], source: str) -> Iterator[Record | Finding]:
    """Yield the rows of a JSON document, numbered from 1.

    Rows are the elements of an array; of a single object, the elements of its only list of
    objects, or the object itself; of several objects one after the other, these objects.
    """
    elements = json_elements(chunks)
    first = next(elements, None)
    second = next(elements, None)
    row = read_row(source, *first) if isinstance(first, tuple) else first
    items = _list_of_objects(row) if second is None else None
    if items is not None:
        for number, item in enumerate(items, start=1):
            yield Record(source, number, item)
        return
    if row is not None:
        yield row
    for element in itertools.chain([second] if second else [], elements):
        yield read_row(source, *element) if isinstance(element, tuple) else element


def _list_of_objects(row: Record | Finding | None) -> list[dict[str, Json]] | None:
    """Return the only list of objects among the values of a row, if there is just one."""
    if not isinstance(row, Record) or _ROW_KEYS & row.data.keys():
        return None
    found: list[list[dict[str, Json]]] = []
    for value in row.data.values():
        items = cast("list[Json]", value) if isinstance(value, list) else []
        if items and all(isinstance(item, dict) for item in items):
            found.append(items)
    return found[0] if len(found) == 1 else None


def _json_value(value: object, *, inside: bool = False) -> Json:
    """Return a cell as JSON; null keys inside structs are left out.

    Parquet gives every struct of a list the same keys, so a null there means "absent".
    """
    if isinstance(value, Mapping):
        cells = cast("Mapping[str, object]", value)
        return {
            key: _json_value(cell, inside=True)
            for key, cell in cells.items()
            if not (inside and cell is None)
        }
    if isinstance(value, list):
        return [_json_value(cell, inside=True) for cell in cast("list[object]", value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def parquet_rows(path: Path, source: str) -> Iterator[Record]:
    """Yield the rows of a Parquet file, numbered from 1, a batch at a time.

    Dates become ISO 8601 text, decimals text, bytes base64, durations seconds, and NaN null.

    Raises:
        BadInputError: The file is damaged, or changed meanwhile.
    """
    import polars as pl

    guard = FileGuard(path)
    number = 0
    try:
        for frame in pl.scan_parquet(path, glob=False).collect_batches():
            for row in frame.iter_rows(named=True):
                number += 1
                yield Record(source, number, {key: _json_value(row[key]) for key in row})
    except (pl.exceptions.PolarsError, OSError) as error:
        guard.check()
        raise BadInputError(
            str(path),
            f"the Parquet data are damaged after row {number}",
            "a whole Parquet file",
            "Make or download the file again",
        ) from error
    guard.check()
