"""Paired comparisons, small-sample intervals, power and multiplicity, with numpy alone."""

from __future__ import annotations

from finetuning.statistics.binary import mcnemar_p, paired_share_interval, wilson_interval
from finetuning.statistics.paired import PairedComparison, compare_paired
from finetuning.statistics.power import holm, rows_needed, smallest_detectable_difference
from finetuning.statistics.totals import compare_totals

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
