"""One door to the row checkers of all targets: a fast path on bytes, and the checks in full.

The fast path says of most rows, in a few microseconds, that nothing is wrong with them. It
returns True only where the checks in full would find nothing; any doubt is False. It works on
bytes alone and keeps nothing, so that byte ranges of a file can be checked in any process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from finetuning.data_prep.targets import Method
from finetuning.data_prep.validate.chat import End, check_chat_row
from finetuning.data_prep.validate.chat_rules import CHAT_RULES
from finetuning.data_prep.validate.parts import (
    check_converse,
    check_gemini,
    check_gemini_preference,
)
from finetuning.data_prep.validate.plain import (
    check_alpaca,
    check_instruction,
    check_openai_preference,
    check_sharegpt,
    check_text,
    check_trl_kto,
    check_trl_preference,
    check_trl_prompt_completion,
)
from finetuning.data_prep.validate.reports import RowReport
from finetuning.data_prep.validate.texts import check_texts
from finetuning.records import Json

Row = Mapping[str, Json]

SHAPES: Final[dict[str, frozenset[str]]] = {
    "conversations (sharegpt)": frozenset({"conversations"}),
    "preference (openai_preference)": frozenset({"preferred_output"}),
    "preference (vertex_preference)": frozenset({"contents", "completions"}),
    "contents (vertex_sft)": frozenset({"contents"}),
    "preference (trl_preference)": frozenset({"chosen", "rejected"}),
    "messages": frozenset({"messages"}),
    "instruction and output (alpaca)": frozenset({"instruction", "output"}),
    "prompt and completion": frozenset({"prompt", "completion"}),
    "text": frozenset({"text"}),
}
"""What a row looks like, by the keys that it must have; the first that fits is it."""

_OWN_SHAPE: Final[dict[str, str]] = {
    "openai_preference": "preference (openai_preference)",
    "vertex_preference": "preference (vertex_preference)",
    "vertex_sft": "contents (vertex_sft)",
    "trl_preference": "preference (trl_preference)",
    "alpaca": "instruction and output (alpaca)",
    "sharegpt": "conversations (sharegpt)",
    "together_instruction": "prompt and completion",
    "bedrock_prompt_completion": "prompt and completion",
    "trl_prompt_completion": "prompt and completion",
    "trl_kto": "prompt and completion",
    "together_text": "text",
    "trl_text": "text",
}
_TOGETHER_KEYS: Final = frozenset({"messages", "prompt", "text", "preferred_output"})
_RESERVED_WORDS: Final = frozenset({"bedrock_converse", "nova_dpo", "bedrock_prompt_completion"})


def shape_of(row: Row) -> str | None:
    """Return what format family a row looks like, or None."""
    return next((name for name, keys in SHAPES.items() if keys <= row.keys()), None)


def own_shape(target: str) -> str:
    """Return the format family of a target's own rows."""
    return _OWN_SHAPE.get(target, "messages")


def _instruction(row: Row, report: RowReport) -> None:
    check_instruction(row, report, others="warning")


def _bedrock_prompt(row: Row, report: RowReport) -> None:
    check_instruction(row, report, others="error")


_CHECKS: Final[dict[str, Callable[[Row, RowReport], None]]] = {
    "openai_preference": check_openai_preference,
    "bedrock_converse": lambda row, report: check_converse(row, report, preference=False),
    "nova_dpo": lambda row, report: check_converse(row, report, preference=True),
    "vertex_sft": check_gemini,
    "vertex_preference": check_gemini_preference,
    "together_instruction": _instruction,
    "bedrock_prompt_completion": _bedrock_prompt,
    "together_text": lambda row, report: check_text(row, report, others="warning"),
    "trl_text": lambda row, report: check_text(row, report, others=None),
    "trl_preference": check_trl_preference,
    "trl_kto": check_trl_kto,
    "alpaca": check_alpaca,
    "sharegpt": check_sharegpt,
}


def _check(target: str, method: Method, row: Row, report: RowReport) -> None:
    if target in CHAT_RULES:
        learnt: End = "answer" if method == "sft" else "any"
        end: End = "user" if target == "openai_rft" else learnt
        check_chat_row(row, CHAT_RULES[target], report, end=end)
    elif target == "trl_prompt_completion":
        check_trl_prompt_completion(row, report, needs_completion=method != "grpo")
    else:
        _CHECKS[target](row, report)


def check_row(target: str, method: Method, row: dict[str, Json], report: RowReport) -> None:
    """Check a decoded row against a known target; findings go to the report."""
    own, found = own_shape(target), shape_of(row)
    foreign = found is not None and found != own and not SHAPES[own] <= row.keys()
    if foreign and not (target == "vertex_preference" and "contents" in row):
        report.add("wrong_format", None, f"the row looks like {found}; expected {own}")
    else:
        _check(target, method, row, report)
    if target.startswith("together") and len(_TOGETHER_KEYS & row.keys()) > 1:
        names = " and ".join(sorted(_TOGETHER_KEYS & row.keys()))
        report.add("two_formats", None, f"the row has {names}")
    check_texts(row, report, reserved_words=target in _RESERVED_WORDS)


