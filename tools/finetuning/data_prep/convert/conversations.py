"""Tables with one turn per row, gathered into one chat per conversation."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence

from finetuning.data_prep.convert.columns import Columns, cell_text
from finetuning.data_prep.convert.turns import Turns
from finetuning.data_prep.examples import Example
from finetuning.records import Json, Record


def time_key(value: Json) -> float | None:
    """Return a moment as a number that sorts, or None where it cannot be read.

    Numbers count as they are; ISO 8601 texts become seconds since 1970, taken as UTC where they
    name no zone.
    """
    text = cell_text(value).strip()
    try:
        number = float(text)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def group_turns(records: Sequence[Record], column: str) -> list[list[Record]]:
    """Gather the rows of each conversation, in the order in which the conversations begin.

    Rows without an id are conversations of their own.
    """
    groups: dict[str | int, list[Record]] = {}
    for number, record in enumerate(records):
        name = cell_text(record.data.get(column)).strip()
        groups.setdefault(name or number, []).append(record)
    return list(groups.values())


def _in_time(rows: list[Record], column: str | None, notes: list[str]) -> list[Record]:
    if column is None:
        return rows
    times = [time_key(row.data.get(column)) for row in rows]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        notes.append("times_unreadable")
        return rows
    order = sorted(range(len(rows)), key=known.__getitem__)
    return [rows[place] for place in order]


def read_conversation(rows: Sequence[Record], columns: Columns) -> Example:
    """Read the rows of one conversation as a chat; each row is a turn.

    Args:
        rows: Its rows, in file order.
        columns: Names of the conversation, role, content and time columns.

    Returns:
        An example whose record is the conversation's first row.

    Raises:
        Unusable: A role is not known or a content cannot be read.
    """
    turns = Turns(columns.role_map)
    ordered = _in_time(list(rows), columns.time, turns.notes)
    cells = [
        {
            "role": cell_text(row.data.get(columns.role or "")),
            "content": cell_text(row.data.get(columns.content or "")),
        }
        for row in ordered
    ]
    spoken = [cell for cell in cells if cell["content"].strip()]
    if len(spoken) < len(cells):
        turns.notes.append("empty_turns_left_out")
    messages = turns.chat(spoken)
    last = ordered[-1].data.get(columns.time) if columns.time else None
    made = Example(rows[0], "chat", messages, time=cell_text(last) or None)
    return dataclasses.replace(made, notes=tuple(dict.fromkeys(turns.notes)))
