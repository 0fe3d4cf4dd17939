"""Several tests at once: p-values that keep the error rate of the family."""

from __future__ import annotations

from collections.abc import Sequence


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
