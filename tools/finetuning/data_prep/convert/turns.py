"""Turns of every dialect, read as OpenAI's role and content, and flattened to one prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from finetuning.data_prep.convert.codes import Unusable
from finetuning.data_prep.examples import Example, Message, text_of
from finetuning.records import Json

ROLE_WORDS: Final[dict[str, str]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "customer": "user",
    "client": "user",
    "end-user": "user",
    "end_user": "user",
    "requester": "user",
    "visitor": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "agent": "assistant",
    "ai": "assistant",
    "admin": "assistant",
    "operator": "assistant",
    "support": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
"""Other words for the four roles: ShareGPT, Gemini, Cohere, Zendesk, Intercom, OpenAssistant."""

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


def flat_prompt(turns: Sequence[Message]) -> str:
    """Return turns as one prompt text.

    The system text goes first; one question stays as it is, several turns become lines led by
    their role.
    """
    systems = [text_of(turn) for turn in turns if turn["role"] == "system"]
    others = [turn for turn in turns if turn["role"] != "system"]
    if len(others) == 1:
        return "\n\n".join([*systems, text_of(others[0])])
    lines = [f"{turn['role']}: {text_of(turn)}" for turn in others]
    return "\n\n".join([*systems, "\n".join(lines)]) if lines else "\n\n".join(systems)


def flat_notes(example: Example) -> tuple[str, ...]:
    """Return the notes of what :func:`flat_prompt` does to an example."""
    turns = example.messages if example.kind == "preference" else example.messages[:-1]
    systems = sum(turn["role"] == "system" for turn in turns)
    notes = ("system_folded",) if systems else ()
    return notes + (("turns_flattened",) if len(turns) - systems > 1 else ())


def is_plain(example: Example) -> bool:
    """Say whether a prompt and its answers can be written as texts without any change."""
    asked = example.messages if example.kind == "preference" else example.messages[:-1]
    answers = (example.chosen, example.rejected) if example.kind == "preference" else ()
    return (
        len(asked) == 1 and asked[0]["role"] == "user" and all(len(side) == 1 for side in answers)
    )
