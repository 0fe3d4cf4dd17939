"""The tool: what tuning costs, what serving costs, and whether it ever pays."""

from __future__ import annotations

from decimal import Decimal

from finetuning.costs.inputs import CurrentModel, PriceOverrides, RftJob, ServingTraffic
from finetuning.costs.results import CostEstimate
from finetuning.providers import Method, ProviderId, Tuning
from finetuning.records import Usd


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

    Source: prices.md and costs.md of this project (checked 2026-11-20); knowledge: costs.md
    """
    from finetuning.costs.assembling import assemble
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
    return assemble(request, accept_stale=accept_stale, folder=folder)
