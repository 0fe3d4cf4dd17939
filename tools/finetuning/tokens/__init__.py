"""Tokens: exact where a tokenizer is on this machine, else with a band, never from a network."""

from __future__ import annotations

from finetuning.tokens.counting import TokenCounter, counter_for
from finetuning.tokens.examples import (
    TokenStats,
    TokenTally,
    count_examples,
    example_texts,
    overhead_tokens,
)

__all__ = [
    "TokenCounter",
    "TokenStats",
    "TokenTally",
    "count_examples",
    "counter_for",
    "example_texts",
    "overhead_tokens",
]