FastCheck = Callable[[bytes], bool]

_ESCAPES: Final = (b"\\u", b"\\b", b"\\f")
_TOKENS: Final = (b"<|", b"_of_turn>", b"os>", b"pad>", b"unk>")
"""Escapes and pieces of control tokens: rows with them take the slow path."""
_ODD: Final = re.compile(
    rb"\xc2[\x80-\x9f\xad]|\xc3(?:[\x82\x83]|\xa2\xe2|\xaf\xc2|\xb0\xc5)"
    rb"|\xe2(?:\x80[\x8b\xa8-\xae]|\x81[\xa0-\xaf])|\xef(?:\xbb\xbf|\xbf\xbd)|\xf3\xa0"
)
"""UTF-8 of signs of mojibake, and of signs that nobody sees."""
_REFUSAL_STARTS: Final = (
    *("i ca", "i am", "i'm", "i’m", "im ", "as a ", "as an ", "sorry", "apolog", "unfort"),
    *("抱", "很", "对", "作"),
)
_NOT_CLEAN: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a typed decode raises: wrong shape, bytes that are no UTF-8, deep nesting."""


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _ChatRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]


class _PromptRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _TextRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _AlpacaRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    instruction: str
    output: str
    input: str | None = None


def _clean(raw: bytes) -> bool:
    """Say that no byte of the row gives reason to look at its texts."""
    if b"\\" in raw and any(mark in raw for mark in _ESCAPES):
        return False
    if b"<" in raw and any(mark in raw for mark in _TOKENS):
        return False
    if b"\x7f" in raw or b"INST]" in raw:
        return False
    return raw.isascii() or _ODD.search(raw) is None


def _may_refuse(text: str) -> bool:
    """Say that the start of an answer could be a refusal."""
    start = text.lstrip() if text[:1].isspace() else text
    return start[:8].lower().startswith(_REFUSAL_STARTS)


def _roles_fine(messages: list[_Message]) -> bool:
    """Say that system is first if at all, user and assistant alternate, and an answer ends."""
    at = 1 if messages and messages[0].role == "system" else 0
    spoken = len(messages) - at
    if spoken < 2 or spoken % 2:
        return False
    for message in messages[at::2]:
        if message.role != "user":
            return False
    for message in messages[at + 1 :: 2]:
        if message.role != "assistant" or _may_refuse(message.content):
            return False
    return all(not message.content.isspace() and message.content for message in messages)


def _chat(raw: bytes) -> bool:
    if not _clean(raw):
        return False
    try:
        row = _CHAT.decode(raw)
    except _NOT_CLEAN:
        return False
    count = len(row.messages)
    twins = (
        raw.count(b'"role"') != count
        or raw.count(b'"content"') != count
        or raw.count(b'"messages"') != 1
    )
    return not twins and _roles_fine(row.messages)


def _fields(decoder: msgspec.json.Decoder[Any], keys: tuple[str, ...]) -> FastCheck:
    """Return the checker of a row whose values are all texts; the last key is the answer."""
    marks = tuple(f'"{key}"'.encode() for key in keys)
    optional = b'"input"' if "instruction" in keys else b""
    answer = keys[-1]

    def check(raw: bytes) -> bool:
        if not _clean(raw):
            return False
        try:
            row = decoder.decode(raw)
        except _NOT_CLEAN:
            return False
        if any(raw.count(mark) != 1 for mark in marks) or (optional and raw.count(optional) > 1):
            return False
        texts: list[str] = [getattr(row, key) for key in keys]
        if not all(text and not text.isspace() for text in texts):
            return False
        twin = len(texts) > 1 and texts[0].strip() == texts[-1].strip()
        return not twin and (answer == "text" or not _may_refuse(texts[-1]))

    return check


_CHAT: Final = msgspec.json.Decoder(_ChatRow)
_PROMPT: Final = _fields(msgspec.json.Decoder(_PromptRow), ("prompt", "completion"))
_TEXT: Final = _fields(msgspec.json.Decoder(_TextRow), ("text",))
_ALPACA: Final = _fields(msgspec.json.Decoder(_AlpacaRow), ("instruction", "output"))

_FAST: Final[dict[str, FastCheck]] = {
    "openai_chat": _chat,
    "azure_chat": _chat,
    "nebius_chat": _chat,
    "together_chat": _chat,
    "fireworks_chat": _chat,
    "aliyun_chat": _chat,
    "tinker": _chat,
    "trl_messages": _chat,
    "mistral_chat": _chat,
    "together_instruction": _PROMPT,
    "trl_prompt_completion": _PROMPT,
    "together_text": _TEXT,
    "trl_text": _TEXT,
    "alpaca": _ALPACA,
}


def fast_check(target: str, method: Method) -> FastCheck | None:
    """Return the fast path of a target, or None where every row takes the slow path.

    ``method`` matters only where it lets rows differ in shape, which is the slow path's affair.
    """
    return None if method in {"grpo", "rft"} else _FAST.get(target)
