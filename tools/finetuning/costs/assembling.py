"""Builds the estimate: training, serving, alternatives, break-even, page."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from finetuning.costs.answering import break_even, facts_of, next_calls, refuse, unknown
from finetuning.costs.economics import (
    LABOUR,
    SERVING,
    TRAFFIC,
    Case,
    Spread,
    net_present_value,
    retraining_months,
    tornado,
)
from finetuning.costs.inputs import PriceOverrides
from finetuning.costs.ledger import Ledger
from finetuning.costs.picture import write_page
from finetuning.costs.request import Request, amounts_of, job_of
from finetuning.costs.results import Alternative, BreakEven, CostEstimate
from finetuning.costs.serving import Tuned, choose, other_token_servers, tuned_options
from finetuning.costs.traffic import current_prices, months_between, untuned_alternatives
from finetuning.costs.training import Priced, price_training
from finetuning.providers.catalogue import load_provider
from finetuning.providers.terms import Availability

_TOO_OLD = "its price was read over 180 days ago: pass accept_stale=true to use it"
_SOON_DAYS = 180
"""A base that retires sooner is warned about: the tuned model dies with it."""


def assemble(request: Request, *, accept_stale: bool, folder: Path) -> CostEstimate:
    """Price everything that the request names and write the page.

    Args:
        request: The checked arguments.
        accept_stale: Whether prices of more than 180 days may be used.
        folder: Where the page goes.
    """
    ledger = Ledger(request.day)
    job, known = job_of(request, ledger)
    amounts, counted = amounts_of(request, job, ledger)
    band = Spread() if counted is None else Spread(_exact(counted.low), _exact(counted.high))
    priced = price_training(job, amounts, band, ledger)
    tuned, alternatives = _serve(request, accept_stale, ledger)
    if ledger.refused and not accept_stale:
        return refuse(request, priced, ledger, known)
    case = _case(request, priced, tuned, known, ledger)
    even = _break_even(request, case, tuned, alternatives)
    complete = request.current is not None and tuned is not None
    _note_spreads(request, ledger)
    _warn_about_end(request, known, ledger)
    facts = facts_of(request, counted.train_tokens if counted else None)
    estimate = CostEstimate(
        provider=request.provider,
        model=job.model.id,
        method=request.method,
        as_of=request.day,
        training=priced.training,
        gpu=priced.gpu,
        serving_usd_per_month=None if tuned is None else tuned.alternative.usd_per_month,
        alternatives=alternatives,
        one_off_usd=case.one_off,
        one_off_parts={"training": case.training * case.cycles, "labour": case.labour},
        break_even=even,
        npv_usd=net_present_value(case) if complete else None,
        tornado=tornado(case, with_traffic=complete),
        assumptions=ledger.assumptions,
        stale_prices=ledger.stale,
        base_retires_on=known.base_retires_on,
        warnings=ledger.warnings,
        settings={"cycles": request.cycles, "horizon_months": case.horizon, "seed": request.seed},
        fit_facts=facts,
        next=next_calls(request, facts),
    )
    page = write_page(estimate, case, folder)
    return estimate.model_copy(update={"chart_file": str(page)})


def _exact(factor: float) -> Decimal:
    return Decimal(repr(factor))


def _serve(
    request: Request, accept_stale: bool, ledger: Ledger
) -> tuple[Tuned | None, list[Alternative]]:
    """Price every way to answer the same requests, and choose how the tuned model is served."""
    serving = request.serving
    if serving is None:
        return None, []
    options = tuned_options(
        serving.provider or request.provider,
        request.model,
        serving,
        request.overrides,
        ledger,
        gpu=request.gpu,
    )
    chosen = choose(options, serving)
    alternatives = untuned_alternatives(request.current, serving, ledger)
    for option in options:
        if option is chosen or accept_stale or not option.ledger.refused:
            ledger.merge(option.ledger)
            alternatives.append(option.alternative)
        else:
            alternatives.append(option.without_price(_TOO_OLD))
    if request.overrides.tuned_out_usd_per_mtok is None:
        alternatives += _elsewhere(request, ledger)
    return chosen, alternatives


def _elsewhere(request: Request, ledger: Ledger) -> list[Alternative]:
    """Price token-billed adapters of the same base at other providers."""
    serving = request.serving
    if serving is None or load_provider(request.provider).weights == "no":
        return []
    found: list[Alternative] = []
    for name in other_token_servers(request.model, serving.provider or request.provider):
        options = tuned_options(name, request.model, serving, PriceOverrides(), Ledger(request.day))
        priced = next((o for o in options if o.alternative.name == "tuned_token_billed"), None)
        if priced is None or priced.ledger.refused:
            note, cost = "its price is not known or too old", None
        else:
            note, cost = "trained and served there", priced.alternative.usd_per_month
            ledger.merge(priced.ledger)
        found.append(
            Alternative(
                name="tuned_token_billed_elsewhere",
                usd_per_month=cost,
                model=request.model,
                provider=name,
                note=note,
            )
        )
    return found


def _case(
    request: Request, priced: Priced, tuned: Tuned | None, known: Availability, ledger: Ledger
) -> Case:
    cost = priced.training.usd
    case = Case(
        training=Decimal(0) if cost is None else cost.point,
        training_spread=priced.spread,
        cycles=request.cycles,
        labour=request.labour_usd,
        horizon=request.horizon_months,
        rate=request.discount_rate,
        retrain_at=_retraining(request, known, ledger),
    )
    if request.serving is None or request.current is None or tuned is None:
        return case
    prices = current_prices(request.current, ledger)
    now = request.current
    return Case(
        **{name: getattr(case, name) for name in _ONE_OFF},
        requests=Decimal(request.serving.requests_per_month),
        now_request=prices.request_usd(now.tokens_in, now.cached_tokens, now.tokens_out),
        tuned_request=tuned.request_usd,
        tuned_fixed=tuned.fixed_usd,
    )


_ONE_OFF = ("training", "training_spread", "cycles", "labour", "horizon", "rate", "retrain_at")


def _retraining(request: Request, known: Availability, ledger: Ledger) -> tuple[int, ...]:
    end = known.base_retires_on
    left = None if end is None else months_between(request.day, end)
    if request.provider == "local":
        return ()
    ledger.assume(
        "retraining when the base retires",
        end.isoformat() if end is not None else "every 15 months",
        "one cycle each time",
        "decision-evidence.md: a base lives 12 to 18 months",
        "read" if end is not None else "assumed",
    )
    return retraining_months(left, request.horizon_months)


def _break_even(
    request: Request, case: Case, tuned: Tuned | None, alternatives: list[Alternative]
) -> BreakEven:
    if request.serving is None:
        return unknown("Whether it pays is not known: pass serving={…} and current={…}.")
    if request.current is None:
        return unknown("Whether it pays is not known: pass current={…}, what answers today.")
    if tuned is None:
        return unknown("Whether it pays is not known: no price of serving the tuned model is.")
    return break_even(case, tuned, alternatives, request.seed)


def _note_spreads(request: Request, ledger: Ledger) -> None:
    ours = "range of this project, not a measurement"
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


def _warn_about_end(request: Request, known: Availability, ledger: Ledger) -> None:
    end = known.base_retires_on
    if end is not None and (left := (end - request.day).days) <= _SOON_DAYS:
        ledger.warn(f"the base and every model tuned from it end on {end}, in {left} days")
