"""From intervals to a verdict, and from the verdict to whether to ship."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning.evaluation.results import Contamination, General, Ship, TaskMetric, Verdict
from finetuning.statistics import PairedComparison


def verdict_of(comparison: PairedComparison, margin: float, *, higher_is_better: bool) -> Verdict:
    """Return what one comparison says.

    ``tied`` when the whole interval lies inside the margin, else ``improved`` or ``worse`` when
    it leaves out zero, else ``underpowered``.

    Args:
        comparison: Of tuned against base.
        margin: Difference that does not matter, at least 0.
        higher_is_better: Direction of the metric.
    """
    low, high = comparison.ci
    if -margin < low and high < margin:
        return "tied"
    if comparison.p >= comparison.alpha:
        return "underpowered"
    return "improved" if (comparison.diff > 0) == higher_is_better else "worse"


def decide_ship(
    verdict: Verdict,
    task: Sequence[TaskMetric],
    general: General | None,
    contamination: Contamination | None,
    *,
    margin: float,
    alpha: float,
) -> tuple[Ship | None, list[str]]:
    """Return whether to ship, with the reasons against it.

    Args:
        verdict: Of the first metric.
        task: All metrics.
        general: What the training cost elsewhere, if measured.
        contamination: Overlap of test and training rows, if measured.
        margin: Loss of another metric that does not matter.
        alpha: Two-sided error rate over all metrics.
    """
    if verdict == "baseline":
        return None, []
    if verdict in {"invalid", "underpowered"}:
        return "needs_more_data", []
    if verdict == "worse":
        return "no", [f"{task[0].metric} is worse"]
    if verdict == "tied":
        return "no", ["nothing was gained; ship only if it is cheaper or faster"]
    reasons = [f"{entry.metric} is worse" for entry in task[1:] if _lost(entry, margin, alpha)]
    if general is not None and general.verdict == "worse":
        reasons.append("general ability is worse")
    if reasons:
        return "no", reasons
    clean = contamination.without if contamination and contamination.fraction > 0 else None
    if contamination and contamination.fraction > 0 and (clean is None or clean.p >= alpha):
        return "needs_more_data", ["the gain is not shown on rows that training did not see"]
    return "yes", []


def _lost(entry: TaskMetric, margin: float, alpha: float) -> bool:
    loss = (entry.diff or 0.0) * (-1 if entry.better == "higher" else 1)
    return loss > margin and entry.p_holm is not None and entry.p_holm < alpha
