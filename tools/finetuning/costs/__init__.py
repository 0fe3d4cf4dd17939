"""Costs: what tuning and serving cost, against every alternative that needs no training.

Servers import this at their start: what prices an estimate is imported when one is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from finetuning.costs.schema import (
    Alternative,
    BreakEven,
    CostEstimate,
    CurrentModel,
    PriceOverrides,
    RftJob,
    ServingTraffic,
)
from finetuning.providers import Method, ProviderId, Tuning
from finetuning.records import Usd
from finetuning.records import page as page_of

if TYPE_CHECKING:
    from finetuning.costs.economics import Case
    from finetuning.costs.request import Ledger, Request
    from finetuning.providers.terms import Availability

__all__ = [
    "CostEstimate",
    "CurrentModel",
    "PriceOverrides",
    "RftJob",
    "ServingTraffic",
    "estimate_cost",
]

_SOON_DAYS: Final = 180
"""A base that retires sooner is warned about: the tuned model dies with it."""


def estimate_cost(
    provider: ProviderId,
    model: str,
    method: Method,
    *,
    tuning: Tuning = "lora",
    data: str | None = None,
    training_tokens: int | None = None,
    n_epochs: int | None = None,
    validation_tokens: int | None = None,
    n_evals: int = 0,
    packing: bool = True,
    max_length: int | None = None,
    gpu: str | None = None,
    n_gpus: int = 1,
    rft: RftJob | None = None,
    serving: ServingTraffic | None = None,
    current: CurrentModel | None = None,
    labour_usd: Usd = Decimal(0),
    cycles: int = 3,
    horizon_months: int = 12,
    discount_rate: float = 0.10,
    prices: PriceOverrides | None = None,
    as_of: str | None = None,
    accept_stale: bool = False,
    seed: int = 0,
    language: Literal["en", "zh"] = "en",
    png: bool = False,
    output_dir: str | None = None,
    overwrite: bool = False,
    limit: int | None = 10,
    offset: int = 0,
) -> CostEstimate:
    """Estimate what tuning and serving cost, and when it pays, in USD.

    Use it before any launch. It never opens a connection: prices come from the dated catalogue,
    and every one used is listed with its source and age. Nothing is spent.

    Args:
        provider: Who trains; ``local`` is your own machine.
        model: Exact model id or alias at that provider; for own and rented machines any base
            (a folder with config.json, or a known name, gives hours too).
        method: Training method: sft, dpo, kto, rft, grpo or cpt.
        tuning: lora, qlora or full.
        data: File or prepared folder whose tokens are counted; instead of training_tokens.
        training_tokens: Tokens of one epoch, 1 to 10^15.
        n_epochs: Passes over the data, 1 to 1000; null: the provider's own choice.
        validation_tokens: Tokens of the validation file, at least 0; null: counted in data.
        n_evals: Evaluations during training, 0 to 10000 (some providers bill them).
        packing: Whether rows are packed; without it some providers bill rows × max_length.
        max_length: Longest row in tokens; longer rows are cut before counting.
        gpu: GPU name for rented or own hours, for example H100.
        n_gpus: GPUs that train together, 1 to 100000.
        rft: Hours and grader tokens of a hosted reinforcement job.
        serving: Monthly traffic of the tuned model.
        current: What answers the same requests today.
        labour_usd: People's time for the whole project, in dollars, at least 0.
        cycles: Training jobs until one is good enough, 1 to 1000.
        horizon_months: Months looked at, 1 to 120.
        discount_rate: Yearly rate of the net present value, 0 to 1.
        prices: Your own prices, in dollars; each replaces the catalogue's.
        as_of: Day of the estimate, for example 2026-11-20; null: today.
        accept_stale: Use prices that were read more than 180 days ago.
        seed: Seed of the 10,000 draws.
        language: Language of the page: en or zh.
        png: Write each picture of the page as a PNG beside it, too (extra plots).
        output_dir: Folder of the page; null: a new one under the home folder.
        overwrite: Replace the page in a folder that holds files.
        limit: Most assumptions to list, at least 1, what was given last; null lists all.
        offset: Assumptions to skip, at least 0; the page always shows all.

    Returns:
        The estimate with its parts, alternatives, break-even, assumptions and page.

    Raises:
        UnknownNameError: The provider, model or GPU is not known; the nearest are named.
        UnknownPriceError: No usable price is known for it.
        BadInputError: An argument is missing or out of range.

    Source: the provider catalogue, each price with its page and day; knowledge: costs.md
    """
    from finetuning.costs.page import write_page
    from finetuning.costs.request import Request, parse_day
    from finetuning.files import new_output_folder

    page_of([], limit, offset, where="estimate_cost")
    folder = new_output_folder(
        output_dir, where="output_dir", name="estimate_cost", overwrite=overwrite
    )
    request = Request(
        provider=provider,
        model=model,
        method=method,
        tuning=tuning,
        data=data,
        training_tokens=training_tokens,
        n_epochs=n_epochs,
        validation_tokens=validation_tokens,
        n_evals=n_evals,
        packing=packing,
        max_length=max_length,
        gpu=gpu,
        n_gpus=n_gpus,
        rft=None if rft is None else RftJob.model_validate(rft),
        serving=None if serving is None else ServingTraffic.model_validate(serving),
        current=None if current is None else CurrentModel.model_validate(current),
        labour_usd=Decimal(str(labour_usd)),
        cycles=cycles,
        horizon_months=horizon_months,
        discount_rate=Decimal(str(discount_rate)),
        overrides=PriceOverrides() if prices is None else PriceOverrides.model_validate(prices),
        day=parse_day(as_of),
        seed=seed,
    )
    whole, case = _assemble(request, accept_stale=accept_stale)
    if case is not None:
        chart = write_page(whole, case, folder, language=language, png=png)
        whole = whole.model_copy(update={"chart_file": str(chart)})
    listed, following = page_of(whole.assumptions, limit, offset, where="estimate_cost")
    return whole.model_copy(update={"assumptions": listed, "next_offset": following})


def _assemble(request: Request, *, accept_stale: bool) -> tuple[CostEstimate, Case | None]:
    """Price everything that the request names; no case where a price was refused."""
    from finetuning.costs import economics, payback
    from finetuning.costs.alternatives import price_alternatives
    from finetuning.costs.amounts import amounts_of
    from finetuning.costs.report import next_calls, refuse
    from finetuning.costs.request import Ledger, job_of
    from finetuning.costs.training import price_training

    ledger = Ledger(request.day)
    job, known = job_of(request, ledger)
    amounts, counted = amounts_of(request, job, ledger)
    band = economics.Spread()
    if counted is not None:
        band = economics.Spread(Decimal(repr(counted.low)), Decimal(repr(counted.high)))
    priced = price_training(job, amounts, band, ledger)
    bill = priced.training
    chosen, ways = price_alternatives(request, accept_stale, bill.billed_tokens, ledger)
    if ledger.refused and not accept_stale:
        return refuse(request, priced, ledger, known), None
    case = economics.case_of(request, bill.usd, priced.spread, known, ledger)
    case, route = _served(request, case, chosen, ways, ledger)
    complete = request.current is not None and route is not None
    draws = payback.draw_outcomes(case, request.seed) if complete else None
    economics.note_spreads(request, ledger)
    _warn_about_end(request, known, ledger)
    facts = request.facts(counted.train_tokens if counted else None)
    estimate = CostEstimate(
        provider=request.provider,
        model=job.model.id,
        method=request.method,
        as_of=request.day,
        training=bill,
        gpu=priced.gpu,
        serving_usd_per_month=None if route is None else route.usd_per_month,
        serving_parts={} if route is None else route.parts,
        alternatives=ways,
        one_off_usd=case.one_off,
        one_off_parts={"training": case.training * case.cycles, "labour": case.labour},
        retraining_usd=case.again * len(case.retrain_at),
        break_even=_not_known(request)
        if draws is None or route is None
        else payback.break_even(case, route, ways, draws),
        npv_usd=None if draws is None else economics.net_present_value(case),
        npv_range=None if draws is None else draws.net_present_values(),
        tornado=economics.tornado(case, with_traffic=complete),
        assumptions=ledger.in_order(),
        total=len(ledger.assumptions),
        stale_prices=ledger.stale,
        base_retires_on=known.base_retires_on,
        sanity=ledger.checks,
        warnings=ledger.warnings,
        settings={"cycles": request.cycles, "horizon_months": case.horizon, "seed": request.seed},
        fit_facts=facts,
        next=next_calls(request, facts),
    )
    return estimate, case


def _served(
    request: Request,
    case: Case,
    chosen: Alternative | None,
    ways: list[Alternative],
    ledger: Ledger,
) -> tuple[Case, Alternative | None]:
    """Return the case with its traffic, and how the tuned model is served.

    Where nobody said how to serve and the first way never pays, the cheapest priced one is taken.
    """
    from finetuning.costs.alternatives import current_prices
    from finetuning.costs.payback import choose_route, served_by

    if request.serving is None or chosen is None:
        return case, chosen
    if request.current is None:
        return case, chosen
    now, said = request.current, request.serving
    prices = current_prices(now, ledger)
    case = replace(
        case,
        requests=Decimal(said.requests_per_month),
        now_request=prices.request_usd(now.tokens_in, now.cached_tokens, now.tokens_out),
    )
    open_choice = said.hours is None and said.replicas is None and said.provider is None
    route = choose_route(case, chosen, ways) if open_choice else chosen
    if route is not chosen:
        ledger.warn(
            f"{chosen.name} at {chosen.provider} never pays at this traffic: the estimate serves "
            f"at {route.provider}, by the token"
        )
    return served_by(case, route), route


def _not_known(request: Request) -> BreakEven:
    from finetuning.costs.payback import unknown

    if request.serving is None:
        why = "pass serving={…} and current={…}"
    elif request.current is None:
        why = "pass current={…}, what answers today"
    else:
        why = "no price of serving the tuned model is known"
    return unknown(f"Whether it pays is not known: {why}.")


def _warn_about_end(request: Request, known: Availability, ledger: Ledger) -> None:
    end = known.base_retires_on
    if end is not None and (left := (end - request.day).days) <= _SOON_DAYS:
        ledger.warn(f"the base and every model tuned from it end on {end}, in {left} days")
