"""Providers: who trains and serves, until when, at what price; every fact with its day."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, Literal, get_args

ProviderId = Literal[
    "openai",
    "azure",
    "bedrock",
    "sagemaker",
    "vertex",
    "gemini_api",
    "together",
    "fireworks",
    "tinker",
    "nebius",
    "prime_intellect",
    "baseten",
    "wandb",
    "crusoe",
    "alibaba",
    "volcengine",
    "siliconflow",
    "mistral",
    "cohere",
    "predibase",
    "hf_jobs",
    "modal",
    "runpod",
    "lambda",
    "local",
]
"""Every provider id of the contract; the catalogue holds those about which a fact was found."""

Customer = Literal["new", "existing_active", "existing_dormant"]
"""Who asks: dormant = has tuned before, but had no tuned inference for a while."""

Method = Literal["sft", "dpo", "kto", "rft", "grpo", "cpt"]
Tuning = Literal["lora", "qlora", "full"]

PROVIDER_IDS: tuple[ProviderId, ...] = get_args(ProviderId)
CUSTOMERS: tuple[Customer, ...] = get_args(Customer)

if TYPE_CHECKING:
    from finetuning.providers.catalogue import (
        all_providers,
        find_model,
        load_provider,
        provider_ids,
    )
    from finetuning.providers.compare import compare_providers
    from finetuning.providers.market import base_prices
    from finetuning.providers.pricing import UnknownPriceError, find_price, search_price
    from finetuning.providers.refresh import refresh_catalogue, verify_catalogue
    from finetuning.providers.terms import Availability, availability, billed_tokens, billing_rule

_HOMES: Final = {
    "Availability": "terms",
    "UnknownPriceError": "pricing",
    "all_providers": "catalogue",
    "availability": "terms",
    "base_prices": "market",
    "billed_tokens": "terms",
    "billing_rule": "terms",
    "compare_providers": "compare",
    "find_model": "catalogue",
    "find_price": "pricing",
    "load_provider": "catalogue",
    "provider_ids": "catalogue",
    "refresh_catalogue": "refresh",
    "search_price": "pricing",
    "verify_catalogue": "refresh",
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
    "compare_providers",
    "find_model",
    "find_price",
    "load_provider",
    "provider_ids",
    "refresh_catalogue",
    "search_price",
    "verify_catalogue",
]


def __getattr__(name: str) -> object:
    """Load the module that holds a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'finetuning.providers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"finetuning.providers.{_HOMES[name]}"), name)
