"""The cheapest prices in the catalogue on a day: what any plan has to compete with."""

from __future__ import annotations

import datetime as dt
import functools
from decimal import Decimal
from typing import NamedTuple

from finetuning.providers.catalogue import all_providers
from finetuning.providers.lifecycle import availability
from finetuning.providers.pricing import PriceUsed, reference_bases, search_price
from finetuning.providers.schema import Provider

_ENDS_TOO_SOON_DAYS = 180


class TokenRate(NamedTuple):
    """Dollars per million tokens, in, cached and out."""

    model: str
    price_in: Decimal
    cached: Decimal
    price_out: Decimal

    def request_usd(self, tokens_in: int, cached_tokens: int, tokens_out: int) -> Decimal:
        """Return the price of one request."""
        fresh = tokens_in - cached_tokens
        total = fresh * self.price_in + cached_tokens * self.cached + tokens_out * self.price_out
        return total / 1_000_000


class Market(NamedTuple):
    """What is on offer: cheap current bases, token-billed tuned models, training."""

    bases: tuple[TokenRate, ...]
    tuned: tuple[TokenRate, ...]
    train_usd_per_mtok: Decimal | None

    def base_usd(self, tokens_in: int, cached_tokens: int, tokens_out: int) -> Decimal:
        """Return the price of a request on the cheapest current base."""
        return min(base.request_usd(tokens_in, cached_tokens, tokens_out) for base in self.bases)

    def tuned_usd(self, tokens_in: int, tokens_out: int) -> Decimal | None:
        """Return the price of a request on the cheapest tuned model, or None when none is known."""
        prices = [model.request_usd(tokens_in, 0, tokens_out) for model in self.tuned]
        return min(prices, default=None)


@functools.lru_cache(maxsize=64)
def market(day: dt.date) -> Market:
    """Return the cheapest known prices of a day.

    Tuned models count where a new customer can start, the base lives another half year, and the
    price is not too old to be used.
    """
    bases: list[TokenRate] = []
    for owner, name in reference_bases():
        price_in = search_price(owner, name, "base_in", day)
        price_out = search_price(owner, name, "base_out", day)
        cached = search_price(owner, name, "base_cached", day)
        if price_in is not None and price_out is not None:
            kept = price_in if cached is None else cached
            bases.append(TokenRate(name, price_in.usd, kept.usd, price_out.usd))
    tuned = [rate for entry in all_providers() for rate in _tuned_rates(entry, day)]
    training = [price for entry in all_providers() for price in _training_prices(entry, day)]
    return Market(tuple(bases), tuple(tuned), min(training, default=None))


def _open_models(entry: Provider, day: dt.date) -> list[str]:
    names: list[str] = []
    for model in entry.models:
        known = availability(entry.id, model.id, "new", day)
        end = known.base_retires_on
        if known.can_start and (end is None or (end - day).days > _ENDS_TOO_SOON_DAYS):
            names.append(model.id)
    return names


def _tuned_rates(entry: Provider, day: dt.date) -> list[TokenRate]:
    rates: list[TokenRate] = []
    for model in _open_models(entry, day):
        price_in = _fresh(search_price(entry.id, model, "tuned_in", day))
        price_out = _fresh(search_price(entry.id, model, "tuned_out", day))
        if price_in is not None and price_out is not None:
            rates.append(TokenRate(f"{entry.id}/{model}", price_in, price_in, price_out))
    return rates


def _training_prices(entry: Provider, day: dt.date) -> list[Decimal]:
    prices = (
        _fresh(search_price(entry.id, model, "train_sft", day))
        for model in _open_models(entry, day)
    )
    return [price for price in prices if price is not None]


def _fresh(price: PriceUsed | None) -> Decimal | None:
    return None if price is None or price.refused else price.usd
