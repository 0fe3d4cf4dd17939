"""Puts a sentence to the break-even numbers, and never calls a thing hopeless unpriced."""

from __future__ import annotations

from decimal import Decimal

from finetuning.costs.economics import (
    Case,
    break_even_requests,
    draw_months,
    months_percentiles,
    share_within,
)
from finetuning.costs.results import Alternative, BreakEven, money
from finetuning.costs.serving import Tuned


def unknown(reason: str) -> BreakEven:
    """Return a break-even that cannot be computed, with the reason."""
    return BreakEven(
        months=None, requests_per_month=None, probability_within_horizon=None, reason=reason
    )


def break_even(case: Case, tuned: Tuned, alternatives: list[Alternative], seed: int) -> BreakEven:
    """Return when tuning pays against today's model, and what pays without training.

    Args:
        case: The numbers.
        tuned: How the tuned model is served.
        alternatives: Every priced alternative, for the sentence.
        seed: Seed of the draws.
    """
    draws = draw_months(case, seed)
    months = months_percentiles(draws)
    share = share_within(draws, case.horizon)
    now = case.now_request * case.requests
    cost = tuned.alternative.usd_per_month or Decimal(0)
    if case.saving > 0:
        first = (case.one_off / case.saving).quantize(Decimal("0.1"))
        reason = (
            f"At this traffic it saves {money(case.saving)} a month and pays back in about "
            f"{first} months"
        )
    elif months is not None:
        reason = (
            f"At this traffic it never pays ({money(cost)} a month tuned, {money(now)} today); "
            f"with more traffic it does in {share:.0%} of the draws"
        )
    else:
        reason = f"Never pays: {money(cost)} a month tuned, {money(now)} today"
    return BreakEven(
        months=months,
        requests_per_month=break_even_requests(case),
        probability_within_horizon=share,
        reason=f"{reason}.{_besides(tuned, alternatives)}",
    )


def _besides(tuned: Tuned, alternatives: list[Alternative]) -> str:
    """Name what is cheaper than the tuned option, trained or not, and what was not priced."""
    cost = tuned.alternative.usd_per_month or Decimal(0)
    others = [a for a in alternatives if a is not tuned.alternative and a.name != "current"]
    priced = [a for a in others if a.usd_per_month is not None and a.usd_per_month < cost]
    words = ""
    if priced:
        best = min(priced, key=lambda a: a.usd_per_month or Decimal(0))
        where = f" at {best.provider}" if best.provider else ""
        words += f" {best.name}{where} would cost {money(best.usd_per_month or Decimal(0))} a month"
        words += "." if best.name.startswith("tuned") else " without training, if good enough."
    unpriced = [
        a.provider for a in others if a.usd_per_month is None and a.name.startswith("tuned")
    ]
    if unpriced:
        words += f" Token-billed adapters at {', '.join(map(str, unpriced))} have no price here."
    return words
