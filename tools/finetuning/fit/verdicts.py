"""Names of the answers."""

from __future__ import annotations

from typing import Final, Literal

Verdict = Literal[
    "keep_current",
    "prompt_first",
    "rag_first",
    "hybrid_rag_sft",
    "constrained_decoding",
    "cheaper_base_or_cache",
    "build_eval_first",
    "fix_data",
    "fix_eval",
    "sft",
    "dpo",
    "kto",
    "rl",
    "continued_pretraining",
    "distill_smaller",
    "small_encoder",
    "migrate_provider",
    "conditional",
    "stop_blocked",
]

TRAINS: Final[frozenset[Verdict]] = frozenset(
    {
        "sft",
        "dpo",
        "kto",
        "rl",
        "continued_pretraining",
        "distill_smaller",
        "small_encoder",
        "hybrid_rag_sft",
    }
)
"""Verdicts that train a model."""

Axis = Literal["context", "behaviour", "syntax", "skill", "cost", "latency", "evaluation"]
GateName = Literal["evaluation", "law", "provider", "feasible"]
Stage = GateName | Literal["axis", "data", "economics", "advice"]
GATES: Final[tuple[GateName, ...]] = ("evaluation", "law", "provider", "feasible")
"""The gates in the order in which they are reported."""
