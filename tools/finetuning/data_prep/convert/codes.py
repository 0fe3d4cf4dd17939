"""What each target can carry, and an example made to fit: notes for changes, codes for refusals.

The texts of all codes, and the tables that a conversion goes by, stand in ``codes.toml``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from finetuning.data_prep.examples import Example, Message, has_media, text_of, tool_calls_of
from finetuning.files import Code


@functools.cache
def _texts() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parents[1] / "codes.toml").read_text(encoding="utf-8"))


def code_table(name: str) -> dict[str, Code]:
    """Return one closed list of codes: ``quality`` or ``rejections``."""
    return {code: Code(**entry) for code, entry in _texts()[name].items()}


CONVERT_CODES: Final = code_table("rejections")
"""Reasons that only a conversion can have.

It also gives reasons of the validator's list: unknown_role, tools_not_allowed, image_not_allowed,
arguments_not_json, pair_missing, empty_content, too_deep.
"""

NOTES: Final[dict[str, str]] = _texts()["repairs"]
"""What a conversion changed or left out, by code."""


class Unusable(Exception):  # noqa: N818 - it names a row, not an error of the program
    """Raised inside the package for one row that cannot be converted; never leaves it."""

    def __init__(self, code: str) -> None:
        """Keep the code, of :data:`CONVERT_CODES` or the validator's list."""
        super().__init__(code)
        self.code = code


Form = Literal["chat", "pair", "preference", "binary", "graded", "text"]
"""What a row of the target is: turns, prompt and completion, two answers, one judged answer,
a prompt with a reference for a grader, or running text."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What one target carries.

    Attributes:
        form: What a row is.
        tools: Tool calls and their results.
        media: Images and other parts that are not text.
        weights: A weight of 0 or 1 on assistant turns.
        names: Names of speakers.
        alternating: User and assistant must take turns, the user first.
        system_first: One system text at most, before everything else.
    """

    form: Form
    tools: bool = False
    media: bool = False
    weights: bool = False
    names: bool = False
    alternating: bool = False
    system_first: bool = False


HOLDS: Final[dict[str, Holds]] = {
    name: Holds(form, **dict.fromkeys(flags, True))
    for name, (form, *flags) in _texts()["holds"].items()
}
"""What each target carries, by its name."""

ROLE_WORDS: Final[dict[str, str]] = {
    word: role for role, words in _texts()["roles"].items() for word in words
}
"""The four roles, by all the words that mean them."""

COLUMN_NAMES: Final[dict[str, list[str]]] = _texts()["columns"]
"""Names that tell what a column means, by that meaning; the likelier first."""


def adapt(example: Example, holds: Holds, *, system: str | None = None) -> Example:
    """Return the example as the target can hold it.

    Args:
        example: What a reader made.
        holds: What the target carries.
        system: System text for examples that have none.

    Raises:
        Unusable: The target cannot hold it; nothing is dropped in silence.
    """
    if example.kind == "text":
        if holds.form != "text":
            raise Unusable("turns_not_held")
        if not example.text.strip():
            raise Unusable("empty_content")
        return example
    example = _in_form(example, holds)
    if system and not any(turn["role"] == "system" for turn in example.messages):
        turns: list[Message] = [{"role": "system", "content": system}, *example.messages]
        example = dataclasses.replace(example, messages=turns)
    example = _carried(example, holds)
    if holds.system_first:
        example = _system_first(example)
    if holds.alternating:
        example = _alternating(example)
    _check(example, holds)
    return example


def _in_form(example: Example, holds: Holds) -> Example:
    """Turn one kind of example into another where that loses nothing unnamed."""
    sft = holds.form in {"chat", "pair", "text", "graded"}
    if example.kind == "preference" and sft:
        turns = example.messages + example.chosen
        example = dataclasses.replace(example, kind="chat", messages=turns, chosen=[], rejected=[])
        example = example.noting("rejected_left_out")
    elif example.kind == "binary" and sft:
        if not example.liked:
            raise Unusable("answer_disliked")
        example = dataclasses.replace(example, kind="chat", liked=None).noting("verdict_left_out")
    if holds.form == "preference" and example.kind != "preference":
        raise Unusable("pair_missing")
    if holds.form == "binary" and example.kind != "binary":
        raise Unusable("verdict_missing")
    if holds.form == "graded":
        return _graded(example)
    return example if example.kind == "preference" else _cut_trailing(example)


def _cut_trailing(example: Example) -> Example:
    """Drop the turns after the last answer."""
    answers = [at for at, turn in enumerate(example.messages) if turn["role"] == "assistant"]
    if not answers:
        raise Unusable("answer_missing")
    if answers[-1] == len(example.messages) - 1:
        return example
    turns = example.messages[: answers[-1] + 1]
    return dataclasses.replace(example, messages=turns).noting("trailing_turns_cut")


