"""Logs that are no text: TensorBoard's event files and Trackio's database.

TensorBoard: TFRecords (length, masked CRC-32C, bytes, masked CRC-32C) around protobuf events;
every checksum is tested, all records of one length at once. Trackio 0.43: one SQLite table
``metrics`` with JSON in a text column.
Source: tensorflow/core/example and util/event.proto, trackio/sqlite_storage.py (read 2026-11).
"""

from __future__ import annotations

import functools
import json
import math
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.names import Placed, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SQLITE: Final = b"SQLite format 3\0"
_POLYNOMIAL: Final = 0x82F63B78


# --- TensorBoard


def is_event_file(raw: bytes) -> bool:
    """Return whether bytes begin with a TFRecord whose length has the right checksum."""
    if len(raw) < 16:
        return False
    length, check = struct.unpack_from("<QI", raw)
    return bool(length < 2**31 and _masked(_crc([raw[:8]])[0]) == check)


def event_rows(raw: bytes) -> tuple[Placed, list[str]]:
    """Return the scalars of an event file, one row per step; records after damage are left out.

    Args:
        raw: The file.
    """
    records: list[bytes] = []
    checks: list[int] = []
    heads: list[bytes] = []
    head_checks: list[int] = []
    at, notes = 0, list[str]()
    while at + 12 <= len(raw):
        length, check = struct.unpack_from("<QI", raw, at)
        if at + 16 + length > len(raw):
            notes.append(f"record {len(records) + 1} is cut off: those before it are read")
            break
        heads.append(raw[at : at + 8])
        head_checks.append(check)
        records.append(raw[at + 12 : at + 12 + length])
        checks.append(struct.unpack_from("<I", raw, at + 12 + length)[0])
        at += 16 + length
    good = min(_good(heads, head_checks), _good(records, checks))
    if good < len(records):
        notes.append(f"record {good + 1} is damaged (checksum): those before it are read")
    rows: Placed = []
    for place, record in enumerate(records[:good], start=1):
        step, scalars = _event(record)
        if (
            scalars
            and rows
            and rows[-1][1]["step"] == step
            and rows[-1][1].keys().isdisjoint(scalars)
        ):
            rows[-1][1].update(scalars)
        elif scalars:
            rows.append((place, {"step": step, **scalars}))
    return rows, notes


def _good(records: list[bytes], checks: list[int]) -> int:
    """Return how many records from the first on have the right checksum."""
    for index, (crc, check) in enumerate(zip(_crc(records), checks, strict=True)):
        if _masked(crc) != check:
            return index
    return len(records)


@functools.cache
def _table() -> NDArray[np.uint32]:
    import numpy as np

    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


def _crc(records: list[bytes]) -> list[int]:
    """Return CRC-32C of each record; records of one length are taken side by side."""
    import numpy as np

    table = _table()
    found = [0] * len(records)
    by_length: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        by_length.setdefault(len(record), []).append(index)
    for length, members in by_length.items():
        joined = b"".join(records[index] for index in members)
        block = np.frombuffer(joined, dtype=np.uint8).reshape(len(members), length)
        crc = np.full(len(members), 0xFFFFFFFF, dtype=np.uint32)
        for column in range(length):
            crc = table[(crc ^ block[:, column]) & 0xFF] ^ (crc >> 8)
        for index, value in zip(members, crc.tolist(), strict=True):
            found[index] = value ^ 0xFFFFFFFF
    return found


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _event(record: bytes) -> tuple[int, dict[str, float]]:
    """Return step and scalars of one event: fields step (2) and summary (5) with values (1)."""
    step, scalars = 0, dict[str, float]()
    try:
        for key, value in _fields(record):
            if key == 2 and isinstance(value, int):
                step = value - (value >> 63 << 64)
            elif key == 5 and isinstance(value, bytes):
                for inner, part in _fields(value):
                    if inner == 1 and isinstance(part, bytes):
                        scalars.update(_scalar(part))
    except (IndexError, struct.error, ValueError):
        return step, {}
    return step, scalars


def _scalar(value: bytes) -> dict[str, float]:
    """Return tag and number: ``simple_value`` (2), or a tensor (8) of one float or double."""
    tag, amount = "", math.nan
    known = False
    for key, part in _fields(value):
        if key == 1 and isinstance(part, bytes):
            tag = part.decode("utf-8", errors="replace")
        elif key == 2 and isinstance(part, float):
            amount, known = part, True
        elif key == 8 and isinstance(part, bytes):
            for inner, held in _fields(part):
                if inner in (4, 5) and isinstance(held, bytes) and len(held) in (4, 8):
                    amount = struct.unpack("<f" if len(held) == 4 else "<d", held)[0]
                    known = True
                elif inner in (5, 6) and isinstance(held, float):
                    amount, known = held, True
    return {tag: amount} if tag and known else {}


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield number and value of each protobuf field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == 1:
            yield key >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError
            yield key >> 3, data[at : at + length]
            at += length
        elif kind == 5:
            yield key >> 3, struct.unpack_from("<f", data, at)[0]
            at += 4
        else:
            raise ValueError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise ValueError


# --- Trackio


def sqlite_rows(path: Path, where: str) -> tuple[Placed, list[str]]:
    """Return the newest run of a Trackio database, row by row.

    Args:
        path: The database; it is opened read-only.
        where: Its name for error texts.

    Raises:
        BadInputError: It is damaged, or no table ``metrics`` with step and metrics is in it.
    """
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    try:
        uri = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2)) as store:
            names = {str(row[1]) for row in store.execute("PRAGMA table_info(metrics)")}
            run = "run_id" if "run_id" in names else "run_name"
            if not {run, "step", "metrics"} <= names:
                raise BadInputError(
                    where,
                    "a database without Trackio's table metrics",
                    "columns run_id or run_name, step and metrics",
                    "Pass a trainer's log",
                )
            runs = store.execute(
                f"SELECT {run} FROM metrics GROUP BY {run} ORDER BY max(rowid) DESC"  # noqa: S608 - one of two constants
            ).fetchall()
            found = store.execute(
                f"SELECT rowid, step, metrics FROM metrics WHERE {run} IS ? ORDER BY rowid",  # noqa: S608 - one of two constants
                runs[0] if runs else (None,),
            ).fetchall()
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        raise BadInputError(
            where,
            f"a database that cannot be read ({type(error).__name__})",
            "Trackio's",
            "Copy it anew",
        ) from error
    notes = [f"{len(runs)} runs stand in the database: the newest is read"] if len(runs) > 1 else []
    return [(int(place), _row(step, text)) for place, step, text in found], notes


def _row(step: object, text: object) -> dict[str, Any]:
    try:
        read: Any = json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    row = cast("dict[str, Any]", read)
    own = {key: value for key, value in row.items() if canonical(key) != "step"}
    return {**own, "step": row.get("train/global_step", step)}
