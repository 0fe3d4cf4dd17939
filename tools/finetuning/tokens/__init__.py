"""Tokens: exact where a tokenizer is on this machine, else with a band, never from a network.

Names are imported when they are used first: a server that starts counts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuning.tokens.counting import counter_for
    from finetuning.tokens.examples import (
        TokenCounter,
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

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = "counting" if name == "counter_for" else "examples"
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
