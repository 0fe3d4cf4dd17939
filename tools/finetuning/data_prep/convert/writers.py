"""Rows of every target, written from an adapted Example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from finetuning.data_prep.convert import vendors
from finetuning.data_prep.examples import Example, Message, text_of
from finetuning.records import Json

Row = dict[str, Json]


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


def _messages(example: Example) -> Row:
    return {"messages": example.messages, **({"tools": example.tools} if example.tools else {})}


def _prompt_completion(example: Example) -> Row:
    answer = text_of(example.messages[-1])
    return {"prompt": flat_prompt(example.messages[:-1]), "completion": answer}


def _text(example: Example) -> Row:
    if example.kind == "text":
        return {"text": example.text}
    asked, answer = flat_prompt(example.messages[:-1]), text_of(example.messages[-1])
    return {"text": f"{asked}\n\n{answer}"}


def _openai_preference(example: Example) -> Row:
    return {
        "input": _messages(example),
        "preferred_output": example.chosen,
        "non_preferred_output": example.rejected,
    }


def _openai_rft(example: Example) -> Row:
    return {**_messages(example), **example.extra}


def _alpaca(example: Example) -> Row:
    turns = example.messages
    row: Row = {"instruction": text_of(turns[-2]), "input": "", "output": text_of(turns[-1])}
    if turns[0]["role"] == "system":
        row["system"] = text_of(turns[0])
    past = [text_of(turn) for turn in turns[:-2] if turn["role"] != "system"]
    if past:
        row["history"] = [list(pair) for pair in zip(past[::2], past[1::2], strict=True)]
    return row


def _trl_preference(example: Example) -> Row:
    return {"prompt": example.messages, "chosen": example.chosen, "rejected": example.rejected}


def _trl_preference_plain(example: Example) -> Row:
    return {
        "prompt": flat_prompt(example.messages),
        "chosen": text_of(example.chosen[-1]),
        "rejected": text_of(example.rejected[-1]),
    }


def _trl_kto(example: Example) -> Row:
    turns = example.messages
    return {"prompt": turns[:-1], "completion": turns[-1:], "label": bool(example.liked)}


def _trl_kto_plain(example: Example) -> Row:
    return {**_prompt_completion(example), "label": bool(example.liked)}


_PLAIN: Final[dict[str, Callable[[Example], Row]]] = {
    "trl_preference": _trl_preference_plain,
    "trl_kto": _trl_kto_plain,
}
_WRITERS: Final[dict[str, Callable[[Example], Row]]] = {
    **dict.fromkeys(
        (
            "openai_chat",
            "azure_chat",
            "together_chat",
            "fireworks_chat",
            "nebius_chat",
            "aliyun_chat",
            "tinker",
            "trl_messages",
        ),
        _messages,
    ),
    **dict.fromkeys(
        ("together_instruction", "bedrock_prompt_completion", "trl_prompt_completion"),
        _prompt_completion,
    ),
    **dict.fromkeys(("together_text", "trl_text"), _text),
    "openai_preference": _openai_preference,
    "openai_rft": _openai_rft,
    "trl_preference": _trl_preference,
    "trl_kto": _trl_kto,
    "alpaca": _alpaca,
    "sharegpt": vendors.sharegpt,
    "bedrock_converse": vendors.bedrock,
    "nova_dpo": vendors.nova_preference,
    "vertex_sft": vendors.vertex,
    "vertex_preference": vendors.vertex_preference,
    "mistral_chat": vendors.mistral,
    "bedrock_claude3": vendors.claude3,
    "cohere_chat": vendors.cohere,
}


def writer_for(target: str, *, plain: bool) -> Callable[[Example], Row]:
    """Return the function that writes rows of a target.

    Args:
        target: Name of the target.
        plain: Every example of the file is plain (:func:`is_plain`); then TRL's preference
            rows are texts, else all of them are lists of turns, so that a file has one shape.
    """
    return _PLAIN[target] if plain and target in _PLAIN else _WRITERS[target]
