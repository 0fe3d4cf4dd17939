"""The bill of one training job: the rule times its price, and machine hours with their memory."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Final

from finetuning.costs.economics import MICRO, Spread, spread_around
from finetuning.costs.request import Job, Ledger
from finetuning.costs.schema import GpuNeed, Training, UsdRange
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import Method
from finetuning.providers.catalogue import PriceKind
from finetuning.providers.market import base_prices
from finetuning.providers.pricing import find_price, listed_gpus, search_price
from finetuning.providers.terms import TrainingAmounts, billed_tokens, whole_steps
from finetuning.records import Model

_RANK: Final = 16
_ROW_TOKENS: Final = 2048
"""Adapter rank and tokens per micro-batch of the memory estimate when nothing is said."""

_CPU_UTILISATION: Final = (0.05, 0.17, 0.55)
"""Share of a thread's peak: small shapes, stock TRL (0.17) and the best loop (0.55) on a CPU
(measured here, 2026-11; training.md#time)."""

_CPU_START_SECONDS: Final = 8.0
"""From start to first step with TRL on a CPU (measured here, 2026-11; training.md#time)."""

_KINDS: dict[Method, PriceKind] = {"sft": "train_sft", "dpo": "train_dpo", "rft": "train_rft"}


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
    if job.formula == "hours_grader":
        return _hours_and_grader(job, ledger)
    if job.formula == "job":
        return _flat_job(job, ledger)
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
    money = spread_around(cost, spread)
    if money.p90 < minimum_high:
        money = money.model_copy(update={"p90": minimum_high})
        ledger.warn(
            f"{job.provider.name} may charge up to ${minimum_high} for a job, however small "
            "(its pages disagree): p90 counts it"
        )
    formula = f"({billed.formula}) × ${rate} per million tokens"
    return Priced(
        training=Training(billed_tokens=billed.tokens, usd=money, formula=formula, parts=parts),
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
    price = find_price(job.provider.id, job.given_model, kind or "train_sft", job.day)
    ledger.use(price)
    return price.usd, price.usd_high


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
    if job.rft is None:
        raise BadInputError(
            "rft",
            "this job is billed by the hour and its hours are not given",
            'rft={"hours": …}',
            'Pass rft={"hours": 4} with your own estimate of the hours',
        )
    rate, high = _rate(job, "train_usd_per_hour", "train_rft", ledger)
    parts = {"hours": rate * job.rft.hours}
    formula = f"{job.rft.hours} hours × ${rate}"
    if (grader := job.rft.grader_model) is not None:
        prices = base_prices(grader, job.day)
        ledger.use_rate(f"{prices.model} (grader)", prices.in_usd_per_mtok, prices, "read")
        parts["grader"] = prices.request_usd(job.rft.grader_tokens_in, 0, job.rft.grader_tokens_out)
        formula += f" + grader tokens at the prices of {prices.model}"
    spread = Spread(Decimal(1), high / rate if rate else Decimal(1))
    money = spread_around(sum(parts.values(), Decimal(0)), spread)
    return Priced(
        training=Training(billed_tokens=None, usd=money, formula=formula, parts=parts),
        low=spread.low,
        high=spread.high,
    )


def _flat_job(job: Job, ledger: Ledger) -> Priced:
    price = ledger.use(find_price(job.provider.id, job.given_model, "train_rft", job.day))
    money = spread_around(price.usd, Spread())
    formula = f"${price.usd} a job"
    training = Training(billed_tokens=None, usd=money, formula=formula, parts={"job": price.usd})
    return Priced(training=training, low=Decimal(1), high=Decimal(1))


def _machine_hours(job: Job, amounts: TrainingAmounts, ledger: Ledger) -> Priced:
    """Price rented or own machines by the hour; own ones without a price cost no provider bill."""
    billed = billed_tokens(job.formula, amounts)
    need = _machine_need(job, billed.tokens, ledger)
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


def _machine_need(job: Job, tokens: int, ledger: Ledger) -> GpuNeed | None:
    """Return hours and memory of a job from the shape of its base, or None where it is unknown.

    Raises:
        UnknownNameError: Rented hours are to be paid and nobody knows the model or the GPU.
    """
    try:
        return _need_of(job, tokens, ledger)
    except UnknownNameError:
        if job.formula == "gpu_hours":
            raise
        ledger.warn(
            f"the shape of {Path(job.given_model).name!r} is not known, so its hours are not "
            "estimated: name the folder of the base model"
        )
        return None


def _need_of(job: Job, tokens: int, ledger: Ledger) -> GpuNeed:
    """Return hours (p10, p50, p90) and memory of training on ``tokens`` in all.

    Raises:
        UnknownNameError: The base model or the GPU is not known.
    """
    from finetuning.estimate import (
        CPU_THREAD_FLOPS,
        find_gpu,
        read_architecture,
        training_memory_gb,
        training_time_seconds,
    )

    shape = read_architecture(job.given_model)
    if job.gpu is None:
        device, flops = "CPU", CPU_THREAD_FLOPS * (os.cpu_count() or 1)
        seconds = training_time_seconds(
            shape,
            tokens=tokens,
            tuning=job.tuning,
            device_flops=flops,
            mfu=_CPU_UTILISATION,
            fixed_seconds=_CPU_START_SECONDS,
        )
        ledger.assume(
            "share of the CPU's peak", "0.05 to 0.55", "fraction", "training.md#time", "measured"
        )
    else:
        gpu = find_gpu(job.gpu)
        device = gpu.name
        seconds = training_time_seconds(
            shape,
            tokens=tokens,
            tuning=job.tuning,
            device_flops=gpu.flops,
            n_devices=job.n_gpus,
        )
        ledger.assume(
            "share of the GPU's peak", "0.25 to 0.45", "fraction", "costs.md#gpu-hours", "assumed"
        )
    memory = training_memory_gb(
        shape,
        tuning=job.tuning,
        r=_RANK,
        tokens_per_microbatch=job.max_length or _ROW_TOKENS,
        gradient_checkpointing=job.gpu is not None,
        stack="local_cpu" if job.gpu is None else "trl",
    )
    return GpuNeed(
        hours={name: value / 3600 for name, value in seconds.items()},
        memory_gb=round(memory, 3),
        device=device,
        n_gpus=job.n_gpus,
    )
