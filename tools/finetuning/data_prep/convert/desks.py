"""Exports of Zendesk and Intercom, read as chats between a customer and support.

What support wrote for itself (internal notes), what machines wrote (bots, merges, status changes)
and what was deleted is no turn; it is left out with a note, and a conversation of nothing else is
rejected as ``no_turns``.
Source: developer.zendesk.com, ticket comments and incremental exports; developers.intercom.com,
conversation and conversation part (checked 2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert.transcripts import (
    Row,
    conversation,
    html_text,
    row_of,
    rows_of,
    without_quotes,
)
from finetuning.data_prep.convert.turns import in_order
from finetuning.data_prep.examples import Message, cell_text
from finetuning.files import files_below, read_records
from finetuning.records import Finding, Json, Record

Place = tuple[str, int]
Names = Mapping[str, str]
"""The person's own words: role, id or name of an author → role."""

_BODIES: Final = ("body", "plain_body", "html_body")
_WORDS_OF: Final = {
    "user": frozenset("end-user end_user user lead contact customer visitor requester".split()),
    "assistant": frozenset("agent admin team owner teammate light_agent support".split()),
    "bot": frozenset("bot system workflow campaign operator".split()),
}


def _flag(value: Json) -> bool | None:
    word = cell_text(value).strip().casefold()
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(word)


# --- Zendesk ---------------------------------------------------------------------------------


class Ticket(NamedTuple):
    """A Zendesk ticket with its comments, and what is known of people."""

    ticket: Row
    comments: list[Row]
    users: Names


def _people(ticket: Row, comments: Sequence[Row], users: Names) -> dict[str, str]:
    """Return author id → role (user or assistant), as far as the export says."""
    known = {name: role for name, role in users.items() if role in {"user", "assistant"}}
    asking = cell_text(row_of(ticket.get("requester")).get("id") or ticket.get("requester_id"))
    public = [row for row in comments if _flag(row.get("public")) is not False]
    if not asking and public:
        asking = cell_text(_author(in_order(public, "created_at")[0]))
    if asking:
        known.setdefault(asking, "user")
    for row in comments:
        if _flag(row.get("public")) is False:
            known.setdefault(cell_text(_author(row)), "assistant")
    return known


def _author(row: Row) -> Json:
    author = row.get("author")
    inside = row_of(author).get("id") if isinstance(author, dict) else author
    return row.get("author_id") or inside


def role_of(word: Json, names: Names) -> str | None:
    """Return user, assistant or bot for a word of a vendor, None where it is not known."""
    plain = cell_text(word).strip().casefold()
    if plain in names:
        return names[plain]
    return next((role for role, words in _WORDS_OF.items() if plain in words), None)


def _words(row: Row, notes: list[str]) -> str:
    raw = next((row[key] for key in _BODIES if cell_text(row.get(key)).strip()), "")
    text = html_text(cell_text(raw).replace("&nbsp;", " "), notes)
    if row.get("attachments") and row["attachments"] != "[]":
        notes.append("attachments_left_out")
    return without_quotes(text, notes).strip()


_MERGED: Final = re.compile(
    r"\s*(?:This request was closed and merged into request #\d+"
    r"|Request #\d+ .{0,200}was closed and merged into this request)"
)


def _is_merge(row: Row) -> bool:
    """Say whether Zendesk wrote a comment when two tickets were joined."""
    if _MERGED.match(cell_text(row.get("body"))):
        return True
    via = row_of(row.get("via"))
    rel = row_of(via.get("source")).get("rel")
    return rel == "merge" or via.get("channel") in {"merge", "closed_ticket"}


