"""What serving the tuned model costs in a month: by the token, or by the hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from finetuning.costs.request import Ledger
from finetuning.costs.schema import Alternative, PriceOverrides, Rates, ServingTraffic, Sureness
from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import (
    PriceKind,
    Provider,
    Serving,
    find_model,
    gpu_size,
    load_provider,
    memory_gb,
)
from finetuning.providers.market import TokenPrices, base_prices
from finetuning.providers.pricing import PriceUsed, listed_gpus, search_price

MONTH_HOURS: Final = Decimal(730)
"""Hours in a month (costs.md#serving; Azure's pages count 720)."""

_TOKEN_KINDS: Final[tuple[PriceKind, ...]] = ("tuned_in", "tuned_out", "tuned_cached")
_HOUR_KINDS: Final[tuple[PriceKind, ...]] = ("host", "gpu")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A way to serve the tuned model; its own ledger, so that no old price taints another way."""

    alternative: Alternative
    ledger: Ledger

    @property
    def priced(self) -> bool:
        """Say whether its month has a price."""
        return self.alternative.usd_per_month is not None


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
        cached = traffic.cached_tokens
        tokens = {
            "input tokens": prices.request_usd(traffic.tokens_in - cached, 0, 0),
            "cached input tokens": prices.request_usd(cached, cached, 0),
            "output tokens": prices.request_usd(0, 0, traffic.tokens_out),
        }
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


def _by_token(quote: Quote, way: Serving | None) -> Tuned:
    entry, model, traffic = quote.entry, quote.model, quote.serving
    ledger, name = Ledger(quote.ledger.day), "tuned_token_billed"
    prices = token_prices(entry, model, way, traffic.tokens_in, quote.overrides, ledger)
    if prices is None:
        quote.ledger.warn(f"{entry.name} serves adapters by the token; no price was read")
        note = "its price was not read: pass prices={tuned_in…, tuned_out_usd_per_mtok}"
        unpriced = Alternative(name=name, usd_per_month=None, model=model, note=note)
        return Tuned(unpriced.model_copy(update={"provider": entry.id}), ledger)
    note = "your own prices" if way is None else way.note
    return Tuned(_month(quote, name, note, {"storage": _storage(quote, ledger)}, prices), ledger)


def token_prices(
    entry: Provider,
    model: str,
    way: Serving | None,
    tokens_in: int,
    overrides: PriceOverrides,
    ledger: Ledger,
) -> TokenPrices | None:
    """Return the token prices of a tuned model, or None where they are not known."""
    fresh, out = overrides.tuned_in_usd_per_mtok, overrides.tuned_out_usd_per_mtok
    cached, source, as_of = overrides.tuned_cached_usd_per_mtok, "prices argument", ledger.day
    if fresh is not None and out is not None:
        ledger.assume("tuned_in_usd_per_mtok", fresh, "usd_per_mtok", source, "given")
        ledger.assume("tuned_out_usd_per_mtok", out, "usd_per_mtok", source, "given")
        return _prices(model, (fresh, out, cached), source, as_of.isoformat())
    if way is not None and way.base_tokens:
        return _base_rate(entry, model, tokens_in, ledger)
    rows = [
        search_price(entry.id, model, kind, ledger.day, tokens_in=tokens_in)
        for kind in _TOKEN_KINDS
    ]
    if rows[0] is None or rows[1] is None:
        return None
    cached = None if rows[2] is None else rows[2].usd
    old = max((rows[0], rows[1]), key=lambda price: price.age_days)
    prices = _prices(model, (rows[0].usd, rows[1].usd, cached), old.source, old.as_of)
    prices = prices.model_copy(update={"confidence": old.confidence, "age_days": old.age_days})
    value = f"{rows[0].usd} in, {rows[1].usd} out" + (
        "" if cached is None else f", {cached} cached"
    )
    ledger.use_rate(f"{entry.id}/{model}:tuned", value, prices, rows[0].conditions)
    return prices


def _prices(
    model: str, rates: tuple[Decimal, Decimal, Decimal | None], source: str, as_of: str
) -> TokenPrices:
    return TokenPrices(
        model=model,
        in_usd_per_mtok=rates[0],
        cached_usd_per_mtok=rates[2],
        out_usd_per_mtok=rates[1],
        batch_fraction=None,
        source=source,
        as_of=as_of,
        confidence="read",
        age_days=0,
    )


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
        )
        return prices
    return None


def _by_hour(quote: Quote, way: Serving | None) -> Tuned | None:
    entry, serving = quote.entry, quote.serving
    ledger = Ledger(quote.ledger.day)
    if (hourly := _hour_rate(quote, ledger)) is None:
        return None
    rate, machine = hourly
    hours = MONTH_HOURS if serving.hours is None else serving.hours
    replicas = serving.replicas or 1
    said: Sureness = "assumed" if serving.hours is None else "given"
    ledger.assume("serving hours", hours, "hours a month", "costs.md#serving", said)
    ledger.assume("replicas", replicas, "replicas", "one when not said", "assumed")
    if serving.replicas is None and serving.requests_per_month:
        rate_text = f"{serving.requests_per_month / (float(hours) * 3600):.3g}"
        ledger.warn(
            f"one replica at {entry.id} would answer {rate_text} requests a second on average: "
            "its throughput was not checked"
        )
    prices = None
    if way is not None and way.plus_base_tokens:
        prices = _base_rate(entry, quote.model, serving.tokens_in, ledger)
        if prices is None:
            ledger.warn(f"{entry.name}: the token price of {quote.model} is not known, not counted")
    note = f"{hours} hours × {replicas} × {machine}"
    parts = {"hosting": rate * hours * replicas, "storage": _storage(quote, ledger)}
    return Tuned(_month(quote, "tuned_dedicated", note, parts, prices), ledger)


def _hour_rate(quote: Quote, ledger: Ledger) -> tuple[Decimal, str] | None:
    """Return dollars per replica hour, and in words: one's own, the host's, or its GPUs'."""
    entry = quote.entry
    own = quote.overrides.host_usd_per_hour
    if own is None and entry.service in {"own", "rental"}:
        own = quote.overrides.gpu_usd_per_hour
    if own is not None:
        ledger.assume("host_usd_per_hour", own, "usd_per_hour", "prices argument", "given")
        return own, f"${own}"
    if entry.service == "own":
        quote.ledger.warn(
            "the cost of your own serving machine is not known: pass "
            "prices={'host_usd_per_hour': …} to weigh it against the alternatives"
        )
        return None
    for kind in _HOUR_KINDS:
        listed = listed_gpus(entry.id, kind, ledger.day)
        names: Sequence[str | None] = [quote.gpu] if quote.gpu else listed or [None]
        machines = [_machine(quote, kind, name) for name in names]
        if found := [machine for machine in machines if machine is not None]:
            count, price = min(found, key=lambda machine: machine[0] * machine[1].usd)
            usd = ledger.use(price).usd
            if count == 1:
                return usd, f"${usd}"
            fits = "GPUs that hold the base in 16 bits"
            ledger.assume("GPUs of a replica", count, fits, "costs.md#serving", "computed")
            return usd * count, f"{count} GPUs × ${usd}"
    return None


def _machine(quote: Quote, kind: PriceKind, gpu: str | None) -> tuple[int, PriceUsed] | None:
    """Return how many of a GPU hold the base, and the price of one; None where it has none."""
    price = search_price(quote.entry.id, quote.model, kind, quote.ledger.day, gpu=gpu)
    if price is None:
        return None
    size = gpu_size(gpu) if gpu is not None and price.unit == "usd_per_gpu_hour" else None
    needed = memory_gb(find_model(quote.entry.id, quote.model), "lora")
    if size is None or needed is None:
        return 1, price
    return int((needed / size[1]).to_integral_value(ROUND_CEILING)), price
