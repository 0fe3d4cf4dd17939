"""The bill of one training job: what the provider counts, times its price."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from finetuning.costs.amounts import machine_need
from finetuning.costs.economics import CENT, MICRO, Spread, spread_around
from finetuning.costs.request import Job, Ledger
from finetuning.costs.schema import GpuNeed, Training, UsdRange, money
from finetuning.errors import BadInputError
from finetuning.providers import Method
from finetuning.providers.catalogue import PriceKind, params_of
from finetuning.providers.market import base_prices
from finetuning.providers.pricing import (
    UnknownPriceError,
    find_price,
    listed_gpus,
    search_price,
)
from finetuning.providers.terms import TrainingAmounts, billed_tokens, whole_steps
from finetuning.records import Model

_KINDS: dict[Method, PriceKind] = {"sft": "train_sft", "dpo": "train_dpo", "rft": "train_rft"}

_ONE_RATE: Final = frozenset({"openai", "azure", "vertex"})
"""Providers that state one training rate for examples and preferences (costs.md#training, checked
2026-11-20)."""

_ROLLOUTS: Final[Mapping[str, PriceKind]] = {
    "prefill": "tuned_in",
    "sample": "tuned_out",
    "train": "train_sft",
}
"""Part of a rollout's bill → the kind of price that holds its rate."""

_FLOPS: Final = (4, Decimal("989e12"), Decimal(2))
"""FLOPs per parameter and token of LoRA, an H100's dense peak, and about its cheapest hour in USD
(costs.md#gpu-hours, checked 2026-11-20): the floor of a hosted bill."""

_TIMES_FLOOR: Final = (Decimal("0.2"), Decimal(2000))
"""A hosted bill outside of this many times the floor has probably lost a factor of 1000."""


class Priced(Model):
    """The bill, its spread, and the machine time where that is what is paid."""

    training: Training
    low: Decimal
    high: Decimal
    gpu: GpuNeed | None = None

    @property
    def spread(self) -> Spread:
        """Return the range of the bill around its point."""
        return Spread(self.low, self.high)


def price_training(
    job: Job, amounts: TrainingAmounts | None, token_spread: Spread, ledger: Ledger
) -> Priced:
    """Price one job by its provider's rule.

    Args:
        job: The job.
        amounts: Token counts; None only where the rule counts hours that are given.
        token_spread: Range of the token count around 1.
        ledger: Takes prices, assumptions and warnings.

    Raises:
        BadInputError: Something the rule needs is missing.
        UnknownPriceError: The catalogue has no usable price for it.
    """
    by_rft = {"hours_grader": _hours_and_grader, "three_rates": _rollouts, "job": _job_or_gpu_time}
    if job.formula in by_rft:
        return by_rft[job.formula](job, ledger)
    if amounts is None:
        raise BadInputError(
            "data",
            "neither data nor training_tokens is given",
            "one of the two",
            "Pass data=<file>, or training_tokens=<tokens of one epoch>",
        )
    if job.formula in {"gpu_hours", "own_hours"}:
        return _machine_hours(job, amounts, ledger)
    return _tokens(job, amounts, token_spread, ledger)


def _tokens(job: Job, amounts: TrainingAmounts, token_spread: Spread, ledger: Ledger) -> Priced:
    billed = billed_tokens(job.formula, amounts)
    rate, high = _rate(job, "train_usd_per_mtok", _KINDS.get(job.method), ledger)
    cost = rate * billed.tokens / 1_000_000
    spread = token_spread.times(Spread(Decimal(1), high / rate if rate else Decimal(1)))
    parts = {"tokens": cost}
    minimum, minimum_high = _minimum(job, ledger)
    if cost < minimum:
        parts["minimum charge"] = minimum - cost
        cost = minimum
    usd = spread_around(cost, spread)
    if usd.p90 < minimum_high:
        usd = usd.model_copy(update={"p90": minimum_high})
        ledger.warn(
            f"{job.provider.name} may charge up to ${minimum_high} for a job, however small "
            "(its pages disagree): p90 counts it"
        )
    formula = f"({billed.formula}) × ${rate} per million tokens"
    _check_floor(job, billed.tokens, rate, ledger)
    return Priced(
        training=Training(billed_tokens=billed.tokens, usd=usd, formula=formula, parts=parts),
        low=spread.low,
        high=spread.high,
    )


