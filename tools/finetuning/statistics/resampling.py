"""Scores of any size by sign flips, and scores that are no mean by bootstrapped totals.

Turning the signs of some differences around a supposed true value gives a mean at least as large
as the observed one exactly when the mean of the turned ones does not exceed that value. So the
means of random halves of the differences are all that is needed: the share of them at or below
zero is the p-value, and their quantiles are the interval. Both come from the same draws, therefore
they never disagree; the test is exact where differences are symmetric. A score that is no mean
over rows (macro-F1) is made of totals: there the rows are drawn again with replacement.
Source: J. Hartigan, "Using subsample values as typical values", JASA 64, 1969 (from memory).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.statistics.shares import (
    PairedComparison,
    agree_with_p,
    fewest_units,
    normal_quantile,
    unseen_share,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS: Final = 9_999
TOTALS_DRAWS: Final = 1_999
_ENUMERATE_BELOW, _DRAWN_ONE_BY_ONE = 13, 512


class SubsetMeans(NamedTuple):
    """Means of random subsets, sorted, and how many subsets were empty."""

    values: Floats
    empty: int
    exact: bool


def subset_means(totals: Floats, weights: Floats, seed: int) -> SubsetMeans:
    """Return the means of random halves of the rows (or of the clusters).

    All subsets are used below 13 units. Above 1,024 units the 512 that deviate most are drawn one
    by one and the sum of the others from its normal limit.

    Args:
        totals: Sum of the differences of each unit, shape (units,).
        weights: Rows of each unit, shape (units,).
        seed: Seed of the draws.
    """
    import numpy as np

    pairs = np.column_stack([totals, weights])
    units = len(pairs)
    if units < _ENUMERATE_BELOW:
        codes = np.arange(1, 2**units, dtype=np.int64)[:, None]
        chosen = np.bitwise_and(np.right_shift(codes, np.arange(units, dtype=np.int64)), 1)
        sums = np.asarray(chosen, dtype=np.float64) @ pairs
        return SubsetMeans(_sorted_means(sums), 0, True)
    generator = np.random.default_rng(seed)
    rest = pairs[:0]
    if units > 2 * _DRAWN_ONE_BY_ONE:
        mean = float(totals.sum() / weights.sum())
        order = np.argsort(-np.abs(totals - mean * weights), kind="stable")
        pairs, rest = pairs[order[:_DRAWN_ONE_BY_ONE]], pairs[order[_DRAWN_ONE_BY_ONE:]]
    bits = np.unpackbits(
        generator.integers(0, 256, (DRAWS, math.ceil(len(pairs) / 8)), dtype=np.uint8),
        axis=1,
        count=len(pairs),
    )
    sums = bits.astype(np.float64) @ pairs
    if len(rest):
        values, axes = np.linalg.eigh(rest.T @ rest / 4)
        spread = axes * np.sqrt(np.clip(values, 0, None))
        sums += rest.sum(axis=0) / 2 + generator.standard_normal((DRAWS, 2)) @ spread.T
    kept = sums[sums[:, 1] > 0]
    return SubsetMeans(_sorted_means(kept), DRAWS - len(kept), False)


def sign_flip_p(means: SubsetMeans) -> float:
    """Return the two-sided p-value against no difference."""
    import numpy as np

    below = int(np.searchsorted(means.values, 0.0, side="right"))
    above = len(means.values) - int(np.searchsorted(means.values, 0.0, side="left"))
    fewer = min(below, above) + means.empty + 1
    return min(1.0, 2 * fewer / (len(means.values) + means.empty + 1))


def sign_flip_interval(means: SubsetMeans, alpha: float) -> tuple[float, float]:
    """Return the interval that leaves out zero exactly when :func:`sign_flip_p` < alpha.

    An end is infinite where there are too few units to bound it.
    """
    total = len(means.values) + means.empty + 1
    # p < alpha means that fewer than alpha/2 * total - 1 subset means lie at or beyond zero
    rank = math.ceil(alpha * total / 2 - 1 - 1e-9) - means.empty
    if rank < 1:
        return -math.inf, math.inf
    return float(means.values[rank - 1]), float(means.values[-rank])


def _sorted_means(sums: Floats) -> Floats:
    import numpy as np

    means = np.asarray(sums[:, 0] / sums[:, 1], dtype=np.float64)
    size = float(np.abs(means).max(initial=0.0))
    means[np.abs(means) <= 1e-12 * size] = 0.0  # sums that cancel are zero, not rounding noise
    means.sort()
    return means


def compare_totals(
    base: Floats,
    tuned: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    alpha: float = 0.05,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    smallest_effect: float = 0.0,
) -> PairedComparison:
    """Compare a score of summed counts between two sides of the same rows.

    Rows (or clusters) are drawn again with replacement; interval and p-value come from the same
    draws and never disagree. A win is a row whose counts raise the score if it stands alone.

    Args:
        base: Counts per row, shape (rows, counts).
        tuned: The same for the other side.
        statistic: Turns summed counts, shape (draws, counts), into scores 0..1, shape (draws,).
        alpha: Two-sided error rate, between 0 and 1.
        clusters: Name of each row's group, or None.
        seed: Seed of the draws.
        smallest_effect: ``n_needed`` is for the observed difference or this, what is larger.
    """
    import numpy as np

    both = np.concatenate([base, tuned], axis=1)
    width = base.shape[1]
    units, counts = _units(both, clusters)
    number = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(number, counts / number, size=TOTALS_DRAWS)
    sums = np.concatenate([both.sum(axis=0)[None], drawn @ units])
    scores = [statistic(sums[:, :width]), statistic(sums[:, width:])]
    spread = np.sort(scores[1][1:] - scores[0][1:])
    diff = float(scores[1][0] - scores[0][0])
    rows = statistic(tuned) - statistic(base)
    differing = int((np.abs(both[:, :width] - both[:, width:]).sum(axis=1) > 0).sum())
    means = SubsetMeans(spread, 0, False)
    ends = [_ends(means, diff, level, differing, number) for level in (0.05, alpha)]
    reach = (normal_quantile(1 - alpha / 2) + normal_quantile(0.8)) * float(spread.std())
    return PairedComparison(
        n=len(base),
        clusters=None if clusters is None else number,
        base=float(scores[0][0]),
        tuned=float(scores[1][0]),
        diff=diff,
        ci95=ends[0],
        ci=ends[1],
        alpha=alpha,
        p=sign_flip_p(means),
        wins=int((rows > 0).sum()),
        ties=int((rows == 0).sum()),
        losses=int((rows < 0).sum()),
        mde=max(reach, unseen_share(number, alpha) if differing == 0 else 0.0),
        n_needed=_rows_needed(len(base), reach, max(abs(diff), smallest_effect), alpha),
        method="bootstrap" if clusters is None else "bootstrap_clustered",
    )


def _rows_needed(rows: int, reach: float, effect: float, alpha: float) -> int | None:
    """Return the rows that show ``effect``, where ``rows`` show ``reach``."""
    if not (effect and reach):
        return None
    return max(fewest_units(alpha), math.ceil(rows * (reach / effect) ** 2))


def _units(both: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Return distinct units with how often each occurs."""
    import numpy as np

    if clusters is None:
        units, counts = np.unique(both, axis=0, return_counts=True)
        return units, counts.astype(np.float64)
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    units = np.zeros((int(index.max()) + 1, both.shape[1]))
    np.add.at(units, index, both)
    return units, np.ones(len(units))


def _ends(
    means: SubsetMeans, diff: float, alpha: float, differing: int, units: int
) -> tuple[float, float]:
    """Return ends within -1..1 that hold the difference and what unseen rows allow."""
    ends, p = sign_flip_interval(means, alpha), sign_flip_p(means)
    low, high = min(ends[0], diff), max(ends[1], diff)
    if differing < fewest_units(alpha) or low == high:
        room = unseen_share(units, alpha)
        low, high = min(low, diff - room), max(high, diff + room)
    low, high = max(low, -1.0), min(high, 1.0)
    return agree_with_p(low, high, p, alpha, diff >= 0, max(abs(diff), 1e-6) * 1e-3)
