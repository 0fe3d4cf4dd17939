"""Conversations as they are put together: turns, tool calls, and text freed of its wrapping.

HTML becomes text; quoted mails and signatures at the end of a mail go; whatever is left out is
noted with a code of ``codes.NOTES``.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Final, cast

from finetuning.data_prep.examples import Message, cell_text
from finetuning.records import Json, Record

Row = dict[str, Json]

REPAIRS: Final = "_repairs"
"""Key of a record that carries the notes of how it was read."""

_INJECTED: Final = re.compile(
    r"\s*(<(command-name|command-message|local-command-|bash-|environment_context|"
    r"user_instructions|turn_aborted|permissions|skill>|task-notification)"
    r"|# AGENTS\.md instructions|Caveat: The messages below|\[Request interrupted by user)"
)
"""How texts begin that a program, not the person, put into the person's turn."""

_BREAKS: Final = frozenset(
    "p div br li ul ol tr table h1 h2 h3 h4 h5 h6 pre blockquote hr section article".split()
)
_SILENT: Final = frozenset({"script", "style", "head", "title"})
_QUOTES: Final = re.compile(
    r"gmail_quote|yahoo_quoted|moz-cite-prefix|zmail_extra|divRplyFwdMsg|OutlookMessageHeader"
)
_TAGS: Final = re.compile(r"</?(p|div|br|a|b|i|strong|em|ul|li|span|blockquote|html|body)\b[^>]*>")
_QUOTED: Final = re.compile(
    r"(?m)^(?:[ \t]*(?:On|Am|Le|El|Il|Op|Em)\b.{5,200}(?:wrote|schrieb|écrit|escribió|scritto"
    r"|schreef|escreveu)[^\n]{0,60}:\s*$"
    r"|[ \t]*-{2,}\s*(?:Original Message|Ursprüngliche Nachricht|Message d'origine|"
    r"Forwarded message)\s*-{2,}"
    r"|##- Please type your reply above this line -##"
    r"|From: [^\n]+\n(?:Sent|Date): [^\n]+\n(?:To|Subject): )"
)
_MARKED: Final = re.compile(r"(?:^[ \t]*>[^\n]*(?:\n|\Z)|^[ \t]*\n)+\Z", re.MULTILINE)
_SIGNATURE: Final = re.compile(
    r"(?m)^(?:-- ?\r?\n(?s:.{0,600})|(?:Sent from my|Get Outlook for|Von meinem) [^\n]{3,60}\s*)\Z"
)


_MARK: Final = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


