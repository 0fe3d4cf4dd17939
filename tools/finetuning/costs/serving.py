"""What serving the tuned model costs in a month: by the token, or by the hour."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from finetuning.costs.request import Ledger
from finetuning.costs.schema import Alternative, PriceOverrides, Rates, ServingTraffic, Sureness
from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import (
    PriceKind,
    Provider,
    Serving,
    find_model,
    load_provider,
)
from finetuning.providers.market import TokenPrices, base_prices
from finetuning.providers.pricing import listed_gpus, search_price

MONTH_HOURS: Final = Decimal(730)
"""Hours in a month (costs.md#serving; Azure's pages count 720)."""

_TOKEN_KINDS: Final[tuple[PriceKind, ...]] = ("tuned_in", "tuned_out", "tuned_cached")
_HOUR_KINDS: Final[tuple[PriceKind, ...]] = ("host", "gpu")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A way to serve the tuned model, priced or not.

    ``ledger`` holds the prices of this way alone, so that an old price of one way does not
    taint another.
    """

    alternative: Alternative
    ledger: Ledger

    @property
    def priced(self) -> bool:
        """Say whether its month has a price."""
        return self.alternative.usd_per_month is not None

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
    priced = [option for option in options if option.priced]
    dedicated = serving.hours is not None or serving.replicas is not None
    wanted = "tuned_dedicated" if dedicated else "tuned_token_billed"
    return next((o for o in priced if o.alternative.name == wanted), next(iter(priced), None))


def _storage(quote: Quote, ledger: Ledger) -> Decimal:
    """Return what keeping the model costs a month, by the model or by the gigabyte."""
    own, kept = quote.overrides.storage_usd_per_month, quote.serving.storage_gb
    if own is not None:
        ledger.assume("storage_usd_per_month", own, "usd_per_month", "prices argument", "given")
        return own
    price = search_price(quote.entry.id, quote.model, "storage", ledger.day)
    if price is None:
        return Decimal(0)
    if price.unit != "usd_per_gb_month":
        return ledger.use(price).usd
    if kept is None:
        ledger.warn(
            f"{quote.entry.name} also charges ${price.usd} per GB and month for checkpoints: pass "
            "serving.storage_gb to count it"
        )
        return Decimal(0)
    return ledger.use(price).usd * kept


def _month(
    quote: Quote, name: str, note: str, parts: dict[str, Decimal], prices: TokenPrices | None
) -> Alternative:
    """Return a way to serve: its fixed ``parts`` and, with ``prices``, what the tokens cost."""
    traffic, fixed, each = quote.serving, sum(parts.values(), Decimal(0)), Decimal(0)
    rates = None
    if prices is not None:
        rates = Rates(prices.in_usd_per_mtok, prices.cached_usd_per_mtok, prices.out_usd_per_mtok)
        tokens = token_parts(prices, traffic)
        each = sum(tokens.values(), Decimal(0))
        parts = {part: usd * traffic.requests_per_month for part, usd in tokens.items()} | parts
    return Alternative(
        name=name,
        usd_per_month=sum(parts.values(), Decimal(0)),
        model=quote.model,
        provider=quote.entry.id,
        note=note,
        fixed_usd=fixed,
        request_usd=each,
        rates=rates,
        parts={part: usd for part, usd in parts.items() if usd},
    )


def token_parts(prices: TokenPrices, traffic: ServingTraffic) -> dict[str, Decimal]:
    """Return what one request costs: its fresh and cached input, and its output."""
    cached = traffic.cached_tokens
    return {
        "input tokens": prices.request_usd(traffic.tokens_in - cached, 0, 0),
        "cached input tokens": prices.request_usd(cached, cached, 0),
        "output tokens": prices.request_usd(0, 0, traffic.tokens_out),
    }


def _by_token(quote: Quote, way: Serving | None) -> Tuned:
    ledger = Ledger(quote.ledger.day)
    prices = token_prices(
        quote.entry, quote.model, way, quote.serving.tokens_in, quote.overrides, ledger
    )
    if prices is None:
        quote.ledger.warn(f"{quote.entry.name} serves adapters by the token; no price was read")
        return Tuned(
            Alternative(
                name="tuned_token_billed",
                usd_per_month=None,
                model=quote.model,
                provider=quote.entry.id,
                note="its price was not read: pass prices={tuned_in…, tuned_out_usd_per_mtok}",
            ),
            ledger,
        )
    note = "your own prices" if way is None else way.note
    parts = {"storage": _storage(quote, ledger)}
    return Tuned(_month(quote, "tuned_token_billed", note, parts, prices), ledger)


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
        return TokenPrices(
            model=model,
            in_usd_per_mtok=own[0],
            cached_usd_per_mtok=overrides.tuned_cached_usd_per_mtok,
            out_usd_per_mtok=own[1],
            batch_fraction=None,
            source="prices argument",
            as_of=ledger.day.isoformat(),
            confidence="read",
            age_days=0,
        )
    if way is not None and way.base_tokens:
        return _base_rate(entry, model, tokens_in, ledger)
    price_in, price_out, cached = (
        search_price(entry.id, model, kind, ledger.day, tokens_in=tokens_in)
        for kind in _TOKEN_KINDS
    )
    if price_in is None or price_out is None:
        return None
    oldest = max((price_in, price_out), key=lambda price: price.age_days)
    prices = TokenPrices(
        model=model,
        in_usd_per_mtok=price_in.usd,
        cached_usd_per_mtok=None if cached is None else cached.usd,
        out_usd_per_mtok=price_out.usd,
        batch_fraction=None,
        source=oldest.source,
        as_of=oldest.as_of,
        confidence=oldest.confidence,
        age_days=oldest.age_days,
    )
    value = f"{price_in.usd} in, {price_out.usd} out"
    value += "" if cached is None else f", {cached.usd} cached"
    ledger.use_rate(f"{entry.id}/{model}:tuned", value, prices, prices.confidence)
    return prices


def _base_rate(entry: Provider, model: str, tokens_in: int, ledger: Ledger) -> TokenPrices | None:
    """Return the base's own token prices, where a tuned model costs what its base costs."""
    target = find_model(entry.id, model)
    for name in dict.fromkeys((target.id, target.id.rpartition("/")[2], *target.aliases)):
        try:
            prices = base_prices(name, ledger.day, provider=entry.id, tokens_in=tokens_in)
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
    said: Sureness = "assumed" if serving.hours is None else "given"
    ledger.assume("serving hours", hours, "hours a month", "costs.md#serving", said)
    ledger.assume("replicas", replicas, "replicas, of one GPU each", "one when not said", "assumed")
    if serving.replicas is None and serving.requests_per_month:
        each_second = serving.requests_per_month / (float(hours) * 3600)
        ledger.warn(
            f"one replica at {entry.id} would answer {each_second:.3g} requests a second on "
            "average: its throughput was not checked"
        )
    prices = None
    if way is not None and way.plus_base_tokens:
        prices = _base_rate(entry, quote.model, serving.tokens_in, ledger)
        if prices is None:
            ledger.warn(f"{entry.name}: the token price of {quote.model} is not known, not counted")
    note = f"{hours} hours × {replicas} × ${rate}"
    parts = {"hosting": rate * hours * replicas, "storage": _storage(quote, ledger)}
    return Tuned(_month(quote, "tuned_dedicated", note, parts, prices), ledger)


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
