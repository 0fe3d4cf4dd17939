"""Rows that hold a chat, in every dialect, read into an Example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from finetuning.data_prep.convert.codes import Unusable
from finetuning.data_prep.convert.columns import Columns, cell_text
from finetuning.data_prep.convert.turns import Turns, objects
from finetuning.data_prep.examples import Example, Message
from finetuning.records import Json, Record

COMPANIONS: Final = frozenset(
    "id _id uid doc_id url source title meta metadata lang language date timestamp author "
    "subset split license".split()
)
"""Keys that stand beside a row's content and are no part of it."""

_CHAT_KEYS: Final = {"messages", "tools", "functions", "system", "parallel_tool_calls", "weight"}
_SYSTEM_COLUMNS: Final = ("system", "system_prompt")


class Reading(NamedTuple):
    """What a reader works with: the row, the columns and the turns' reader."""

    record: Record
    columns: Columns
    turns: Turns

    @property
    def data(self) -> dict[str, Json]:
        """The decoded row."""
        return self.record.data


def tools_of(data: Mapping[str, Json]) -> list[Json]:
    """Return the tool list of a row in OpenAI's form, whatever dialect it is written in.

    Raises:
        Unusable: It is no list of objects.
    """
    listed = data.get("tools") or data.get("functions")
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except ValueError:
            listed = None
    if not listed:
        return []
    tools: list[Json] = []
    for tool in objects(listed):
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        for one in objects(declared) if declared is not None else [tool]:
            bare = "function" not in one and isinstance(one.get("name"), str)
            tools.append({"type": "function", "function": one} if bare else one)
    return tools


def text_turns(reading: Reading, value: Json, role: str) -> list[Message]:
    """Return turns from a text or from a list of turns (TRL writes both)."""
    if isinstance(value, list) and value:
        first = cast("list[Json]", value)[0]
        if isinstance(first, dict) and "role" in first:
            return reading.turns.chat(cast("list[Json]", value))
    if not isinstance(value, str) and value is not None:
        reading.turns.notes.append("value_as_text")
    return [{"role": role, "content": cell_text(value)}]


def system_turn(text: Json) -> list[Message]:
    """Return the system turn of a text; none where there is none."""
    return [{"role": "system", "content": text}] if isinstance(text, str) and text.strip() else []


def read_chat(reading: Reading) -> Example:
    """Read ``messages`` (OpenAI and its kin, TRL, Mistral, Cohere, Claude 3 on Bedrock)."""
    data = reading.data
    turns = system_turn(data.get("system")) + reading.turns.chat(data["messages"])
    extra = {key: data[key] for key in data if key not in _CHAT_KEYS | COMPANIONS}
    return Example(reading.record, "chat", turns, tools=tools_of(data), extra=extra)


def read_sharegpt(reading: Reading) -> Example:
    """Read ``conversations`` of ``from`` and ``value``."""
    data = reading.data
    turns = system_turn(data.get("system")) + reading.turns.sharegpt(data["conversations"])
    return Example(reading.record, "chat", turns, tools=tools_of(data))


def read_alpaca(reading: Reading) -> Example:
    """Read ``instruction``, ``input`` and ``output``, with ``system`` and ``history``."""
    data = reading.data
    turns = system_turn(data.get("system"))
    past: Json = data.get("history") or []
    if not isinstance(past, list):
        raise Unusable("message_malformed")
    for pair in cast("list[Json]", past):
        if not isinstance(pair, list) or len(cast("list[Json]", pair)) != 2:
            raise Unusable("message_malformed")
        for role, text in zip(("user", "assistant"), cast("list[Json]", pair), strict=True):
            turns.append({"role": role, "content": cell_text(text)})
    asked = [cell_text(data["instruction"]), cell_text(data.get("input"))]
    turns.append({"role": "user", "content": "\n\n".join(part for part in asked if part.strip())})
    return Example(reading.record, "chat", turns + text_turns(reading, data["output"], "assistant"))


def read_pair(reading: Reading, prompt: Json, completion: Json) -> Example:
    """Read one value that asks and one that answers."""
    data = reading.data
    system = next((data[key] for key in _SYSTEM_COLUMNS if data.get(key)), None)
    turns = system_turn(system) + text_turns(reading, prompt, "user")
    turns += text_turns(reading, completion, "assistant")
    return Example(reading.record, "chat", turns, tools=tools_of(data))


def read_prompt_completion(reading: Reading) -> Example:
    """Read ``prompt`` and ``completion``."""
    return read_pair(reading, reading.data["prompt"], reading.data["completion"])


def bedrock_system(reading: Reading) -> list[Message]:
    """Return the system turn of a Bedrock Converse row."""
    return system_turn(reading.turns.content(reading.data.get("system")))


def read_bedrock(reading: Reading) -> Example:
    """Read a Bedrock Converse row."""
    turns = bedrock_system(reading) + reading.turns.chat(reading.data["messages"])
    return Example(reading.record, "chat", turns)


def vertex_system(reading: Reading) -> list[Message]:
    """Return the system turn of a Gemini row (both spellings of its key)."""
    system = reading.data.get("systemInstruction") or reading.data.get("system_instruction")
    if not isinstance(system, dict):
        return []
    parts = cast("dict[str, Json]", system).get("parts")
    return reading.turns.vertex([{"role": "system", "parts": parts}])


def read_vertex(reading: Reading) -> Example:
    """Read a Gemini row."""
    turns = vertex_system(reading) + reading.turns.vertex(reading.data["contents"])
    return Example(reading.record, "chat", turns, tools=tools_of(reading.data))


def read_text(reading: Reading) -> Example:
    """Read running text."""
    return Example(reading.record, "text", text=cell_text(reading.data["text"]))
