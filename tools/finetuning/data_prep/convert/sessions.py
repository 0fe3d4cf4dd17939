"""Session logs of coding and chat assistants (OpenClaw, Claude Code, Codex), read as chats.

Tool calls and their results stay. What the program put in by itself (summaries, set-up texts,
errors of the service, abandoned branches) is no turn and is left out with a note.
Source: the JSONL that the programs write, as described by their own documents and by the
transcripts of users: pi session format version 3, Claude Code 2.1, Codex 0.98 (checked 2026-11-20).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert.transcripts import Log, Row, plain_text, row_of, rows_of
from finetuning.files import files_below, read_records
from finetuning.records import Finding, Json, Record

SAMPLE: Final = 25
"""So many events tell which program wrote a log."""


class Line(NamedTuple):
    """One event of a log."""

    number: int
    data: Row


def _said(log: Log, content: Json, *, call: str, arguments: str) -> list[Row]:
    """Log what an assistant said, thought and called; return the blocks of another kind.

    Args:
        log: Takes it.
        content: A text, or blocks.
        call: Kind of a block that calls a tool.
        arguments: Key of such a block that holds the arguments.
    """
    if isinstance(content, str):
        log.answer(content)
    others: list[Row] = []
    for block in rows_of(content):
        kind = block.get("type")
        if kind == "text":
            log.answer(block.get("text"))
        elif kind == "thinking":
            log.think(block.get("thinking"))
        elif kind == call:
            log.call(block.get("name"), block.get(arguments), block.get("id"))
        else:
            others.append(block)
    return others


# --- Claude Code -----------------------------------------------------------------------------


def _is_prompt(data: Row) -> bool:
    """Say whether an event is something that the person typed (no tool result)."""
    content = row_of(data.get("message")).get("content")
    results = any(block.get("type") == "tool_result" for block in rows_of(content))
    return data.get("type") == "user" and not results and not data.get("isMeta")


def _abandoned(lines: Sequence[Line]) -> set[str]:
    """Return ids of events below a prompt that the person took back and typed anew."""
    asked: dict[str, list[str]] = {}
    for line in lines:
        parent, name = line.data.get("parentUuid"), line.data.get("uuid")
        if isinstance(parent, str) and isinstance(name, str) and _is_prompt(line.data):
            asked.setdefault(parent, []).append(name)
    dead = {name for names in asked.values() for name in names[:-1]}
    for line in lines:
        if dead and line.data.get("parentUuid") in dead:
            dead.add(str(line.data.get("uuid")))
    return dead


def _thread_of(data: Row, roots: dict[str, str]) -> str:
    """Return the name of the thread that an event belongs to: the main one or a sub-agent's."""
    session = str(data.get("sessionId", ""))
    if not data.get("isSidechain"):
        return session
    name, parent = str(data.get("uuid")), data.get("parentUuid")
    root = roots.get(parent, name) if isinstance(parent, str) else name
    roots[name] = root
    agent = data.get("agentId")
    return f"{session}/{agent if isinstance(agent, str) else root}"


def _claude_event(log: Log, data: Row) -> None:
    message = row_of(data.get("message"))
    content = message.get("content")
    noise = ("isMeta", "isCompactSummary", "isApiErrorMessage")
    if any(data.get(key) for key in noise) or message.get("model") == "<synthetic>":
        log.notes.append("events_left_out")
        return
    if data.get("type") == "user":
        results = [block for block in rows_of(content) if block.get("type") == "tool_result"]
        for block in results:
            log.result(block.get("tool_use_id"), block.get("content") or "")
        others = [block for block in rows_of(content) if block.get("type") != "tool_result"]
        if others or isinstance(content, str):
            log.user(content if isinstance(content, str) else others)
        return
    for _ in _said(log, content, call="tool_use", arguments="input"):
        log.notes.append("events_left_out")


def claude_code(lines: Sequence[Line], source: str) -> Iterator[Record]:
    """Yield the sessions of a Claude Code log; each sub-agent's is one of its own."""
    threads: dict[str, list[Line]] = {}
    roots: dict[str, str] = {}
    for line in lines:
        if line.data.get("type") in {"user", "assistant"}:
            threads.setdefault(_thread_of(line.data, roots), []).append(line)
    for name, events in threads.items():
        dead = _abandoned(events)
        log = Log()
        log.notes += ["branches_left_out"] if dead else []
        for line in events:
            if line.data.get("uuid") not in dead:
                _claude_event(log, line.data)
        time = events[-1].data.get("timestamp")
        yield log.finish((source, events[0].number), id=name, timestamp=time)


# --- OpenClaw --------------------------------------------------------------------------------


def _living(lines: Sequence[Line]) -> list[Line]:
    """Return the entries from the first to the last one along the tree of replies."""
    named = {line.data.get("id"): line for line in lines if line.data.get("type") != "session"}
    if not any("parentId" in line.data for line in named.values()):
        return list(lines)
    at = next((line for line in reversed(lines) if line.data.get("type") == "message"), None)
    path: list[Line] = []
    while at is not None and at not in path[-1:]:
        path.append(at)
        parent = at.data.get("parentId")
        following = named.get(parent) if parent is not None else None
        at = following if following is None or following.number < at.number else None
    return path[::-1]


