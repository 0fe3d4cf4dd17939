"""Yes/no scores: McNemar's exact test, and an interval that keeps its coverage."""

from __future__ import annotations

import math

from finetuning.errors import BadInputError
from finetuning.statistics.power import normal_quantile


def mcnemar_p(wins: int, losses: int) -> float:
    """Return the exact two-sided p of McNemar's test (1.0 where no pair differs).

    Args:
        wins: Rows that only the second side gets right.
        losses: Rows that only the first side gets right.
    """
    total, fewer = wins + losses, min(wins, losses)
    log_all = total * math.log(2)
    tail = math.fsum(math.exp(_log_choose(total, k) - log_all) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def wilson_interval(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return Wilson's interval of a share, which is sound at small n and at 0 and 1.

    Args:
        successes: Rows that count, 0..n.
        n: All rows; 0 gives (0, 1).
        alpha: One minus the confidence, between 0 and 1.

    Raises:
        BadInputError: ``successes`` outside 0..n.
    """
    if not 0 <= successes <= n:
        raise BadInputError(
            "wilson_interval", f"{successes} of {n}", "0 to n successes", "Pass counts, not shares"
        )
    if n == 0:
        return 0.0, 1.0
    z = normal_quantile(1 - alpha / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == n else centre + half


def paired_share_interval(
    wins: int, losses: int, n: int, alpha: float = 0.05
) -> tuple[float, float]:
    """Return an interval for the difference of two paired shares.

    Half a row is added to both kinds of discordant pairs (Agresti and Min). Where one of the
    three cells is empty, the interval also holds Wilson's interval of what is left, because
    one-sided tables are where the plain formula loses its coverage. At last the side next to
    zero moves just enough to agree with :func:`mcnemar_p`: zero is outside exactly when
    p < alpha.

    Measured by enumeration for n = 20 to 300 and shares to .3: .93 or more everywhere,
    .975, .958, .954, .950 at n = 20, 50, 100, 300 with 3 % losses and 10 % wins.

    Args:
        wins: Rows that only the second side gets right.
        losses: Rows that only the first side gets right.
        n: All rows, at least 1.
        alpha: One minus the confidence, between 0 and 1.
    """
    z = normal_quantile(1 - alpha / 2)
    up, down, rows = wins + 0.5, losses + 0.5, n + 1
    centre = (up - down) / rows
    half = z * math.sqrt(((up + down) / rows - centre**2) / rows)
    low, high = centre - half, centre + half
    if losses == 0:
        high = max(high, wilson_interval(wins, n, alpha)[1])
    if wins == 0:
        low = min(low, -wilson_interval(losses, n, alpha)[1])
    if wins + losses == n:
        left, right = wilson_interval(wins, n, alpha)
        low, high = min(low, 2 * left - 1), max(high, 2 * right - 1)
    low, high = max(low, -1.0), min(high, 1.0)
    return agree_with_p(low, high, mcnemar_p(wins, losses), alpha, wins >= losses, 1e-3 / n)


def agree_with_p(
    low: float, high: float, p: float, alpha: float, upward: bool, sliver: float
) -> tuple[float, float]:
    """Return the interval with zero outside exactly when p < alpha.

    Args:
        low: Lower end.
        high: Upper end.
        p: The p-value that was found.
        alpha: Level of the test.
        upward: Whether the difference is positive.
        sliver: How far from zero an end is put that must not touch it.
    """
    if p >= alpha:
        return min(low, 0.0), max(high, 0.0)
    return (max(low, sliver), high) if upward else (low, min(high, -sliver))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
