"""Scores of any size: a sign-flip test and the interval that belongs to it.

Turning the signs of some differences around a supposed true value gives a mean at least as large
as the observed one exactly when the mean of the turned ones does not exceed that value. So the
means of random halves of the differences are all that is needed: the share of them at or below
zero is the p-value, and their quantiles are the interval. Both come from the same draws, therefore
they never disagree; the test is exact where differences are symmetric.
Source: J. Hartigan, "Using subsample values as typical values", JASA 64, 1969 (from memory).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS: Final = 9_999
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
