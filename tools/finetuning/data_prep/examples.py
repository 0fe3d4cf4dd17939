"""The one inner shape of a training row, between every input and every target."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from finetuning.records import Json, Record

Message = dict[str, Json]
"""A turn in OpenAI's words: role, content, and where there are any tool_calls, tool_call_id…"""

Kind = Literal["chat", "preference", "binary", "text"]

SHORT_ANSWER_WORDS: Final = 5
"""Answers up to this length count as labels: they are the same or they are not."""

_SHORT_ANSWER_CHARACTERS: Final = 60
_WORD: Final = re.compile(r"[一-鿿぀-ヿ]|[^\W一-鿿぀-ヿ]+")


@dataclass(frozen=True, slots=True)
class Example:
    """One training row, whatever it looked like where it came from.

    Attributes:
        record: Where it came from; for a conversation of many rows its first row.
        kind: ``chat`` (``messages`` hold the answer too), ``preference`` (``messages`` are the
            prompt, ``chosen`` and ``rejected`` the answers), ``binary`` (a chat with ``liked``)
            or ``text``.
        notes: Codes of what was repaired or could not be kept, in order.
        label: Value of the label column, for a split with the same mix of labels.
        group: Value of the group column; rows of one group stay on one side of the split.
        time: Value of the time column.
        annotator: Value of the annotator column.
        family: Number that the examples of one row or conversation share; 0 for a single one.
    """

    record: Record
    kind: Kind
    messages: list[Message] = field(default_factory=list[Message])
    chosen: list[Message] = field(default_factory=list[Message])
    rejected: list[Message] = field(default_factory=list[Message])
    liked: bool | None = None
    text: str = ""
    tools: list[Json] = field(default_factory=list[Json])
    extra: dict[str, Json] = field(default_factory=dict[str, Json])
    notes: tuple[str, ...] = ()
    label: str | None = None
    group: str | None = None
    time: str | None = None
    annotator: str | None = None
    family: int = 0

    def noting(self, *codes: str) -> Example:
        """Return the example with more notes (each code once)."""
        fresh = tuple(code for code in dict.fromkeys(codes) if code not in self.notes)
        return dataclasses.replace(self, notes=self.notes + fresh) if fresh else self

    def payload(self) -> dict[str, Json]:
        """Return everything that holds the person's text, as one JSON object."""
        return {
            "messages": self.messages,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "text": self.text,
            "extra": self.extra,
        }

    def with_payload(self, payload: dict[str, Json]) -> Example:
        """Return the example with its text taken from a changed :meth:`payload`."""
        return dataclasses.replace(self, **payload)


@dataclass(frozen=True, slots=True)
class Content:
    """What two rows are compared by.

    Attributes:
        exact: Digest of the whole content; equal means the same row but for white space.
        prompt: Words that are asked.
        answer: Words that are answered.
        asked: Digest of the prompt alone.
        key: Digest of an answer that is a label, JSON or a tool call, which must be equal for
            two rows to be twins; 0 for prose.
        family: Rows of one family (not 0) are never twins: they share turns on purpose.
    """

    exact: int
    prompt: str
    answer: str
    asked: int
    key: int
    family: int = 0


def text_of(message: Message) -> str:
    """Return the words of a turn: its text, the text of its parts, its tool calls."""
    content = message.get("content")
    words = [content] if isinstance(content, str) else []
    if isinstance(content, list):
        parts = cast("list[dict[str, Json]]", content)
        words += [part["text"] for part in parts if isinstance(part.get("text"), str)]
    for call in tool_calls_of(message):
        function = cast("dict[str, Json]", call.get("function") or {})
        words.append(f"{function.get('name')} {function.get('arguments')}")
    return "\n".join(words)


def tool_calls_of(message: Message) -> list[dict[str, Json]]:
    """Return the tool calls of a turn (none: an empty list)."""
    return cast("list[dict[str, Json]]", message.get("tool_calls") or [])


def has_media(message: Message) -> bool:
    """Say whether a turn holds parts other than text."""
    return isinstance(message.get("content"), list)


def _digest(value: Json) -> int:
    import orjson
    import xxhash

    return xxhash.xxh3_128_intdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def squeeze(text: str) -> str:
    """Return the text with white space runs as one space, in NFC."""
    plain = " ".join(text.split())
    return plain if plain.isascii() else unicodedata.normalize("NFC", plain)


def _normal(value: Json) -> Json:
    """Return a JSON value in which spelling of white space and key order make no difference."""
    if isinstance(value, str):
        return squeeze(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Json]", value)
        return {
            key: _argument(item) if key == "arguments" else _normal(item)
            for key, item in pairs.items()
            if key != "id" and key != "tool_call_id"
        }
    if isinstance(value, list):
        return [_normal(item) for item in cast("list[Json]", value)]
    return value


def _argument(value: Json) -> Json:
    """Return tool-call arguments as the value they spell."""
    parsed = _as_json(value) if isinstance(value, str) else value
    return _normal(value) if parsed is None else _normal(parsed)


def _as_json(text: str) -> Json:
    """Return the object or array that a text spells, or None."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_label(answer: str) -> bool:
    """Say whether an answer is short enough to be a label."""
    return (
        len(answer) <= _SHORT_ANSWER_CHARACTERS and len(_WORD.findall(answer)) <= SHORT_ANSWER_WORDS
    )


def _key(answers: list[Message], answer: str, liked: bool | None) -> int:
    calls = [call for message in answers for call in tool_calls_of(message)]
    parsed = _as_json(answer)
    if calls:
        return _digest(["calls", _normal(calls), liked]) or 1
    if parsed is not None:
        return _digest(["json", _normal(parsed), liked]) or 1
    if is_label(answer):
        return _digest(["label", squeeze(answer).casefold().rstrip(".!。！"), liked]) or 1
    return 0 if liked is None else 1 + liked


def content_of(example: Example) -> Content:
    """Return what an example is compared by."""
    turns = example.messages
    asked = [turn for turn in turns if turn.get("role") != "assistant"]
    answers = [turn for turn in turns if turn.get("role") == "assistant"]
    answers += example.chosen + example.rejected
    prompt = "\n".join(map(text_of, asked)) if example.kind != "text" else example.text
    answer = "\n".join(map(text_of, answers))
    whole = {**example.payload(), "liked": example.liked, "tools": example.tools}
    if answers:  # keys beside a chat that is answered are about the row, not part of it
        del whole["extra"]
    return Content(
        exact=_digest(_normal(whole)),
        prompt=prompt,
        answer=answer,
        asked=_digest(squeeze(prompt).casefold()),
        key=_key(answers, answer, example.liked) if example.kind != "text" else 0,
        family=example.family,
    )
