"""Which shape a row has, and the row read as an Example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from finetuning.data_prep.convert import chats, judged
from finetuning.data_prep.convert.chats import Reading
from finetuning.data_prep.convert.codes import Unusable
from finetuning.data_prep.convert.columns import Columns, cell_text, guess_pair
from finetuning.data_prep.convert.turns import Turns
from finetuning.data_prep.examples import Example
from finetuning.records import Json, Record


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
    return "text" in data and data.keys() <= chats.COMPANIONS | {"text"}


SHAPES: Final = (
    Shape(
        "openai_preference",
        _has("input", "preferred_output", "non_preferred_output"),
        judged.read_openai_preference,
    ),
    Shape("vertex_preference", _has("contents", "completions"), judged.read_vertex_preference),
    Shape("vertex_sft", _has("contents"), chats.read_vertex),
    Shape("nova_dpo", judged.has_candidates, judged.read_nova_preference),
    Shape("bedrock_converse", _has("schemaVersion", "messages"), chats.read_bedrock),
    Shape("openai_chat", _has("messages"), chats.read_chat),
    Shape("sharegpt", _has("conversations"), chats.read_sharegpt),
    Shape("trl_preference", _has("chosen", "rejected"), judged.read_preference),
    Shape("trl_kto", _is_binary, judged.read_binary),
    Shape("alpaca", _has("instruction", "output"), chats.read_alpaca),
    Shape("trl_prompt_completion", _has("prompt", "completion"), chats.read_prompt_completion),
    Shape("trl_text", _is_text, chats.read_text),
)
"""In the order in which they are tried: the more particular before the more general."""


def shape_of(data: dict[str, Json]) -> Shape | None:
    """Return the shape that a row has by the keys that hold something, or None."""
    filled = {key: value for key, value in data.items() if value is not None}
    return next((shape for shape in SHAPES if shape.fits(filled)), None)


def read_row(record: Record, columns: Columns, kinds: Collection[str]) -> Example:
    """Read one row: by the columns that the person named, else by its shape, else by its names.

    Args:
        record: The row.
        columns: What the person said about columns, roles and system text.
        kinds: Kinds of example that the target holds; they decide where a row could be several.

    Raises:
        Unusable: The row cannot be read as an example.
    """
    reading = Reading(record, columns, Turns(columns.role_map))
    made = _named(reading, kinds) or _shaped(reading, kinds)
    if "binary" in kinds and made.kind == "chat":
        liked = judged.verdict(record.data.get(columns.label or "label"))
        made = made if liked is None else dataclasses.replace(made, kind="binary", liked=liked)
    return made.noting(*reading.turns.notes)


def _named(reading: Reading, kinds: Collection[str]) -> Example | None:
    """Read by named columns; None where the person named none that this row has."""
    columns, data = reading.columns, reading.data
    if "text" in kinds and columns.content in data and columns.conversation is None:
        return Example(reading.record, "text", text=cell_text(data[columns.content]))
    if not ({columns.prompt, columns.completion} & data.keys()):
        return None
    if "preference" in kinds and {"chosen", "rejected"} <= data.keys():
        return judged.read_preference(reading)
    return _guessed(reading)


def _shaped(reading: Reading, kinds: Collection[str]) -> Example:
    shape = shape_of(reading.data)
    if shape is None and "text" in kinds and isinstance(reading.data.get("text"), str):
        return chats.read_text(reading)
    return _guessed(reading) if shape is None else shape.read(reading)


def _guessed(reading: Reading) -> Example:
    pair = guess_pair(reading.data, reading.columns)
    if pair is None:
        raise Unusable("unknown_shape")
    return chats.read_pair(reading, reading.data[pair[0]], reading.data[pair[1]])
