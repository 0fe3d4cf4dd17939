"""Rows of every target, written from an adapted Example."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, cast

from finetuning.data_prep.convert.codes import Unusable, flat_prompt
from finetuning.data_prep.examples import Example, Message, text_of, tool_calls_of
from finetuning.records import Json

Row = dict[str, Json]

_MISTRAL_ID_CHARACTERS: Final = 9
"""Source: mistralai/platform-docs-public @222f4ba (checked 2026-08-21)."""


def _system(example: Example) -> str:
    return text_of(example.messages[0]) if example.messages[0]["role"] == "system" else ""


def _spoken(example: Example) -> list[Message]:
    return [turn for turn in example.messages if turn["role"] != "system"]


def _arguments(call: dict[str, Json]) -> dict[str, Json]:
    try:
        value = json.loads(call["function"]["arguments"])
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unusable("arguments_not_json")
    return cast("dict[str, Json]", value)


def _sharegpt(example: Example) -> Row:
    """Return ``conversations`` of ``from`` and ``value``; system and tools as keys beside."""
    turns: list[Row] = []
    for turn in _spoken(example):
        calls = tool_calls_of(turn)
        if not calls:
            word = {"user": "human", "assistant": "gpt", "tool": "observation"}[turn["role"]]
            turns.append({"from": word, "value": turn.get("content") or ""})
            continue
        if len(calls) > 1 or turn.get("content"):
            raise Unusable("tools_not_allowed")
        called = {"name": calls[0]["function"]["name"], "arguments": _arguments(calls[0])}
        value = json.dumps(called, ensure_ascii=False)
        turns.append({"from": "function_call", "value": value})
    row: Row = {"conversations": turns}
    if system := _system(example):
        row["system"] = system
    if example.tools:
        functions = [tool.get("function", tool) for tool in example.tools]
        row["tools"] = json.dumps(functions, ensure_ascii=False)
    return row


def _bedrock_turns(turns: list[Message]) -> list[Row]:
    return [{"role": turn["role"], "content": [{"text": text_of(turn)}]} for turn in turns]


def _bedrock(example: Example) -> Row:
    """Return a Bedrock Converse row."""
    row: Row = {"schemaVersion": "bedrock-conversation-2024"}
    if system := _system(example):
        row["system"] = [{"text": system}]
    return {**row, "messages": _bedrock_turns(_spoken(example))}


def _nova_preference(example: Example) -> Row:
    """Return a Nova row whose last turn carries both candidates."""
    row = _bedrock(example)
    candidates = [
        {"content": [{"text": text_of(side[-1])}], "preferenceLabel": label}
        for side, label in ((example.chosen, "preferred"), (example.rejected, "non-preferred"))
    ]
    row["messages"].append({"role": "assistant", "candidates": candidates})
    return row


def _vertex_parts(turn: Message, names: dict[str, str]) -> list[Row]:
    if turn["role"] == "tool":
        try:
            given = json.loads(text_of(turn))
        except ValueError:
            given = None
        plain: Row = {"result": text_of(turn)}
        bare = not isinstance(given, dict) or cast("Row", given).keys() == plain.keys()
        response = plain if bare else cast("Row", given)
        name = names.get(cast("str", turn.get("tool_call_id")), turn.get("name"))
        return [{"functionResponse": {"name": name, "response": response}}]
    parts: list[Row] = [{"text": turn["content"]}] if turn.get("content") else []
    for call in tool_calls_of(turn):
        names[cast("str", call["id"])] = call["function"]["name"]
        called = {"name": call["function"]["name"], "args": _arguments(call)}
        parts.append({"functionCall": called})
    return parts


def _vertex_contents(turns: list[Message]) -> list[Row]:
    contents: list[Row] = []
    names: dict[str, str] = {}
    for turn in turns:
        role = "model" if turn["role"] == "assistant" else "user"
        parts = _vertex_parts(turn, names)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    return contents


def _vertex_tools(example: Example) -> Row:
    functions = [tool.get("function", tool) for tool in example.tools]
    return {"tools": [{"functionDeclarations": functions}]} if functions else {}


def _vertex(example: Example) -> Row:
    """Return a Gemini row."""
    row: Row = {}
    if system := _system(example):
        row["systemInstruction"] = {"role": "system", "parts": [{"text": system}]}
    return {**row, "contents": _vertex_contents(_spoken(example)), **_vertex_tools(example)}


def _vertex_preference(example: Example) -> Row:
    """Return a Gemini preference row: score 1 is preferred, 0 is not."""
    row: Row = {}
    if system := _system(example):
        row["system_instruction"] = {"parts": [{"text": system}]}
    row["contents"] = _vertex_contents(_spoken(example))
    row["completions"] = [
        {"score": score, "completion": {"role": "model", "parts": [{"text": text_of(side[-1])}]}}
        for side, score in ((example.chosen, 1), (example.rejected, 0))
    ]
    return row


def _mistral_id(name: str) -> str:
    if len(name) == _MISTRAL_ID_CHARACTERS and name.isascii() and name.isalnum():
        return name
    import xxhash

    return xxhash.xxh3_64_hexdigest(name.encode())[:_MISTRAL_ID_CHARACTERS]


def _mistral(example: Example) -> Row:
    """Return ``messages`` with tool-call ids of nine characters."""
    turns: list[Message] = []
    for turn in example.messages:
        made = dict(turn)
        if calls := tool_calls_of(turn):
            if turn.get("content"):
                raise Unusable("tools_not_allowed")
            made["content"] = ""
            made["tool_calls"] = [
                {**call, "id": _mistral_id(cast("str", call["id"]))} for call in calls
            ]
        if turn.get("tool_call_id"):
            made["tool_call_id"] = _mistral_id(cast("str", turn["tool_call_id"]))
        turns.append(made)
    return {"messages": turns, **({"tools": example.tools} if example.tools else {})}


def _claude3(example: Example) -> Row:
    """Return Claude 3's row: system as text, plain turns."""
    turns = [{"role": turn["role"], "content": text_of(turn)} for turn in _spoken(example)]
    system = _system(example)
    return {**({"system": system} if system else {}), "messages": turns}


def _cohere(example: Example) -> Row:
    """Return Cohere's row, whose roles are System, User and Chatbot."""
    words = {"system": "System", "user": "User", "assistant": "Chatbot"}
    return {
        "messages": [
            {"role": words[turn["role"]], "content": text_of(turn)} for turn in example.messages
        ]
    }


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
    "sharegpt": _sharegpt,
    "bedrock_converse": _bedrock,
    "nova_dpo": _nova_preference,
    "vertex_sft": _vertex,
    "vertex_preference": _vertex_preference,
    "mistral_chat": _mistral,
    "bedrock_claude3": _claude3,
    "cohere_chat": _cohere,
}


def writer_for(target: str, *, plain: bool) -> Callable[[Example], Row]:
    """Return the function that writes rows of a target.

    Args:
        target: Name of the target.
        plain: Every example of the file is plain (:func:`is_plain`); then TRL's preference
            rows are texts, else all of them are lists of turns, so that a file has one shape.
    """
    return _PLAIN[target] if plain and target in _PLAIN else _WRITERS[target]
