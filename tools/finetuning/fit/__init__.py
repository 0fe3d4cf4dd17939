"""Fit: whether to fine-tune at all, decided by rules on facts, with what would flip it."""

from __future__ import annotations

from finetuning.fit.assess import assess_fit
from finetuning.fit.facts import FitFacts
from finetuning.fit.results import FitAssessment

__all__ = ["FitAssessment", "FitFacts", "assess_fit"]
