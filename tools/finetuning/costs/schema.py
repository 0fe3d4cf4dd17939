"""The objects of an estimate: what a caller says, and what comes out, every sum with its parts."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

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
    cached_tokens: Tokens = Field(default=0, description="Of tokens_in, read from a cache.")
    hours: Annotated[Decimal, Field(gt=0, le=744)] | None = Field(
        default=None, description="Hours a month that dedicated serving runs; null: 730."
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Dedicated replicas; null: 1."
    )
    provider: ProviderId | None = Field(default=None, description="Null: where it is trained.")
    storage_gb: Annotated[Decimal, Field(ge=0, le=10**6)] | None = Field(
        default=None, description="Checkpoints kept, in GB; null: none counted."
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
    """A hosted reinforcement job: hours or the tokens of its rollouts, and its grader's tokens."""

    hours: Annotated[Decimal, Field(gt=0, le=10**6)] | None = Field(
        default=None, description="Billed training hours (OpenAI, Azure; GPU hours at Fireworks)."
    )
    prefill_tokens: Tokens = Field(default=0, description="Prompt tokens of all rollouts (Tinker).")
    sample_tokens: Tokens = Field(default=0, description="Tokens sampled in all rollouts (Tinker).")
    train_tokens: Tokens = Field(default=0, description="Tokens trained on in all steps (Tinker).")
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


class Check(Part):
    """Whether a number agrees with another way to reach it."""

    name: str
    ok: bool
    detail: str


class GpuNeed(Part):
    """Hours and memory of one job on rented or own machines."""

    hours: dict[str, float] = Field(description="p10, p50, p90 of one job.")
    memory_gb: float | None
    device: str
    n_gpus: int
    nearest_measured_point: str | None = None


class Rates(NamedTuple):
    """Dollars per million tokens of one way to answer; ``cached`` is null where not known."""

    fresh: Decimal
    cached: Decimal | None
    out: Decimal


class Alternative(Part):
    """One way to serve the same requests for a month; null where a price is not known.

    What is not part of the answer stands behind it: the month is ``fixed_usd`` + requests ×
    ``request_usd`` and the sum of ``parts``; ``rates`` are the prices per token where there are
    any; ``training_usd`` is the bill of a job where it would be trained elsewhere.
    """

    name: str
    usd_per_month: Money | None
    model: str | None = None
    provider: str | None = None
    note: str = ""
    fixed_usd: Usd = Field(default=Decimal(0), exclude=True)
    request_usd: Usd = Field(default=Decimal(0), exclude=True)
    rates: Rates | None = Field(default=None, exclude=True)
    parts: dict[str, Money] = Field(default_factory=dict, exclude=True)
    training_usd: Usd | None = Field(default=None, exclude=True)


class Months(Part):
    """Months until the one-off cost is earned back; null stands for never."""

    p10: Decimal | None
    p50: Decimal | None
    p90: Decimal | None


class Volumes(Part):
    """Requests a month from which tuned serving is cheaper; null stands for never."""

    p10: int | None
    p50: int | None
    p90: int | None


class Versus(Part):
    """The tuned model against one way that needs no training, at the point estimate."""

    name: str
    saving_usd_per_month: Money
    months: Decimal | None = Field(description="Null: it never pays against this one.")
    requests_per_month: int | None


class BreakEven(Part):
    """When it pays, against what is used today; ``route`` is how the tuned model is served."""

    months: Months | None
    requests_per_month: int | None = Field(description="Volume at which the monthly saving starts.")
    requests_range: Volumes | None = None
    requests_within_horizon: int | None = Field(
        default=None, description="Volume that pays back within the horizon."
    )
    probability_within_horizon: Fraction | None
    reason: str
    route: str | None = None
    versus: list[Versus] = Field(default_factory=list[Versus])


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
    serving_parts: dict[str, Money] = Field(
        default_factory=dict, description="They add up to serving_usd_per_month."
    )
    alternatives: list[Alternative] = Field(default_factory=list[Alternative])
    one_off_usd: Money | None = None
    one_off_parts: dict[str, Money] = Field(default_factory=dict)
    retraining_usd: Money | None = Field(
        default=None, description="Cycles that the base's end forces within the horizon."
    )
    break_even: BreakEven
    npv_usd: Money | None = None
    npv_range: UsdRange | None = None
    tornado: list[Swing] = Field(default_factory=list[Swing])
    assumptions: list[Assumption] = Field(default_factory=list[Assumption])
    total: int = Field(default=0, description="Assumptions in all.")
    next_offset: int | None = None
    stale_prices: list[StalePrice] = Field(default_factory=list[StalePrice])
    base_retires_on: dt.date | None = None
    sanity: list[Check] = Field(default_factory=list[Check])
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
    if value < 0:
        return f"-{money(-value)}"
    rounded = value.quantize(Decimal("0.01"))
    return f"${rounded:,}" if rounded or not value else f"${value.normalize():f}"
