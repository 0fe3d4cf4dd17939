"""Names of the contract: providers, customers, methods, tunings."""

from __future__ import annotations

from typing import Literal, get_args

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
