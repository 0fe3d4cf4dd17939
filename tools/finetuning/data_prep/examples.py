"""The one inner shape of a training row, and what two such rows are compared by."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, cast

import xxhash

from finetuning.records import Json, Record

Message = dict[str, Json]
"""A turn in OpenAI's words: role, content, and where there are any tool_calls, tool_call_id…"""

Kind = Literal["chat", "preference", "binary", "text"]

SHORT_ANSWER_WORDS: Final = 5
"""Answers up to this length count as labels: they are the same or they are not."""

_PLAIN_KEYS: Final = frozenset({"role", "content", "tool_calls", "tool_call_id"})
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


class Content(NamedTuple):
    """What two rows are compared by.

    Attributes:
        exact: Digest of the whole content; equal means the same row but for white space.
        prompt: Words that are asked.
        answer: Words that are answered.
        asked: Digest of the prompt alone.
        key: Digest of an answer that is a label, JSON or a tool call, which must be equal for
            two rows to be twins; 0 for prose.
        family: Rows of one family (not 0) are never twins: they share turns on purpose.
        answered: Digest of the answer: its key, or its words where that is 0.
    """

    exact: int
    prompt: str
    answer: str
    asked: int
    key: int
    family: int = 0
    answered: int = 0


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

    return xxhash.xxh3_128_intdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def place_of(name: str, seed: int) -> float:
    """Return a number 0..1 that depends on nothing but the name and the seed."""
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"), seed=seed) / 2**64


def squeeze(text: str) -> str:
    """Return the text with white space runs as one space, in NFC."""
    if not text.isascii():
        return unicodedata.normalize("NFC", " ".join(text.split()))
    if "\n" in text or "  " in text or not text.isprintable():
        return " ".join(text.split())
    return text.strip(" ")


def _normal(value: Json) -> Json:
    """Return a JSON value in which spelling of white space and key order make no difference."""
    if isinstance(value, str):
        return squeeze(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Json]", value)
        return {key: _normal(item) for key, item in pairs.items()}
    if isinstance(value, list):
        return [_normal(item) for item in cast("list[Json]", value)]
    return value


def _normal_call(call: dict[str, Json]) -> Json:
    """Return a tool call without its id, the arguments as the value they spell."""
    function = cast("dict[str, Json]", call.get("function") or {})
    arguments = str(function.get("arguments"))
    spelt = _spelt(arguments)
    return [function.get("name"), squeeze(arguments) if spelt is None else spelt]


def _normal_turn(turn: Message) -> Json:
    """Return a turn in which ids of tool calls and spelling make no difference."""
    rest = {key: turn[key] for key in turn if key not in {"tool_calls", "tool_call_id"}}
    return [_normal(rest), [_normal_call(call) for call in tool_calls_of(turn)]]


def _spelt(text: str) -> str | None:
    """Return the digest of the object or array that a text spells, or None."""
    if not text.startswith(("{", "[")) and text[:1].strip():  # most texts: no copy is made
        return None
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return f"{_digest(_normal(json.loads(text))):x}"
    except (ValueError, TypeError, RecursionError):  # no JSON, or nested too deeply to compare
        return None


def is_label(answer: str) -> bool:
    """Say whether an answer is short enough to be a label."""
    return (
        len(answer) <= _SHORT_ANSWER_CHARACTERS and len(_WORD.findall(answer)) <= SHORT_ANSWER_WORDS
    )


def _key(answers: list[Message], answer: str, liked: bool | None) -> int:
    calls = [call for message in answers for call in tool_calls_of(message)]
    spelt = _spelt(answer)
    if calls:
        return _digest(["calls", [_normal_call(call) for call in calls], liked])
    if spelt is not None:
        return _digest(["json", spelt, liked])
    if is_label(answer):
        return _digest(["label", squeeze(answer).casefold().rstrip(".!。！"), liked])
    return 0 if liked is None else 1 + liked


def _words_digest(squeezed: str) -> int:
    if squeezed.isascii():
        return xxhash.xxh3_64_intdigest(squeezed.encode().lower())
    return xxhash.xxh3_64_intdigest(squeezed.casefold().encode("utf-8", "surrogatepass"))


def _is_plain(turn: Message) -> bool:
    """Say whether a turn is a role and a text, and nothing that counts beside."""
    if not isinstance(turn.get("content"), str) or not isinstance(turn.get("role"), str):
        return False
    return len(turn) == 2 or (turn.keys() <= _PLAIN_KEYS and not turn.get("tool_calls"))


def content_of_texts(
    turns: Iterable[tuple[str, str]], family: int = 0, spelt: Iterator[str] | None = None
) -> Content:
    """Return what a chat is compared by: its roles and texts, and these squeezed if known."""
    asked, answers, whole = list[str](), list[str](), list[str]()
    squeezed_asked, squeezed_answers = list[str](), list[str]()
    for role, content in turns:
        squeezed = squeeze(content) if spelt is None else next(spelt)
        whole += (role, squeezed)
        if role == "assistant":
            answers.append(content)
            squeezed_answers.append(squeezed)
        else:
            asked.append(content)
            squeezed_asked.append(squeezed)
    answer = "\n".join(answers)
    long = len(answer) > _SHORT_ANSWER_CHARACTERS and not answer[0].isspace()
    key = 0 if long and answer[0] not in "{[" else _key([], answer, None)  # prose: most rows
    return Content(
        xxhash.xxh3_128_intdigest("\x1e".join(whole).encode("utf-8", "surrogatepass")),
        "\n".join(asked),
        answer,
        _words_digest(" ".join(filter(None, squeezed_asked))),
        key,
        family,
        key or _words_digest(" ".join(filter(None, squeezed_answers))),
    )


def content_of(example: Example) -> Content:
    """Return what an example is compared by."""
    turns = example.messages
    graded = example.kind == "chat" and bool(turns) and turns[-1].get("role") == "user"
    if example.kind == "chat" and not (graded or example.tools) and all(map(_is_plain, turns)):
        texts = ((cast("str", turn["role"]), cast("str", turn["content"])) for turn in turns)
        return content_of_texts(texts, example.family)
    asked = [turn for turn in turns if turn.get("role") != "assistant"]
    answers = [turn for turn in turns if turn.get("role") == "assistant"]
    answers += example.chosen + example.rejected
    prompt = "\n".join(map(text_of, asked)) if example.kind != "text" else example.text
    answer = "\n".join(map(text_of, answers))
    sides = (turns, example.chosen, example.rejected)
    whole = [[_normal_turn(turn) for turn in side] for side in sides]
    rest: list[Json] = [example.text, example.liked, example.tools]
    key = 0 if example.kind == "text" else _key(answers, answer, example.liked)
    if graded:  # the keys beside the chat are its reference; else they are about the row
        rest.append(example.extra)
        key = _digest(["reference", _normal(example.extra)])
    return Content(
        exact=_digest([whole, _normal(rest)]),
        prompt=prompt,
        answer=answer,
        asked=_words_digest(squeeze(prompt)),
        key=key,
        family=example.family,
        answered=key or _words_digest(squeeze(answer)),
    )


def is_plain(example: Example) -> bool:
    """Say whether a prompt and its answers can be written as texts without any change."""
    asked = example.messages if example.kind == "preference" else example.messages[:-1]
    answers = (example.chosen, example.rejected) if example.kind == "preference" else ()
    return (
        len(asked) == 1 and asked[0]["role"] == "user" and all(len(side) == 1 for side in answers)
    )


def cell_text(value: Json) -> str:
    """Return a cell as text: strings as they are, nothing as "", the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)
