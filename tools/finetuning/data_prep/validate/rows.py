"""One door to the row checkers of all targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from finetuning.data_prep.target_shape import Method
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
