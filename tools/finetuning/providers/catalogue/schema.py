"""The shape of a catalogue file; every row names its source, its day and how sure it is."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Literal

import msgspec

from finetuning.providers import CUSTOMERS, Customer, Method, ProviderId, Tuning

Confidence = Literal["read", "second_hand", "secondary", "conflict", "example", "memory"]
"""How sure a row is: ``read`` at the vendor; ``second_hand`` = someone quotes the vendor;
``secondary`` = another page; ``conflict`` = sources disagree, both values are in the row;
``example`` and ``memory`` are kept for the reader and never priced with."""

UNPRICED: tuple[Confidence, ...] = ("example", "memory")

Formula = Literal[
    "tokens_epochs",
    "tokens_epochs_validation",
    "gemini_preference",
    "hours_grader",
    "three_rates",
    "gpu_hours",
    "own_hours",
    "job",
    "unknown",
]
"""Billing rules; ``providers.terms`` says what each one counts."""

EventKind = Literal["training_end", "inference_end", "preview"]
PriceKind = Literal[
    "train_sft",
    "train_dpo",
    "train_rft",
    "tuned_in",
    "tuned_cached",
    "tuned_out",
    "base_in",
    "base_cached",
    "base_out",
    "host",
    "gpu",
    "storage",
    "minimum",
]
UNITS = (
    "usd_per_mtok",
    "cny_per_mtok",
    "usd_per_hour",
    "usd_per_gpu_hour",
    "usd_per_job",
    "usd_per_model_month",
    "usd_per_gb_month",
)
Region = Literal["us", "eu", "uk", "cn", "sg"]
Promise = Literal["yes", "no", "addendum", "enterprise", "conflict", "blocks_training", "unknown"]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every row: an unknown key is an error."""


class Source(Row, frozen=True, kw_only=True):
    """Where and when something was read.

    ``checked`` is a day, a month or a year, as precisely as it is known.
    """

    url: str
    checked: str
    confidence: Confidence
    note: str = ""

    @property
    def checked_on(self) -> dt.date:
        """Return the earliest day that ``checked`` can mean, so that an age is never too small."""
        year, month, day = (*self.checked.split("-"), "01", "01")[:3]
        return dt.date(int(year), int(month), int(day))


class Event(Row, frozen=True, kw_only=True):
    """Something that begins or ends on a day, for some models and some customers.

    ``announced`` is the first day on which anybody outside could know it, where that is known.
    """

    event: EventKind
    date: dt.date
    source: str
    models: tuple[str, ...] = ("*",)
    customers: tuple[Customer, ...] = CUSTOMERS
    exact: bool = True
    announced: dt.date | None = None
    note: str = ""


class ModelEntry(Row, frozen=True, kw_only=True):
    """A model by its exact id; ``methods`` is empty where it cannot be tuned.

    ``base`` names an open base under another id: what is known of it stands by ``local``.
    ``representative`` marks the base that prices a rented machine when none is named.
    """

    id: str
    methods: tuple[Method, ...]
    source: str
    aliases: tuple[str, ...] = ()
    base: str | None = None
    family: str | None = None
    params_b: Decimal | None = None
    active_params_b: Decimal | None = None
    context_tokens: int | None = None
    training_context_tokens: int | None = None
    epochs_range: tuple[int, int] | None = None
    weights: Literal["yes", "no"] | None = None
    tools: bool | None = None
    vision: bool | None = None
    licence: str | None = None
    licence_note: str = ""
    languages: tuple[str, ...] = ()
    languages_claimed: int | None = None
    regions: tuple[Region, ...] = ()
    representative: bool = False
    reference_base: bool = False
    batch_fraction: Decimal | None = None
    note: str = ""


class Serving(Row, frozen=True, kw_only=True):
    """A way to serve a tuned model; ``byo`` takes what was trained elsewhere, for ``bases``."""

    billing: Literal["token", "hour"]
    source: str
    models: tuple[str, ...] = ("*",)
    status: Literal["open", "preview"] = "open"
    base_tokens: bool = False
    plus_base_tokens: bool = False
    sample_tokens: bool = False
    byo: bool = False
    bases: tuple[str, ...] = ()
    max_rank: int | None = None
    slots: int | None = None
    latency: str = ""
    note: str = ""


