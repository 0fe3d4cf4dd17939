"""Data preparation: inspect raw files, convert, clean, split and validate them."""

from __future__ import annotations

from finetuning.data_prep.results import DataInspection, PreparedData, Replay, RowCounts
from finetuning.data_prep.tools import inspect_data, prepare_data
from finetuning.data_prep.validate import ValidationResult, validate_jsonl

__all__ = [
    "DataInspection",
    "PreparedData",
    "Replay",
    "RowCounts",
    "ValidationResult",
    "inspect_data",
    "prepare_data",
    "validate_jsonl",
]
