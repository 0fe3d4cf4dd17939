"""Every way to answer the same requests for a month: as today, cheaper untuned, and tuned."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from finetuning.costs.request import Ledger, Request
from finetuning.costs.schema import (
    Alternative,
    CurrentModel,
    PriceOverrides,
    Rates,
    ServingTraffic,
)
from finetuning.costs.serving import choose, tuned_options
from finetuning.errors import BadInputError
from finetuning.providers.catalogue import (
    ModelEntry,
    Provider,
    Serving,
    all_providers,
    base_of,
    find_model,
    load_provider,
    model_at,
)
from finetuning.providers.market import TokenPrices, base_prices
from finetuning.providers.pricing import reference_bases, search_price

_BATCH_FRACTION: Final = Decimal("0.5")
"""Price of batch requests where only prices, no model, are given: what OpenAI, Anthropic and
Google charge (costs.md#alternatives and genai-prices 0.2.3, checked 2026-10-29)."""

_UNNAMED: Final = "the current model"
"""Stands for a model of which only the prices are given."""
_NO_CURRENT: Final = "pass current={…}, what answers today"
_TOO_OLD: Final = "its price was read over 180 days ago: pass accept_stale=true to use it"


def price_alternatives(
    request: Request, accept_stale: bool, billed_tokens: int | None, ledger: Ledger
) -> tuple[Alternative | None, list[Alternative]]:
    """Price every way to answer the same requests, and choose how the tuned model is served.

    Args:
        request: What is asked.
        accept_stale: Whether prices of more than 180 days may be used.
        billed_tokens: Tokens that one job is billed for, to price it elsewhere; None: unknown.
        ledger: Takes prices, assumptions and warnings.
    """
    serving = request.serving
    if serving is None:
        return None, []
    options = tuned_options(
        serving.provider or request.provider,
        request.model,
        serving,
        request.overrides,
        ledger,
        gpu=request.gpu,
    )
    chosen = choose(options, serving)
    alternatives = untuned_alternatives(request.current, serving, ledger)
    for option in options:
        if option is chosen or accept_stale or not option.ledger.refused:
            ledger.merge(option.ledger)
            alternatives.append(option.alternative)
        else:
            stale = {"usd_per_month": None, "note": _TOO_OLD}
            alternatives.append(option.alternative.model_copy(update=stale))
    if request.overrides.tuned_out_usd_per_mtok is None:
        alternatives += _elsewhere(request, billed_tokens, ledger)
    return None if chosen is None else chosen.alternative, alternatives


def _elsewhere(request: Request, billed_tokens: int | None, ledger: Ledger) -> list[Alternative]:
    """Price token-billed adapters of the same base at other providers."""
    serving = request.serving
    if serving is None:
        return []
    found: list[Alternative] = []
    here = load_provider(request.provider)
    mine = find_model(request.provider, request.model)
    base = base_of(mine) or mine
    for entry in all_providers(mentioning='billing = "token"'):
        if entry.id == (serving.provider or request.provider) or entry.service == "closed":
            continue
        for way in entry.serving:
            model = _takes(entry, way, base, may_bring=here.weights != "no")
            if model is not None:
                found.append(_there(request, entry, model, way, billed_tokens, ledger))
                break
    return found


def _takes(entry: Provider, way: Serving, base: ModelEntry, *, may_bring: bool) -> str | None:
    """Return the name under which an adapter of ``base`` is served by the token, or None."""
    if way.billing != "token":
        return None
    known = model_at(entry, base)
    if known is not None and ("*" in way.models or known.id in way.models):
        return known.id if (may_bring and way.byo) or known.methods else None
    return base.id if may_bring and way.byo and not entry.models else None


def _there(
    request: Request,
    entry: Provider,
    model: str,
    way: Serving,
    billed_tokens: int | None,
    ledger: Ledger,
) -> Alternative:
    """Price one way elsewhere: served there, and trained there unless it takes adapters."""
    served = request.serving
    own = Ledger(request.day)
    rate = None if way.byo else search_price(entry.id, model, "train_sft", request.day)
    options = (
        [] if served is None else tuned_options(entry.id, model, served, PriceOverrides(), own)
    )
    priced = next(
        (o for o in options if o.priced and o.alternative.name == "tuned_token_billed"), None
    )
    name = "tuned_token_billed_elsewhere"
    if priced is None or priced.ledger.refused or (rate is not None and rate.refused):
        note = "its price is not known or too old"
        return Alternative(name=name, usd_per_month=None, model=model, provider=entry.id, note=note)
    priced.ledger.warnings.clear()  # they would drown those of the provider that was asked for
    ledger.merge(priced.ledger)
    training = None
    if rate is not None and billed_tokens is not None:
        training = ledger.use(rate).usd * billed_tokens / 1_000_000
    note = "brought there" if way.byo else "trained and served there"
    changes = {"name": name, "note": note, "training_usd": training}
    return priced.alternative.model_copy(update=changes)


def current_prices(current: CurrentModel, ledger: Ledger) -> TokenPrices:
    """Return the token prices of what answers today, as given or looked up.

    Raises:
        BadInputError: Neither a model nor both prices are given, or both ways at once.
        UnknownNameError: The model is not known.
    """
    given = (current.price_in_usd_per_mtok, current.price_out_usd_per_mtok)
    if current.model is None:
        if given[0] is None or given[1] is None:
            raise BadInputError(
                "current",
                "neither a model nor prices are given",
                "model, or price_in_usd_per_mtok and price_out_usd_per_mtok",
                'Pass current={"model": "gpt-6-luna", "tokens_in": …, "tokens_out": …}',
            )
        ledger.assume("current price in", given[0], "usd_per_mtok", "current argument", "given")
        ledger.assume("current price out", given[1], "usd_per_mtok", "current argument", "given")
        return TokenPrices(
            model=_UNNAMED,
            in_usd_per_mtok=given[0],
            cached_usd_per_mtok=current.price_cached_usd_per_mtok,
            out_usd_per_mtok=given[1],
            batch_fraction=_BATCH_FRACTION,
            source="current argument",
            as_of=ledger.day.isoformat(),
            confidence="read",
            age_days=0,
        )
    if given != (None, None):
        raise BadInputError(
            "current",
            "both a model and prices are given",
            "one of the two",
            "Leave model out to use your own prices",
        )
    prices = base_prices(current.model, ledger.day, tokens_in=current.tokens_in)
    ledger.use_rate(
        f"{prices.model} (current)",
        f"{prices.in_usd_per_mtok} in, {prices.out_usd_per_mtok} out",
        prices,
    )
    return prices


def untuned_alternatives(
    current: CurrentModel | None, serving: ServingTraffic, ledger: Ledger
) -> list[Alternative]:
    """Price the four ways that need no training: current, cached, batch, cheaper base.

    Args:
        current: What answers today; None prices the cheaper base alone, on the tuned traffic.
        serving: The traffic.
        ledger: Takes prices and assumptions.
    """
    if current is None:
        shape = CurrentModel(tokens_in=serving.tokens_in, tokens_out=serving.tokens_out)
        names = ("current", "cached", "batch")
        missing = [Alternative(name=n, usd_per_month=None, note=_NO_CURRENT) for n in names]
        return [*missing, _cheaper_base(shape, 0, serving.requests_per_month, ledger)]
    prices = current_prices(current, ledger)
    requests = serving.requests_per_month
    cacheable = cacheable_tokens(current, serving)
    now = prices.request_usd(current.tokens_in, current.cached_tokens, current.tokens_out)
    return [
        _way("current", now, requests, prices, ""),
        _cached(current, prices, cacheable, requests, ledger),
        _batch(prices, now, requests, ledger),
        _cheaper_base(current, cacheable, requests, ledger),
    ]


def _way(name: str, each: Decimal, requests: int, prices: TokenPrices, note: str) -> Alternative:
    return Alternative(
        name=name,
        usd_per_month=each * requests,
        model=prices.model,
        note=note,
        request_usd=each,
        rates=Rates(prices.in_usd_per_mtok, prices.cached_usd_per_mtok, prices.out_usd_per_mtok),
    )


def cacheable_tokens(current: CurrentModel, serving: ServingTraffic) -> int:
    """Return the input tokens that are the same in every request.

    What tuning would take out of the prompt is such a prefix, so a cache can hold it too.
    """
    return max(current.cached_tokens, min(current.tokens_in, current.tokens_in - serving.tokens_in))


def _cached(
    current: CurrentModel, prices: TokenPrices, cacheable: int, requests: int, ledger: Ledger
) -> Alternative:
    if prices.cached_usd_per_mtok is None:
        return Alternative(
            name="cached",
            usd_per_month=None,
            model=prices.model,
            note="no cache price is known for it; pass price_cached_usd_per_mtok",
        )
    ledger.assume(
        "cached prefix",
        cacheable,
        "tokens per request, always read from it",
        "cached_tokens, or the input that tuning would save",
        "computed",
    )
    each = prices.request_usd(current.tokens_in, cacheable, current.tokens_out)
    note = f"{cacheable} tokens of each prompt at the cached rate"
    return _way("cached", each, requests, prices, note)


def _batch(prices: TokenPrices, now: Decimal, requests: int, ledger: Ledger) -> Alternative:
    if prices.batch_fraction is None:
        return Alternative(
            name="batch",
            usd_per_month=None,
            model=prices.model,
            note="no batch price is known for it",
        )
    ledger.assume(
        "batch price",
        prices.batch_fraction.normalize(),
        "fraction of the ordinary price",
        prices.source,
        "assumed" if prices.model == _UNNAMED else "read",
    )
    share = prices.batch_fraction
    way = _way("batch", now * share, requests, prices, "where answers may wait")
    whole = way.rates or Rates(now, None, now)
    cached = None if whole.cached is None else whole.cached * share
    rates = Rates(whole.fresh * share, cached, whole.out * share)
    return way.model_copy(update={"rates": rates})


def _cheaper_base(
    current: CurrentModel, cacheable: int, requests: int, ledger: Ledger
) -> Alternative:
    """Price the cheapest reference base on today's prompt, its fixed part cached."""
    priced = [
        (base_prices(name, ledger.day, provider=owner, tokens_in=current.tokens_in), owner)
        for owner, name in reference_bases()
    ]
    each, prices, owner = min(
        (
            (p.request_usd(current.tokens_in, cacheable, current.tokens_out), p, owner)
            for p, owner in priced
        ),
        key=lambda choice: choice[0],
    )
    ledger.use_rate(
        f"{prices.model} (cheaper base)",
        f"{prices.in_usd_per_mtok} in, {prices.out_usd_per_mtok} out",
        prices,
    )
    note = "if it is good enough: measure it on the same held-out rows"
    way = _way("cheaper_base", each, requests, prices, note)
    return way.model_copy(update={"provider": owner})
