"""Metrics: chosen by what the references look like, scored row by row."""

from __future__ import annotations

from finetuning.evaluation.metrics.choice import (
    METRICS,
    Metric,
    choose_metrics,
    kind_of,
    matcher_for,
    short_references,
)
from finetuning.evaluation.metrics.text import label, tokens

__all__ = [
    "METRICS",
    "Metric",
    "choose_metrics",
    "kind_of",
    "label",
    "matcher_for",
    "short_references",
    "tokens",
]
