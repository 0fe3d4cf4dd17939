"""What a request to a base model costs today: from the catalogue, or from genai-prices."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
from decimal import Decimal
from typing import Any, Final

from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import find_model
from finetuning.providers.pricing import UnknownPriceError, reference_bases, search_price
from finetuning.providers.schema import Confidence
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
"""Version of genai-prices → day up to which its prices were checked (prices.md section 3)."""


class TokenPrices(Model):
    """Prices of one model in dollars per million tokens, for requests of a given size."""

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
