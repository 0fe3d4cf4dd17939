"""What each target can carry: the table behind every named loss of a conversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

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


_OPENAI: Final = Holds("chat", tools=True, media=True, weights=True, names=True)
_PAIR: Final = Holds("pair")
_TEXT: Final = Holds("text")
_STRICT: Final = Holds("chat", alternating=True, system_first=True)

HOLDS: Final[dict[str, Holds]] = {
    "openai_chat": _OPENAI,
    "openai_preference": Holds("preference", tools=True, media=True, names=True),
    "openai_rft": Holds("graded", tools=True, media=True, names=True),
    "azure_chat": _OPENAI,
    "together_chat": replace(_OPENAI, alternating=True, system_first=True),
    "together_instruction": _PAIR,
    "together_text": _TEXT,
    "fireworks_chat": replace(_OPENAI, system_first=True),
    "bedrock_converse": _STRICT,
    "bedrock_prompt_completion": _PAIR,
    "nova_dpo": Holds("preference", alternating=True, system_first=True),
    "vertex_sft": Holds("chat", tools=True, alternating=True, system_first=True),
    "vertex_preference": Holds("preference", alternating=True, system_first=True),
    "nebius_chat": _OPENAI,
    "aliyun_chat": Holds("chat", tools=True, media=True, system_first=True),
    "tinker": Holds("chat", tools=True, media=True, names=True),
    "trl_messages": Holds("chat", tools=True, media=True, names=True),
    "trl_prompt_completion": _PAIR,
    "trl_preference": Holds("preference"),
    "trl_kto": Holds("binary"),
    "trl_text": _TEXT,
    "alpaca": _STRICT,
    "sharegpt": Holds("chat", tools=True, alternating=True, system_first=True),
    "mistral_chat": Holds("chat", tools=True, names=True, alternating=True, system_first=True),
    "bedrock_claude3": _STRICT,
    "cohere_chat": _STRICT,
}
"""Source: data-formats facts of each provider (checked 2026-11-20); knowledge: data-prep.md."""
