"""What follows about money: the month's bill, what a tuned model would save, whether it pays.

Whether it pays is computed from prices and traffic, never read from a volume.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from finetuning.fit.circumstances import day_of

Facts = Mapping[str, Any]

LABOUR_USD: Final = Decimal(5_000)
"""People's time for a tuning project when nothing is said: two to three weeks of one engineer.
An assumption of this project, named in the answer."""

_CYCLES: Final = 3
_HORIZON: Final = 12


MONEY_AND_SPEED: Final = frozenset({"cost", "latency"})
"""Failures that leave the answers as they are."""


def _named(facts: Facts, mode: str) -> bool | None:
    given = facts["failure_modes"]
    return None if given is None else mode in given


def _latency_fails(facts: Facts) -> bool | None:
    now, target = facts["latency_p95_ms"], facts["latency_target_ms"]
    if now is not None and target is not None and now > target:
        return True
    return _named(facts, "latency")


def _cost_fails(facts: Facts) -> bool | None:
    spend, budget = facts["monthly_spend_usd"], facts["budget_monthly_usd"]
    if spend is not None and budget is not None and spend > budget:
        return True
    return _named(facts, "cost")


def _money_or_speed_only(facts: Facts) -> bool | None:
    given = facts["failure_modes"]
    if given:
        return MONEY_AND_SPEED.issuperset(given)
    return None


def _quality_holds(facts: Facts) -> bool:
    margin = facts["margin"]
    return bool(
        facts["quality_ok"] or facts["money_or_speed_only"] or (margin is not None and margin >= 0)
    )


def _cheap_base_suffices(facts: Facts) -> bool | None:
    cheap, target, now = (
        facts["cheap_base_score"],
        facts["target_score"],
        facts["prompt_score"],
    )
    if cheap is None or (target is None and now is None):
        return None
    return bool(cheap >= (target if target is not None else now - 0.02))


class Bill(NamedTuple):
    """A month of the same requests, in dollars: today, cached, on a cheap base, tuned."""

    current: Decimal
    cached: Decimal | None
    cheap_base: Decimal | None
    tuned: Decimal | None


_TRAFFIC: Final = (
    "requests_per_month",
    "tokens_in",
    "tokens_out",
    "static_prompt_tokens",
    "price_in_usd_per_mtok",
    "price_out_usd_per_mtok",
    "price_cached_usd_per_mtok",
    "monthly_spend_usd",
)


def _bill(facts: Facts) -> Bill | None:
    return _month(day_of(facts), *(facts[name] for name in _TRAFFIC))


@functools.lru_cache(maxsize=512)
def _month(
    day: dt.date,
    requests: int | None,
    tokens_in: int | None,
    tokens_out: int | None,
    static_tokens: int | None,
    price_in: Decimal | None,
    price_out: Decimal | None,
    price_cached: Decimal | None,
    spend: Decimal | None,
) -> Bill | None:
    """Price the month; None where the volume or today's price is not known."""
    from finetuning.providers.market import market

    # a tried answer is a plain number, a known one a Decimal
    current = None if spend is None else Decimal(spend)
    if requests is None or tokens_in is None or tokens_out is None:
        return None if current is None else Bill(current, None, None, None)
    static = min(static_tokens or 0, tokens_in)
    if price_in is not None and price_out is not None:
        current = requests * (tokens_in * price_in + tokens_out * price_out) / 1_000_000
    if current is None:
        return None
    cached = None
    if price_cached is not None and price_in is not None:
        cached = current - requests * static * (price_in - price_cached) / 1_000_000
    known = market(day)
    cheap = known.base_usd(tokens_in, static, tokens_out) * requests
    tuned = known.tuned_usd(tokens_in - static, tokens_out)
    return Bill(current, cached, cheap, None if tuned is None else tuned * requests)


def _saving(facts: Facts) -> Decimal | None:
    """Return what a tuned model saves a month against the best way that is good enough."""
    bill: Bill | None = facts["bill"]
    if bill is None or bill.tuned is None:
        return None
    others = [bill.current, bill.cached]
    if facts["cheap_base_suffices"] is not False:
        others.append(bill.cheap_base)
    return min(price for price in others if price is not None) - bill.tuned


def _pays(facts: Facts) -> bool | None:
    """Say whether the saving earns the project back within a year, discounted."""
    saving: Decimal | None = facts["monthly_saving"]
    if saving is None:
        return None
    if saving <= 0:
        return False
    rows = max(facts["n_examples"] or 0, facts["n_teacher_outputs"] or 0)
    tokens = facts["training_tokens"] or rows * (facts["tokens_in"] + facts["tokens_out"])
    return _earns_back(day_of(facts), saving, tokens)


@functools.lru_cache(maxsize=512)
def _earns_back(day: dt.date, saving: Decimal, tokens: int) -> bool:
    from finetuning.costs.economics import Case, Spread, net_present_value
    from finetuning.providers.market import market

    rate = market(day).train_usd_per_mtok
    case = Case(
        training=(rate or Decimal(0)) * tokens * 3 / 1_000_000,
        training_spread=Spread(),
        cycles=_CYCLES,
        labour=LABOUR_USD,
        requests=Decimal(1),
        now_request=saving,
        horizon=_HORIZON,
    )
    return net_present_value(case) > 0


def _most_saving(facts: Facts) -> Decimal | None:
    """Return the most that any way could save in a year."""
    bill: Bill | None = facts["bill"]
    if bill is None:
        return None
    known = [price for price in (bill.cached, bill.cheap_base, bill.tuned) if price is not None]
    least = min(known) if known else Decimal(0)
    return (_HORIZON * (bill.current - min(least, bill.current))).quantize(Decimal(1))


def _cached_fraction(facts: Facts) -> float | None:
    bill: Bill | None = facts["bill"]
    if bill is None or bill.cached is None or not bill.current:
        return None
    return round(float((bill.current - bill.cached) / bill.current), 2)


def _rounded_saving(facts: Facts) -> Decimal | None:
    saving: Decimal | None = facts["monthly_saving"]
    return None if saving is None else saving.quantize(Decimal(1))


DERIVED: Final[dict[str, Callable[[Facts], Any]]] = {
    "latency_fails": _latency_fails,
    "cost_fails": _cost_fails,
    "money_or_speed_only": _money_or_speed_only,
    "money_or_speed_fails": lambda facts: bool(facts["latency_fails"] or facts["cost_fails"]),
    "latency_decides": lambda facts: (
        None if facts["latency_fails"] is None else facts["latency_fails"] and _quality_holds(facts)
    ),
    "cost_decides": lambda facts: (
        None if facts["cost_fails"] is None else facts["cost_fails"] and _quality_holds(facts)
    ),
    "cheap_base_suffices": _cheap_base_suffices,
    "bill": _bill,
    "monthly_saving": _saving,
    "saving_per_month_usd": _rounded_saving,
    "tuning_pays": _pays,
    "most_saving_per_year_usd": _most_saving,
    "cached_saves_fraction": _cached_fraction,
    "labour_usd": lambda facts: LABOUR_USD,
    "bill_beats_labour": lambda facts: (
        None if facts["bill"] is None else _HORIZON * facts["bill"].current > LABOUR_USD
    ),
    "bill_per_month_usd": lambda facts: (
        None if facts["bill"] is None else facts["bill"].current.quantize(Decimal(1))
    ),
}
"""Derived facts about money and speed, by name."""
