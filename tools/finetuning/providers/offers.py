"""What a year of an option costs: training jobs and serving, here or elsewhere, as a range."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from finetuning.errors import BadInputError
from finetuning.providers import Method, ServingOffer, Spread, Tuning, Workload
from finetuning.providers.catalogue import (
    ModelEntry,
    PriceKind,
    Provider,
    Serving,
    base_of,
    byo_hosts,
    gpu_size,
    memory_gb,
    model_at,
    params_of,
)
from finetuning.providers.pricing import Book, PriceUsed, Range, gpu_prices
from finetuning.providers.terms import TrainingAmounts, billed_tokens, planned_epochs, whole_steps

MONTHS: Final = 12
MONTH_HOURS: Final = Decimal(730)
MFU: Final = (Decimal("0.45"), Decimal("0.35"), Decimal("0.25"))
"""Share of a GPU's peak that training reaches, best to worst (costs.md#training)."""

FLOPS_PER_TOKEN: Final[dict[Tuning, int]] = {"lora": 4, "qlora": 4, "full": 6}
MILLION: Final = Decimal(1_000_000)
CENT: Final = Decimal("0.01")
_TRAIN_KINDS: Final[dict[Method, PriceKind]] = {
    "sft": "train_sft",
    "dpo": "train_dpo",
    "rft": "train_rft",
}
_DRAWS: Final = 101
_TRAFFIC: Final = (0.6, 1.0, 1.6)  # around what was said: an assumption, as in estimate_cost


