"""Duplicates: exact and near copies found, verified and clustered."""

from __future__ import annotations

from finetuning.data_prep.duplicates.finding import Clusters, Duplicates, find_duplicates
from finetuning.data_prep.duplicates.rows import Rows
from finetuning.data_prep.duplicates.twins import Search, measure_leakage, overlapping

__all__ = [
    "Clusters",
    "Duplicates",
    "Rows",
    "Search",
    "find_duplicates",
    "measure_leakage",
    "overlapping",
]
