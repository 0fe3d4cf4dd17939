"""What a caller says about the job, the traffic and the prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import ConfigDict, Field

from finetuning.providers import ProviderId
from finetuning.records import Model, Usd

Tokens = Annotated[int, Field(ge=0)]
Price = Annotated[Usd, Field(ge=0)]


class Argument(Model):
    """Base of the objects a caller passes: their checks are built when first used."""

    model_config = ConfigDict(defer_build=True)


class ServingTraffic(Argument):
    """Traffic that the tuned model would serve, and where."""

    requests_per_month: Tokens = Field(description="Requests in a month of 730 hours.")
    tokens_in: Tokens = Field(description="Input tokens per request to the tuned model.")
    tokens_out: Tokens = Field(description="Output tokens per request.")
    cached_tokens: Tokens = Field(
        default=0, description="Input tokens per request read from cache."
    )
    hours: Annotated[Decimal, Field(gt=0, le=744)] | None = Field(
        default=None, description="Hours a month that dedicated serving runs; null: 730."
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Dedicated replicas; null: 1."
    )
    provider: ProviderId | None = Field(
        default=None, description="Where it is served; null: where it is trained."
    )


class CurrentModel(Argument):
    """What answers the same requests today: a named model, or its prices."""

    model: str | None = Field(default=None, description="Model id, e.g. claude-sonnet-5-5.")
    price_in_usd_per_mtok: Price | None = None
    price_out_usd_per_mtok: Price | None = None
    price_cached_usd_per_mtok: Price | None = None
    tokens_in: Tokens = Field(description="Input tokens per request today.")
    tokens_out: Tokens = Field(description="Output tokens per request today.")
    cached_tokens: Tokens = Field(default=0, description="Of tokens_in, read from a cache today.")


class RftJob(Argument):
    """A hosted reinforcement job, billed by the hour plus its grader's tokens."""

    hours: Annotated[Decimal, Field(gt=0)] = Field(description="Billed training hours.")
    grader_model: str | None = Field(default=None, description="Model that grades, if one does.")
    grader_tokens_in: Tokens = 0
    grader_tokens_out: Tokens = 0


class PriceOverrides(Argument):
    """Prices of one's own contract, in dollars; each replaces the catalogue's."""

    train_usd_per_mtok: Price | None = Field(
        default=None, description="Per million trained tokens."
    )
    train_usd_per_hour: Price | None = Field(default=None, description="Per hour of hosted RFT.")
    minimum_usd_per_job: Price | None = None
    gpu_usd_per_hour: Price | None = Field(
        default=None, description="One GPU (or this CPU machine) for an hour, power included."
    )
    tuned_in_usd_per_mtok: Price | None = None
    tuned_cached_usd_per_mtok: Price | None = None
    tuned_out_usd_per_mtok: Price | None = None
    host_usd_per_hour: Price | None = Field(default=None, description="One replica for an hour.")
    storage_usd_per_month: Price | None = None
