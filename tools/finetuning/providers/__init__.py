"""Providers: who trains and serves, until when, at what price; every fact with its day."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from finetuning.providers.names import (
    CUSTOMERS,
    PROVIDER_IDS,
    Customer,
    Method,
    ProviderId,
    Tuning,
)

if TYPE_CHECKING:
    from finetuning.providers.billing import billed_tokens, billing_rule
    from finetuning.providers.catalogue import (
        all_providers,
        find_model,
        load_provider,
        provider_ids,
    )
    from finetuning.providers.inference import base_prices
    from finetuning.providers.lifecycle import Availability, availability
    from finetuning.providers.pricing import UnknownPriceError, find_price, search_price

_HOMES: Final = {
    "Availability": "lifecycle",
    "UnknownPriceError": "pricing",
    "all_providers": "catalogue",
    "availability": "lifecycle",
    "base_prices": "inference",
    "billed_tokens": "billing",
    "billing_rule": "billing",
    "find_model": "catalogue",
    "find_price": "pricing",
    "load_provider": "catalogue",
    "provider_ids": "catalogue",
    "search_price": "pricing",
}
"""Public name → module: loaded on first use, because servers start without any of it."""

__all__ = [
    "CUSTOMERS",
    "PROVIDER_IDS",
    "Availability",
    "Customer",
    "Method",
    "ProviderId",
    "Tuning",
    "UnknownPriceError",
    "all_providers",
    "availability",
    "base_prices",
    "billed_tokens",
    "billing_rule",
    "find_model",
    "find_price",
    "load_provider",
    "provider_ids",
    "search_price",
]


def __getattr__(name: str) -> object:
    """Load the module that holds a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'finetuning.providers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"finetuning.providers.{_HOMES[name]}"), name)
