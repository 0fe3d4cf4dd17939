"""Looks at the texts of a row for what harms quality or fails a Bedrock job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

from finetuning.data_prep.validate.reports import RowReport, pointer
from finetuning.records import Json

_MOJIBAKE: Final = re.compile(
    "[ÃÂ][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    "|â€|ï»¿|ðŸ|\ufffd"
)
_INVISIBLE: Final = re.compile(
    "[\u00ad\u200b\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SPECIAL: Final = re.compile(
    r"<\|[a-z0-9_▁]{2,32}\|>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
_RESERVED: Final = re.compile(r"(?:User|Bot|Assistant|System|Thought):|<image>|<video>|\[EOS\]")
"""Words of the aws-samples Nova validator @7a8cfea and the Bedrock guide (checked 2026-11-20)."""

_REFUSAL: Final = re.compile(
    r"\s*(?:i['’]?m (?:really |very |so )?sorry,?(?: but)? (?:i|as)\b"
    r"|i am sorry,? but i\b"
    r"|(?:sorry|apologies|unfortunately),?(?: but)? i (?:can(?:no|['’])t|am (?:not|un)able)"
    r"|i can(?:no|['’])t (?:help|assist|comply|fulfil|provide|answer|do that|engage)"
    r"|i(?:['’]m| am) (?:unable|not able) to (?:help|assist|comply|fulfil|provide|answer)"
    r"|as an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|(?:很)?(?:抱歉|对不起),?，?我(?:无法|不能)|作为(?:一个|一名)?(?:AI|人工智能|语言模型))",
    re.IGNORECASE | re.ASCII,
)
_CHECKS: Final = (
    ("mojibake", _MOJIBAKE),
    ("invisible_character", _INVISIBLE),
    ("control_in_text", _CONTROL),
    ("special_token", _SPECIAL),
)

_ANSWER_ROLES: Final = frozenset({"assistant", "model", "chatbot", "gpt", "bot"})
_ANSWER_KEYS: Final = frozenset({"completion", "chosen", "output", "preferred_output"})
_NOT_ANSWERS: Final = frozenset({"rejected", "non_preferred_output", "prompt", "instruction"})
_NOT_TEXTS: Final = frozenset(
    {"url", "uri", "fileUri", "mimeType", "id", "tool_call_id", "type", "role", "from", "format"}
)

_FLAG: Final = "\U0001f3f4"
"""The black flag: tag characters after it spell the flags of England, Scotland and Wales."""


def _side(fields: dict[str, Json], answer: bool) -> bool:
    """Say whether the texts of an object are answers, by its role where it has one."""
    role = fields.get("role", fields.get("from"))
    return role.lower() in _ANSWER_ROLES if isinstance(role, str) else answer


def _leaves(row: dict[str, Json]) -> Iterator[tuple[str, str, bool]]:
    """Yield every text with its pointer, and whether it is an answer to learn."""
    stack: list[tuple[str, Json, bool]] = [("", row, False)]
    while stack:
        place, item, answer = stack.pop()
        if isinstance(item, str):
            yield place, item, answer
        elif isinstance(item, list):
            parts = cast("list[Json]", item)
            stack += [(f"{place}/{at}", part, answer) for at, part in enumerate(parts)]
        elif isinstance(item, dict):
            fields = cast("dict[str, Json]", item)
            mine = _side(fields, answer)
            for key in fields.keys() - _NOT_TEXTS:
                learns = (mine or key in _ANSWER_KEYS) and key not in _NOT_ANSWERS
                stack.append((pointer(place, key), fields[key], learns))


def _check_text(text: str, place: str, report: RowReport) -> None:
    for code, pattern in _CHECKS:
        found = pattern.search(text)
        if not found or (found[0] >= "\U000e0000" and _FLAG in text):
            continue
        sign = f"U+{ord(found[0][0]):04X}" if code != "special_token" else "a control token"
        report.add(code, place, f"{sign} at character {found.start() + 1} of {len(text)}")


def check_texts(row: dict[str, Json], report: RowReport, *, reserved_words: bool) -> None:
    """Report mojibake, invisible characters, control tokens, refusals and reserved words.

    Args:
        row: A decoded row of any format.
        report: Takes the findings, in the order of their place.
        reserved_words: Also look for the words that fail a Bedrock job.
    """
    for place, text, answer in sorted(_leaves(row)):
        if text.startswith("data:"):
            continue
        _check_text(text, place, report)
        if answer and _REFUSAL.match(text):
            report.add("refusal", place, f"an answer of {len(text)} characters that refuses")
        found = _RESERVED.search(text) if reserved_words else None
        if found:
            message = f"{found[0]!r} at character {found.start() + 1} of {len(text)}"
            report.add("reserved_word", place, message)