def _rate(
    job: Job, override: str, kind: PriceKind | None, ledger: Ledger
) -> tuple[Decimal, Decimal]:
    """Return a price and the upper end of its range: one's own first, else the catalogue's."""
    own: Decimal | None = getattr(job.overrides, override)
    if own is not None:
        ledger.assume(override, own, override.partition("_")[2], "prices argument", "given")
        return own, own
    kind = kind or "train_sft"
    if kind == "train_dpo" and job.provider.id in _ONE_RATE:
        kind = "train_sft"
    whole = None
    if job.tuning == "full":
        whole = search_price(job.provider.id, job.given_model, kind, job.day, variant="full")
    price = whole or find_price(job.provider.id, job.given_model, kind, job.day)
    if job.tuning == "full" and price.conditions.partition(";")[0] == "LoRA":
        raise UnknownPriceError("prices", f"{price.name}:full", [f"{price.name} (LoRA)"])
    ledger.use(price)
    return price.usd, price.usd_high


def _check_floor(job: Job, tokens: int, rate: Decimal, ledger: Ledger) -> None:
    """Compare a rate per token with what the arithmetic alone costs on rented GPUs."""
    size = job.model.active_params_b or params_of(job.model)
    if size is None or not rate:
        return
    per_parameter, peak, hour = _FLOPS
    floor = per_parameter * size * 10**9 * tokens / peak / 3600 * hour
    low, high = _TIMES_FLOOR
    bill = rate * tokens / 1_000_000
    ledger.check(
        "bill against the roofline",
        low * floor <= bill <= high * floor,
        f"{money(bill)} for arithmetic that costs at least {money(floor.quantize(MICRO))}",
        "is the price per million tokens?",
    )


def _minimum(job: Job, ledger: Ledger) -> tuple[Decimal, Decimal]:
    own = job.overrides.minimum_usd_per_job
    if own is not None:
        ledger.assume("minimum_usd_per_job", own, "usd_per_job", "prices argument", "given")
        return own, own
    price = search_price(job.provider.id, job.given_model, "minimum", job.day)
    if price is None:
        return Decimal(0), Decimal(0)
    ledger.use(price)
    return price.usd, price.usd_high


def _hours_and_grader(job: Job, ledger: Ledger) -> Priced:
    """Price hours, rounded to two decimals as OpenAI and Azure bill them, and the grader."""
    if job.rft is None or job.rft.hours is None:
        raise _missing("this job is billed by the hour", "hours", '{"hours": 4}')
    hours = job.rft.hours.quantize(CENT, ROUND_HALF_UP)
    rate, high = _rate(job, "train_usd_per_hour", "train_rft", ledger)
    parts = {"hours": rate * hours}
    formula = f"{hours} hours × ${rate}"
    return _with_grader(job, parts, formula, high / rate if rate else Decimal(1), ledger)


def _rollouts(job: Job, ledger: Ledger) -> Priced:
    """Price the tokens that are prefilled, sampled and trained on, each at its own rate."""
    rft = job.rft
    counts = {} if rft is None else {name: getattr(rft, f"{name}_tokens") for name in _ROLLOUTS}
    if not any(counts.values()):
        example = '{"prefill_tokens": 5000000, "sample_tokens": 2000000, "train_tokens": 7000000}'
        raise _missing("this job is billed by its rollouts", "tokens", example)
    parts: dict[str, Decimal] = {}
    for name, kind in _ROLLOUTS.items():
        price = find_price(job.provider.id, job.given_model, kind, job.day)
        parts[name] = ledger.use(price).usd * counts[name] / 1_000_000
    formula = " + ".join(f"{tokens:,} tokens to {name}" for name, tokens in counts.items())
    priced = _with_grader(job, parts, formula, Decimal(1), ledger)
    bill = priced.training.model_copy(update={"billed_tokens": sum(counts.values())})
    return priced.model_copy(update={"training": bill})


def _missing(why: str, what: str, example: str) -> BadInputError:
    return BadInputError(
        "rft",
        f"{why} and its {what} are not given",
        f"rft with your own estimate of the {what}",
        f"Pass rft={example}",
    )


