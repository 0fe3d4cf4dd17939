"""Prices of the catalogue on a day, with their age; a price that is not known is an error."""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from pydantic import ConfigDict

from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import (
    UNPRICED,
    Confidence,
    Exchange,
    ModelEntry,
    Price,
    PriceKind,
    Provider,
    all_providers,
    find_model,
    load_provider,
    params_of,
)
from finetuning.records import Model, Usd

STALE_DAYS: Final = 90
"""A price read longer ago is flagged: three vendors moved theirs within 4 months (costs.md)."""

REFUSED_DAYS: Final = 180
"""A price read longer ago is refused unless the person accepts it."""

_MICRO: Final = Decimal("0.000001")  # converted prices are rounded to a millionth of a dollar


class UnknownPriceError(UnknownNameError):
    """A known model whose price is not known; one can be passed in instead."""

    def __init__(self, where: str, name: str, known: Iterable[str]) -> None:
        """Name the nearest prices that are known, and the way to bring one's own."""
        super().__init__(where, "price", name, known)
        self.next_step = "Pass the price in prices={…}, or choose one of those"
        self.args = (where, self.what, self.expected, self.next_step)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the exception picklable across processes."""
        return (UnknownPriceError, (self.where, self.name, self.near))


class PriceUsed(Model):
    """A price that an estimate stands on, with where it is from and how old it is."""

    model_config = ConfigDict(defer_build=True)

    name: str
    usd: Usd
    usd_high: Usd
    unit: str
    conditions: str
    source: str
    as_of: str
    confidence: Confidence
    age_days: int

    @property
    def stale(self) -> bool:
        """Say whether the price is old enough to be flagged."""
        return self.age_days > STALE_DAYS

    @property
    def refused(self) -> bool:
        """Say whether the price is too old to be used without consent."""
        return self.age_days > REFUSED_DAYS


def find_price(
    provider: str,
    model: str,
    kind: PriceKind,
    day: dt.date,
    *,
    gpu: str | None = None,
    variant: str | None = None,
) -> PriceUsed:
    """Return the price of a kind for a model on a day.

    Args:
        provider: Provider id of the catalogue.
        model: Model id or alias there.
        kind: What is paid for, for example ``train_sft``.
        day: The day of the price.
        gpu: GPU of an hourly price.
        variant: A named variant (context class, full tuning); None takes the plain price.

    Raises:
        UnknownNameError: The provider or the model is not known.
        UnknownPriceError: No usable row; the nearest priced ones are named.
    """
    row = search_price(provider, model, kind, day, gpu=gpu, variant=variant)
    if row is None:
        wanted = f"{provider}/{model}:{kind}" + (f":{gpu}" if gpu else "")
        raise UnknownPriceError("prices", wanted, _priced_names(provider, kind, day))
    return row


@functools.lru_cache(maxsize=8192)
def search_price(
    provider: str,
    model: str,
    kind: PriceKind,
    day: dt.date,
    *,
    gpu: str | None = None,
    variant: str | None = None,
    tokens_in: int = 0,
) -> PriceUsed | None:
    """Return the price as :func:`find_price` does, or None where none is known.

    ``tokens_in`` is the length of a request: some prices hold only up to one. The model's own row
    wins over one for a band, which wins over one for every model.
    """
    entry = load_provider(provider)
    target = find_model(provider, model)
    rows = [
        row
        for row in entry.prices
        if row.kind == kind
        and row.variant == variant
        and entry.sources[row.source].confidence not in UNPRICED
        and row.holds_on(day)
        and _covers(row, target)
        and (gpu is None or same_gpu(row.gpu, gpu))
        and tokens_in <= (row.max_tokens_in or tokens_in)
    ]
    best = max(rows, key=_specificity, default=None)
    return None if best is None else _used(entry, target, best, day)


def _covers(row: Price, model: ModelEntry) -> bool:
    if "*" not in row.models:
        return model.id in row.models
    if row.min_params_b is None and row.max_params_b is None:
        return True
    params = params_of(model)
    if params is None:
        return False
    return (row.min_params_b is None or params >= row.min_params_b) and (
        row.max_params_b is None or params <= row.max_params_b
    )


def _specificity(row: Price) -> tuple[int, int, dt.date, int]:
    """Order rows: the model's own first, then bands, then the newest, then the shortest tier."""
    banded = row.min_params_b is not None or row.max_params_b is not None
    shortest = -(row.max_tokens_in or sys.maxsize)
    return ("*" not in row.models, banded, row.valid_from or dt.date.min, shortest)


def same_gpu(row: str | None, wanted: str) -> bool:
    """Say whether two names mean the same GPU, however they are written."""
    if row is None or row.casefold() == wanted.casefold():
        return row is not None
    from finetuning.estimate import find_gpu

    try:
        return find_gpu(row).name == find_gpu(wanted).name
    except UnknownNameError:
        return False


