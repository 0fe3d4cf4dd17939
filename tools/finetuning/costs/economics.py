"""Does it pay: break-even, net present value, and which factor moves the result most."""

from __future__ import annotations

import datetime as dt
import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Final, NamedTuple

from finetuning.costs.schema import Months, Swing, UsdRange

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


DRAWS: Final = 10_000
RETRAINING_MONTHS: Final = 15
"""A base lives about 12 to 18 months, and a tuned model dies with it (costs.md#break-even, checked
2026-11-20)."""

TRAFFIC: Final = Spread(Decimal("0.6"), Decimal("1.6"))
LABOUR: Final = Spread(Decimal("0.7"), Decimal("1.6"))
SERVING: Final = Spread(Decimal("0.85"), Decimal("1.25"))
"""Ranges of traffic, labour and serving cost around their points: this project's assumptions."""

CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that decides whether tuning pays, as plain numbers.

    Money in dollars; ``now_request`` and ``tuned_request`` are per request; ``retrain_at`` are
    the months in which the base's end forces a new job.
    """

    training: Decimal
    training_spread: Spread
    cycles: int
    labour: Decimal
    requests: Decimal = Decimal(0)
    now_request: Decimal = Decimal(0)
    tuned_request: Decimal = Decimal(0)
    tuned_fixed: Decimal = Decimal(0)
    horizon: int = 12
    rate: Decimal = Decimal("0.10")
    retrain_at: tuple[int, ...] = ()

    @property
    def one_off(self) -> Decimal:
        """Return what is spent before the first request: all cycles and the labour."""
        return self.training * self.cycles + self.labour

    @property
    def saving(self) -> Decimal:
        """Return what a month costs today less what it would cost with the tuned model."""
        return self.requests * (self.now_request - self.tuned_request) - self.tuned_fixed


def net_present_value(case: Case) -> Decimal:
    """Return the savings of the horizon, discounted by month, less all spending.

    A forced retraining costs one cycle: its share of training and labour.
    """
    factors = _discounts(case.rate, case.horizon)
    retraining = case.one_off / max(1, case.cycles)
    forced = sum((factors[month - 1] for month in case.retrain_at), Decimal(0))
    return (case.saving * sum(factors) - case.one_off - retraining * forced).quantize(CENT)


@functools.lru_cache(maxsize=256)
def _discounts(rate: Decimal, horizon: int) -> tuple[Decimal, ...]:
    """Return what a dollar at the end of each month is worth today."""
    step = (1 + rate) ** (Decimal(-1) / 12)
    return tuple(step**month for month in range(1, horizon + 1))


def break_even_requests(case: Case) -> int | None:
    """Return the monthly requests from which tuned serving is cheaper, or None.

    Fixed serving cost of a month ÷ (cost per request today − cost per tuned request).

    Source: costs.md#break-even (checked 2026-11-20)
    """
    difference = case.now_request - case.tuned_request
    if difference <= 0:
        return None
    return int((case.tuned_fixed / difference).to_integral_value(ROUND_CEILING))


def draw_months(case: Case, seed: int) -> list[float]:
    """Draw the months to break-even, sorted; infinite where it never pays.

    Traffic, labour, training cost and serving cost vary over their ranges; the same seed gives
    the same draws.
    """
    draw = random.Random(seed).triangular
    training, labour = float(case.training) * case.cycles, float(case.labour)
    now, tuned = float(case.requests * case.now_request), float(case.requests * case.tuned_request)
    fixed = float(case.tuned_fixed)
    spreads = [
        (float(spread.low), float(spread.high))
        for spread in (TRAFFIC, SERVING, case.training_spread, LABOUR)
    ]
    (t_low, t_high), (s_low, s_high), (c_low, c_high), (l_low, l_high) = spreads
    months: list[float] = []
    for _ in range(DRAWS):
        traffic, serving = draw(t_low, t_high, 1.0), draw(s_low, s_high, 1.0)
        one_off = training * draw(c_low, c_high, 1.0) + labour * draw(l_low, l_high, 1.0)
        saving = traffic * (now - serving * tuned) - serving * fixed
        months.append(one_off / saving if saving > 0 else math.inf)
    months.sort()
    return months


def months_percentiles(months: list[float]) -> Months | None:
    """Return the 10th, 50th and 90th percentile over all draws; None when all are never."""
    picked = [months[int(share * (len(months) - 1))] for share in (0.1, 0.5, 0.9)]
    if not math.isfinite(picked[0]):
        return None
    p10, p50, p90 = (Decimal(f"{value:.2f}") if math.isfinite(value) else None for value in picked)
    return Months(p10=p10, p50=p50, p90=p90)


def share_within(months: list[float], horizon: int) -> float:
    """Return the share of the draws that pay within the horizon."""
    return round(sum(value <= horizon for value in months) / len(months), 4)


def tornado(case: Case, *, with_traffic: bool) -> list[Swing]:
    """Return the five factors that move the result most, largest first.

    The result is the net present value where traffic is known, else the one-off cost. A factor
    that moves it by no cent is left out.
    """
    result: Callable[[Case], Decimal] = (
        net_present_value if with_traffic else lambda c: c.one_off.quantize(CENT)
    )
    point = result(case)
    ends = {
        name: (result(low), result(high))
        for name, (low, high) in _variants(case, with_traffic).items()
    }
    swings = [
        Swing(factor=name, low_usd=low, high_usd=high)
        for name, (low, high) in ends.items()
        if not low == high == point
    ]
    swings.sort(key=lambda swing: (-abs(swing.high_usd - swing.low_usd), swing.factor))
    return swings[:5]


def _variants(case: Case, with_traffic: bool) -> dict[str, tuple[Case, Case]]:
    spread = case.training_spread
    low_training, high_training = case.training * spread.low, case.training * spread.high
    variants = {
        "training price and tokens": (
            replace(case, training=low_training),
            replace(case, training=high_training),
        ),
        "epochs, one fewer or one more in three": (
            replace(case, training=case.training * 2 / 3),
            replace(case, training=case.training * 4 / 3),
        ),
        "cycles": (
            replace(case, cycles=max(1, case.cycles - 1)),
            replace(case, cycles=case.cycles + 2),
        ),
        "labour": (
            replace(case, labour=case.labour * LABOUR.low),
            replace(case, labour=case.labour * LABOUR.high),
        ),
        "twice the data": (case, replace(case, training=case.training * 2)),
    }
    if not with_traffic:
        return variants
    return variants | {
        "requests per month": (
            replace(case, requests=case.requests * TRAFFIC.low),
            replace(case, requests=case.requests * TRAFFIC.high),
        ),
        "price of today's model": (
            replace(case, now_request=case.now_request * SERVING.low),
            replace(case, now_request=case.now_request * SERVING.high),
        ),
        "serving price": (_with_serving(case, SERVING.low), _with_serving(case, SERVING.high)),
        "discount rate, half or twice": (
            replace(case, rate=case.rate / 2),
            replace(case, rate=case.rate * 2),
        ),
        "retraining, never or every year": (
            replace(case, retrain_at=()),
            replace(case, retrain_at=tuple(range(12, case.horizon + 1, 12))),
        ),
    }


def _with_serving(case: Case, factor: Decimal) -> Case:
    return replace(
        case, tuned_fixed=case.tuned_fixed * factor, tuned_request=case.tuned_request * factor
    )


def retraining_months(months_left: int | None, horizon: int) -> tuple[int, ...]:
    """Return the months of the horizon in which the base's end forces a new job.

    Args:
        months_left: Months until the base retires; None where no date is known.
        horizon: Months looked at.
    """
    first = RETRAINING_MONTHS if months_left is None else max(1, months_left)
    return tuple(range(first, horizon + 1, RETRAINING_MONTHS))


def months_between(start: dt.date, end: dt.date) -> int:
    """Return the whole months from one day to another, at least 0."""
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    return max(0, months)
