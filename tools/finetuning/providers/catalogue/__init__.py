"""The catalogue: one TOML file per provider, its shape, and its reading on first use.

Every row names its source, the day it was read and how sure it is.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import msgspec

from finetuning.errors import RunFailedError, UnknownNameError
from finetuning.providers import CUSTOMERS, Customer, Method, ProviderId

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
    "usd_per_hour",
    "usd_per_gpu_hour",
    "usd_per_job",
    "usd_per_model_month",
    "usd_per_gb_month",
)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
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


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that begins or ends on a day, for some models and some customers."""

    event: EventKind
    date: dt.date
    source: str
    models: tuple[str, ...] = ("*",)
    customers: tuple[Customer, ...] = CUSTOMERS
    exact: bool = True
    note: str = ""


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model by its exact id; ``methods`` is empty where it cannot be tuned."""

    id: str
    methods: tuple[Method, ...]
    source: str
    aliases: tuple[str, ...] = ()
    params_b: Decimal | None = None
    epochs_range: tuple[int, int] | None = None
    weights: Literal["yes", "no"] | None = None
    reference_base: bool = False
    batch_fraction: Decimal | None = None
    note: str = ""


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A way to serve a tuned model here; ``base_tokens`` = at the base model's token price."""

    billing: Literal["token", "hour"]
    source: str
    models: tuple[str, ...] = ("*",)
    status: Literal["open", "preview"] = "open"
    base_tokens: bool = False
    plus_base_tokens: bool = False
    sample_tokens: bool = False
    note: str = ""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One price; exactly one unit key is set, and ``…_high`` where the source gives a range.

    Rows are appended, never overwritten: ``valid_from`` and ``valid_to`` (exclusive) say when
    a price held, as far as that is known.
    """

    models: tuple[str, ...]
    kind: PriceKind
    source: str
    usd_per_mtok: Decimal | None = None
    usd_per_mtok_high: Decimal | None = None
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
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None
    conditions: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """Return the name of the one unit key that is set."""
        return next(name for name in UNITS if getattr(self, name) is not None)

    @property
    def usd(self) -> Decimal:
        """Return the price in dollars per :attr:`unit`."""
        value: Decimal = getattr(self, self.unit)
        return value

    @property
    def usd_high(self) -> Decimal:
        """Return the upper end of the price; the price itself where no range is given."""
        value: Decimal | None = getattr(self, f"{self.unit}_high", None)
        return self.usd if value is None else value

    def holds_on(self, day: dt.date) -> bool:
        """Say whether the price is known to hold on a day (an unknown start counts as held)."""
        return (self.valid_from is None or self.valid_from <= day) and (
            self.valid_to is None or day < self.valid_to
        )


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
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

    def faults(self) -> list[str]:
        """Return what a schema cannot say: dangling sources, units, models; empty when sound."""
        known = {"*", *(model.id for model in self.models)}
        offers: list[Event | Serving | Price] = [*self.lifecycle, *self.serving, *self.prices]
        cited = [*(row.source for row in offers), *(model.source for model in self.models)]
        found = [f"no source {name!r}" for name in cited if name not in self.sources]
        for row in offers:
            found += [f"unknown model {name!r}" for name in row.models if name not in known]
        for price in self.prices:
            units = [name for name in UNITS if getattr(price, name) is not None]
            if len(units) != 1:
                found.append(f"{price.kind} has {len(units)} units")
            elif price.usd < 0 or price.usd_high < price.usd:
                found.append(f"{price.kind} is {price.usd} to {price.usd_high}")
        for name, source in self.sources.items():
            if not source.url and source.confidence != "memory":
                found.append(f"source {name!r} has no address")
        return found


FOLDER: Final = Path(__file__).parent


@functools.cache
def provider_ids() -> tuple[str, ...]:
    """Return the ids of the providers that have a catalogue file, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@functools.cache
def load_provider(provider: str) -> Provider:
    """Return the catalogue entry of a provider, checked against the schema.

    Raises:
        UnknownNameError: No file for that id; the nearest ids are named.
        RunFailedError: The file breaks the schema (only an edited catalogue can).
    """
    if provider not in provider_ids():
        raise UnknownNameError("provider", "provider", provider, provider_ids())
    return read_provider(FOLDER / f"{provider}.toml")


def read_provider(path: Path) -> Provider:
    """Read and check one catalogue file.

    Raises:
        RunFailedError: It is not TOML, or it breaks the schema.
    """
    import tomllib

    try:
        entry = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Provider)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _broken(path, str(error)) from error
    faults = entry.faults()
    if entry.id != path.stem:
        faults.append(f"id {entry.id!r} in the file of {path.stem!r}")
    if faults:
        raise _broken(path, "; ".join(faults))
    return entry


def _broken(path: Path, what: str) -> RunFailedError:
    return RunFailedError(
        f"catalogue {path.name}",
        what,
        "a file as finetuning.providers.catalogue describes it",
        "Undo the last edit of that file",
    )


def all_providers(mentioning: str = "") -> Iterator[Provider]:
    """Yield every provider of the catalogue, by id.

    Args:
        mentioning: A key or value; files without it anywhere are not parsed, which takes most of
            the time of a first look.
    """
    for provider in provider_ids():
        if not mentioning or mentioning in (FOLDER / f"{provider}.toml").read_text("utf-8"):
            yield load_provider(provider)


def find_model(provider: str, model: str) -> ModelEntry:
    """Return a provider's model by exact id or alias, whatever its case.

    Providers that take any base (rented and own machines), and closed ones of which no model was
    kept, accept every name.

    Raises:
        UnknownNameError: The provider or the model is not in the catalogue.
    """
    entry = load_provider(provider)
    wanted = model.casefold()
    for candidate in entry.models:
        if wanted in {candidate.id.casefold(), *(alias.casefold() for alias in candidate.aliases)}:
            return candidate
    if entry.any_model or not entry.models:
        return ModelEntry(id=model, methods=tuple(entry.billing), source=next(iter(entry.sources)))
    names = [name for known in entry.models for name in (known.id, *known.aliases)]
    raise UnknownNameError("model", f"model of {provider}", model, names)