def _used(entry: Provider, model: ModelEntry, row: Price, day: dt.date) -> PriceUsed | None:
    """Return the row as a price in dollars; None where no rate of its currency is known."""
    source = entry.sources[row.source]
    usd, usd_high, unit = row.amount, row.amount_high, row.unit
    conditions, checked = row.conditions, source.checked_on
    if unit.startswith("cny_"):
        rate = cny_per_usd(day)
        if rate is None:
            return None
        converted = f"{row.amount} CNY at {rate.cny_per_usd} CNY per USD of {rate.date}"
        usd, usd_high = ((cny / rate.cny_per_usd).quantize(_MICRO) for cny in (usd, usd_high))
        unit, checked = unit.replace("cny_", "usd_"), min(checked, rate.date)
        conditions = "; ".join(part for part in (converted, conditions) if part)
    return PriceUsed(
        name=f"{entry.id}/{model.id}:{row.kind}" + (f":{row.gpu}" if row.gpu else ""),
        usd=usd,
        usd_high=usd_high,
        unit=unit,
        conditions=conditions,
        source=source.url,
        as_of=source.checked,
        confidence=source.confidence,
        age_days=max(0, (day - checked).days),
    )


@functools.cache
def cny_per_usd(day: dt.date) -> Exchange | None:
    """Return the newest dated exchange rate up to a day; None where the catalogue has none."""
    rates = [rate for entry in all_providers(mentioning="cny_per_usd") for rate in entry.exchange]
    return max((rate for rate in rates if rate.date <= day), key=lambda r: r.date, default=None)


def _priced_names(provider: str, kind: PriceKind, day: dt.date) -> list[str]:
    """Name what is priced: that kind at that provider first, else everywhere."""
    entry = load_provider(provider)
    rows = [row for row in entry.prices if row.kind == kind] or list(entry.prices)
    names = [_row_name(entry, row) for row in rows if _usable(entry, row, day)]
    if names:
        return names
    return [
        _row_name(other, row)
        for other in all_providers()
        for row in other.prices
        if row.kind == kind and _usable(other, row, day)
    ]


def _usable(entry: Provider, row: Price, day: dt.date) -> bool:
    return entry.sources[row.source].confidence not in UNPRICED and row.holds_on(day)


def _row_name(entry: Provider, row: Price) -> str:
    low, high = row.min_params_b, row.max_params_b
    band = f"{low or 0}B to {high}B" if high is not None else f"{low}B and more"
    what = row.models[0] if "*" not in row.models else ("any" if low is high is None else band)
    return f"{entry.id}/{what}:{row.kind}" + (f":{row.gpu}" if row.gpu else "")


@functools.lru_cache(maxsize=512)
def gpu_prices(provider: str, kind: PriceKind, day: dt.date) -> tuple[tuple[str, PriceUsed], ...]:
    """Return the GPUs that a provider rents for any base at a known price, cheapest first."""
    entry, anything = load_provider(provider), ModelEntry(id="any", methods=(), source="")
    rows = [r for r in entry.prices if r.kind == kind and r.gpu and not r.variant]
    held = [(r.gpu or "", _used(entry, anything, r, day)) for r in rows if _usable(entry, r, day)]
    known = [(name, price) for name, price in held if price is not None]
    return tuple(sorted(known, key=lambda pair: pair[1].usd))


def listed_gpus(provider: str, kind: PriceKind, day: dt.date) -> list[str]:
    """Return the GPUs that a provider rents at a known price, cheapest first."""
    return [name for name, _ in gpu_prices(provider, kind, day)]


def reference_bases() -> list[tuple[str, str]]:
    """Return (provider, model) of the cheap current bases that a tuned model has to beat."""
    return [
        (entry.id, model.id)
        for entry in all_providers(mentioning="reference_base")
        for model in entry.models
        if model.reference_base
    ]


@dataclass(frozen=True, slots=True)
class Range:
    """An amount of money between its known ends."""

    low: Decimal
    high: Decimal

    def at(self, share: Decimal) -> Decimal:
        """Return the amount at a share of the way from the low to the high end."""
        return self.low + (self.high - self.low) * share

    def times(self, factor: Decimal | int) -> Range:
        """Return both ends multiplied."""
        return Range(self.low * factor, self.high * factor)


@dataclass(slots=True)
class Book:
    """Prices that one option stands on; those too old are kept apart and not used."""

    day: dt.date
    used: list[PriceUsed] = field(default_factory=list[PriceUsed])
    refused: list[PriceUsed] = field(default_factory=list[PriceUsed])

    def find(
        self,
        provider: str,
        model: str,
        kind: PriceKind,
        *,
        gpu: str | None = None,
        variant: str | None = None,
        tokens_in: int = 0,
    ) -> PriceUsed | None:
        """Return a usable price and remember it."""
        price = search_price(
            provider, model, kind, self.day, gpu=gpu, variant=variant, tokens_in=tokens_in
        )
        if price is not None:
            (self.refused if price.refused else self.used).append(price)
        return None if price is None or price.refused else price
