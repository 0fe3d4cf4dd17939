"""What a test set can show: rows needed, differences seen, several tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetuning.errors import BadInputError


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile of ``probability``."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def fewest_units(alpha: float = 0.05) -> int:
    """Return how many differing rows a sign test needs to fall below ``alpha`` at all.

    Args:
        alpha: Two-sided error rate, between 0 and 1.
    """
    return math.floor(math.log2(2 / alpha)) + 1


def unseen_share(units: int, alpha: float = 0.05) -> float:
    """Return the largest share of units that may differ although none of those seen did.

    Args:
        units: Units seen, at least 1.
        alpha: One minus the confidence, between 0 and 1.
    """
    return float(1 - (alpha / 2) ** (1 / units))


def rows_needed(
    difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Return how many paired rows show a difference between two yes/no scores.

    McNemar's test in its normal approximation: 5 points at a discordance of .2 need 626 rows.

    Args:
        difference: True difference of the two shares, -1..1.
        discordance: Share of rows on which the two sides differ, 0..1 (at least ``difference``).
        alpha: Two-sided error rate, between 0 and 1.
        power: Wanted probability of finding it, between 0 and 1.

    Returns:
        Rows, or None where the difference is zero (no number of rows shows it).

    Source: normal approximation of McNemar's power; knowledge: evaluation.md#statistics
    """
    effect = abs(difference)
    if effect == 0:
        return None
    spread = max(discordance, effect)
    z_alpha, z_power = normal_quantile(1 - alpha / 2), normal_quantile(power)
    root = z_alpha * math.sqrt(spread) + z_power * math.sqrt(max(0.0, spread - effect**2))
    return max(fewest_units(alpha), math.ceil(root**2 / effect**2 - 1e-9))


def smallest_detectable_difference(
    n: int, discordance: float = 0.2, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest difference of two paired shares that ``n`` rows can show.

    Args:
        n: Rows in the test set, 0 or more.
        discordance: Share of rows on which the two sides differ, 0..1.
        alpha: Two-sided error rate, between 0 and 1.
        power: Wanted probability of finding it, between 0 and 1.

    Returns:
        A share 0..1; 1.0 where even the largest difference cannot be shown. A difference larger
        than ``discordance`` is reported where nothing smaller can be seen (it implies more).

    Raises:
        BadInputError: A number is outside its range.

    Source: arXiv 2411.00640 for the convention of 80 % power (checked 2026-11-20).
    """
    if n < 0 or not (0 <= discordance <= 1 and 0 < alpha < 1 and 0 < power < 1):
        raise BadInputError(
            "smallest_detectable_difference",
            f"n={n}, discordance={discordance}, alpha={alpha}, power={power}",
            "n of at least 0, a discordance 0..1, alpha and power between 0 and 1",
            "Leave out all but n to use 0.2, 0.05 and 0.8",
        )
    if n == 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):  # rows needed fall as the difference grows: halve until it is found
        middle = (low + high) / 2
        needed = rows_needed(middle, discordance, alpha, power)
        low, high = (low, middle) if needed is not None and needed <= n else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    Args:
        p_values: One p-value per test, each 0..1.

    Returns:
        Adjusted values 0..1, never below the raw one, in the same order.
    """
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, k in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[k]))
        adjusted[k] = running
    return adjusted