def zendesk(found: Ticket, place: Place, names: Names) -> Record:
    """Return a ticket as a chat: the requester asks, everyone else known as staff answers."""
    ticket, comments, users = found
    notes: list[str] = []
    turns: list[Message] = []
    people = _people(ticket, comments, users)
    last: Json = ticket.get("created_at")
    if not comments and ticket.get("description") and ticket.get("status") != "deleted":
        comments = [{"body": ticket["description"], "author_id": ticket.get("requester_id")}]
        people = {cell_text(ticket.get("requester_id")): "user"}
    for row in in_order(comments, "created_at"):
        author = cell_text(_author(row))
        said_to_be = row.get("author_role") or row_of(row.get("author")).get("role")
        role = names.get(author.casefold()) or role_of(said_to_be, names) or people.get(author)
        if _flag(row.get("public")) is False:
            notes.append("internal_notes_left_out")
            continue
        if _is_merge(row) or role == "bot":
            notes.append("events_left_out")
            continue
        if role is None:
            role = "assistant"
            notes.append("roles_by_requester")
        text = _words(row, notes)
        if text:
            turns.append({"role": role, "content": text})
            last = row.get("created_at") or last
    score = row_of(ticket.get("satisfaction_rating")).get("score")
    subject = ticket.get("subject") or ticket.get("raw_subject")
    beside: Row = {"id": ticket.get("id"), "title": subject, "timestamp": last}
    return conversation(place, turns, notes, **beside, satisfaction=score)


def zendesk_ticket(data: Row) -> Ticket | None:
    """Return the ticket of a row of a Zendesk export, or None where it is none."""
    inner = row_of(data.get("ticket")) or data
    comments = inner.get("comments", data.get("comments"))
    signs = {"requester_id", "submitter_id", "requester", "raw_subject", "assignee_id"}
    if isinstance(comments, list):
        rows = rows_of(comments)
        if rows and all(_has_body(row) and ("author_id" in row or "author" in row) for row in rows):
            return Ticket(inner, rows, {})
        return Ticket(inner, rows, {}) if not rows and signs & inner.keys() else None
    is_ticket = "description" in inner and len(signs & inner.keys()) >= 2
    return Ticket(inner, [], {}) if is_ticket else None


def _has_body(row: Row) -> bool:
    return any(key in row for key in _BODIES)


def is_zendesk_comment(data: Row) -> bool:
    """Say whether a row is one comment of a ticket, as tables of comments have them."""
    return {"ticket_id", "author_id"} <= data.keys() and _has_body(data)


# --- Intercom --------------------------------------------------------------------------------

_SPOKEN: Final = frozenset({"comment", "open", "close", "quick_reply", "conversation"})
_NOTES: Final = frozenset({"note", "note_and_reopen"})


def is_intercom(data: Row) -> bool:
    """Say whether a row is an Intercom conversation."""
    parts = data.get("conversation_parts")
    source = row_of(data.get("source"))
    return isinstance(parts, dict | list) or (data.get("type") == "conversation" and bool(source))


def intercom(data: Row, place: Place, names: Names) -> Record:
    """Return an Intercom conversation: its source, then the parts that the customer saw."""
    notes: list[str] = []
    turns: list[Message] = []
    listed = data.get("conversation_parts")
    parts = rows_of(
        row_of(listed).get("conversation_parts") if isinstance(listed, dict) else listed
    )
    source = row_of(data.get("source") or data.get("conversation_message"))
    total = row_of(listed).get("total_count")
    if isinstance(total, int) and total > len(parts):
        notes.append("parts_not_in_export")
    last: Json = data.get("created_at")
    for row in [{"part_type": "comment", **source}, *in_order(parts, "created_at")]:
        kind, author = cell_text(row.get("part_type")), row_of(row.get("author"))
        person = cell_text(author.get("id")).casefold()
        role = names.get(person) or role_of(author.get("type"), names)
        if row.get("redacted"):
            notes.append("deleted_left_out")
        elif kind in _NOTES:
            notes.append("internal_notes_left_out")
        elif cell_text(row.get("body")).strip():
            if kind not in _SPOKEN or role not in {"user", "assistant"}:
                notes.append("bots_left_out" if role == "bot" else "events_left_out")
                continue
            text = _words(row, notes)
            if text:
                turns.append({"role": role, "content": text})
                last = row.get("created_at") or last
    title = html_text(cell_text(source.get("subject") or data.get("title")), []) or None
    return conversation(place, turns, notes, id=data.get("id"), title=title, timestamp=last)


