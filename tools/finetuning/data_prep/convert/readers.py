"""Every input shape: how a row is told to have it, and how it is read into an Example."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from finetuning.data_prep.convert.codes import NOTES, Unusable
from finetuning.data_prep.convert.transcripts import REPAIRS
from finetuning.data_prep.convert.turns import Columns, Turns, objects
from finetuning.data_prep.examples import Example, Message, cell_text
from finetuning.records import Json, Record

COMPANIONS: Final = frozenset(
    "id _id uid doc_id url source title meta metadata lang language date timestamp author "
    "subset split license conversation_id satisfaction".split()
)
"""Keys that stand beside a row's content and are no part of it."""

_CHAT_KEYS: Final = {
    "messages", "tools", "functions", "system", "parallel_tool_calls", "weight", REPAIRS,
}  # fmt: skip
_SYSTEM_COLUMNS: Final = ("system", "system_prompt")
_TRUE: Final = frozenset("true 1 1.0 yes good up thumbs_up like liked positive 👍".split())
_FALSE: Final = frozenset(
    "false 0 0.0 -1 no bad down thumbs_down dislike disliked negative 👎".split()
)


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
    if REPAIRS in data:
        repairs = cast("list[Json]", data[REPAIRS]) if isinstance(data[REPAIRS], list) else []
        reading.turns.notes += [note for note in repairs if isinstance(note, str) and note in NOTES]
        if not data["messages"]:
            raise Unusable("no_turns")
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


def verdict(value: Json) -> bool | None:
    """Return whether a cell says good or bad; None where it says neither."""
    if isinstance(value, bool):
        return value
    word = cell_text(value).strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else None


def read_binary(reading: Reading) -> Example:
    """Read ``prompt``, ``completion`` and a boolean ``label`` (TRL's KTO)."""
    made = read_prompt_completion(reading)
    return Example(reading.record, "binary", made.messages, liked=reading.data["label"])


def read_preference(reading: Reading) -> Example:
    """Read ``prompt``, ``chosen`` and ``rejected`` (TRL); the prompt may stand inside both."""
    data = reading.data
    chosen = text_turns(reading, data["chosen"], "assistant")
    rejected = text_turns(reading, data["rejected"], "assistant")
    asked = data.get(reading.columns.prompt or "prompt")
    if asked:
        prompt = text_turns(reading, asked, "user")
    else:
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    tools = tools_of(data)
    return Example(reading.record, "preference", prompt, chosen, rejected, tools=tools)


def read_openai_preference(reading: Reading) -> Example:
    """Read ``input.messages``, ``preferred_output`` and ``non_preferred_output``."""
    asked = reading.data["input"]
    if not isinstance(asked, dict):
        raise Unusable("message_malformed")
    fields = cast("dict[str, Json]", asked)
    return Example(
        reading.record,
        "preference",
        reading.turns.chat(fields.get("messages")),
        reading.turns.chat(reading.data["preferred_output"]),
        reading.turns.chat(reading.data["non_preferred_output"]),
        tools=tools_of(fields),
    )


def has_candidates(data: dict[str, Json]) -> bool:
    """Say whether the last turn carries judged candidates (Nova)."""
    turns = data.get("messages")
    last = cast("list[Json]", turns)[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and "candidates" in last


def read_nova_preference(reading: Reading) -> Example:
    """Read a Nova row, whose last turn carries a preferred and a non-preferred candidate."""
    *turns, last = objects(reading.data["messages"])
    sides: dict[str, list[Message]] = {}
    for candidate in objects(last["candidates"]):
        content = reading.turns.content(candidate.get("content"))
        side = cell_text(candidate.get("preferenceLabel"))
        sides[side] = [{"role": "assistant", "content": content}]
    if sides.keys() != {"preferred", "non-preferred"}:
        raise Unusable("pair_missing")
    prompt = bedrock_system(reading) + reading.turns.chat(turns)
    chosen, rejected = sides["preferred"], sides["non-preferred"]
    return Example(reading.record, "preference", prompt, chosen, rejected)


def read_vertex_preference(reading: Reading) -> Example:
    """Read a Gemini row with two completions, score 1 preferred and 0 not."""
    sides: dict[bool | None, list[Message]] = {}
    for item in objects(reading.data["completions"]):
        sides[verdict(item.get("score"))] = reading.turns.vertex([item.get("completion")])
    if sides.keys() != {True, False}:
        raise Unusable("pair_missing")
    prompt = vertex_system(reading) + reading.turns.vertex(reading.data["contents"])
    return Example(reading.record, "preference", prompt, sides[True], sides[False])


class Shape(NamedTuple):
    """One input shape: its name, how it is told, how it is read."""

    name: str
    fits: Callable[[dict[str, Json]], bool]
    read: Callable[[Reading], Example]


def _has(*wanted: str) -> Callable[[dict[str, Json]], bool]:
    """Return a test for rows that have all of these keys."""
    return lambda data: data.keys() >= set(wanted)


def _is_binary(data: dict[str, Json]) -> bool:
    return data.keys() >= {"prompt", "completion"} and isinstance(data.get("label"), bool)


def _is_text(data: dict[str, Json]) -> bool:
    return "text" in data and data.keys() <= COMPANIONS | {"text"}


SHAPES: Final = (
    Shape(
        "openai_preference",
        _has("input", "preferred_output", "non_preferred_output"),
        read_openai_preference,
    ),
    Shape("vertex_preference", _has("contents", "completions"), read_vertex_preference),
    Shape("vertex_sft", _has("contents"), read_vertex),
    Shape("nova_dpo", has_candidates, read_nova_preference),
    Shape("bedrock_converse", _has("schemaVersion", "messages"), read_bedrock),
    Shape("openai_chat", _has("messages"), read_chat),
    Shape("sharegpt", _has("conversations"), read_sharegpt),
    Shape("trl_preference", _has("chosen", "rejected"), read_preference),
    Shape("trl_kto", _is_binary, read_binary),
    Shape("alpaca", _has("instruction", "output"), read_alpaca),
    Shape("trl_prompt_completion", _has("prompt", "completion"), read_prompt_completion),
    Shape("trl_text", _is_text, read_text),
)
"""In the order in which they are tried: the more particular before the more general."""


def shape_of(data: dict[str, Json]) -> Shape | None:
    """Return the shape that a row has by the keys that hold something, or None."""
    filled = {key: value for key, value in data.items() if value is not None}
    return next((shape for shape in SHAPES if shape.fits(filled)), None)
