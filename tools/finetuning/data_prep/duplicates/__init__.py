"""Duplicates: exact and near copies found, verified and clustered."""

from __future__ import annotations

from finetuning.data_prep.duplicates.finding import Clusters, Duplicates, find_duplicates
from finetuning.data_prep.duplicates.twins import find_twins, jaccard, measure_leakage, overlapping

__all__ = [
    "Clusters",
    "Duplicates",
    "find_duplicates",
    "find_twins",
    "jaccard",
    "measure_leakage",
    "overlapping",
]
