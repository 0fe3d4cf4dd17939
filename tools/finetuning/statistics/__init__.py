"""Paired comparisons, small-sample intervals, power and multiplicity, with numpy alone.

Here: two sides, the same rows; which is better, by how much, and how sure that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetuning.errors import BadInputError
from finetuning.statistics.resampling import (
    compare_totals,
    sign_flip_interval,
    sign_flip_p,
    subset_means,
)
from finetuning.statistics.shares import (
    PairedComparison,
    agree_with_p,
    compare_shares,
    fewest_units,
    holm,
    mcnemar_p,
    normal_quantile,
    paired_share_interval,
    rows_needed,
    smallest_detectable_difference,
    unseen_share,
    wilson_interval,
)

if TYPE_CHECKING:
    from finetuning.statistics.resampling import Floats

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


def compare_paired(
    base: Sequence[float],
    tuned: Sequence[float],
    *,
    alpha: float = 0.05,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    smallest_effect: float = 0.0,
) -> PairedComparison:
    """Compare two sides on the same rows, with an interval and a p-value that agree.

    Scores of 0 and 1 get McNemar's exact test; others, and clustered rows, a sign-flip test
    whose interval comes from the same draws.

    Args:
        base: One score per row.
        tuned: One score per row, in the same order.
        alpha: Two-sided error rate, between 0 and 1.
        clusters: Name of each row's group (conversation, document, customer), or None.
        seed: Seed of the draws.
        smallest_effect: ``n_needed`` is for the observed difference or this, what is larger.

    Raises:
        BadInputError: Sides of unequal length, no rows, a value that is not finite, or alpha
            outside 0..1.

    Source: arXiv 2411.00640 (pairing, clusters), arXiv 2503.01747 (small n), checked 2026-11-20;
    knowledge: evaluation.md#statistics
    """
    import numpy as np

    first, second = (np.asarray(side, dtype=np.float64) for side in (base, tuned))
    _check(first, second, alpha, clusters)
    both = np.concatenate([first, second])
    if clusters is None and ((both == 0) | (both == 1)).all():
        return compare_shares(first, second, alpha, smallest_effect)
    return _compare_scores(first, second, alpha, clusters, seed, smallest_effect)


def _compare_scores(
    first: Floats,
    second: Floats,
    alpha: float,
    clusters: Sequence[str] | None,
    seed: int,
    smallest_effect: float,
) -> PairedComparison:
    import numpy as np

    diffs = second - first
    totals, weights = _units(diffs, clusters)
    means = subset_means(totals, weights, seed)
    p = sign_flip_p(means)
    both = np.concatenate([first, second])
    scale = _scale(both, len(totals), alpha)
    mean, se = _mean_and_error(totals, weights)
    ends = [
        _finite_ends(sign_flip_interval(means, level), totals, weights, scale, p, level)
        for level in (0.05, alpha)
    ]
    effect = max(abs(mean), smallest_effect)
    reach = normal_quantile(1 - alpha / 2) + normal_quantile(0.8)
    few = se == 0 or len(totals) < fewest_units(alpha)
    unseen = unseen_share(len(totals), alpha) * scale if few else 0.0
    needed = math.ceil(len(diffs) * (reach * se / effect) ** 2) if effect else None
    name = "sign_flip_exact" if means.exact else "sign_flip"
    return PairedComparison(
        n=len(diffs),
        clusters=None if clusters is None else len(totals),
        base=float(first.mean()),
        tuned=float(second.mean()),
        diff=mean,
        ci95=ends[0],
        ci=ends[1],
        alpha=alpha,
        p=p,
        wins=int((diffs > 0).sum()),
        ties=int((diffs == 0).sum()),
        losses=int((diffs < 0).sum()),
        mde=max(reach * se, unseen),
        n_needed=None if needed is None else max(fewest_units(alpha), needed),
        method=name if clusters is None else f"{name}_clustered",
    )


def _units(diffs: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Return the sum of differences and the number of rows of each independent unit."""
    import numpy as np

    if clusters is None:
        return diffs, np.ones(len(diffs))
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    totals = np.bincount(index, weights=diffs).astype(np.float64)
    return totals, np.bincount(index).astype(np.float64)


def _mean_and_error(totals: Floats, weights: Floats) -> tuple[float, float]:
    """Return the mean difference and its (cluster-robust) standard error."""
    rows, units = float(weights.sum()), len(totals)
    mean = float(totals.sum()) / rows
    if units < 2:
        return mean, 0.0
    squares = float(((totals - mean * weights) ** 2).sum())
    error = math.sqrt(squares * units / (units - 1)) / rows
    return mean, error if error > 1e-12 * max(abs(mean), 1e-300) else 0.0


def _scale(values: Floats, units: int, alpha: float) -> float:
    """Return how far a unit not seen may differ, where those seen all differ by the same.

    Scores between 0 and 1 may differ by 1. Unbounded ones (likelihoods) that agree in many units
    come from the same model; few units could differ by as much as the largest value.
    """
    if values.min() >= 0 and values.max() <= 1:
        return 1.0
    return float(abs(values).max()) if units < fewest_units(alpha) else 0.0


def _finite_ends(
    ends: tuple[float, float],
    totals: Floats,
    weights: Floats,
    scale: float,
    p: float,
    alpha: float,
) -> tuple[float, float]:
    """Return ends that are finite and never closer than unseen rows allow.

    Too few differing units for any verdict (or none, or all alike) say little about the units
    not seen: the interval is then at least as wide as their largest possible share allows.
    """
    mean, se = _mean_and_error(totals, weights)
    units, differing = len(totals), int((totals != 0).sum())
    low, high = ends
    if differing < fewest_units(alpha) or se == 0:
        largest = float(abs(totals / weights).max()) or scale
        room = unseen_share(units, alpha) * (scale if se == 0 else largest)
        low, high = min(low, mean - room), max(high, mean + room)
    if math.isinf(low):
        # Student's t with one or two degrees of freedom: closed forms, wide on purpose
        tail = 1 - alpha
        t = math.tan(math.pi * tail / 2) if units < 3 else tail * math.sqrt(2 / (1 - tail**2))
        room = max(t * se, unseen_share(units, alpha) * scale)
        low, high = mean - room, mean + room
    return agree_with_p(low, high, p, alpha, mean >= 0, abs(mean) * 1e-3)


def _check(base: Floats, tuned: Floats, alpha: float, clusters: Sequence[str] | None) -> None:
    import numpy as np

    names = len(base) if clusters is None else len(clusters)
    if not len(base) == len(tuned) == names or not len(base):
        raise BadInputError(
            "compare_paired",
            f"{len(base)} base scores, {len(tuned)} tuned scores, {names} cluster names",
            "the same number of each, at least 1",
            "Give a missing answer the score of a failure instead of dropping it",
        )
    if not (np.isfinite(base).all() and np.isfinite(tuned).all()):
        raise BadInputError(
            "compare_paired",
            "a score is NaN or infinite",
            "finite scores",
            "Leave this metric out, or give such rows the worst finite score",
        )
    if not 0 < alpha < 1:
        raise BadInputError("compare_paired", f"alpha={alpha}", "between 0 and 1", "Use alpha=0.05")