class _Words(HTMLParser):
    """Gathers the words of HTML with their line breaks."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.left_out: set[str] = set()
        self._silent = 0
        self._quoted = 0
        self._link: tuple[str, int] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        marks = {name: value or "" for name, value in attrs}
        quote = _QUOTES.search(f"{marks.get('class', '')} {marks.get('id', '')}")
        if self._quoted or quote:
            if tag not in {"br", "img", "hr", "input", "meta", "link"}:
                self._quoted += 1
            self.left_out.add("quotes_left_out")
            return
        self._silent += tag in _SILENT
        if tag in _BREAKS:
            self.parts.append("\n- " if tag == "li" else "\n\n" if tag == "p" else "\n")
        if tag in {"img", "video", "audio", "iframe"}:
            self.left_out.add("attachments_left_out")
        if tag == "a" and marks.get("href", "").startswith(("http", "mailto:")):
            self._link = (marks["href"], len(self.parts))

    def handle_endtag(self, tag: str) -> None:
        if self._quoted:
            self._quoted -= 1
            return
        self._silent -= tag in _SILENT and self._silent > 0
        if tag in _BREAKS and tag != "br":
            self.parts.append("\n\n" if tag == "p" else "\n")
        if tag == "a" and self._link is not None:
            address, start = self._link
            shown = "".join(self.parts[start:]).strip()
            if shown.rstrip("/") not in address:
                self.parts.append(f" ({address.removeprefix('mailto:')})")
            self._link = None

    def handle_data(self, data: str) -> None:
        if not self._silent and not self._quoted:
            self.parts.append(re.sub(r"[ \t\r\n\xa0]+", " ", data))


def html_text(text: str, notes: list[str]) -> str:
    """Return the words of a text that may be HTML; anything else comes back as it is."""
    if not _TAGS.search(text):
        return text
    reader = _Words()
    reader.feed(text)
    reader.close()
    notes += sorted(reader.left_out)
    lines = [line.strip() for line in "".join(reader.parts).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def without_quotes(text: str, notes: list[str]) -> str:
    """Return a mail without the mail it answers and without its signature, both at the end."""
    plain = text.replace("\r\n", "\n")
    found = _QUOTED.search(plain)
    kept = plain[: found.start()] if found else plain
    kept = _MARKED.sub("", kept) if ">" in kept else kept
    kept = _SIGNATURE.sub("", kept)
    if kept == plain or not kept.strip():
        return text
    notes.append("quotes_left_out")
    return kept.strip()


def slack_text(text: str, people: Mapping[str, str]) -> str:
    """Return a message without Slack's marks for people, channels and links."""

    def plain(found: re.Match[str]) -> str:
        sign, target, label = found[1], found[2], found[3]
        if sign == "@":
            return "@" + (label or people.get(target, target))
        if sign in {"#", "!"}:
            return {"#": "#", "!": "@"}[sign] + (label or target).lstrip("@")
        address = target.removeprefix("mailto:")
        return address if not label or label in target else f"{label} ({address})"

    return html.unescape(_MARK.sub(plain, text))


def rows_of(value: Json) -> list[Row]:
    """Return the objects of a list; an empty list for anything else."""
    items = cast("list[Json]", value) if isinstance(value, list) else []
    return [cast("Row", item) for item in items if isinstance(item, dict)]


def row_of(value: Json) -> Row:
    """Return an object; an empty one for anything else."""
    return cast("Row", value) if isinstance(value, dict) else {}


def conversation(
    place: tuple[str, int], turns: list[Message], notes: Iterable[str], **beside: Json
) -> Record:
    """Return a conversation as a row of ``messages``.

    Args:
        place: Source and line where it begins.
        turns: Its turns.
        notes: Codes of what was changed or left out.
        beside: Id, time and the like; None is left out.
    """
    kept = {key: value for key, value in beside.items() if value is not None}
    data: Row = {"messages": turns, **kept, REPAIRS: list(dict.fromkeys(notes))}
    return Record(*place, data)


