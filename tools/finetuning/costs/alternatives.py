"""Every way to answer the same requests for a month: as today, cheaper untuned, and tuned."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from finetuning.costs.request import Ledger, Request
from finetuning.costs.schema import Alternative, CurrentModel, PriceOverrides, ServingTraffic
from finetuning.costs.serving import Tuned, choose, other_token_servers, tuned_options
from finetuning.errors import BadInputError
from finetuning.providers.catalogue import load_provider
from finetuning.providers.market import TokenPrices, base_prices
from finetuning.providers.pricing import reference_bases

_BATCH_FRACTION: Final = Decimal("0.5")
"""Price of batch requests where only prices, no model, are given: what OpenAI, Anthropic and
Google charge (costs.md#alternatives and genai-prices 0.2.3, checked 2026-10-29)."""

_UNNAMED: Final = "the current model"
"""Stands for a model of which only the prices are given."""
_TOO_OLD: Final = "its price was read over 180 days ago: pass accept_stale=true to use it"


def price_alternatives(
    request: Request, accept_stale: bool, ledger: Ledger
) -> tuple[Tuned | None, list[Alternative]]:
    """Price every way to answer the same requests, and choose how the tuned model is served."""
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
            alternatives.append(option.without_price(_TOO_OLD))
    if request.overrides.tuned_out_usd_per_mtok is None:
        alternatives += _elsewhere(request, ledger)
    return chosen, alternatives


def _elsewhere(request: Request, ledger: Ledger) -> list[Alternative]:
    """Price token-billed adapters of the same base at other providers."""
    serving = request.serving
    if serving is None or load_provider(request.provider).weights == "no":
        return []
    found: list[Alternative] = []
    for name in other_token_servers(request.model, serving.provider or request.provider):
        options = tuned_options(name, request.model, serving, PriceOverrides(), Ledger(request.day))
        priced = next((o for o in options if o.alternative.name == "tuned_token_billed"), None)
        if priced is None or priced.ledger.refused:
            note, cost = "its price is not known or too old", None
        else:
            note, cost = "trained and served there", priced.alternative.usd_per_month
            ledger.merge(priced.ledger)
        found.append(
            Alternative(
                name="tuned_token_billed_elsewhere",
                usd_per_month=cost,
                model=request.model,
                provider=name,
                note=note,
            )
        )
    return found


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
        prices.confidence,
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
        return [_cheaper_base(shape, 0, serving.requests_per_month, ledger)]
    prices = current_prices(current, ledger)
    requests = serving.requests_per_month
    cacheable = cacheable_tokens(current, serving)
    now = prices.request_usd(current.tokens_in, current.cached_tokens, current.tokens_out)
    return [
        Alternative(name="current", usd_per_month=now * requests, model=prices.model),
        _cached(current, prices, cacheable, requests, ledger),
        _batch(prices, now * requests, ledger),
        _cheaper_base(current, cacheable, requests, ledger),
    ]


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
        "tokens per request, read from the cache every time",
        "the larger of cached_tokens and the input tokens that tuning would save",
        "computed",
    )
    cost = prices.request_usd(current.tokens_in, cacheable, current.tokens_out) * requests
    return Alternative(
        name="cached",
        usd_per_month=cost,
        model=prices.model,
        note=f"{cacheable} tokens of each prompt at the cached rate",
    )


def _batch(prices: TokenPrices, now: Decimal, ledger: Ledger) -> Alternative:
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
    return Alternative(
        name="batch",
        usd_per_month=now * prices.batch_fraction,
        model=prices.model,
        note="where answers may wait",
    )


def _cheaper_base(
    current: CurrentModel, cacheable: int, requests: int, ledger: Ledger
) -> Alternative:
    """Price the cheapest reference base on today's prompt, its fixed part cached."""
    priced = [
        (base_prices(name, ledger.day, provider=owner, tokens_in=current.tokens_in), owner)
        for owner, name in reference_bases()
    ]
    cost, prices, owner = min(
        (p.request_usd(current.tokens_in, cacheable, current.tokens_out) * requests, p, owner)
        for p, owner in priced
    )
    ledger.use_rate(
        f"{prices.model} (cheaper base)",
        f"{prices.in_usd_per_mtok} in, {prices.out_usd_per_mtok} out",
        prices,
        prices.confidence,
    )
    return Alternative(
        name="cheaper_base",
        usd_per_month=cost,
        model=prices.model,
        provider=owner,
        note="if it is good enough: measure it on the same held-out rows",
    )