def _graded(example: Example) -> Example:
    """Keep the turns up to the last question; the answer becomes the grader's reference."""
    turns, answers = list(example.messages), list[str]()
    while turns and turns[-1]["role"] != "user":
        answers.insert(0, text_of(turns.pop()))
    if not answers:
        return example
    extra = {**example.extra, "reference_answer": "\n".join(answers)}
    return dataclasses.replace(example, messages=turns, extra=extra).noting("reference_moved")


def _carried(example: Example, holds: Holds) -> Example:
    """Leave out what has no place, and say so; refuse what would change the meaning."""
    every = example.messages + example.chosen + example.rejected
    uses_tools = any(turn["role"] == "tool" or tool_calls_of(turn) for turn in every)
    if uses_tools and not holds.tools:
        raise Unusable("tools_not_allowed")
    if any(map(has_media, every)) and not holds.media:
        raise Unusable("image_not_allowed")
    notes: list[str] = []
    if example.tools and not holds.tools:
        notes.append("tools_left_out")
    if not holds.weights and any("weight" in turn for turn in every):
        notes.append("weights_left_out")
    if not holds.names and any("name" in turn and turn["role"] != "tool" for turn in every):
        notes.append("names_left_out")
    if any("reasoning" in turn for turn in every):
        notes.append("reasoning_left_out")
    if example.extra and holds.form != "graded":
        notes.append("keys_left_out")
    return dataclasses.replace(
        example,
        messages=_turns(example.messages, holds),
        chosen=_turns(example.chosen, holds),
        rejected=_turns(example.rejected, holds),
        tools=example.tools if holds.tools else [],
        extra=example.extra if holds.form == "graded" else {},
    ).noting(*notes)


def _turns(turns: Sequence[Message], holds: Holds) -> list[Message]:
    dropped = {"reasoning"}
    dropped |= set[str]() if holds.weights else {"weight"}
    kept: list[Message] = []
    for turn in turns:
        named = holds.names or (turn["role"] == "tool" and holds.tools)
        without = dropped if named else dropped | {"name"}
        kept.append({key: value for key, value in turn.items() if key not in without})
    return kept


def _joinable(one: Message, two: Message) -> bool:
    plain = all(isinstance(turn.get("content"), str) for turn in (one, two))
    same = one["role"] == two["role"] and one["role"] in {"user", "assistant"}
    return plain and same and not tool_calls_of(one) and one.get("weight") == two.get("weight")


def _system_first(example: Example) -> Example:
    """Join the system texts and put them first."""
    turns = example.messages
    systems = [turn for turn in turns if turn["role"] == "system"]
    if not systems or (len(systems) == 1 and turns[0]["role"] == "system"):
        return example
    others = [turn for turn in turns if turn["role"] != "system"]
    first: Message = {"role": "system", "content": "\n\n".join(map(text_of, systems))}
    return dataclasses.replace(example, messages=[first, *others]).noting("system_moved")


def _alternating(example: Example) -> Example:
    """Let the user begin and join neighbouring turns of one speaker."""
    notes: list[str] = []
    systems = [turn for turn in example.messages if turn["role"] == "system"]
    others = [turn for turn in example.messages if turn["role"] != "system"]
    if others and others[0]["role"] == "assistant":
        notes.append("leading_turns_cut")
        others = list(itertools.dropwhile(lambda turn: turn["role"] == "assistant", others))
    merged: list[Message] = []
    for turn in others:
        if merged and _joinable(merged[-1], turn):
            notes.append("turns_merged")
            text = f"{merged[-1]['content']}\n\n{turn['content']}"
            merged[-1] = {**merged[-1], **turn, "content": text}
        else:
            merged.append(turn)
    return dataclasses.replace(example, messages=systems + merged).noting(*notes)


def _filled(turn: Message) -> bool:
    return bool(text_of(turn).strip()) or has_media(turn)


def _check(example: Example, holds: Holds) -> None:
    """Refuse an example without anything that asks or answers."""
    turns = example.messages
    if example.kind == "preference":
        if not (_all_filled(example.chosen) and _all_filled(example.rejected)):
            raise Unusable("answer_missing")
        asked = turns
    elif holds.form == "graded":
        asked = turns
    else:
        if not turns or not _filled(turns[-1]):
            raise Unusable("answer_missing")
        asked = turns[:-1]
    if not any(turn["role"] != "assistant" and _filled(turn) for turn in asked):
        raise Unusable("prompt_missing")


def _all_filled(turns: list[Message]) -> bool:
    return bool(turns) and all(map(_filled, turns))


def flat_prompt(turns: Sequence[Message]) -> str:
    """Return turns as one prompt text, the system text first.

    One question stays as it is, several turns become lines led by their role.
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


def replies(example: Example, holds: Holds) -> list[Example]:
    """Return one example per answer; earlier answers are context, with weight 0 where held."""
    made: list[Example] = []
    for end, turn in enumerate(example.messages):
        if turn["role"] != "assistant":
            continue
        turns = [
            {**past, "weight": 0} if past["role"] == "assistant" and holds.weights else past
            for past in example.messages[:end]
        ]
        made.append(dataclasses.replace(example, messages=[*turns, turn]))
    return made or [example]