@dataclass(frozen=True, slots=True)
class Way:
    """A way to serve with its money: so much a month, and so much a request."""

    provider: str
    serving: Serving
    month: Range | None = None
    request: Range | None = None
    words: str = ""

    def monthly(self, requests: int | Decimal) -> Decimal | None:
        """Return what a month costs in the middle of the range; None where it is not known."""
        if self.month is None or self.request is None:
            return None
        half = Decimal("0.5")
        return self.month.at(half) + self.request.at(half) * requests

    def offer(self, requests: int | None) -> ServingOffer:
        """Return it as a row of a result."""
        month = None if requests is None else self.monthly(requests)
        return ServingOffer(
            provider=self.provider,
            billing=self.serving.billing,
            rank_limit=self.serving.max_rank,
            usd_per_month=None if month is None else month.quantize(CENT),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One training job: its money, dollars per million tokens of data, and words about both."""

    usd: Range
    usd_per_mtok: Decimal
    words: str


def train(
    entry: Provider, model: ModelEntry, method: Method, tuning: Tuning, book: Book, work: Workload
) -> Job | None:
    """Price one training job, or None where a price or a size is not known."""
    epochs = planned_epochs(entry, model, work.n_epochs)
    rule = entry.billing.get(method)
    tokens = work.training_tokens or 0
    if rule == "gpu_hours":
        return _by_gpu_hours(entry, model, tuning, book, tokens * epochs)
    variant = "full" if tuning == "full" and entry.service == "managed" else None
    kind = _TRAIN_KINDS.get(method)
    price = None if kind is None else book.find(entry.id, model.id, kind, variant=variant)
    if price is None or rule is None:
        return None
    if rule == "job":
        return Job(Range(price.usd, price.usd_high), Decimal(0), f"${price.usd} a job")
    try:
        billed = billed_tokens(rule, TrainingAmounts(train_tokens=tokens, n_epochs=epochs))
    except BadInputError:
        return None
    usd = Range(price.usd, price.usd_high).times(Decimal(billed.tokens) / MILLION)
    words = f"a job bills {billed.tokens:,} tokens at ${_span(price)} per million"
    least = book.find(entry.id, model.id, "minimum")
    if least is not None:
        usd = Range(max(usd.low, least.usd), max(usd.high, least.usd_high))
        words += f", at least ${_span(least)}"
    return Job(usd, price.usd, words)


def _span(price: PriceUsed) -> str:
    return f"{price.usd}" if price.usd == price.usd_high else f"{price.usd} to {price.usd_high}"


def _gpus(entry: Provider, kind: PriceKind, book: Book) -> Iterator[tuple[str, PriceUsed]]:
    for name, price in gpu_prices(entry.id, kind, book.day):
        if price.refused:
            book.refused.append(price)
        else:
            yield name, price


def _by_gpu_hours(
    entry: Provider, model: ModelEntry, tuning: Tuning, book: Book, tokens: int
) -> Job | None:
    needed = memory_gb(model, tuning)
    params = params_of(model)
    if needed is None or params is None:
        return None
    base = base_of(model)
    active = params if base is None or base.active_params_b is None else base.active_params_b
    work = FLOPS_PER_TOKEN[tuning] * active * 1_000_000_000
    best: tuple[Decimal, Job, PriceUsed] | None = None
    for name, price in _gpus(entry, "gpu", book):
        gpu = gpu_size(name)
        if gpu is None:
            continue
        flops, memory = gpu
        count = int((needed / memory).to_integral_value(ROUND_CEILING))
        ends = [
            whole_steps(work * tokens / (share * flops * count), entry.billing_step_seconds)
            for share in MFU
        ]
        bills = [seconds * count * price.usd / 3600 for seconds in ends]
        each = work * MILLION / (MFU[1] * flops) * price.usd / 3600
        words = f"{count} × {name} at ${price.usd} an hour, {MFU[2]} to {MFU[0]} of its peak"
        job = Job(Range(bills[0], bills[2]), each.quantize(Decimal("0.0001")), words)
        if best is None or each < best[0]:  # by the work, not by the job: more never costs less
            best = each, job, price
    if best is not None:
        book.used.append(best[2])
    return None if best is None else best[1]


def serve(
    entry: Provider, model: ModelEntry, book: Book, work: Workload, *, weights: bool
) -> list[Way]:
    """Price every way to serve the tuned model, cheapest first, unknown prices last."""
    ways = [
        _priced(entry, model, way, book, work)
        for way in entry.serving
        if "*" in way.models or model.id in way.models
    ]
    base = base_of(model)
    if weights and base is not None and entry.id != "local":
        ways += [
            _priced(host, base, way, book, work)
            for host in byo_hosts()
            for way in host.serving
            if host.id != entry.id and way.byo and ("*" in way.bases or base.id in way.bases)
        ]
    requests = work.requests_per_month * _median_traffic()
    known = [(way.monthly(requests), way) for way in ways]
    return [way for _, way in sorted(known, key=lambda pair: (pair[0] is None, pair[0] or 0))]


def _priced(host: Provider, model: ModelEntry, serving: Serving, book: Book, work: Workload) -> Way:
    if serving.billing == "token":
        kinds: tuple[PriceKind, PriceKind] = ("base_in", "base_out")
        rates = _request(host, model, book, work, kinds if serving.base_tokens else _TUNED)
        if rates is None:
            return Way(host.id, serving)
        return Way(host.id, serving, _storage(host, model, book), rates, "by the token")
    fixed = _hours(host, model, book)
    if fixed is None:
        return Way(host.id, serving)
    each: Range | None = Range(Decimal(0), Decimal(0))
    if serving.plus_base_tokens:
        each = _request(host, model, book, work, ("base_in", "base_out"))
    month = fixed[0].times(MONTH_HOURS)
    stored = _storage(host, model, book)
    month = Range(month.low + stored.low, month.high + stored.high)
    return Way(host.id, serving, month, each, fixed[1])


_TUNED: Final[tuple[PriceKind, PriceKind]] = ("tuned_in", "tuned_out")


def _request(
    host: Provider,
    model: ModelEntry,
    book: Book,
    work: Workload,
    kinds: tuple[PriceKind, PriceKind],
) -> Range | None:
    """Return what one request costs by the token, or None where a rate is not known."""
    price_in, price_out = (_host_price(host, model, book, kind, work.tokens_in) for kind in kinds)
    if price_in is None or price_out is None:
        return None
    low = price_in.usd * work.tokens_in + price_out.usd * work.tokens_out
    high = price_in.usd_high * work.tokens_in + price_out.usd_high * work.tokens_out
    return Range(low / MILLION, high / MILLION)


def _host_price(
    host: Provider, model: ModelEntry, book: Book, kind: PriceKind, tokens_in: int
) -> PriceUsed | None:
    """Return a host's price of a base, under whatever name the host has for it."""
    known = model_at(host, model)
    return None if known is None else book.find(host.id, known.id, kind, tokens_in=tokens_in)


def _storage(host: Provider, model: ModelEntry, book: Book) -> Range:
    if all(price.kind != "storage" for price in host.prices):
        return Range(Decimal(0), Decimal(0))
    price = _host_price(host, model, book, "storage", 0)
    if price is None or price.unit != "usd_per_model_month":
        return Range(Decimal(0), Decimal(0))
    return Range(price.usd, price.usd_high)


def _hours(host: Provider, model: ModelEntry, book: Book) -> tuple[Range, str] | None:
    """Return dollars per hour of a replica that the base fits on, and the machine."""
    flat = [price for price in host.prices if price.kind == "host" and price.gpu is None]
    if flat:
        price = _host_price(host, model, book, "host", 0)
        return None if price is None else (Range(price.usd, price.usd_high), "a dedicated replica")
    needed = memory_gb(model, "lora")
    if needed is None:
        return None
    best: tuple[Decimal, str, PriceUsed] | None = None
    kind: PriceKind = "host" if any(price.kind == "host" for price in host.prices) else "gpu"
    for name, price in _gpus(host, kind, book):
        gpu = gpu_size(name)
        if gpu is None:
            continue
        count = int((needed / gpu[1]).to_integral_value(ROUND_CEILING))
        if best is None or count * price.usd < best[0]:
            best = count * price.usd, f"{count} × {name}", price
    if best is None:
        return None
    book.used.append(best[2])
    return Range(best[0], best[0] * best[2].usd_high / best[2].usd), best[1]


@functools.cache
def _draws() -> tuple[tuple[Decimal, Decimal, Decimal], ...]:
    """Return seeded draws: share of the training range, of the serving range, and traffic."""
    source = random.Random(0)
    low, mode, high = _TRAFFIC
    return tuple(
        (
            Decimal(f"{source.random():.4f}"),
            Decimal(f"{source.random():.4f}"),
            Decimal(f"{source.triangular(low, high, mode):.4f}"),
        )
        for _ in range(_DRAWS)
    )


@functools.cache
def _median_traffic() -> Decimal:
    return sorted(traffic for _, _, traffic in _draws())[_DRAWS // 2]


def year(job: Job | None, way: Way | None, work: Workload, jobs: int) -> Spread | None:
    """Return a year's dollars over seeded draws, or None where a part is not known."""
    if job is None:
        return None
    training, requests = job.usd.times(jobs), work.requests_per_month
    fixed = moving = Range(Decimal(0), Decimal(0))
    if requests:
        if way is None or way.month is None or way.request is None:
            return None
        fixed, moving = way.month.times(MONTHS), way.request.times(requests * MONTHS)
    low = training.low + fixed.low
    rises = training.high - training.low, fixed.high - fixed.low, moving.high - moving.low
    if not any(rises):
        sums = [low + moving.low * traffic for _, _, traffic in _draws()]
    else:
        sums = [
            low + rises[0] * first + rises[1] * second + (moving.low + rises[2] * second) * traffic
            for first, second, traffic in _draws()
        ]
    sums.sort()
    p10, p50, p90 = (sums[int(share * (_DRAWS - 1))].quantize(CENT) for share in (0.1, 0.5, 0.9))
    return Spread(p10=p10, p50=p50, p90=p90)