def _with_grader(
    job: Job, parts: dict[str, Decimal], formula: str, high: Decimal, ledger: Ledger
) -> Priced:
    """Return the bill of ``parts``, the tokens of the grader added; ``high`` is its top factor."""
    if job.rft is not None and (grader := job.rft.grader_model) is not None:
        prices = base_prices(grader, job.day)
        rates = f"{prices.in_usd_per_mtok} in, {prices.out_usd_per_mtok} out"
        ledger.use_rate(f"{prices.model} (grader)", rates, prices)
        tokens = (job.rft.grader_tokens_in, 0, job.rft.grader_tokens_out)
        parts = {**parts, "grader": prices.request_usd(*tokens)}
        formula += f" + grader tokens at the prices of {prices.model}"
    spread = Spread(Decimal(1), high)
    usd = spread_around(sum(parts.values(), Decimal(0)), spread)
    return Priced(
        training=Training(billed_tokens=None, usd=usd, formula=formula, parts=parts),
        low=spread.low,
        high=spread.high,
    )


def _job_or_gpu_time(job: Job, ledger: Ledger) -> Priced:
    """Price a job that costs one sum; where none is known, the GPU time that is given."""
    flat = search_price(job.provider.id, job.given_model, "train_rft", job.day)
    if flat is not None:
        usd = ledger.use(flat).usd
        return _with_grader(job, {"job": usd}, f"${usd} a job", Decimal(1), ledger)
    if job.rft is None or job.rft.hours is None or job.gpu is None:
        raise _missing(
            "this job is billed by GPU time", "hours and gpu", '{"hours": 6}, gpu="H200"'
        )
    host = find_price(job.provider.id, job.given_model, "host", job.day, gpu=job.gpu)
    rate = ledger.use(host).usd
    usd = job.rft.hours * job.n_gpus * rate
    formula = f"{job.rft.hours} hours × {job.n_gpus} {job.gpu} × ${rate}"
    return _with_grader(job, {"GPU time": usd}, formula, host.usd_high / rate, ledger)


def _machine_hours(job: Job, amounts: TrainingAmounts, ledger: Ledger) -> Priced:
    """Price rented or own machines by the hour; own ones without a price cost no provider bill."""
    billed = billed_tokens(job.formula, amounts)
    need = machine_need(job, billed.tokens, ledger)
    rate, high = _machine_rate(job, ledger)
    hours = {name: Decimal(0) for name in ("p10", "p50", "p90")}
    if need is not None:
        hours = {name: _billed_hours(value, job) for name, value in need.hours.items()}
    low, point, most = (
        (price * hours[name] * job.n_gpus).quantize(MICRO)
        for name, price in (("p10", rate), ("p50", rate), ("p90", high))
    )
    device = "an unknown number of" if need is None else f"{hours['p50']:.4f}"
    training = Training(
        billed_tokens=billed.tokens,
        usd=UsdRange(p10=low, p50=point, p90=most, point=point),
        formula=f"{billed.formula} → {device} hours × {job.n_gpus} "
        f"{need.device if need else 'machine'} × ${rate}",
        parts={"machine hours": point},
    )
    scale = point or Decimal(1)
    return Priced(
        training=training,
        low=low / scale if point else Decimal(1),
        high=most / scale if point else Decimal(1),
        gpu=need,
    )


def _billed_hours(hours: float, job: Job) -> Decimal:
    return whole_steps(Decimal(repr(hours)) * 3600, job.provider.billing_step_seconds) / 3600


def _machine_rate(job: Job, ledger: Ledger) -> tuple[Decimal, Decimal]:
    own = job.overrides.gpu_usd_per_hour
    if own is not None:
        ledger.assume("gpu_usd_per_hour", own, "usd_per_gpu_hour", "prices argument", "given")
        return own, own
    if job.formula == "own_hours":
        ledger.assume(
            "hardware and electricity",
            "not included",
            "USD",
            "your own machine sends no bill; pass prices={'gpu_usd_per_hour': …} to count it",
            "assumed",
        )
        return Decimal(0), Decimal(0)
    if job.gpu is None:
        rented = ", ".join(listed_gpus(job.provider.id, "gpu", job.day))
        raise BadInputError(
            "gpu",
            f"{job.provider.id} bills GPU hours and no GPU is named",
            f"one of {rented or 'its GPUs, with prices={gpu_usd_per_hour: …}'}",
            "Pass gpu=<name>",
        )
    price = ledger.use(find_price(job.provider.id, job.given_model, "gpu", job.day, gpu=job.gpu))
    return price.usd, price.usd_high
