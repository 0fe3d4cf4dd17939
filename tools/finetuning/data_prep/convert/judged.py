"""Rows that judge answers (preferred and rejected, good and bad), read into an Example."""

from __future__ import annotations

from typing import Final, cast

from finetuning.data_prep.convert.chats import (
    Reading,
    bedrock_system,
    read_prompt_completion,
    text_turns,
    tools_of,
    vertex_system,
)
from finetuning.data_prep.convert.codes import Unusable
from finetuning.data_prep.convert.columns import cell_text
from finetuning.data_prep.convert.turns import objects
from finetuning.data_prep.examples import Example, Message
from finetuning.records import Json

_TRUE: Final = frozenset("true 1 1.0 yes good up thumbs_up like liked positive 👍".split())
_FALSE: Final = frozenset(
    "false 0 0.0 -1 no bad down thumbs_down dislike disliked negative 👎".split()
)


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
