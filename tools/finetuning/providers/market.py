"""What tokens cost today: of a named base model, and at the cheapest that any plan meets."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from pydantic import ConfigDict

from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import Confidence, Provider, all_providers, find_model
from finetuning.providers.pricing import (
    PriceUsed,
    UnknownPriceError,
    reference_bases,
    search_price,
)
from finetuning.providers.terms import availability
from finetuning.records import Model, Usd

_VENDORS: Final = ("openai", "anthropic", "google", "mistral", "deepseek", "aws", "azure", "x-ai")
"""Vendors of genai-prices whose models are named when one is not known."""

_PREFIXES: Final = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "bedrock": "aws",
    "vertex": "google",
    "gemini_api": "google",
    "together": "together",
    "fireworks": "fireworks",
    "mistral": "mistral",
    "cohere": "cohere",
}
"""Our provider ids and target prefixes → ids of genai-prices."""

_PACKAGE_DAYS: Final = {"0.2.3": dt.date(2026, 10, 29)}
"""Version of genai-prices → day up to which its prices were checked (costs.md#alternatives)."""


_ENDS_TOO_SOON_DAYS: Final = 180
"""A base that ends sooner is on no offer: the tuned model would die with it."""


class TokenPrices(Model):
    """Prices of one model in dollars per million tokens, for requests of a given size."""

    model_config = ConfigDict(defer_build=True)

    model: str
    in_usd_per_mtok: Usd
    cached_usd_per_mtok: Usd | None
    out_usd_per_mtok: Usd
    batch_fraction: Decimal | None
    source: str
    as_of: str
    confidence: Confidence
    age_days: int

    def request_usd(self, tokens_in: int, cached_tokens: int, tokens_out: int) -> Decimal:
        """Return the price of one request; cached tokens count as fresh where no rate is known."""
        cached = self.cached_usd_per_mtok
        rate = self.in_usd_per_mtok if cached is None else cached
        fresh = tokens_in - cached_tokens
        total = fresh * self.in_usd_per_mtok + cached_tokens * rate
        return (total + tokens_out * self.out_usd_per_mtok) / 1_000_000


def base_prices(
    model: str, day: dt.date, *, provider: str | None = None, tokens_in: int = 0
) -> TokenPrices:
    """Return what a base model's tokens cost on a day.

    Args:
        model: Model id; ``openai:gpt-6-luna`` names the vendor too.
        day: The day of the price.
        provider: Where it is called; None finds the vendor by the model's name.
        tokens_in: Input tokens per request: some prices rise with the length.

    Raises:
        UnknownNameError: Neither the catalogue nor genai-prices knows the model.
    """
    prefix, _, rest = model.partition(":")
    if rest and prefix in _PREFIXES:
        provider, model = prefix, rest
    if (found := _catalogue_prices(model, day, provider, tokens_in)) is not None:
        return found
    return _package_prices(model, day, provider, tokens_in)


def _catalogue_prices(
    model: str, day: dt.date, provider: str | None, tokens_in: int
) -> TokenPrices | None:
    """Return the prices of a reference base of the catalogue, or None for any other model."""
    for owner, known in reference_bases():
        if known != model or provider not in {None, owner}:
            continue
        price = search_price(owner, known, "base_in", day, tokens_in=tokens_in)
        output = search_price(owner, known, "base_out", day, tokens_in=tokens_in)
        if price is None or output is None:
            return None
        cached = search_price(owner, known, "base_cached", day, tokens_in=tokens_in)
        return TokenPrices(
            model=known,
            in_usd_per_mtok=price.usd,
            cached_usd_per_mtok=None if cached is None else cached.usd,
            out_usd_per_mtok=output.usd,
            batch_fraction=find_model(owner, known).batch_fraction,
            source=price.source,
            as_of=price.as_of,
            confidence=price.confidence,
            age_days=price.age_days,
        )
    return None


def _package_prices(model: str, day: dt.date, provider: str | None, tokens_in: int) -> TokenPrices:
    """Return the prices that genai-prices holds for a model (imported here: 0.2 s)."""
    import genai_prices

    moment = dt.datetime.combine(day, dt.time(12), tzinfo=dt.UTC)
    usage: Any = genai_prices.Usage(input_tokens=max(tokens_in, 1), output_tokens=1)
    vendor = _PREFIXES.get(provider or "", provider)

    def priced(**context: str) -> Any:
        return genai_prices.calc_price(
            usage,
            model,
            provider_id=vendor,
            genai_request_timestamp=moment,
            price_context=context or None,
        )

    try:
        found = priced()
    except LookupError as error:
        raise UnknownNameError("model", "model", model, _known_models()) from error
    rates = {
        name: _rate(getattr(found.model_price, f"{name}_mtok"), tokens_in)
        for name in ("input", "cache_read", "output")
    }
    if rates["input"] is None or rates["output"] is None:
        raise UnknownPriceError("model", f"{model}:base_in", _known_models())
    batch = _rate(priced(processing="batch").model_price.input_mtok, tokens_in)
    known_on = _data_day(day)
    return TokenPrices(
        model=str(found.model.id),
        in_usd_per_mtok=rates["input"],
        cached_usd_per_mtok=rates["cache_read"],
        out_usd_per_mtok=rates["output"],
        batch_fraction=batch / rates["input"] if batch and batch < rates["input"] else None,
        source=f"genai-prices {importlib.metadata.version('genai-prices')}",
        as_of=known_on.isoformat(),
        confidence="read",
        age_days=max(0, (day - known_on).days),
    )


def _rate(price: Any, tokens_in: int) -> Decimal | None:
    """Return dollars per million tokens for a request length; None where no price is given."""
    if price is None or isinstance(price, Decimal):
        return price
    rate: Decimal = price.base
    for tier in price.tiers:
        if tokens_in > tier.start:
            rate = tier.price
    return rate


@functools.cache
def _data_day(day: dt.date) -> dt.date:
    """Return the day the package's prices were last known good.

    For a version that nobody here has dated: its youngest dated price that is not after ``day``.
    """
    if (dated := _PACKAGE_DAYS.get(importlib.metadata.version("genai-prices"))) is not None:
        return dated
    from genai_prices.data_snapshot import get_snapshot

    starts = [
        start
        for provider in get_snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for start in (getattr(price.constraint, "start_date", None) for price in model.prices)
        if start is not None and start <= day
    ]
    return max(starts, default=day)


def _known_models() -> list[str]:
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    return [m.id for p in snapshot.providers if p.id in _VENDORS for m in p.models]


class Market:
    """What is on offer on a day: cheap current bases, token-billed tuned models, training.

    Tuned models and training count where a new customer can start, the base lives another half
    year, and the price is not too old to be used. Each part is looked up when first asked for.
    """

    def __init__(self, day: dt.date) -> None:
        """Remember the day."""
        self.day = day

    @functools.cached_property
    def bases(self) -> tuple[TokenPrices, ...]:
        """The cheap current bases."""
        known = (_catalogue_prices(name, self.day, owner, 0) for owner, name in reference_bases())
        return tuple(prices for prices in known if prices is not None)

    @functools.cached_property
    def tuned(self) -> tuple[tuple[Decimal, Decimal], ...]:
        """Input and output price per million tokens of every tuned model billed by the token."""
        entries = all_providers(mentioning="tuned_in")
        return tuple(rate for entry in entries for rate in _tuned_rates(entry, self.day))

    @functools.cached_property
    def train_usd_per_mtok(self) -> Decimal | None:
        """The cheapest training on examples, or None where no price is known."""
        entries = all_providers(mentioning="train_sft")
        prices = (price for entry in entries for price in _training_prices(entry, self.day))
        return min(prices, default=None)

    def base_usd(self, tokens_in: int, cached_tokens: int, tokens_out: int) -> Decimal:
        """Return the price of a request on the cheapest current base."""
        return min(base.request_usd(tokens_in, cached_tokens, tokens_out) for base in self.bases)

    def tuned_usd(self, tokens_in: int, tokens_out: int) -> Decimal | None:
        """Return the price of a request on the cheapest tuned model, or None when none is known."""
        prices = (tokens_in * fresh + tokens_out * out for fresh, out in self.tuned)
        least = min(prices, default=None)
        return None if least is None else least / 1_000_000


@functools.lru_cache(maxsize=64)
def market(day: dt.date) -> Market:
    """Return what the catalogue offers on a day."""
    return Market(day)


def _open_models(entry: Provider, day: dt.date) -> list[str]:
    names: list[str] = []
    for model in entry.models:
        known = availability(entry.id, model.id, "new", day)
        end = known.base_retires_on
        if known.can_start and (end is None or (end - day).days > _ENDS_TOO_SOON_DAYS):
            names.append(model.id)
    return names


def _tuned_rates(entry: Provider, day: dt.date) -> Iterator[tuple[Decimal, Decimal]]:
    for model in _open_models(entry, day):
        price_in = _fresh(search_price(entry.id, model, "tuned_in", day))
        price_out = _fresh(search_price(entry.id, model, "tuned_out", day))
        if price_in is not None and price_out is not None:
            yield price_in, price_out


def _training_prices(entry: Provider, day: dt.date) -> list[Decimal]:
    prices = (
        _fresh(search_price(entry.id, model, "train_sft", day))
        for model in _open_models(entry, day)
    )
    return [price for price in prices if price is not None]


def _fresh(price: PriceUsed | None) -> Decimal | None:
    return None if price is None or price.refused else price.usd
