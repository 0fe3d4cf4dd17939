"""Rows of Parquet files, as JSON values."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from finetuning.errors import BadInputError
from finetuning.files.chunks import FileGuard
from finetuning.records import Json, Record


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
