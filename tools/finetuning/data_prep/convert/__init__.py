"""Conversion: rows of any input shape to rows of any target, through one inner shape.

Here: all rows of a source, read as examples that fit the target, or rejected with a reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from finetuning.data_prep import ExamplesMode
from finetuning.data_prep.convert.codes import HOLDS, Holds, Unusable, adapt, flat_notes, replies
from finetuning.data_prep.convert.readers import (
    Reading,
    read_pair,
    read_preference,
    read_text,
    shape_of,
    verdict,
)
from finetuning.data_prep.convert.transcripts import group_turns
from finetuning.data_prep.convert.turns import Columns, Turns, plain_names, time_order, told
from finetuning.data_prep.examples import Example, cell_text
from finetuning.records import Finding, Record

__all__ = [
    "Columns", "Converted", "Converter", "Rejection", "Unusable", "guess_pair", "read_row",
    "shape_of", "turn_columns",
]  # fmt: skip

_SAMPLE: Final = 1_000


def read_row(record: Record, columns: Columns, kinds: Collection[str]) -> Example:
    """Read one row: by the columns that the person named, else by its shape, else by its names.

    Args:
        record: The row.
        columns: What the person said about columns, roles and system text.
        kinds: Kinds of example that the target holds; they decide where a row could be several.

    Raises:
        Unusable: The row cannot be read as an example.
    """
    reading = Reading(record, columns, Turns(columns.role_map))
    made = _named(reading, kinds) or _shaped(reading, kinds)
    if "binary" in kinds and made.kind == "chat":
        liked = verdict(record.data.get(columns.label or "label"))
        made = made if liked is None else dataclasses.replace(made, kind="binary", liked=liked)
    return made.noting(*reading.turns.notes)


def _named(reading: Reading, kinds: Collection[str]) -> Example | None:
    """Read by named columns; None where the person named none that this row has."""
    columns, data = reading.columns, reading.data
    if "text" in kinds and columns.content in data and columns.conversation is None:
        return Example(reading.record, "text", text=cell_text(data[columns.content]))
    if not ({columns.prompt, columns.completion} & data.keys()):
        return None
    if "preference" in kinds and {"chosen", "rejected"} <= data.keys():
        return read_preference(reading)
    return _guessed(reading)


def _shaped(reading: Reading, kinds: Collection[str]) -> Example:
    shape = shape_of(reading.data)
    if shape is None and "text" in kinds and isinstance(reading.data.get("text"), str):
        return read_text(reading)
    return _guessed(reading) if shape is None else shape.read(reading)


def _guessed(reading: Reading) -> Example:
    pair = guess_pair(reading.data, reading.columns)
    if pair is None:
        raise Unusable("unknown_shape")
    return read_pair(reading, reading.data[pair[0]], reading.data[pair[1]])


class Rejection(NamedTuple):
    """One row that is in no split, with the reason and, for a copy, the row that was kept."""

    source: str
    line: int | None
    reason: str
    of: Record | None = None
    why: str | None = None


class Converted(NamedTuple):
    """What became of the rows of a source: each is an example or a rejection."""

    examples: list[Example]
    rejections: list[Rejection]


def guess_pair(names: Iterable[str], columns: Columns) -> tuple[str, str] | None:
    """Return the columns that ask and answer: those named, else told by their names.

    A table of just two columns, one of them told by its name, is told whole.
    """
    listed = list(names)
    taken = {columns.group, columns.time, columns.annotator, columns.context}
    plain = plain_names(name for name in listed if name not in taken)
    completion = columns.completion or told("completion", plain, but=columns.prompt)
    completion = completion or columns.label
    prompt = columns.prompt or told("prompt", plain, but=completion)
    if len(plain) == 2 and (prompt is None) != (completion is None):
        (other,) = (name for name in plain.values() if name not in {prompt, completion})
        prompt, completion = prompt or other, completion or other
    if prompt is None or completion is None or prompt == completion:
        return None
    return (prompt, completion) if {prompt, completion} <= set(listed) else None


def _turns_told(names: Sequence[str], columns: Columns) -> Columns | None:
    plain = plain_names(names)
    conversation = columns.conversation or told("conversation", plain)
    role = columns.role or told("role", plain, but=conversation)
    content = columns.content or told("content", plain, but=role)
    if conversation is None or role is None or content is None:
        return None
    if not {conversation, role, content} <= set(names) or columns.prompt or columns.completion:
        return None
    time = columns.time or told("time", plain)
    time = time if time in names else None
    return dataclasses.replace(
        columns, conversation=conversation, role=role, content=content, time=time
    )


def turn_columns(records: Sequence[Record], columns: Columns) -> Columns | None:
    """Return the columns of a table with one turn per row, or None where it is not one."""
    if not records:
        return None
    names = list(dict.fromkeys(name for record in records[:_SAMPLE] for name in record.data))
    found = _turns_told(names, columns)
    if found is None or columns.conversation is not None:
        return found
    if shape_of(records[0].data) is not None:
        return None
    column = found.conversation or ""
    ids = [cell_text(record.data.get(column)) for record in records[:_SAMPLE]]
    return found if len(set(ids)) < len(ids) else None


def read_conversation(rows: Sequence[Record], columns: Columns) -> Example:
    """Read the rows of one conversation as a chat whose record is its first row.

    Args:
        rows: Its rows, in file order; each is a turn.
        columns: Names of the conversation, role, content and time columns.

    Raises:
        Unusable: A role is not known or a content cannot be read.
    """
    turns = Turns(columns.role_map)
    ordered = list(rows)
    if columns.time is not None:
        order = time_order(row.data.get(columns.time) for row in rows)
        turns.notes += ["times_unreadable"] if order is None else []
        ordered = ordered if order is None else [rows[place] for place in order]
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


def _kinds(holds: Holds) -> frozenset[str]:
    kinds = {"pair": "chat", "graded": "chat"}
    return frozenset({kinds.get(holds.form, holds.form)})


def _with_context(example: Example, column: str | None) -> Example:
    """Put the context of a row before what it asks last, or before its text."""
    context = cell_text(example.record.data.get(column)) if column is not None else ""
    if not context.strip():
        return example
    if example.kind == "text":
        return dataclasses.replace(example, text=f"{context}\n\n{example.text}")
    turns = list(example.messages)
    asking = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    if asking and isinstance(turns[asking[-1]].get("content"), str):
        last = turns[asking[-1]]
        turns[asking[-1]] = {**last, "content": f"{context}\n\n{last['content']}"}
    return dataclasses.replace(example, messages=turns)


def _with_cells(example: Example, columns: Columns) -> Example:
    """Note the label, group, time and annotator of the row an example came from."""
    data = example.record.data

    def cell(column: str | None) -> str | None:
        return (cell_text(data.get(column)) or None) if column is not None else None

    return dataclasses.replace(
        example,
        label=cell(columns.label),
        group=cell(columns.group),
        time=example.time or cell(columns.time),  # a conversation has that of its last turn
        annotator=cell(columns.annotator),
    )


def _expand(example: Example, holds: Holds, mode: ExamplesMode, family: int) -> list[Example]:
    """Return the examples that one row or conversation gives to this target."""
    parts = [example]
    if example.kind == "preference" and holds.form == "binary":
        parts = [
            Example(example.record, "binary", example.messages + side, liked=liked)
            for side, liked in ((example.chosen, True), (example.rejected, False))
        ]
    elif example.kind == "chat" and mode == "per_reply":
        parts = replies(example, holds)
    if len(parts) == 1:
        return parts
    return [dataclasses.replace(part, family=family).noting("one_of_several") for part in parts]


class Converter:
    """Converts rows to one target; keeps what the person said about columns."""

    def __init__(self, target: str, columns: Columns, mode: ExamplesMode) -> None:
        """Prepare for one target of :data:`HOLDS`."""
        self.holds = HOLDS[target]
        self._columns = columns
        self._mode: ExamplesMode = mode
        self._families = 0
        self.turn_tables = 0
        """How many sources were tables with one turn per row."""

    def convert(self, rows: Iterable[Record | Finding], source: str) -> Converted:
        """Read every row of one source.

        Args:
            rows: What ``files.read_records`` yields.
            source: Name of the source, for findings (they carry only a line).

        Returns:
            Examples in file order, and a rejection for every row that gave none.
        """
        records: list[Record] = []
        rejections: list[Rejection] = []
        for row in rows:
            if isinstance(row, Finding):
                rejections.append(Rejection(source, row.line, row.code))
            else:
                records.append(row)
        turns = turn_columns(records, self._columns)
        examples: list[Example] = []
        units = [[record] for record in records]
        self.turn_tables += turns is not None
        if turns is not None and turns.conversation is not None:
            units = group_turns(records, turns.conversation)
        for unit in units:
            made = self._read(unit, turns)
            if isinstance(made, str):
                rejections.append(Rejection(unit[0].source, unit[0].line, made))
                continue
            for part in made:
                fitted = self._fit(part)
                if isinstance(fitted, str):
                    rejections.append(Rejection(unit[0].source, unit[0].line, fitted))
                else:
                    examples.append(fitted)
        return Converted(examples, rejections)

    def _read(self, unit: list[Record], turns: Columns | None) -> list[Example] | str:
        """Return the examples of one row or conversation, or the code of its fault."""
        try:
            if turns is not None:
                example = read_conversation(unit, turns)
            else:
                example = read_row(unit[0], self._columns, _kinds(self.holds))
        except Unusable as error:
            return error.code
        self._families += 1
        example = _with_context(_with_cells(example, self._columns), self._columns.context)
        return _expand(example, self.holds, self._mode, self._families)

    def _fit(self, example: Example) -> Example | str:
        try:
            fitted = adapt(example, self.holds, system=self._columns.system)
        except Unusable as error:
            return error.code
        if self.holds.form in {"pair", "text"} and fitted.kind != "text":
            fitted = fitted.noting(*flat_notes(fitted))
        return fitted
