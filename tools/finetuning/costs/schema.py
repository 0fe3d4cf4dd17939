"""The objects of an estimate: what a caller says, and what comes out, every sum with its parts."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from finetuning.providers import Method, ProviderId
from finetuning.records import Fraction, Json, Model, ToolResult, Usd

Tokens = Annotated[int, Field(ge=0)]
Price = Annotated[Usd, Field(ge=0)]
Sureness = Literal[
    "given", "measured", "read", "second_hand", "secondary", "conflict", "computed", "assumed"
]


class Part(Model):
    """Base of the objects here: their checks are built when first used, not at start."""

    model_config = ConfigDict(defer_build=True)


class ServingTraffic(Part):
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


class CurrentModel(Part):
    """What answers the same requests today: a named model, or its prices."""

    model: str | None = Field(default=None, description="Model id, e.g. claude-sonnet-5-5.")
    price_in_usd_per_mtok: Price | None = None
    price_out_usd_per_mtok: Price | None = None
    price_cached_usd_per_mtok: Price | None = None
    tokens_in: Tokens = Field(description="Input tokens per request today.")
    tokens_out: Tokens = Field(description="Output tokens per request today.")
    cached_tokens: Tokens = Field(default=0, description="Of tokens_in, read from a cache today.")


class RftJob(Part):
    """A hosted reinforcement job, billed by the hour plus its grader's tokens."""

    hours: Annotated[Decimal, Field(gt=0)] = Field(description="Billed training hours.")
    grader_model: str | None = Field(default=None, description="Model that grades, if one does.")
    grader_tokens_in: Tokens = 0
    grader_tokens_out: Tokens = 0


class PriceOverrides(Part):
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


def tidy(value: Decimal) -> Decimal:
    """Return the same sum without idle zeros, and with cents."""
    short = value.normalize()
    return short.quantize(_CENT) if int(short.as_tuple().exponent) > _CENT_EXPONENT else short


_CENT = Decimal("0.01")
_CENT_EXPONENT = -2

Money = Annotated[Usd, AfterValidator(tidy)]
"""Dollars of a result: exact, written with at least two decimals."""


class UsdRange(Part):
    """A sum of money: the point estimate and its percentiles over the draws."""

    p10: Money
    p50: Money
    p90: Money
    point: Money


class Training(Part):
    """The bill of one training job; ``usd`` is null where a price was refused as too old."""

    billed_tokens: int | None
    usd: UsdRange | None
    formula: str
    parts: dict[str, Money] = Field(default_factory=dict, description="They add up to usd.point.")


class GpuNeed(Part):
    """Hours and memory of one job on rented or own machines."""

    hours: dict[str, float] = Field(description="p10, p50, p90 of one job.")
    memory_gb: float | None
    device: str
    n_gpus: int
    nearest_measured_point: str | None = None


class Alternative(Part):
    """One way to serve the same requests for a month; null where a price is not known."""

    name: str
    usd_per_month: Money | None
    model: str | None = None
    provider: str | None = None
    note: str = ""


class Months(Part):
    """Months until the one-off cost is earned back; null stands for never."""

    p10: Decimal | None
    p50: Decimal | None
    p90: Decimal | None


class BreakEven(Part):
    """When it pays, against what is used today."""

    months: Months | None
    requests_per_month: int | None = Field(description="Volume at which the monthly saving starts.")
    probability_within_horizon: Fraction | None
    reason: str


class Swing(Part):
    """What one factor does to the result when it alone moves over its range."""

    factor: str
    low_usd: Money
    high_usd: Money


class Assumption(Part):
    """A number that the estimate stands on."""

    name: str
    value: str
    unit: str
    source: str
    as_of: str
    confidence: Sureness


class StalePrice(Part):
    """A price that was read long ago."""

    name: str
    age_days: int
    as_of: str
    refused: bool


class CostEstimate(ToolResult):
    """What tuning costs, what serving costs, and whether it pays against the alternatives."""

    model_config = ConfigDict(defer_build=True)

    provider: ProviderId
    model: str
    method: Method
    as_of: dt.date
    currency: Literal["USD"] = "USD"
    training: Training
    gpu: GpuNeed | None = None
    serving_usd_per_month: Money | None = None
    alternatives: list[Alternative] = Field(default_factory=list[Alternative])
    one_off_usd: Money | None = None
    one_off_parts: dict[str, Money] = Field(default_factory=dict)
    break_even: BreakEven
    npv_usd: Money | None = None
    tornado: list[Swing] = Field(default_factory=list[Swing])
    assumptions: list[Assumption] = Field(default_factory=list[Assumption])
    stale_prices: list[StalePrice] = Field(default_factory=list[StalePrice])
    base_retires_on: dt.date | None = None
    warnings: list[str] = Field(default_factory=list[str])
    chart_file: str | None = None
    settings: dict[str, Json] = Field(
        default_factory=dict, description="Cycles, horizon and seed used."
    )

    @property
    def refused(self) -> bool:
        """Say whether a price was too old to be used without consent."""
        return any(price.refused for price in self.stale_prices) and self.training.usd is None

    def exit_code(self) -> int:
        """Return 3 when a price was refused as too old, else 0 ("never pays" is an answer)."""
        return 3 if self.refused else 0

    def summary(self) -> str:
        """Return the price of one job, and whether it pays, in one line."""
        if self.training.usd is None:
            names = ", ".join(price.name for price in self.stale_prices if price.refused)
            return f"No estimate: the price of {names} was read too long ago to be used."
        cost = f"One job: {money(self.training.usd.point)}"
        if self.serving_usd_per_month is not None:
            cost += f"; serving {money(self.serving_usd_per_month)} a month"
        return f"{cost}. {self.break_even.reason}"


def money(value: Decimal) -> str:
    """Return dollars for a person: cents, or more digits where cents would say 0."""
    rounded = value.quantize(Decimal("0.01"))
    return f"${rounded:,}" if rounded or not value else f"${value.normalize():f}"
