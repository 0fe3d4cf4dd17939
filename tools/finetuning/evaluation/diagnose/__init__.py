"""Reads training logs: which class of fault a curve shows, and which knob to turn."""

from __future__ import annotations

from finetuning.evaluation.diagnose.labels import MEANINGS, Diagnosis, Label
from finetuning.evaluation.diagnose.tool import RunDiagnosis, diagnose_run

__all__ = ["MEANINGS", "Diagnosis", "Label", "RunDiagnosis", "diagnose_run"]
