"""Reads the training logs that people have: what a file is, and its rows with their places.

No reader imports a training library. The binary ones (TensorBoard, SQLite) stand in events.py.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.curve import to_curve
from finetuning.evaluation.diagnose.names import (
    JUDGED,
    Placed,
    canonical,
    console_rows,
    flat,
    logs_in,
    number,
    settings_beside,
)

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning.evaluation.diagnose.curve import Curve

MAX_BYTES: Final = 512 * 2**20
_SETTINGS: Final = (
    "max_steps", "num_train_epochs", "learning_rate", "train_batch_size", "logging_steps",
)  # fmt: skip


class Log(NamedTuple):
    """What a file holds: the name of its format, rows with places, notes and known knobs."""

    format: str
    rows: Placed
    notes: list[str]
    settings: dict[str, float]


def read_log(path: Path, *, where: str) -> Curve:
    """Read a training log of any known format, or the newest one in a folder.

    Args:
        path: The file or folder, its real path.
        where: Its name for error texts.

    Raises:
        BadInputError: It is too large, damaged, or holds no training log.
    """
    if path.is_dir():
        files, notes = logs_in(path, where)
    else:
        files, notes = [path], list[str]()
    logs = [read_file(file, where=where) for file in files]
    rows = [row for log in logs for row in log.rows]
    notes += [note for log in logs for note in log.notes]
    settings = settings_beside(files[0])
    for log in logs:
        settings.update(log.settings)
    vocabulary = settings.pop("vocab_size", 0)
    source = files[0].name
    curve = to_curve(rows, logs[0].format, source=source, notes=notes, settings=settings)
    if curve.columns.keys().isdisjoint(JUDGED):
        raise _no_log(where)
    return curve.known(int(vocabulary) or None, {})


def _no_log(where: str) -> BadInputError:
    return BadInputError(
        where,
        "no loss, eval_loss or reward was found",
        "trainer_state.json, a JSON Lines or CSV log, a TensorBoard or Trackio file, or what a"
        " trainer printed",
        "Pass the trainer's log file, its output folder, or a run_id",
    )


def read_file(path: Path, *, where: str) -> Log:
    """Return what one file holds; no rows where it is no training log.

    Args:
        path: The file.
        where: Its name for error texts.

    Raises:
        BadInputError: It is too large, cannot be read, or is no text and no known binary.
    """
    from finetuning.evaluation.diagnose import events

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadInputError(where, f"{size} bytes", f"at most {MAX_BYTES}", "Cut the log")
        raw = path.read_bytes()
    except OSError as error:
        why = f"cannot be read ({type(error).__name__})"
        raise BadInputError(where, why, "a readable file", "Check its permissions") from error
    if raw.startswith(events.SQLITE):
        return Log("trackio", *events.sqlite_rows(path, where), {})
    if events.is_event_file(raw):
        return Log("tensorboard", *events.event_rows(raw), {})
    text = _text(raw)
    if text is None:
        raise BadInputError(
            where,
            "neither text nor a known binary log",
            "a training log",
            "Pass trainer_state.json",
        )
    return text_log(text, path.name)


def _text(raw: bytes) -> str | None:
    """Return the text of a file; None for binary content."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # PowerShell redirects so
        return raw.decode("utf-16", errors="replace")
    if raw.count(b"\0", 0, 65_536):
        return None
    text = raw.decode("utf-8-sig", errors="replace")
    return _decoded(text)


def _decoded(text: str) -> str:
    """Return the text, or what it says in base64 (OpenAI's result files can come so)."""
    stripped = "".join(text[:4096].split())
    if len(stripped) < 16 or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", stripped):
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8-sig")
    except (binascii.Error, UnicodeDecodeError):
        return text


def text_log(text: str, name: str) -> Log:
    """Return what a text holds, whatever its format.

    Args:
        text: The whole file.
        name: Name of the file; TensorBoard's CSV says there which scalar it holds.
    """
    start = text.lstrip()[:1]
    found = _document(text) if start in ("{", "[") else None
    if found is None and start == "{":
        found = _lines(text)
    return found or _table(text, name) or Log("console", *console_rows(text), {})


