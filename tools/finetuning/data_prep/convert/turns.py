"""Turns of every dialect, read as OpenAI's role and content; columns and times of tables."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, cast

from finetuning.data_prep.convert.codes import COLUMN_NAMES, ROLE_WORDS, Unusable
from finetuning.data_prep.examples import Message, cell_text
from finetuning.records import Json

_KEPT: Final = {"role", "content", "tool_calls", "tool_call_id", "name", "weight"}
_REASONING: Final = ("reasoning", "reasoning_content", "thinking")


class Turns:
    """Reads the turns of one row and remembers what was changed on the way."""

    def __init__(self, role_map: Mapping[str, str]) -> None:
        """Keep the person's own words for roles."""
        self._role_map = {word.casefold(): role for word, role in role_map.items()}
        self.notes: list[str] = []

    def role(self, word: Json) -> str:
        """Return the role that a word means.

        Raises:
            Unusable: The word is not known.
        """
        if not isinstance(word, str):
            raise Unusable("message_malformed")
        plain = word.strip().casefold()
        role = self._role_map.get(plain) or ROLE_WORDS.get(plain)
        if role is None:
            raise Unusable("unknown_role")
        if role != word:
            self.notes.append("role_renamed")
        return role

    def chat(self, value: Json) -> list[Message]:
        """Read a list of turns with ``role`` and ``content`` (OpenAI, Bedrock, Cohere)."""
        return _with_ids([self._chat_turn(turn) for turn in objects(value)], self.notes)

    def sharegpt(self, value: Json) -> list[Message]:
        """Read a list of turns with ``from`` and ``value`` (ShareGPT)."""
        turns: list[Message] = []
        for turn in objects(value):
            if "from" not in turn:
                turns.append(self._chat_turn(turn))
                continue
            turns.append(self._sharegpt_turn(turn))
        return _with_ids(turns, self.notes)

    def vertex(self, value: Json) -> list[Message]:
        """Read a list of turns with ``role`` and ``parts`` (Gemini)."""
        turns: list[Message] = []
        for turn in objects(value):
            turns += self._vertex_turns(turn)
        return _with_ids(turns, self.notes)

    def _chat_turn(self, turn: dict[str, Json]) -> Message:
        role = self.role(turn.get("role"))
        message: Message = {"role": role, "content": self.content(turn.get("content"))}
        calls = turn.get("tool_calls") or (
            [turn["function_call"]] if turn.get("function_call") else None
        )
        if calls:
            message["tool_calls"] = [self._call(call) for call in objects(calls)]
        for key in ("tool_call_id", "name", "weight"):
            if turn.get(key) is not None:
                message[key] = turn[key]
        reasoning = next((turn[key] for key in _REASONING if isinstance(turn.get(key), str)), None)
        if reasoning:
            message["reasoning"] = reasoning
        if turn.keys() - _KEPT - set(_REASONING) - {"function_call"}:
            self.notes.append("keys_left_out")
        return message

    def _sharegpt_turn(self, turn: dict[str, Json]) -> Message:
        value = turn.get("value")
        if turn["from"] == "function_call":
            call = _parsed(value)
            calls = [self._call(one) for one in objects(call if isinstance(call, list) else [call])]
            return {"role": "assistant", "content": None, "tool_calls": calls}
        message: Message = {"role": self.role(turn["from"]), "content": self.content(value)}
        if turn.get("weight") is not None:
            message["weight"] = turn["weight"]
        if turn.keys() - {"from", "value", "weight"}:
            self.notes.append("keys_left_out")
        return message

    def _vertex_turns(self, turn: dict[str, Json]) -> list[Message]:
        role = self.role(turn.get("role", "user"))
        texts: list[str] = []
        calls: list[Json] = []
        answers: list[Message] = []
        for part in objects(turn.get("parts")):
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif isinstance(part.get("functionCall"), dict):
                calls.append(self._call(cast("dict[str, Json]", part["functionCall"])))
            elif isinstance(part.get("functionResponse"), dict):
                given = cast("dict[str, Json]", part["functionResponse"])
                response = given.get("response")
                words = cast("dict[str, Json]", response) if isinstance(response, dict) else {}
                plain = words.keys() == {"result"} and isinstance(words["result"], str)
                content = words["result"] if plain else json.dumps(response, ensure_ascii=False)
                answers.append({"role": "tool", "name": given.get("name"), "content": content})
            else:
                raise Unusable("image_not_allowed")
        if len(texts) > 1:
            self.notes.append("parts_joined")
        message: Message = {"role": role, "content": "\n".join(texts) if texts else None}
        if calls:
            message["tool_calls"] = calls
        return ([message] if texts or calls else []) + answers

    def _call(self, call: dict[str, Json]) -> dict[str, Json]:
        nested = call.get("function")
        function = cast("dict[str, Json]", nested) if isinstance(nested, dict) else call
        name, arguments = function.get("name"), function.get("arguments", function.get("args"))
        if not isinstance(name, str):
            raise Unusable("message_malformed")
        if not isinstance(arguments, str):
            self.notes.append("arguments_as_text")
            arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
        made: dict[str, Json] = {
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        return {"id": call["id"], **made} if isinstance(call.get("id"), str) else made

    def content(self, value: Json) -> Json:
        """Return the content of a turn: text, None, or parts where one of them is not text.

        Raises:
            Unusable: It is neither.
        """
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise Unusable("message_malformed")
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else part
            for part in cast("list[Json]", value)
        ]
        if not all(isinstance(part, dict) for part in parts):
            raise Unusable("message_malformed")
        texts = [part.get("text") for part in cast("list[dict[str, Json]]", parts)]
        if not all(isinstance(text, str) for text in texts):
            return parts
        if len(texts) > 1:
            self.notes.append("parts_joined")
        return "\n".join(cast("list[str]", texts)) if texts else None


