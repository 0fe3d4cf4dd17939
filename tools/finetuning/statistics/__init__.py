"""Paired comparisons, small-sample intervals, power and multiplicity, with numpy alone."""

from __future__ import annotations

from finetuning.statistics.paired import compare_paired
from finetuning.statistics.resampling import compare_totals
from finetuning.statistics.shares import (
    PairedComparison,
    holm,
    mcnemar_p,
    paired_share_interval,
    rows_needed,
    smallest_detectable_difference,
    wilson_interval,
)

__all__ = [
    "PairedComparison",
    "compare_paired",
    "compare_totals",
    "holm",
    "mcnemar_p",
    "paired_share_interval",
    "rows_needed",
    "smallest_detectable_difference",
    "wilson_interval",
]