def _openclaw_event(log: Log, message: Row) -> None:
    role, content = message.get("role"), message.get("content")
    if role == "user":
        log.user(content)
    elif role == "toolResult":
        log.result(message.get("toolCallId"), content)
    elif role == "assistant" and message.get("stopReason") not in {"error", "aborted"}:
        _said(log, content, call="toolCall", arguments="arguments")
    else:
        log.notes.append("events_left_out")


def openclaw(lines: Sequence[Line], source: str) -> Iterator[Record]:
    """Yield the session of an OpenClaw log (the pi session format)."""
    living = _living(lines)
    log = Log()
    spoken = Counter(line.data.get("type") == "message" for line in lines)[True]
    events = [line for line in living if line.data.get("type") == "message"]
    log.notes += ["branches_left_out"] if len(events) < spoken else []
    for line in events:
        _openclaw_event(log, row_of(line.data.get("message")))
    headers = [line.data for line in lines if line.data.get("type") == "session"]
    time = lines[-1].data.get("timestamp")
    yield log.finish(
        (source, lines[0].number), id=headers[0].get("id") if headers else None, timestamp=time
    )


# --- Codex -----------------------------------------------------------------------------------


def _codex_item(log: Log, item: Row) -> None:
    kind, number = item.get("type"), item.get("call_id")
    if kind == "message" and item.get("role") == "user":
        log.user(item.get("content"))
    elif kind == "message" and item.get("role") == "assistant":
        log.answer(plain_text(item.get("content"))[0])
    elif kind == "reasoning":
        texts = [*rows_of(item.get("summary")), *rows_of(item.get("content"))]
        log.think("\n".join(text["text"] for text in texts if isinstance(text.get("text"), str)))
    elif kind == "function_call":
        log.call(item.get("name"), item.get("arguments"), number)
    elif kind == "custom_tool_call":
        log.call(item.get("name"), {"input": item.get("input", item.get("arguments"))}, number)
    elif kind == "local_shell_call":
        log.call("local_shell", item.get("action"), number or item.get("id"))
    elif kind in {"function_call_output", "custom_tool_call_output", "local_shell_call_output"}:
        log.result(number, item.get("output") or "")
    elif kind is not None:
        log.notes.append("events_left_out")


def codex(lines: Sequence[Line], source: str) -> Iterator[Record]:
    """Yield the session of a Codex rollout, of today's form or the older one without payloads."""
    log = Log()
    name: Json = None
    for line in lines:
        payload = row_of(line.data.get("payload"))
        if line.data.get("type") == "session_meta" or "instructions" in line.data:
            name = payload.get("id", line.data.get("id"))
        elif line.data.get("type") == "response_item":
            _codex_item(log, payload)
        elif "payload" not in line.data:
            _codex_item(log, line.data)
    time = lines[-1].data.get("timestamp")
    yield log.finish((source, lines[0].number), id=name, timestamp=time)


Session = Callable[[Sequence[Line], str], Iterator[Record]]
SESSIONS: Final[Mapping[str, Session]] = {
    "claude_code": claude_code,
    "openclaw": openclaw,
    "codex": codex,
}


def session_kind(sample: Sequence[Row]) -> str | None:
    """Return which program wrote a log, told by its first events, or None."""
    for data in sample:
        kind, payload = data.get("type"), row_of(data.get("payload"))
        if {"sessionId", "uuid", "message"} <= data.keys():
            return "claude_code"
        if kind == "session" and "id" in data and data.keys() & {"version", "cwd"}:
            return "openclaw"
        if kind in {"session_meta", "response_item"} and payload:
            return "codex"
    first = sample[0] if sample else {}
    old = {"id", "timestamp", "instructions"} <= first.keys() and "messages" not in first
    return "codex" if old else None


def sample_of(path: Path) -> list[Row]:
    """Return the first rows of a data file."""
    rows = itertools.islice(read_records(path), SAMPLE)
    return [row.data for row in rows if isinstance(row, Record)]


def logs_in(folder: Path) -> list[Path]:
    """Return the JSON Lines files of a folder and its sub-folders, by name."""
    return [file for file in files_below(folder, "*.jsonl") if file.stat().st_size]


def session_rows(path: Path, name: str, _names: Mapping[str, str]) -> Iterator[Record | Finding]:
    """Yield the sessions of a log file; a line that is no event comes as a finding."""
    lines: list[Line] = []
    for row in read_records(path, source=name):
        if isinstance(row, Finding):
            yield row
        else:
            lines.append(Line(row.line, row.data))
    kind = session_kind([line.data for line in lines[:SAMPLE]])
    yield from SESSIONS[kind](lines, name) if kind else ()
