"""What serving the tuned model costs in a month: by the token, or by the hour."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from finetuning.costs.request import Ledger
from finetuning.costs.schema import Alternative, PriceOverrides, ServingTraffic
from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import (
    PriceKind,
    Provider,
    Serving,
    all_providers,
    find_model,
    load_provider,
)
from finetuning.providers.market import TokenPrices, base_prices
from finetuning.providers.pricing import listed_gpus, search_price

MONTH_HOURS: Final = Decimal(730)
"""Hours in a month (costs.md#serving; Azure's pages count 720)."""

_HOUR_KINDS: Final[tuple[PriceKind, ...]] = ("host", "gpu")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A priced way to serve the tuned model: so much a month, and so much a request.

    ``ledger`` holds the prices of this way alone, so that an old price of one way does not
    taint another.
    """

    alternative: Alternative
    fixed_usd: Decimal
    request_usd: Decimal
    ledger: Ledger

    def without_price(self, why: str) -> Alternative:
        """Return the alternative with no price, because of a reason."""
        return self.alternative.model_copy(update={"usd_per_month": None, "note": why})


@dataclass(frozen=True, slots=True)
class Quote:
    """What every way to serve is priced from; ``ledger`` takes what concerns all of them."""

    entry: Provider
    model: str
    serving: ServingTraffic
    overrides: PriceOverrides
    ledger: Ledger
    gpu: str | None


def tuned_options(
    provider: str,
    model: str,
    serving: ServingTraffic,
    overrides: PriceOverrides,
    ledger: Ledger,
    *,
    gpu: str | None = None,
) -> list[Tuned]:
    """Price every way to serve the tuned model at one provider, cheapest billing first.

    Args:
        provider: Where it is served.
        model: The base it was tuned from.
        serving: The traffic.
        overrides: One's own prices.
        ledger: Takes prices, assumptions and warnings.
        gpu: GPU of dedicated serving; None takes the cheapest listed one.

    Raises:
        UnknownNameError: The provider does not know the model.
    """
    entry = load_provider(provider)
    target = find_model(provider, model)
    ways = [way for way in entry.serving if "*" in way.models or target.id in way.models]
    by_token = next((way for way in ways if way.billing == "token"), None)
    by_hour = next((way for way in ways if way.billing == "hour"), None)
    quote = Quote(entry, model, serving, overrides, ledger, gpu)
    options: list[Tuned | None] = []
    if by_token is not None or overrides.tuned_out_usd_per_mtok is not None:
        options.append(_by_token(quote, by_token))
    if by_hour is not None or overrides.host_usd_per_hour is not None:
        options.append(_by_hour(quote, by_hour))
    if not options:
        ledger.warn(f"{entry.name}: how a tuned {target.id} is served there is not known")
    return [option for option in options if option is not None]


def choose(options: list[Tuned], serving: ServingTraffic) -> Tuned | None:
    """Return the option that the traffic means: dedicated when hours or replicas are named."""
    dedicated = serving.hours is not None or serving.replicas is not None
    wanted = "tuned_dedicated" if dedicated else "tuned_token_billed"
    for option in options:
        if option.alternative.name == wanted:
            return option
    return options[0] if options else None


def _storage(quote: Quote, ledger: Ledger) -> Decimal:
    if quote.overrides.storage_usd_per_month is not None:
        return quote.overrides.storage_usd_per_month
    price = search_price(quote.entry.id, quote.model, "storage", ledger.day)
    if price is None:
        return Decimal(0)
    if price.unit != "usd_per_model_month":
        ledger.warn(
            f"{quote.entry.name} also charges ${price.usd} per GB and month for checkpoints: "
            "not counted"
        )
        return Decimal(0)
    return ledger.use(price).usd


def _by_token(quote: Quote, way: Serving | None) -> Tuned | None:
    entry, model, serving = quote.entry, quote.model, quote.serving
    ledger = Ledger(quote.ledger.day)
    prices = token_prices(entry, model, way, serving.tokens_in, quote.overrides, ledger)
    if prices is None:
        quote.ledger.warn(f"{entry.name} serves adapters by the token; its price was not read")
        return None
    storage = _storage(quote, ledger)
    each = prices.request_usd(serving.tokens_in, serving.cached_tokens, serving.tokens_out)
    return Tuned(
        Alternative(
            name="tuned_token_billed",
            usd_per_month=each * serving.requests_per_month + storage,
            model=model,
            provider=entry.id,
            note=(way.note if way is not None else "your own prices"),
        ),
        fixed_usd=storage,
        request_usd=each,
        ledger=ledger,
    )


def token_prices(
    entry: Provider,
    model: str,
    way: Serving | None,
    tokens_in: int,
    overrides: PriceOverrides,
    ledger: Ledger,
) -> TokenPrices | None:
    """Return the token prices of a tuned model, or None where they are not known."""
    own = (overrides.tuned_in_usd_per_mtok, overrides.tuned_out_usd_per_mtok)
    if own[0] is not None and own[1] is not None:
        ledger.assume("tuned_in_usd_per_mtok", own[0], "usd_per_mtok", "prices argument", "given")
        ledger.assume("tuned_out_usd_per_mtok", own[1], "usd_per_mtok", "prices argument", "given")
        return _prices(model, own[0], overrides.tuned_cached_usd_per_mtok, own[1], ledger.day)
    if way is not None and way.base_tokens:
        return _base_rate(entry, model, tokens_in, ledger)
    price_in = search_price(entry.id, model, "tuned_in", ledger.day)
    price_out = search_price(entry.id, model, "tuned_out", ledger.day)
    if price_in is None or price_out is None:
        return None
    cached = search_price(entry.id, model, "tuned_cached", ledger.day)
    for price in (price_in, price_out, cached):
        if price is not None:
            ledger.use(price)
    return _prices(
        model, price_in.usd, None if cached is None else cached.usd, price_out.usd, ledger.day
    )


def _prices(
    model: str, price_in: Decimal, cached: Decimal | None, price_out: Decimal, day: dt.date
) -> TokenPrices:
    return TokenPrices(
        model=model,
        in_usd_per_mtok=price_in,
        cached_usd_per_mtok=cached,
        out_usd_per_mtok=price_out,
        batch_fraction=None,
        source="",
        as_of=day.isoformat(),
        confidence="read",
        age_days=0,
    )


def _base_rate(entry: Provider, model: str, tokens_in: int, ledger: Ledger) -> TokenPrices | None:
    """Return the base's own token prices, where a tuned model costs what its base costs."""
    target = find_model(entry.id, model)
    for name in (target.id, *target.aliases):
        try:
            prices = base_prices(
                name.rsplit("/", 1)[-1], ledger.day, provider=entry.id, tokens_in=tokens_in
            )
        except UnknownNameError:
            continue
        ledger.use_rate(
            f"{prices.model} (tuned costs what the base costs)",
            f"{prices.in_usd_per_mtok} in, {prices.out_usd_per_mtok} out",
            prices,
            prices.confidence,
        )
        return prices
    return None


def _by_hour(quote: Quote, way: Serving | None) -> Tuned | None:
    entry, serving = quote.entry, quote.serving
    ledger = Ledger(quote.ledger.day)
    rate = _hour_rate(quote, ledger)
    if rate is None:
        return None
    hours = MONTH_HOURS if serving.hours is None else serving.hours
    replicas = serving.replicas or 1
    ledger.assume(
        "serving hours", hours, "hours a month", "costs.md#serving: a month = 730 h", "given"
    )
    ledger.assume("replicas", replicas, "replicas, of one GPU each", "one when not said", "assumed")
    if serving.replicas is None and serving.requests_per_month:
        each_second = serving.requests_per_month / (float(hours) * 3600)
        ledger.warn(
            f"one replica at {entry.id} would answer {each_second:.3g} requests a second on "
            "average: its throughput was not checked"
        )
    each = Decimal(0)
    if way is not None and way.plus_base_tokens:
        prices = _base_rate(entry, quote.model, serving.tokens_in, ledger)
        if prices is None:
            ledger.warn(f"{entry.name}: the token price of {quote.model} is not known, not counted")
        else:
            each = prices.request_usd(serving.tokens_in, serving.cached_tokens, serving.tokens_out)
    fixed = rate * hours * replicas + _storage(quote, ledger)
    return Tuned(
        Alternative(
            name="tuned_dedicated",
            usd_per_month=fixed + each * serving.requests_per_month,
            model=quote.model,
            provider=entry.id,
            note=f"{hours} hours × {replicas} × ${rate}",
        ),
        fixed_usd=fixed,
        request_usd=each,
        ledger=ledger,
    )


def _hour_rate(quote: Quote, ledger: Ledger) -> Decimal | None:
    """Return dollars per replica hour: one's own, the host price, or the GPU's."""
    entry = quote.entry
    own = quote.overrides.host_usd_per_hour
    if own is None and entry.service in {"own", "rental"}:
        own = quote.overrides.gpu_usd_per_hour
    if own is not None:
        ledger.assume("host_usd_per_hour", own, "usd_per_hour", "prices argument", "given")
        return own
    if entry.service == "own":
        quote.ledger.warn(
            "the cost of your own serving machine is not known: pass "
            "prices={'host_usd_per_hour': …} to weigh it against the alternatives"
        )
        return None
    for kind in _HOUR_KINDS:
        device = quote.gpu or next(iter(listed_gpus(entry.id, kind, ledger.day)), None)
        price = search_price(entry.id, quote.model, kind, ledger.day, gpu=device)
        if price is not None:
            return ledger.use(price).usd
    return None


def other_token_servers(model: str, provider: str) -> list[str]:
    """Return other providers that serve adapters of this base by the token (prices apart)."""
    names: list[str] = []
    for entry in all_providers():
        if entry.id == provider or not any(way.billing == "token" for way in entry.serving):
            continue
        try:
            target = find_model(entry.id, model)
        except UnknownNameError:
            continue
        if any(
            way.billing == "token" and ("*" in way.models or target.id in way.models)
            for way in entry.serving
        ):
            names.append(entry.id)
    return names