def _parsed(value: Json) -> Json:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def objects(value: Json) -> list[dict[str, Json]]:
    """Return a list of objects, also from its JSON text (a cell of a table).

    Raises:
        Unusable: It is something else.
    """
    value = _parsed(value)
    if not isinstance(value, list):
        raise Unusable("message_malformed")
    items = cast("list[Json]", value)
    if not all(isinstance(item, dict) for item in items):
        raise Unusable("message_malformed")
    return cast("list[dict[str, Json]]", items)


def _with_ids(turns: list[Message], notes: list[str]) -> list[Message]:
    """Give tool calls an id of their own where they have none, and results that of their call.

    A result without an id, or with one that several calls share, belongs to the first call
    that still waits for it.
    """
    waiting: list[tuple[Json, str]] = []
    taken: set[str] = set()
    for number, turn in enumerate(turns):
        for place, call in enumerate(turn.get("tool_calls", ())):
            given = call.get("id")
            name = given if given is not None and given not in taken else f"call_{number}_{place}"
            if name != given:
                notes.append("tool_ids_added")
                turn["tool_calls"][place] = {**call, "id": name}
            taken.add(name)
            waiting.append((given, name))
        if turn["role"] == "tool":
            asked = turn.get("tool_call_id")
            known = [pair for pair in waiting if asked is None or pair[0] == asked]
            if known:
                waiting.remove(known[0])
                if asked != known[0][1]:
                    notes.append("tool_ids_added")
                    turn["tool_call_id"] = known[0][1]
    return turns


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
        columns = [one.name for one in fields(self) if one.name not in {"role_map", "system"}]
        given = {f"{name}_column": cast("str | None", getattr(self, name)) for name in columns}
        return {name: column for name, column in given.items() if column is not None}

    def those_in(self, names: Collection[str]) -> Columns:
        """Return the same columns without those that are not among the names."""
        kept = {
            argument.removesuffix("_column"): column
            for argument, column in self.named().items()
            if column in names
        }
        return Columns(**kept, role_map=self.role_map, system=self.system)


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


def time_order(moments: Iterable[Json]) -> list[int] | None:
    """Return the places of moments in their order, or None where one cannot be read."""
    times = [time_key(moment) for moment in moments]
    known = [time for time in times if time is not None]
    return sorted(range(len(times)), key=known.__getitem__) if len(known) == len(times) else None


def in_order(rows: Iterable[dict[str, Json]], key: str) -> list[dict[str, Json]]:
    """Return rows by their time where every row has one, else as they are."""
    listed = list(rows)
    order = time_order(row.get(key) for row in listed)
    return listed if order is None else [listed[place] for place in order]


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return lower-case name with underscores → name as it is."""
    return {name.strip().casefold().replace(" ", "_").replace("-", "_"): name for name in names}


def told(meaning: str, names: Mapping[str, str], but: str | None = None) -> str | None:
    """Return the first column that has a name of this meaning, of :data:`COLUMN_NAMES`."""
    known = COLUMN_NAMES[meaning]
    return next((names[name] for name in known if name in names and names[name] != but), None)


def guess_annotator(names: Iterable[str]) -> str | None:
    """Return the column that says who answered, told by its name."""
    return told("annotator", plain_names(names))