class Price(Row, frozen=True, kw_only=True):
    """One price; exactly one unit key is set, and ``…_high`` where the source gives a range.

    Rows are appended, never overwritten: ``valid_from`` and ``valid_to`` (exclusive) say when
    a price held, as far as that is known.
    """

    models: tuple[str, ...]
    kind: PriceKind
    source: str
    usd_per_mtok: Decimal | None = None
    usd_per_mtok_high: Decimal | None = None
    cny_per_mtok: Decimal | None = None
    usd_per_hour: Decimal | None = None
    usd_per_gpu_hour: Decimal | None = None
    usd_per_gpu_hour_high: Decimal | None = None
    usd_per_job: Decimal | None = None
    usd_per_job_high: Decimal | None = None
    usd_per_model_month: Decimal | None = None
    usd_per_gb_month: Decimal | None = None
    min_params_b: Decimal | None = None
    max_params_b: Decimal | None = None
    max_tokens_in: int | None = None
    gpu: str | None = None
    variant: str | None = None
    region: str = ""
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None
    conditions: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """Return the name of the one unit key that is set."""
        return next(name for name in UNITS if getattr(self, name) is not None)

    @property
    def amount(self) -> Decimal:
        """Return the price in the row's own currency, per :attr:`unit`."""
        return Decimal(getattr(self, self.unit))

    @property
    def amount_high(self) -> Decimal:
        """Return the upper end of the price; the price itself where no range is given."""
        value: Decimal | None = getattr(self, f"{self.unit}_high", None)
        return self.amount if value is None else value

    def holds_on(self, day: dt.date) -> bool:
        """Say whether the price is known to hold on a day (an unknown start counts as held)."""
        begun = self.valid_from is None or self.valid_from <= day
        return begun and (self.valid_to is None or day < self.valid_to)


class Limits(Row, frozen=True, kw_only=True):
    """What a provider accepts."""

    source: str
    tunings: tuple[Tuning, ...] = ()
    max_rank: int | None = None
    formats: tuple[str, ...] = ()
    min_rows: int | None = None
    max_file_gb: Decimal | None = None
    tools: bool | None = None
    vision: bool | None = None
    note: str = ""


class Setting(Row, frozen=True, kw_only=True):
    """A hyperparameter's range and default, in the provider's own words and units."""

    name: str
    source: str
    methods: tuple[Method, ...] = ()
    low: Decimal | None = None
    high: Decimal | None = None
    default: str = ""
    note: str = ""


class DataHandling(Row, frozen=True, kw_only=True):
    """What happens to the data; ``own_account``: the job runs inside the customer's account."""

    source: str
    trains_on_data: Literal["no", "opt_in", "conflict", "unknown"] = "unknown"
    retention: str = ""
    residency: str = ""
    regions: tuple[Region, ...] = ()
    baa: Promise = "unknown"
    zero_retention: Promise = "unknown"
    own_account: bool = False


class Exchange(Row, frozen=True, kw_only=True):
    """A dated exchange rate."""

    cny_per_usd: Decimal
    date: dt.date
    source: str


class Provider(Row, frozen=True, kw_only=True):
    """One provider: how it bills, what it offers, and until when."""

    id: ProviderId
    name: str
    service: Literal["managed", "rental", "own", "closed"]
    weights: Literal["yes", "no", "some", "unknown"]
    sources: dict[str, Source]
    billing: dict[Method, Formula] = {}
    billing_step_seconds: int = 1
    any_model: bool = False
    default_epochs: Literal["openai_auto", "1", "2", "3"] | None = None
    lifecycle: tuple[Event, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    serving: tuple[Serving, ...] = ()
    prices: tuple[Price, ...] = ()
    limits: Limits | None = None
    settings: tuple[Setting, ...] = ()
    data: DataHandling | None = None
    exchange: tuple[Exchange, ...] = ()

    def rows(self) -> list[tuple[str, str, dt.date | None]]:
        """Return of every row what it is, the name of its source, and since when it is over."""
        found: list[tuple[str, str, dt.date | None]] = [
            (f"{row.event} {row.date}", row.source, None if row.event == "preview" else row.date)
            for row in self.lifecycle
        ]
        found += [(f"model {model.id}", model.source, None) for model in self.models]
        found += [(f"serving by the {way.billing}", way.source, None) for way in self.serving]
        found += [(f"price {price.kind}", price.source, price.valid_to) for price in self.prices]
        others = [*self.settings, *self.exchange, self.limits, self.data]
        return found + [(type(row).__name__.lower(), row.source, None) for row in others if row]

    def faults(self) -> list[str]:
        """Return what a schema cannot say: dangling sources, units, models; empty when sound."""
        known = {"*", *(model.id for model in self.models)}
        offers: list[Event | Serving | Price] = [*self.lifecycle, *self.serving, *self.prices]
        found = [f"no source {name!r}" for _, name, _ in self.rows() if name not in self.sources]
        for row in offers:
            found += [f"unknown model {name!r}" for name in row.models if name not in known]
        for price in self.prices:
            units = [name for name in UNITS if getattr(price, name) is not None]
            if len(units) != 1:
                found.append(f"{price.kind} has {len(units)} units")
            elif price.amount < 0 or price.amount_high < price.amount:
                found.append(f"{price.kind} is {price.amount} to {price.amount_high}")
        for name, source in self.sources.items():
            if not source.url and source.confidence != "memory":
                found.append(f"source {name!r} has no address")
        return found
