"""Tables: which column means what, and one turn per row gathered into chats."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from finetuning.data_prep.convert.turns import Turns
from finetuning.data_prep.examples import Example
from finetuning.errors import UnknownNameError
from finetuning.records import Json, Record

_PROMPTS: Final = (
    "prompt", "question", "instruction", "input", "query", "user", "request", "ask", "customer",
    "source", "context", "title", "ticket", "description", "email", "message", "text", "body",
    "content", "问题", "提问", "输入",
)  # fmt: skip
_COMPLETIONS: Final = (
    "completion", "answer", "response", "output", "reply", "assistant", "target", "expected",
    "expected_output", "label", "category", "class", "intent", "sentiment", "summary",
    "translation", "json", "record", "extracted", "result", "labels", "topic", "sql", "code",
    "回答", "答案", "回复", "输出",
)  # fmt: skip
_CONVERSATIONS: Final = (
    "conversation_id", "conversation", "conv_id", "thread_id", "thread", "ticket_id", "session_id",
    "dialog_id", "dialogue_id", "chat_id", "case_id",
)  # fmt: skip
_ROLES: Final = ("role", "speaker", "author_role", "sender_type", "sender", "author", "from")
_CONTENTS: Final = ("content", "text", "message", "body", "utterance", "value")
_TIMES: Final = (
    "created_at", "timestamp", "time", "sent_at", "date", "created", "datetime", "turn",
    "turn_index", "turn_id", "message_index", "position", "ts",
)  # fmt: skip
_ANNOTATORS: Final = (
    "annotator", "annotator_id", "rater", "rater_id", "labeler", "labeller", "worker_id",
    "reviewer", "annotated_by",
)  # fmt: skip


COLUMN_ARGUMENTS: Final = (
    "prompt", "completion", "conversation", "role", "content", "time", "label", "annotator",
    "group", "context",
)  # fmt: skip
"""Arguments ``<name>_column`` of prepare_data."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a person named (arguments ``<name>_column``) and what goes with them."""

    prompt: str | None = None
    completion: str | None = None
    conversation: str | None = None
    role: str | None = None
    content: str | None = None
    time: str | None = None
    label: str | None = None
    annotator: str | None = None
    group: str | None = None
    context: str | None = None
    role_map: Mapping[str, str] = field(default_factory=dict[str, str])
    system: str | None = None

    def named(self) -> dict[str, str]:
        """Return argument name → column, for those that were given."""
        given = {
            f"{name}_column": cast("str | None", getattr(self, name)) for name in COLUMN_ARGUMENTS
        }
        return {name: column for name, column in given.items() if column is not None}

    def those_in(self, names: Collection[str]) -> Columns:
        """Return the same columns without those that are not among the names."""
        kept = {
            argument.removesuffix("_column"): column
            for argument, column in self.named().items()
            if column in names
        }
        return Columns(**kept, role_map=self.role_map, system=self.system)


def check_columns(columns: Columns, known: Iterable[str], *, where: str) -> None:
    """Refuse a named column that no row of any source has.

    Raises:
        UnknownNameError: The column does not exist; the nearest ones are named.
    """
    names = set(known)
    for argument, column in columns.named().items():
        if column not in names:
            raise UnknownNameError(f"{where}: {argument}", "column", column, names)


def _first(wanted: Iterable[str], names: Mapping[str, str], but: str | None = None) -> str | None:
    return next((names[name] for name in wanted if name in names and names[name] != but), None)


def _by_plain_name(names: Iterable[str]) -> dict[str, str]:
    """Return lower-case name with underscores → name as it is."""
    return {name.strip().casefold().replace(" ", "_").replace("-", "_"): name for name in names}


def guess_pair(names: Iterable[str], columns: Columns) -> tuple[str, str] | None:
    """Return the columns that ask and answer: those named, else told by their names.

    A table of just two columns, one of them told by its name, is told whole.
    """
    listed = list(names)
    taken = {columns.group, columns.time, columns.annotator, columns.context}
    plain = _by_plain_name(name for name in listed if name not in taken)
    completion = columns.completion or _first(_COMPLETIONS, plain, but=columns.prompt)
    completion = completion or columns.label
    prompt = columns.prompt or _first(_PROMPTS, plain, but=completion)
    if len(plain) == 2 and (prompt is None) != (completion is None):
        (other,) = (name for name in plain.values() if name not in {prompt, completion})
        prompt, completion = prompt or other, completion or other
    if prompt is None or completion is None or prompt == completion:
        return None
    return (prompt, completion) if {prompt, completion} <= set(listed) else None


def guess_turns(names: Iterable[str], columns: Columns) -> Columns | None:
    """Return the columns of a table with one turn per row, or None where it is not one."""
    listed = list(names)
    plain = _by_plain_name(listed)
    conversation = columns.conversation or _first(_CONVERSATIONS, plain)
    role = columns.role or _first(_ROLES, plain, but=conversation)
    content = columns.content or _first(_CONTENTS, plain, but=role)
    if conversation is None or role is None or content is None:
        return None
    if not {conversation, role, content} <= set(listed) or columns.prompt or columns.completion:
        return None
    time = columns.time or _first(_TIMES, plain)
    return Columns(
        conversation=conversation,
        role=role,
        content=content,
        time=time if time in listed else None,
        label=columns.label,
        group=columns.group,
        role_map=columns.role_map,
        system=columns.system,
    )


def guess_annotator(names: Iterable[str]) -> str | None:
    """Return the column that says who answered, told by its name."""
    return _first(_ANNOTATORS, _by_plain_name(names))


def cell_text(value: Json) -> str:
    """Return a cell as text: strings as they are, nothing as "", the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)


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


def in_order(rows: Iterable[dict[str, Json]], key: str) -> list[dict[str, Json]]:
    """Return rows by their time where every row has one, else as they are."""
    listed = list(rows)
    times = [time_key(row.get(key)) for row in listed]
    known = [time for time in times if time is not None]
    if len(known) < len(listed):
        return listed
    return [listed[at] for at in sorted(range(len(listed)), key=known.__getitem__)]


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
