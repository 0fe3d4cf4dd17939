"""When it pays: 10,000 seeded draws, break-even in months and in volume, and the sentence.

Nothing is called hopeless while a way to serve it has no price.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from finetuning.costs.economics import (
    LABOUR,
    SERVING,
    TRAFFIC,
    Case,
    Spread,
    break_even_requests,
    net_present_value,
    paying_requests,
    present_months,
)
from finetuning.costs.schema import (
    Alternative,
    BreakEven,
    Months,
    UsdRange,
    Versus,
    Volumes,
    money,
)

DRAWS: Final = 10_000


def break_even_months(case: Case) -> Decimal | None:
    """Return the months until all spending is earned back at the point estimate, or None."""
    months = _payback(float(case.one_off), float(case.saving), float(case.again), case)
    return Decimal(f"{months:.2f}") if math.isfinite(months) else None


def _payback(debt: float, saving: float, again: float, case: Case) -> float:
    """Return the months until ``debt`` and every forced retraining are earned back; or inf."""
    if saving <= 0:
        return math.inf
    months = debt / saving
    first = case.retrain_first
    if first is None or months < first:
        return months
    gain = case.retrain_every - again / saving
    if gain <= 0:  # each retraining costs more than what is saved until the next
        return math.inf
    times = math.floor((months - first) / gain) + 1
    return (debt + times * again) / saving


@dataclass(frozen=True)
class Outcomes:
    """The draws of one case; the same seed gives the same ones, whatever the case.

    All months of a draw share its traffic: years of high or low traffic, not a monthly noise
    that would average out.
    """

    case: Case
    savings: list[float]
    one_offs: list[float]
    volumes: list[float]

    @functools.cached_property
    def months(self) -> list[float]:
        """Months to break-even, sorted; infinite where it never pays."""
        share = 1 / max(1, self.case.cycles)
        return sorted(
            _payback(debt, saving, debt * share, self.case)
            for debt, saving in zip(self.one_offs, self.savings, strict=True)
        )

    def net_present_values(self) -> UsdRange:
        """Return the net present value and its percentiles over the draws."""
        saved, forced = map(float, present_months(self.case))
        spent = 1 + forced / max(1, self.case.cycles)
        drawn = zip(self.one_offs, self.savings, strict=True)
        low, middle, high = _percentiles(sorted(s * saved - o * spent for o, s in drawn))
        money = [Decimal(f"{value:.2f}") for value in (low, middle, high)]
        return UsdRange(
            p10=money[0], p50=money[1], p90=money[2], point=net_present_value(self.case)
        )

    def band(self, months: Sequence[int]) -> list[tuple[int, float, float, float]]:
        """Return (month, p10, p50, p90) of the dollars gained so far, all spending taken off."""
        rows: list[tuple[int, float, float, float]] = []
        first, every = self.case.retrain_first, self.case.retrain_every
        for month in months:
            times = 0 if first is None or month < first else (month - first) // every + 1
            spent = 1 + times / max(1, self.case.cycles)
            drawn = zip(self.one_offs, self.savings, strict=True)
            rows.append((month, *_percentiles(sorted(s * month - o * spent for o, s in drawn))))
        return rows


def _percentiles(ordered: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.1, 0.5, 0.9))
    return low, middle, high


@functools.lru_cache(maxsize=4)
def _uniforms(seed: int) -> tuple[list[float], ...]:
    """Return one list of numbers from 0 to 1 for each thing that varies."""
    draw = random.Random(seed).random
    return tuple([draw() for _ in range(DRAWS)] for _ in range(4))


def _factors(spread: Spread, uniforms: list[float]) -> list[float]:
    """Return triangular factors around 1 for uniform numbers (their quantiles)."""
    low, high = float(spread.low), float(spread.high)
    if low == high:
        return [low] * len(uniforms)
    rise, sqrt = (1 - low) / (high - low), math.sqrt
    up, down = sqrt((high - low) * (1 - low)), sqrt((high - low) * (high - 1))
    return [low + up * sqrt(u) if u < rise else high - down * sqrt(1 - u) for u in uniforms]


def draw_outcomes(case: Case, seed: int) -> Outcomes:
    """Draw 10,000 outcomes: traffic, serving price, training bill and labour vary together.

    Args:
        case: The numbers; ranges are :data:`TRAFFIC`, :data:`SERVING`, :data:`LABOUR` and the
            case's own range of the training bill.
        seed: Seed of the draws.
    """
    spreads = (TRAFFIC, SERVING, case.training_spread, LABOUR)
    drawn = [_factors(*pair) for pair in zip(spreads, _uniforms(seed), strict=True)]
    training, labour = float(case.training * case.cycles), float(case.labour)
    requests, now = float(case.requests), float(case.now_request)
    each, fixed = float(case.tuned_request), float(case.tuned_fixed)
    savings: list[float] = []
    volumes: list[float] = []
    for traffic, serving in zip(drawn[0], drawn[1], strict=True):
        gain = now - serving * each
        savings.append(traffic * requests * gain - serving * fixed)
        volumes.append(serving * fixed / gain if gain > 0 else math.inf)
    one_offs = [training * t + labour * p for t, p in zip(drawn[2], drawn[3], strict=True)]
    volumes.sort()
    return Outcomes(case=case, savings=savings, one_offs=one_offs, volumes=volumes)


def months_percentiles(months: Sequence[float]) -> Months | None:
    """Return the 10th, 50th and 90th percentile over all draws; None when all are never."""
    p10, p50, p90 = (
        Decimal(f"{value:.2f}") if math.isfinite(value) else None for value in _percentiles(months)
    )
    return None if p10 is None else Months(p10=p10, p50=p50, p90=p90)


def volume_percentiles(volumes: Sequence[float]) -> Volumes | None:
    """Return the same of the requests a month at which the saving starts; None when never."""
    p10, p50, p90 = (
        math.ceil(value) if math.isfinite(value) else None for value in _percentiles(volumes)
    )
    return None if p10 is None else Volumes(p10=p10, p50=p50, p90=p90)


def share_within(months: Sequence[float], horizon: int) -> float:
    """Return the share of the draws that pay within the horizon."""
    return round(sum(value <= horizon for value in months) / len(months), 4)


def unknown(reason: str) -> BreakEven:
    """Return a break-even that cannot be computed, with the reason."""
    return BreakEven(
        months=None, requests_per_month=None, probability_within_horizon=None, reason=reason
    )


def served_by(case: Case, way: Alternative) -> Case:
    """Return the case with the tuned model trained and served that way."""
    training = case.training if way.training_usd is None else way.training_usd
    return replace(
        case, training=training, tuned_fixed=way.fixed_usd, tuned_request=way.request_usd
    )


def choose_route(
    case: Case, chosen: Alternative, alternatives: Sequence[Alternative]
) -> Alternative:
    """Return how the tuned model is served: as chosen, or the cheapest way where that never pays.

    Args:
        case: The numbers; how they say the tuned model is served does not matter.
        chosen: The way to serve that was first thought of.
        alternatives: Everything, priced or not.
    """
    if served_by(case, chosen).saving > 0:
        return chosen
    tuned = [a for a in alternatives if a.name.startswith("tuned") and a.usd_per_month is not None]
    paying = [way for way in tuned if served_by(case, way).saving > 0]
    return max(paying, key=lambda way: served_by(case, way).saving, default=chosen)


def break_even(
    case: Case, route: Alternative, alternatives: Sequence[Alternative], outcomes: Outcomes
) -> BreakEven:
    """Return when tuning pays, in months and in volume, and what pays without training.

    Args:
        case: The numbers, served by ``route``.
        route: How the tuned model is served.
        alternatives: Every alternative, priced or not.
        outcomes: The draws of the case.
    """
    months = months_percentiles(outcomes.months)
    share = share_within(outcomes.months, case.horizon)
    said = (_verdict(case, months, share), _besides(case, route, alternatives))
    return BreakEven(
        months=months,
        requests_per_month=break_even_requests(case),
        requests_range=volume_percentiles(outcomes.volumes),
        requests_within_horizon=paying_requests(case),
        probability_within_horizon=share,
        reason=" ".join((*filter(None, said), *_unpriced(alternatives))),
        route=_named(route),
        versus=[
            _versus(case, way)
            for way in alternatives
            if way.usd_per_month is not None and not way.name.startswith("tuned")
        ],
    )


def _versus(case: Case, way: Alternative) -> Versus:
    other = replace(case, now_request=way.request_usd)
    return Versus(
        name=way.name,
        saving_usd_per_month=other.saving,
        months=break_even_months(other),
        requests_per_month=break_even_requests(other),
    )


def _verdict(case: Case, months: Months | None, share: float) -> str:
    now = case.now_request * case.requests
    cost = case.tuned_request * case.requests + case.tuned_fixed
    point = break_even_months(case)
    if point is not None:
        when = f"in about {point:.1f} months" if point >= Decimal("0.1") else "within days"
        return f"At this traffic it saves {money(case.saving)} a month and pays back {when}."
    if case.saving > 0:
        return (
            f"Never pays: it saves {money(case.saving)} a month, but the base's end asks for "
            f"{money(case.again)} every {case.retrain_every} months."
        )
    if months is not None or share:
        return (
            f"At this traffic it never pays ({money(cost)} a month tuned, {money(now)} today); "
            f"with more traffic it does in {share:.0%} of the draws."
        )
    return f"Never pays: {money(cost)} a month tuned, {money(now)} today."


def _besides(case: Case, route: Alternative, alternatives: Sequence[Alternative]) -> str:
    """Name the cheapest ways that cost less than the tuned model here: untuned, and tuned."""
    cost = case.tuned_request * case.requests + case.tuned_fixed
    words: list[str] = []
    for ending in (" without training, if good enough.", "."):
        ways = [
            (way.usd_per_month, _named(way))
            for way in alternatives
            if way is not route and way.name != "current" and way.usd_per_month is not None
            if way.name.startswith("tuned") == (ending == ".") and way.usd_per_month < cost
        ]
        if ways:
            least, name = min(ways)
            words.append(f"{name} would cost {money(least)} a month{ending}")
    return " ".join(words)


def _unpriced(alternatives: Sequence[Alternative]) -> list[str]:
    """Name the token-billed adapters that no price is known of: they are not ruled out."""
    names = [
        str(way.provider)
        for way in alternatives
        if way.usd_per_month is None and way.name.startswith("tuned_token_billed")
    ]
    if not names:
        return []
    return [f"Token-billed adapters at {', '.join(names)} have no price here: not ruled out."]


def _named(way: Alternative) -> str:
    return f"{way.name} at {way.provider}" if way.provider else way.name
