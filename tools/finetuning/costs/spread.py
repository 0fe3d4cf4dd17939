"""A range around a point: triangular, with exact quantiles."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from finetuning.costs.results import UsdRange

MICRO = Decimal("0.000001")
"""Percentiles of money are rounded to a millionth of a dollar; points are not rounded."""


class Spread(NamedTuple):
    """Lowest and highest factor around a point of 1; the mode is the point."""

    low: Decimal = Decimal(1)
    high: Decimal = Decimal(1)

    def times(self, other: Spread) -> Spread:
        """Return the spread of the product of two independent factors (its outer bounds)."""
        return Spread(self.low * other.low, self.high * other.high)

    def quantile(self, share: Decimal) -> Decimal:
        """Return the factor below which ``share`` of the triangular distribution lies."""
        width = self.high - self.low
        if not width:
            return self.low
        rise = (1 - self.low) / width
        if share < rise:
            return self.low + (share * width * (1 - self.low)).sqrt()
        return self.high - ((1 - share) * width * (self.high - 1)).sqrt()


def spread_around(point: Decimal, spread: Spread) -> UsdRange:
    """Return a sum with the 10th, 50th and 90th percentile of its spread."""
    low, middle, high = (
        (point * spread.quantile(Decimal(share))).quantize(MICRO) for share in ("0.1", "0.5", "0.9")
    )
    if spread.low == spread.high == 1:
        low = middle = high = point
    return UsdRange(p10=low, p50=middle, p90=high, point=point)
