"""Duplicates: exact and near copies found, verified and clustered."""

from __future__ import annotations

from finetuning.data_prep.duplicates.arrays import Clusters
from finetuning.data_prep.duplicates.finding import Duplicates, find_duplicates
from finetuning.data_prep.duplicates.leakage import measure_leakage, overlapping
from finetuning.data_prep.duplicates.rows import Rows
from finetuning.data_prep.duplicates.twins import Search

__all__ = [
    "Clusters",
    "Duplicates",
    "Rows",
    "Search",
    "find_duplicates",
    "measure_leakage",
    "overlapping",
]
