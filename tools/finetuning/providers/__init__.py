"""Providers: who trains and serves, until when, at what price; every fact with its day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from finetuning.errors import lazy

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
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(
        __name__,
        catalogue="all_providers find_model load_provider provider_ids",
        compare="compare_providers",
        market="base_prices",
        pricing="UnknownPriceError find_price search_price",
        refresh="refresh_catalogue verify_catalogue",
        terms="Availability availability billed_tokens billing_rule",
    )
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
