"""Scores that are no mean over rows (macro-F1): bootstrap of the totals they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from finetuning.statistics.binary import agree_with_p
from finetuning.statistics.paired import PairedComparison
from finetuning.statistics.power import fewest_units, normal_quantile, unseen_share
from finetuning.statistics.signflip import SubsetMeans, sign_flip_interval, sign_flip_p

if TYPE_CHECKING:
    from finetuning.statistics.signflip import Floats

DRAWS: Final = 1_999


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
    drawn = np.random.default_rng(seed).multinomial(number, counts / number, size=DRAWS)
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
