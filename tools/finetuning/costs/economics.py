"""What a project costs and saves as plain numbers: its case, its value, what moves it most."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.costs.schema import Swing, UsdRange

if TYPE_CHECKING:
    from finetuning.costs.request import Ledger, Request
    from finetuning.providers.terms import Availability

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

    Money in dollars; ``now_request`` and ``tuned_request`` are per request. The base's end forces
    a new cycle in month ``retrain_first`` (None: never) and every ``retrain_every`` months after.
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
    retrain_first: int | None = None
    retrain_every: int = RETRAINING_MONTHS

    @property
    def one_off(self) -> Decimal:
        """Return what is spent before the first request: all cycles and the labour."""
        return self.training * self.cycles + self.labour

    @property
    def saving(self) -> Decimal:
        """Return what a month costs today less what it would cost with the tuned model."""
        return self.requests * (self.now_request - self.tuned_request) - self.tuned_fixed

    @property
    def again(self) -> Decimal:
        """Return what one forced retraining costs: a cycle's training and share of labour."""
        return self.training + self.labour / max(1, self.cycles)

    @property
    def retrain_at(self) -> tuple[int, ...]:
        """Return the months of the horizon in which the base's end forces a new cycle."""
        if self.retrain_first is None:
            return ()
        return tuple(range(self.retrain_first, self.horizon + 1, self.retrain_every))


def net_present_value(case: Case) -> Decimal:
    """Return the savings of the horizon, discounted by month, less all spending."""
    saved, forced = present_months(case)
    return (case.saving * saved - case.one_off - case.again * forced).quantize(CENT)


@functools.lru_cache(maxsize=256)
def _discounts(rate: Decimal, horizon: int) -> tuple[Decimal, ...]:
    """Return what a dollar at the end of each month is worth today."""
    step = (1 + rate) ** (Decimal(-1) / 12)
    return tuple(step**month for month in range(1, horizon + 1))


def present_months(case: Case) -> tuple[Decimal, Decimal]:
    """Return what a dollar in every month, and one in every retraining month, is worth today."""
    factors = _discounts(case.rate, case.horizon)
    forced = sum((factors[month - 1] for month in case.retrain_at), Decimal(0))
    return sum(factors, Decimal(0)), forced


def break_even_requests(case: Case) -> int | None:
    """Return the monthly requests from which tuned serving is cheaper, or None.

    Fixed serving cost of a month ÷ (cost per request today − cost per tuned request).

    Source: costs.md#break-even (checked 2026-11-20)
    """
    return _requests(case, case.tuned_fixed)


def paying_requests(case: Case) -> int | None:
    """Return the monthly requests that pay all spending back within the horizon, or None."""
    spent = case.one_off + case.again * len(case.retrain_at)
    return _requests(case, case.tuned_fixed + spent / case.horizon)


def _requests(case: Case, monthly: Decimal) -> int | None:
    difference = case.now_request - case.tuned_request
    if difference <= 0:
        return None
    return int((monthly / difference).to_integral_value(ROUND_CEILING))


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
            replace(case, retrain_first=None),
            replace(case, retrain_first=12, retrain_every=12),
        ),
    }


def _with_serving(case: Case, factor: Decimal) -> Case:
    return replace(
        case, tuned_fixed=case.tuned_fixed * factor, tuned_request=case.tuned_request * factor
    )


def case_of(
    request: Request, training: UsdRange | None, spread: Spread, known: Availability, ledger: Ledger
) -> Case:
    """Return the case of a request before any traffic: what is spent, and when again.

    Args:
        request: What is asked.
        training: The bill of one job; None counts as nothing.
        spread: Its range.
        known: When the base retires.
        ledger: Takes the assumption on retraining.
    """
    return Case(
        training=Decimal(0) if training is None else training.point,
        training_spread=spread,
        cycles=request.cycles,
        labour=request.labour_usd,
        horizon=request.horizon_months,
        rate=request.discount_rate,
        retrain_first=_retraining(request, known, ledger),
    )


def _retraining(request: Request, known: Availability, ledger: Ledger) -> int | None:
    """Return the month in which the base's end first forces a new job; one's own copy stays."""
    if request.provider == "local":
        return None
    end = known.base_retires_on
    ledger.assume(
        "retraining when the base retires",
        end.isoformat() if end is not None else f"every {RETRAINING_MONTHS} months",
        "one cycle each time",
        "costs.md#break-even: a base lives 12 to 18 months",
        "read" if end is not None else "assumed",
    )
    return RETRAINING_MONTHS if end is None else max(1, months_between(request.day, end))


def note_spreads(request: Request, ledger: Ledger) -> None:
    """Note the ranges of the draws and what was given of the project as assumptions."""
    ours = "our own range, not measured"
    ledger.assume("cycles", request.cycles, "training jobs", "cycles argument", "given")
    if request.labour_usd:
        ledger.assume("labour range", f"{LABOUR.low} to {LABOUR.high}", "factor", ours, "assumed")
    else:
        ledger.assume("labour", 0, "USD", "pass labour_usd to count people's time", "assumed")
    if request.serving is None:
        return
    ledger.assume("traffic range", f"{TRAFFIC.low} to {TRAFFIC.high}", "factor", ours, "assumed")
    ledger.assume("serving range", f"{SERVING.low} to {SERVING.high}", "factor", ours, "assumed")
    ledger.assume("discount_rate", request.discount_rate, "a year", "as given", "given")


def months_between(start: dt.date, end: dt.date) -> int:
    """Return the whole months from one day to another, at least 0."""
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    return max(0, months)
