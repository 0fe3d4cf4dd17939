"""A comparison: what is asked for, what providers answer, why one is left out (imports late)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import ConfigDict, Field

from finetuning.errors import UnknownNameError
from finetuning.providers import Customer, Method, Tuning
from finetuning.records import Model, ToolResult, Usd

if TYPE_CHECKING:
    from finetuning.providers.catalogue import ModelEntry, Provider, Region
    from finetuning.providers.terms import Availability

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


PERMISSIVE: Final = frozenset({"apache-2.0", "mit"})
REGIONS: Final[dict[str, Region]] = {
    "us": "us", "usa": "us", "eu": "eu", "europe": "eu", "uk": "uk", "gb": "uk", "cn": "cn",
    "china": "cn", "beijing": "cn", "sg": "sg", "singapore": "sg",
}  # fmt: skip


def region_of(text: str) -> Region:
    """Return the coarse region that a place, code or cloud region lies in.

    Raises:
        UnknownNameError: The place is not known.
    """
    word = text.strip().casefold().replace("_", "-")
    for name in (word, word.split("-")[0]):
        if name in REGIONS:
            return REGIONS[name]
        if name.startswith("europe"):
            return "eu"
    raise UnknownNameError("region", "region", text, REGIONS)


def reasons_against(
    entry: Provider,
    model: ModelEntry,
    wanted: Constraints,
    region: Region | None,
    known: Availability | None,
) -> Iterator[str]:
    """Yield why a model of a provider does not meet the constraints, the gravest first."""
    if known is not None and not known.can_start:
        yield known.why
    if wanted.on_premise and entry.service != "own":
        yield "not on your premises"
    if wanted.method not in model.methods:
        yield f"{wanted.method} is not offered for it (only {', '.join(model.methods)})"
    tunings = () if entry.limits is None else entry.limits.tunings
    if wanted.tuning is not None and wanted.tuning not in (tunings or ("lora",)):
        yield f"{wanted.tuning} is not offered (only {', '.join(tunings) or 'what it chooses'})"
    yield from _about_data(entry, wanted, region, model)
    yield from _about_model(entry, model, wanted)
    yield from _about_base(model, wanted)


def _about_data(
    entry: Provider, wanted: Constraints, region: Region | None, model: ModelEntry
) -> Iterator[str]:
    data = entry.data
    kind = wanted.data_sensitivity
    if kind in {"personal", "health"} and (data is None or data.trains_on_data == "unknown"):
        yield "whether it trains on customers' data is not known"
    if kind == "health" and (data is None or data.baa not in {"yes", "addendum", "enterprise"}):
        yield "no agreement for health data (BAA) is known"
    if kind == "secret" and (data is None or not data.own_account):
        yield "secret data would leave your own account or machines"
    if region is not None:
        regions = model.regions or (() if data is None else data.regions)
        if region not in regions:
            yield f"that data stays in {region} is not known" + (
                f" (known: {', '.join(regions)})" if regions else ""
            )


def _about_model(entry: Provider, model: ModelEntry, wanted: Constraints) -> Iterator[str]:
    from finetuning.providers.catalogue import memory_gb

    if wanted.needs_weights and not weights_leave(entry, model):
        yield "its weights cannot be downloaded, as far as is known"
    limits = entry.limits
    for name, needed in (("tools", wanted.needs_tools), ("vision", wanted.needs_vision)):
        own: bool | None = getattr(model, name)
        general: bool | None = None if limits is None else getattr(limits, name)
        able = general if own is None else own
        if needed and not able:
            what = "tool calls" if name == "tools" else "images"
            yield f"{what} in the training data: " + ("not known" if able is None else "no")
    if wanted.gpu_memory_gb is not None and entry.service == "own":
        needs = memory_gb(model, wanted.tuning or "lora")
        if needs is None or needs > Decimal(str(wanted.gpu_memory_gb)):
            size = "an unknown amount" if needs is None else f"about {needs:.0f} GB"
            yield f"needs {size} of GPU memory, there is {wanted.gpu_memory_gb:g} GB"


def of_family(model: ModelEntry, family: str) -> bool:
    """Say whether a model, or the open base it is, belongs to a family or carries its name."""
    from finetuning.providers.catalogue import base_of

    base = base_of(model) or model
    wanted = family.casefold()
    names = (model.family, base.family, model.id, base.id)
    return any(wanted in name.casefold() for name in names if name is not None)


def _about_base(model: ModelEntry, wanted: Constraints) -> Iterator[str]:
    """Yield why a base does not meet what is asked of family, licence, context and languages."""
    from finetuning.providers.catalogue import base_of

    base = base_of(model) or model
    if wanted.model_family is not None and not of_family(model, wanted.model_family):
        yield f"not of the family {wanted.model_family!r}"
    if wanted.licence is not None and (why := _licence_refusal(base, wanted.licence)):
        yield why
    if wanted.context_tokens is not None:
        context = model.training_context_tokens or model.context_tokens or base.context_tokens
        if context is None or context < wanted.context_tokens:
            yield f"context of {context or 'unknown'} tokens, {wanted.context_tokens} are needed"
    missing = [code for code in wanted.languages if code.casefold() not in base.languages]
    if missing and base.languages:
        yield f"its makers support {', '.join(base.languages)}, not {', '.join(missing)}"


def _licence_refusal(base: ModelEntry, wanted: str) -> str | None:
    from finetuning.providers.catalogue import UNPRICED, load_provider

    local = load_provider("local")
    source = local.sources.get(base.source) if base in local.models else None
    if base.licence is None or (source is not None and source.confidence in UNPRICED):
        return "the licence of its base is not known"
    word = wanted.casefold()
    fits = base.licence in PERMISSIVE if word == "permissive" else word in base.licence
    return None if fits else f"its licence is {base.licence}"


def weights_leave(entry: Provider, model: ModelEntry) -> bool:
    """Say whether the tuned weights are known to be downloadable."""
    return (model.weights or entry.weights) == "yes"
