"""Tokens: exact where a tokenizer is on this machine, else with a band, never from a network.

Names are imported when they are used first: a server that starts counts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning.errors import lazy

if TYPE_CHECKING:
    from finetuning.tokens.counting import counter_for
    from finetuning.tokens.examples import (
        TokenCounter,
        TokenStats,
        TokenTally,
        count_examples,
        example_texts,
        frame_tokens,
        overhead_tokens,
        read_texts,
    )
else:
    __getattr__ = lazy(
        __name__,
        counting="counter_for",
        examples="TokenCounter TokenStats TokenTally count_examples example_texts "
        "frame_tokens overhead_tokens read_texts",
    )

__all__ = [
    "TokenCounter",
    "TokenStats",
    "TokenTally",
    "count_examples",
    "counter_for",
    "example_texts",
    "frame_tokens",
    "overhead_tokens",
    "read_texts",
]
