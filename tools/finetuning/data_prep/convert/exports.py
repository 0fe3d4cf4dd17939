"""Exports of other programs: told by what is in them, opened as one conversation per row.

A Slack export is a folder or zip of channels with a file per day; Zendesk and Intercom give JSON,
JSON Lines or a table of comments; assistants write a log per session, in folders.
Source: slack.com/help "How to read Slack data exports", api.slack.com message subtypes; the other
modules name theirs (checked 2026-11-20).
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert.desks import (
    Names,
    Place,
    desk_kind,
    desk_rows,
    desk_tables,
    folder_rows,
)
from finetuning.data_prep.convert.sessions import (
    SESSIONS,
    logs_in,
    sample_of,
    session_kind,
    session_rows,
)
from finetuning.data_prep.convert.transcripts import (
    Row,
    conversation,
    row_of,
    rows_of,
    slack_text,
)
from finetuning.data_prep.convert.turns import time_key
from finetuning.data_prep.examples import Message, cell_text
from finetuning.errors import BadInputError
from finetuning.files import fault, files_below, read_records
from finetuning.records import Finding, Record

Rows = Iterator[Record | Finding]

_LARGEST: Final = 1 << 29
"""A day of one channel is far below 512 MiB; more is no export."""

_LISTS: Final = ("channels.json", "groups.json", "dms.json", "mpims.json")
_USERS: Final = ("users.json", "org_users.json")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}\.json")


_TALK: Final = frozenset({"", "thread_broadcast", "me_message", "file_share", "bot_message"})
_PAUSE_SECONDS: Final = 8 * 3600
"""So long a silence ends a conversation in direct messages, which have no threads."""


class Post(NamedTuple):
    """One Slack message and where it stands."""

    place: Place
    data: Row


def _with_edits(messages: Iterable[Post]) -> tuple[list[Post], set[str]]:
    """Apply edits and deletions that an export lists as messages; return times of the deleted."""
    by_time: dict[str, Post] = {}
    deleted: set[str] = set()
    for message in messages:
        data = message.data
        kind, inner = data.get("subtype"), row_of(data.get("message"))
        if kind == "message_deleted":
            deleted.add(cell_text(data.get("deleted_ts")))
        elif kind == "message_changed" and inner:
            time = cell_text(inner.get("ts"))
            by_time[time] = Post(by_time.get(time, message).place, {**inner, "ts": time})
        else:
            by_time[cell_text(data.get("ts"))] = message
    ordered = sorted(by_time.items(), key=lambda item: time_key(item[0]) or 0.0)
    return [message for _, message in ordered], deleted


def slack_threads(messages: Iterable[Post], *, direct: bool) -> Iterator[list[Post]]:
    """Yield the conversations of a channel: threads, and in direct messages stretches of talk."""
    listed, deleted = _with_edits(messages)
    threads: dict[str, list[Post]] = {}
    name, before = "", float("-inf")
    for message in listed:
        time = cell_text(message.data.get("ts"))
        if time in deleted:
            message = Post(message.place, {**message.data, "subtype": "tombstone"})
        root = cell_text(message.data.get("thread_ts")) or time
        if direct and root == time and "reply_count" not in message.data:
            now = time_key(time) or 0.0
            name = name if now - before <= _PAUSE_SECONDS else f"talk {time}"
            root, before = name, now
        threads.setdefault(root, []).append(message)
    yield from threads.values()


def slack(thread: Sequence[Post], people: Names, bots: set[str], names: Names) -> Record | None:
    """Return a thread as a chat, or None where it holds nothing but events of the channel.

    Who begins a thread asks, everyone else answers, unless the person names who is who.
    """
    notes: list[str] = []
    turns: list[Message] = []
    asking: str | None = None
    events = 0
    for _, data in thread:
        kind, user = cell_text(data.get("subtype")), cell_text(data.get("user"))
        called = [user.casefold(), people.get(user, "").casefold()]
        robot = kind == "bot_message" or bool(data.get("bot_id")) or user in bots
        if kind == "tombstone":
            notes.append("deleted_left_out")
        elif kind not in _TALK:
            notes.append("events_left_out")
            events += 1
        elif robot and not ({"bot", *called} & names.keys()):
            notes.append("bots_left_out")
        else:
            notes += ["attachments_left_out"] if data.get("files") else []
            text = slack_text(cell_text(data.get("text")), people).strip()
            named = next((names[word] for word in called if word in names), None)
            role = named or (names["bot"] if robot else None)
            asking = asking or (user if not robot and text else None)
            role = role or ("user" if user == asking else "assistant")
            if text:
                turns.append({"role": role, "content": text})
    if events == len(thread):
        return None
    time = cell_text(thread[-1].data.get("ts")) or None
    first = cell_text(thread[0].data.get("thread_ts") or thread[0].data.get("ts"))
    return conversation(thread[0].place, turns, notes, id=first, timestamp=time)


def _files(path: Path) -> dict[str, Path | zipfile.Path]:
    """Return the JSON files of a folder or zip archive, by their path below it."""
    if path.is_dir():
        return {_below(file, path): file for file in files_below(path, "*.json")}
    archive = zipfile.ZipFile(path)
    names = (name for name in sorted(archive.namelist()) if name.endswith(".json"))
    return {name: zipfile.Path(archive, name) for name in names}


def _objects(file: Path | zipfile.Path | None) -> list[Row] | None:
    """Return the objects of a JSON file; None where it cannot be read."""
    import orjson

    try:
        if isinstance(file, zipfile.Path):
            size = file.root.getinfo(file.at).file_size
        else:
            size = file.stat().st_size if file is not None else 0
        return rows_of(orjson.loads(file.read_bytes())) if file and size <= _LARGEST else None
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None


def _is_slack(path: Path) -> bool:
    try:
        names = _files(path).keys()
    except (OSError, zipfile.BadZipFile):
        return False
    days = any(_DAY.fullmatch(name.rpartition("/")[2]) for name in names)
    return days and bool(names & {*_LISTS, *_USERS})


def _slack_rows(path: Path, name: str, names: Names) -> Rows:
    files = _files(path)
    users = _objects(files.get(_USERS[0])) or _objects(files.get(_USERS[1])) or []
    people = {cell_text(user.get("id")): _name_of(user) for user in users}
    bots = {cell_text(user.get("id")) for user in users if user.get("is_bot")} | {"USLACKBOT"}
    private = {cell_text(row.get("id")) for row in _objects(files.get("dms.json")) or ()}
    private |= {cell_text(row.get("name")) for row in _objects(files.get("mpims.json")) or ()}
    days = [file for file in files if _DAY.fullmatch(file.rpartition("/")[2])]
    for channel, group in itertools.groupby(days, key=lambda file: file.rpartition("/")[0]):
        posts: list[Post] = []
        for file in group:
            listed = _objects(files[file])
            if listed is None:
                message = f"{file.rpartition('/')[2]} is no JSON that can be read"
                yield fault("json_invalid", line=None, message=message)
            where = f"{name.rstrip('/')}/{file}"
            posts += [Post((where, line), row) for line, row in enumerate(listed or (), start=1)]
        direct = channel.rpartition("/")[2] in private
        yield from _threads(posts, people, bots, names, direct=direct)


def _threads(
    posts: list[Post], people: Names, bots: set[str], names: Names, *, direct: bool = False
) -> Rows:
    threads = slack_threads(posts, direct=direct)
    yield from filter(None, (slack(thread, people, bots, names) for thread in threads))


def _name_of(user: Row) -> str:
    profile = row_of(user.get("profile"))
    found = (profile.get("display_name"), user.get("real_name"), user.get("name"))
    return next((text for text in map(cell_text, found) if text), "")


def _kind_of_rows(sample: Sequence[Row]) -> str | None:
    """Return what wrote the rows of a file, told by the first of them."""
    talk = (row.get("type") == "message" and "ts" in row and "id" not in row for row in sample)
    return "slack" if sample and all(talk) else session_kind(sample) or desk_kind(sample)


def export_kind(path: Path) -> str | None:
    """Return which program a file or folder comes from, or None for an ordinary data file.

    Args:
        path: A resolved path.

    Raises:
        BadInputError: A file is empty, binary or damaged.
    """
    if path.is_dir() or zipfile.is_zipfile(path):
        if _is_slack(path):
            return "slack"
        if path.is_file() or (path / "train.jsonl").is_file():
            return None
        logs = logs_in(path)
        kind = "zendesk" if desk_tables(path) else None
        return kind or (session_kind(sample_of(logs[0])) if logs else None)
    return _kind_of_rows(sample_of(path))


def open_source(path: Path, name: str, role_map: Mapping[str, str] | None = None) -> Rows:
    """Return the rows of a data file; those of an export are whole conversations.

    Args:
        path: A resolved path of a file, a folder of text files, or an export.
        name: Name that the records carry.
        role_map: The person's words: role, author id or author name → role.

    Raises:
        BadInputError: The file is empty, binary or damaged, or holds no rows.
    """
    names = {word.casefold(): role for word, role in (role_map or {}).items()}
    kind = export_kind(path)
    if kind is None:
        return read_records(path, source=name)
    if path.is_dir() and kind in SESSIONS:
        below = ((file, f"{name.rstrip('/')}/{_below(file, path)}") for file in logs_in(path))
        rows: Rows = itertools.chain.from_iterable(_log_rows(*each, names) for each in below)
    else:
        rows = _READERS[kind](path, name, names)
    first = next(rows, None)
    if first is None:
        raise BadInputError(
            str(path),
            f"the {kind} export holds no conversation",
            "at least one message",
            "Check what was exported",
        )
    return itertools.chain([first], rows)


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _log_rows(file: Path, name: str, names: Names) -> Rows:
    known = session_kind(sample_of(file)) is not None
    return session_rows(file, name, names) if known else read_records(file, source=name)


def _zendesk_rows(path: Path, name: str, names: Names) -> Rows:
    return (folder_rows if path.is_dir() else desk_rows)(path, name, names)


def _slack_any(path: Path, name: str, names: Names) -> Rows:
    """Yield the threads of an export, or of a single day file."""
    if path.is_dir() or zipfile.is_zipfile(path):
        yield from _slack_rows(path, name, names)
        return
    posts: list[Post] = []
    for row in read_records(path, source=name):
        if isinstance(row, Finding):
            yield row
        else:
            posts.append(Post((name, row.line), row.data))
    yield from _threads(posts, {}, {"USLACKBOT"}, names)


_READERS: Final[Mapping[str, Callable[[Path, str, Names], Rows]]] = {
    **dict.fromkeys(SESSIONS, session_rows),
    "zendesk": _zendesk_rows,
    "intercom": desk_rows,
    "slack": _slack_any,
}
