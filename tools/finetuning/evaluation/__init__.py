"""Evaluation: is the tuned model really better, what did it cost elsewhere, what went wrong."""

from __future__ import annotations

from finetuning.evaluation.compare import compare_eval
from finetuning.evaluation.diagnose import RunDiagnosis, diagnose_run
from finetuning.evaluation.results import Arm, EvalComparison

__all__ = ["Arm", "EvalComparison", "RunDiagnosis", "compare_eval", "diagnose_run"]