# --- files ----------------------------------------------------------------------------------


def unpacked(data: Row) -> list[Row]:
    """Return the tickets or conversations of a page of an API, or the row itself."""
    for key in ("tickets", "conversations"):
        rows = rows_of(data.get(key))
        if rows and "from" not in rows[0]:
            return rows
    return [data]


def desk_kind(sample: Sequence[Row]) -> str | None:
    """Return zendesk or intercom where most rows of a file are theirs, else None."""
    rows = [row for data in sample for row in unpacked(data)]
    if sum(map(is_intercom, rows)) > len(rows) / 2:
        return "intercom"
    tickets = sum(zendesk_ticket(row) is not None for row in rows)
    comments = bool(rows) and all(map(is_zendesk_comment, rows))
    return "zendesk" if comments or tickets > len(rows) / 2 else None


def desk_rows(path: Path, name: str, names: Names) -> Iterator[Record | Finding]:
    """Yield a conversation per ticket, straight from the file where a row is a whole one."""
    comments: dict[str, list[Record]] = {}
    for row in read_records(path, source=name):
        if isinstance(row, Finding):
            yield row
            continue
        if is_zendesk_comment(row.data):
            comments.setdefault(cell_text(row.data["ticket_id"]), []).append(row)
            continue
        users, page = _roles(rows_of(row.data.get("users")), names), unpacked(row.data)
        for number, data in enumerate(page, start=1):
            place = (name, number if len(page) > 1 and row.line == 1 else row.line)
            ticket = zendesk_ticket(data)
            if ticket is not None:
                yield zendesk(ticket._replace(users=users), place, names)
            elif is_intercom(data):
                yield intercom(data, place, names)
            else:
                yield Record(*place, data)
    for ticket_id, rows in comments.items():
        yield _joined({"id": ticket_id}, rows, {}, names)


def _roles(users: Sequence[Row], names: Names) -> dict[str, str]:
    """Return user id → role, for a list of Zendesk's users."""
    return {cell_text(user.get("id")): role_of(user.get("role"), names) or "" for user in users}


def _joined(ticket: Row, comments: Sequence[Record], users: Names, names: Names) -> Record:
    """Return a ticket whose comments stand in a table of their own."""
    asked = (row.data["requester_id"] for row in comments if row.data.get("requester_id"))
    known = {"requester_id": next(asked, None), **ticket}
    place = (comments[0].source, comments[0].line)
    return zendesk(Ticket(known, [row.data for row in comments], users), place, names)


def desk_tables(folder: Path) -> dict[str, Path]:
    """Return the files of a Zendesk folder: tickets, comments and, where there is one, users."""
    files = [file for file in files_below(folder) if file.parent == folder]
    found = {file.name.split(".")[0]: file for file in files}
    whole = {"tickets", "comments"} <= found.keys()
    return {key: found[key] for key in ("tickets", "comments", "users") if key in found and whole}


def folder_rows(folder: Path, name: str, names: Names) -> Iterator[Record | Finding]:
    """Yield the tickets of a Zendesk folder, each with the comments that name it."""
    tables: dict[str, list[Record]] = {"users": []}
    for key, file in desk_tables(folder).items():
        tables[key] = []
        for row in read_records(file, source=f"{name.rstrip('/')}/{file.name}"):
            if isinstance(row, Finding):
                yield row
                continue
            inside = rows_of(row.data.get(key)) or [row.data]
            tables[key] += [Record(row.source, row.line, data) for data in inside]
    users = _roles([row.data for row in tables["users"]], names)
    comments: dict[str, list[Record]] = {}
    for row in tables["comments"]:
        comments.setdefault(cell_text(row.data.get("ticket_id")), []).append(row)
    for row in tables["tickets"]:
        said = comments.pop(cell_text(row.data.get("id")), [])
        place = (row.source, row.line)
        yield zendesk(Ticket(row.data, [one.data for one in said], users), place, names)
    for number, rows in comments.items():
        yield _joined({"id": number}, rows, users, names)
