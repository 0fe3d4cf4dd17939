"""Validation of training files: every fault with line, place, code and fix."""

from __future__ import annotations

from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate.codes import CODES
from finetuning.data_prep.validate.tool import ValidationResult, validate_jsonl, validate_row

__all__ = ["CODES", "TARGETS", "ValidationResult", "validate_jsonl", "validate_row"]