class Log:
    """Collects the turns of one session."""

    def __init__(self) -> None:
        """Begin with no turns."""
        self.turns: list[Message] = []
        self.results: dict[str, Message] = {}
        self.notes: list[str] = []

    def user(self, content: Json) -> None:
        """Add what the person said: a text, or text and image blocks."""
        text = content if isinstance(content, str) else None
        parts: list[Row] = []
        for block in rows_of(content):
            kind = block.get("type")
            if kind in {"text", "input_text"} and isinstance(block.get("text"), str):
                parts.append({"type": "text", "text": block["text"]})
            elif kind in {"image", "input_image"}:
                parts += _image(block)
                self.notes += [] if _image(block) else ["attachments_left_out"]
            else:
                self.notes.append("attachments_left_out")
        kept = [part for part in parts if not _INJECTED.match(cast("str", part.get("text", "")))]
        if len(kept) < len(parts) or (text is not None and _INJECTED.match(text)):
            self.notes.append("events_left_out")
            text = None
        if kept:
            plain = all(part["type"] == "text" for part in kept)
            said = "\n\n".join(cast("str", part["text"]) for part in kept) if plain else None
            self.turns.append({"role": "user", "content": said if said is not None else kept})
        elif text and text.strip():
            self.turns.append({"role": "user", "content": text})

    def assistant(self) -> Message:
        """Return the assistant's turn that is going on; a new one after anybody else's."""
        if not self.turns or self.turns[-1]["role"] != "assistant":
            self.turns.append({"role": "assistant", "content": None})
        return self.turns[-1]

    def answer(self, text: Json) -> None:
        """Add words of the assistant."""
        if isinstance(text, str) and text.strip():
            turn = self.assistant()
            before = turn["content"]
            turn["content"] = f"{before}\n\n{text}" if before else text

    def think(self, text: Json) -> None:
        """Add a reasoning text."""
        if isinstance(text, str) and text.strip():
            turn = self.assistant()
            turn["reasoning"] = "\n\n".join(filter(None, [turn.get("reasoning"), text]))

    def call(self, name: Json, arguments: Json, number: Json) -> None:
        """Add a tool call."""
        if not isinstance(name, str) or not isinstance(number, str):
            self.notes.append("events_left_out")
            return
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments or {}, ensure_ascii=False)
        function: Row = {"name": name, "arguments": arguments}
        turn = self.assistant()
        made: Row = {"id": number, "type": "function", "function": function}
        turn["tool_calls"] = [*turn.get("tool_calls", []), made]

    def result(self, number: Json, content: Json) -> None:
        """Add the result of a call; the first counts."""
        if isinstance(number, str):
            text, left_out = plain_text(content)
            self.notes += ["attachments_left_out"] if left_out else []
            turn: Message = {"role": "tool", "tool_call_id": number, "content": text}
            self.results.setdefault(number, turn)
            self.turns.append({"role": "tool", "tool_call_id": number})  # ends the turn before

    def finish(self, place: tuple[str, int], **beside: Json) -> Record:
        """Return the session as a row: every call with its result behind it."""
        made: list[Message] = []
        used: set[str] = set()
        for turn in self.turns:
            if turn["role"] == "tool":
                continue
            calls = rows_of(turn.get("tool_calls"))
            answered = [call for call in calls if call["id"] in self.results]
            if len(answered) < len(calls):
                self.notes.append("unanswered_calls_left_out")
                turn = {key: value for key, value in turn.items() if key != "tool_calls"}
                turn |= {"tool_calls": answered} if answered else {}
            if turn["role"] == "user" or turn.get("content") or answered:
                made.append(turn)
                made += [self.results[call["id"]] for call in answered]
                used.update(call["id"] for call in answered)
        if self.results.keys() - used:
            self.notes.append("unmatched_results_left_out")
        return conversation(place, made, self.notes, **beside)


def _image(block: Row) -> list[Row]:
    """Return an image block as OpenAI's part, where its bytes or address are in the log."""
    source = row_of(block.get("source"))
    url = block.get("image_url")
    data, kind = source.get("data", block.get("data")), source.get("media_type")
    kind = kind or block.get("mimeType")
    if not isinstance(url, str) and isinstance(data, str) and isinstance(kind, str):
        url = f"data:{kind};base64,{data}"
    return [{"type": "image_url", "image_url": {"url": url}}] if isinstance(url, str) else []


def plain_text(content: Json) -> tuple[str, bool]:
    """Return a tool result as text, and whether something that is no text was in it."""
    if isinstance(content, str):
        return content, False
    if isinstance(content, dict):
        inner = row_of(content)
        given = inner.get("content", inner.get("output"))
        return plain_text(given) if given is not None else (json.dumps(inner), False)
    blocks = rows_of(content)
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    return "\n".join(texts), len(texts) < len(blocks)


def group_turns(records: Sequence[Record], column: str) -> list[list[Record]]:
    """Gather the rows of each conversation, in the order in which the conversations begin.

    Rows without an id are conversations of their own.
    """
    groups: dict[str | int, list[Record]] = {}
    for number, record in enumerate(records):
        name = cell_text(record.data.get(column)).strip()
        groups.setdefault(name or number, []).append(record)
    return list(groups.values())
