"""Targets: what can be evaluated, named by one text each."""

from __future__ import annotations

from finetuning.evaluation.targets.asking import ask_all
from finetuning.evaluation.targets.protocol import (
    MISSING,
    Answer,
    HttpTarget,
    Job,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
    Target,
    parse_target,
)

__all__ = [
    "MISSING",
    "Answer",
    "HttpTarget",
    "Job",
    "LocalTarget",
    "Outcome",
    "RecordedTarget",
    "Side",
    "Target",
    "ask_all",
    "parse_target",
]
