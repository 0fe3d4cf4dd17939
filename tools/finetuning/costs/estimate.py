"""The tool: what tuning costs, what serving costs, and whether it ever pays.

Servers import this at their start: what prices an estimate is imported when one is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning.costs.economics import Case
    from finetuning.costs.request import Ledger, Request
    from finetuning.costs.serving import Tuned
    from finetuning.costs.training import Priced
    from finetuning.providers.terms import Availability

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
    output_dir: str | None = None,
    overwrite: bool = False,
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
        output_dir: Folder of the page; null: a new one under the home folder.
        overwrite: Replace the page in a folder that holds files.

    Returns:
        The estimate with its parts, alternatives, break-even, assumptions and page.

    Raises:
        UnknownNameError: The provider, model or GPU is not known; the nearest are named.
        UnknownPriceError: No usable price is known for it.
        BadInputError: An argument is missing or out of range.

    Source: the provider catalogue, each price with its page and day; knowledge: costs.md
    """
    from finetuning.costs.request import Request, parse_day
    from finetuning.files import new_output_folder

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
    return _assemble(request, accept_stale=accept_stale, folder=folder)


def _assemble(request: Request, *, accept_stale: bool, folder: Path) -> CostEstimate:
    """Price everything that the request names and write the page into the folder."""
    from finetuning.costs.alternatives import price_alternatives
    from finetuning.costs.amounts import amounts_of
    from finetuning.costs.economics import Spread, net_present_value, tornado
    from finetuning.costs.report import next_calls, refuse, write_page
    from finetuning.costs.request import Ledger, job_of
    from finetuning.costs.training import price_training

    ledger = Ledger(request.day)
    job, known = job_of(request, ledger)
    amounts, counted = amounts_of(request, job, ledger)
    band = Spread() if counted is None else Spread(_exact(counted.low), _exact(counted.high))
    priced = price_training(job, amounts, band, ledger)
    tuned, alternatives = price_alternatives(request, accept_stale, ledger)
    if ledger.refused and not accept_stale:
        return refuse(request, priced, ledger, known)
    case = _case(request, priced, tuned, known, ledger)
    even = _break_even(request, case, tuned, alternatives)
    complete = request.current is not None and tuned is not None
    _note_spreads(request, ledger)
    _warn_about_end(request, known, ledger)
    facts = request.facts(counted.train_tokens if counted else None)
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


def _case(
    request: Request, priced: Priced, tuned: Tuned | None, known: Availability, ledger: Ledger
) -> Case:
    from finetuning.costs.alternatives import current_prices
    from finetuning.costs.economics import Case

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
    return replace(
        case,
        requests=Decimal(request.serving.requests_per_month),
        now_request=prices.request_usd(now.tokens_in, now.cached_tokens, now.tokens_out),
        tuned_request=tuned.request_usd,
        tuned_fixed=tuned.fixed_usd,
    )


def _retraining(request: Request, known: Availability, ledger: Ledger) -> tuple[int, ...]:
    from finetuning.costs.economics import months_between, retraining_months

    end = known.base_retires_on
    left = None if end is None else months_between(request.day, end)
    if request.provider == "local":
        return ()
    ledger.assume(
        "retraining when the base retires",
        end.isoformat() if end is not None else "every 15 months",
        "one cycle each time",
        "costs.md#break-even: a base lives 12 to 18 months",
        "read" if end is not None else "assumed",
    )
    return retraining_months(left, request.horizon_months)


def _break_even(
    request: Request, case: Case, tuned: Tuned | None, alternatives: list[Alternative]
) -> BreakEven:
    from finetuning.costs.report import break_even, unknown

    if request.serving is None:
        return unknown("Whether it pays is not known: pass serving={…} and current={…}.")
    if request.current is None:
        return unknown("Whether it pays is not known: pass current={…}, what answers today.")
    if tuned is None:
        return unknown("Whether it pays is not known: no price of serving the tuned model is.")
    return break_even(case, tuned, alternatives, request.seed)


def _note_spreads(request: Request, ledger: Ledger) -> None:
    from finetuning.costs.economics import LABOUR, SERVING, TRAFFIC

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