def _document(text: str) -> Log | None:
    """Read one JSON document: a trainer's state, checkpoint objects, snapshots, plain rows."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        table = cast("dict[str, Any]", document)
        if isinstance(table.get("log_history"), list):
            known = {key: number(table.get(key)) for key in _SETTINGS}
            settings = {key: value for key, value in known.items() if value}
            return Log("trainer_state", _placed(table["log_history"]), [], settings)
    rows = _placed(_rows_within(document, 4))
    return Log("log lines", rows, [], {}) if rows else None


def _rows_within(value: Any, depth: int) -> list[Any]:
    """Return the longest list of objects with a loss or reward inside a document."""
    best: list[Any] = []
    none: list[Any] = []
    if depth and isinstance(value, dict):
        children = list(cast("dict[str, Any]", value).values())
        best = max((_rows_within(child, depth - 1) for child in children), key=len, default=none)
        best = best or ([value] if _speaks(value) else [])
    elif depth and isinstance(value, list):
        items = cast("list[Any]", value)
        best = items if any(_speaks(item) for item in items) else []
        if not best:
            best = max((_rows_within(child, depth - 1) for child in items), key=len, default=none)
    return best


def _speaks(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    return not {canonical(str(key)) for key in flat(cast("dict[str, Any]", row))}.isdisjoint(JUDGED)


def _placed(rows: list[Any]) -> Placed:
    numbered = enumerate(rows, start=1)
    return [(k, flat(cast("dict[str, Any]", row))) for k, row in numbered if isinstance(row, dict)]


def _lines(text: str) -> Log | None:
    """Read JSON Lines; a line that is cut off or no object is left out and counted."""
    rows: Placed = []
    bad = 0
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad += 1  # the last line of a killed run is often cut
            continue
        if isinstance(row, dict):
            rows.append((place, flat(cast("dict[str, Any]", row))))
    if not any(_speaks(row) for _, row in rows):
        return None
    return Log("log lines", rows, [f"{bad} lines are no JSON and left out"] if bad else [], {})


def _table(text: str, name: str) -> Log | None:
    """Read a table whose header names a loss: CSV, tabs, semicolons, W&B's and TensorBoard's."""
    header = text[:100_000].split("\n", 1)[0]
    separator = max(",\t;", key=header.count)
    csv.field_size_limit(2**20)
    try:
        table = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:
        return None
    if not table or len(table[0]) < 2:
        return None
    names, notes = _columns(table[0], name)
    if {canonical(column) for column in names if column}.isdisjoint(JUDGED):
        return None
    keep = [k for k, column in enumerate(names) if column]
    rows = [
        (place, {names[k]: row[k] for k in keep if k < len(row) and row[k]})
        for place, row in enumerate(table[1:], start=2)
    ]
    return Log("csv", rows, notes, {})


def _columns(header: list[str], name: str) -> tuple[list[str], list[str]]:
    """Return the name of each column ('' = left out) of a table, one run of several."""
    plain = [column.strip() for column in header]
    if plain[:3] == ["Wall time", "Step", "Value"]:
        scalar = re.sub(r".*tag-|\.csv$", "", name)
        return ["", "step", re.sub(r"^(train|eval)_", r"\1/", scalar)], []
    twins = re.compile(r"__(?:MIN|MAX)$")
    owners = Counter(c.partition(" - ")[0] for c in plain if " - " in c and not twins.search(c))
    if not owners:
        return plain, []
    run = owners.most_common(1)[0][0]
    names = [
        "" if twins.search(c) else c.partition(" - ")[2] if c.partition(" - ")[0] == run
        else "_step" if c == "Step" else ""
        for c in plain
    ]  # fmt: skip
    notes = [f"the table holds {len(owners)} runs: the first is read"] if len(owners) > 1 else []
    return names, notes
