"""Providers: who trains and serves, until when, at what price; every fact with its day.

Here: which provider and base to take on a day, with what that takes and returns. Servers import
this at their start: the catalogue and its prices are read when one compares.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from finetuning.errors import BadInputError, lazy
from finetuning.records import Model, ToolResult, Usd, page

ProviderId = Literal[
    "openai", "azure", "bedrock", "sagemaker", "vertex", "gemini_api", "together", "fireworks",
    "tinker", "nebius", "prime_intellect", "baseten", "wandb", "crusoe", "alibaba", "volcengine",
    "siliconflow", "mistral", "cohere", "predibase", "hf_jobs", "modal", "runpod", "lambda",
    "local",
]  # fmt: skip
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
    from finetuning.providers.market import base_prices
    from finetuning.providers.pricing import UnknownPriceError, find_price, search_price
    from finetuning.providers.refresh import refresh_catalogue, verify_catalogue
    from finetuning.providers.terms import Availability, availability, billed_tokens, billing_rule
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(
        __name__,
        catalogue="all_providers find_model load_provider provider_ids",
        market="base_prices",
        pricing="UnknownPriceError find_price search_price",
        refresh="refresh_catalogue verify_catalogue",
        terms="Availability availability billed_tokens billing_rule",
    )
"""Public name → module: loaded on first use, because servers start without any of it."""

__all__ = [
    "CUSTOMERS", "PROVIDER_IDS", "Availability", "Constraints", "Customer", "Excluded", "Method",
    "Option", "ProviderComparison", "ProviderId", "ServingOffer", "SourceRead", "Spread",
    "StaleRow", "Tuning", "UnknownPriceError", "Workload", "all_providers", "availability",
    "base_prices", "billed_tokens", "billing_rule", "compare_providers", "find_model",
    "find_price", "load_provider", "provider_ids", "refresh_catalogue", "search_price",
    "verify_catalogue",
]  # fmt: skip

Count = Annotated[int, Field(ge=0)]
Sensitivity = Literal["none", "personal", "health", "secret"]
Status = Literal["open", "existing_only", "preview", "closed"]


class Part(Model):
    """Base of the objects here: their checks are built when first used, not at start."""

    model_config = ConfigDict(defer_build=True)


class Constraints(Part):
    """What an option has to meet; an unknown fact does not meet a constraint."""

    method: Method
    customer: Customer
    tuning: Tuning | None = None
    model_family: str | None = Field(
        default=None, description="Or part of an id: qwen, llama, gpt-4.1."
    )
    data_sensitivity: Sensitivity | None = None
    region: str | None = Field(
        default=None, description="Where data must stay: us, eu, uk, cn, sg, or a place in one."
    )
    needs_weights: bool = False
    needs_tools: bool = False
    needs_vision: bool = False
    max_monthly_usd: Annotated[Usd, Field(gt=0)] | None = Field(
        default=None, description="A month over 12 months; needs a workload."
    )
    on_premise: bool = False
    gpu_memory_gb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Your own GPUs together, for provider local."
    )
    languages: list[str] = Field(default_factory=list[str], description="Codes: de, zh.")
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    licence: str | None = Field(
        default=None, description="Of the base: apache-2.0, mit, llama, permissive."
    )


class Workload(Part):
    """What would be trained and served."""

    data: str | None = Field(default=None, description="File or prepared folder to count.")
    training_tokens: Count | None = Field(default=None, description="Tokens of one epoch.")
    requests_per_month: Count
    tokens_in: Count = Field(description="Input tokens per request.")
    tokens_out: Count = Field(description="Output tokens per request.")
    n_epochs: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Null: the provider's own choice, 3 where it states none."
    )
    cycles: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3, description="Training jobs until one is good enough."
    )


class Spread(Part):
    """Dollars at the 10th, 50th and 90th percentile."""

    p10: Usd
    p50: Usd
    p90: Usd


class ServingOffer(Part):
    """One way to serve the tuned model; null where its price is not known."""

    provider: str
    billing: Literal["token", "hour"]
    rank_limit: int | None = None
    usd_per_month: Usd | None = None


class SourceRead(Part):
    """Where a fact of an option was read, when, and how sure it is."""

    url: str
    checked: str
    confidence: str


class Option(Part):
    """A provider and a base model that meet the constraints."""

    provider: str
    model: str
    status: Status
    why: str
    dates: dict[str, dt.date]
    methods: list[Method]
    serving: list[ServingOffer] = Field(description="Cheapest first, at most three.")
    weights_downloadable: bool | None
    residency: str
    latency: str
    train_usd_per_mtok: Usd | None
    usd_12_months: Spread | None
    base_retires_on: dt.date | None
    score: float
    sources: list[SourceRead]


class Excluded(Part):
    """What was left out; ``model`` is null where it holds for every model of the provider."""

    provider: str
    model: str | None = None
    excluded_because: str
    sources: list[SourceRead] = Field(
        default_factory=list[SourceRead], description="Pages of the dates, where it has closed."
    )


class StaleRow(Part):
    """A price that an option stands on, or would stand on, and that was read long ago."""

    name: str
    age_days: int
    as_of: str
    refused: bool


class ProviderComparison(ToolResult):
    """Options ranked best first, and everything that was left out with its reason."""

    model_config = ConfigDict(defer_build=True)

    as_of: dt.date
    options: list[Option]
    total: int = Field(description="Options in all.")
    excluded: list[Excluded]
    excluded_total: int
    next_offset: int | None = None
    stale_rows: list[StaleRow]
    assumptions: list[str]

    def exit_code(self) -> int:
        """Return 1 when nothing meets the constraints."""
        return 0 if self.total else 1

    def summary(self) -> str:
        """Name the best option and its price, or say that there is none."""
        if not self.total:
            return f"No option on {self.as_of}; {self.excluded_total} exclusions, each with why."
        if not self.options:
            return f"{self.total} options; none from this offset on."
        best = self.options[0]
        price = "" if best.usd_12_months is None else f", ${best.usd_12_months.p50:,.2f} a year"
        return f"{self.total} options on {self.as_of}; first: {best.provider} {best.model}{price}."


def compare_providers(
    constraints: Constraints,
    *,
    workload: Workload | None = None,
    as_of: str | None = None,
    limit: int | None = 50,
    offset: int = 0,
) -> ProviderComparison:
    """Rank the providers and bases that meet constraints on a day, with reasons.

    With a workload every option is priced over 12 months, training and serving together, served
    where it is cheapest. Closed services, and whatever a fact rules out, are listed with why. It
    opens no connection: facts and prices come from the dated catalogue.

    Args:
        constraints: What an option has to meet; method and customer are required.
        workload: Training tokens (or data) and monthly traffic; null: training price only.
        as_of: Day of the answer, for example 2026-11-20; null: today. A past day gives that
            day's answer.
        limit: Options and exclusions listed, 1 or more; null lists all.
        offset: Options and exclusions left out at the start, at least 0.

    Returns:
        Options best first, exclusions with their reason, prices that are old, assumptions.

    Raises:
        BadInputError: An argument is out of range, or a price limit comes without a workload.
        UnknownNameError: A region is not known.

    Source: the provider catalogue, each row with its page and day; knowledge: providers.md
    """
    from finetuning.providers import comparison
    from finetuning.providers.ranking import rank
    from finetuning.providers.terms import day_of

    where = comparison.WHERE
    wanted = Constraints.model_validate(constraints)
    work = None if workload is None else Workload.model_validate(workload)
    day = day_of(as_of, where)
    if wanted.max_monthly_usd is not None and work is None:
        raise BadInputError(
            where,
            "max_monthly_usd comes without a workload, so no month can be priced",
            "a workload beside it",
            "Pass workload={training_tokens, requests_per_month, tokens_in, tokens_out}",
        )
    assumptions = comparison.assumptions_of(work)
    if work is not None and work.training_tokens is None:
        work = comparison.counted(work, assumptions)
    candidates, excluded = rank(wanted, work, day)
    shown, more = page(candidates, limit, offset, where=where)
    left_out, more_left_out = page(excluded, limit, offset, where=where)
    options = [candidate.option for candidate in shown]
    old = (price for candidate in shown for price in candidate.old_prices)
    return ProviderComparison(
        as_of=day,
        options=options,
        total=len(candidates),
        excluded=left_out,
        excluded_total=len(excluded),
        next_offset=more if more is not None else more_left_out,
        stale_rows=comparison.stale_rows(old)[:limit],
        assumptions=assumptions,
        next=comparison.next_calls(options, wanted, work, day, bool(candidates)),
        fit_facts=comparison.facts_of(wanted, work, day),
    )
