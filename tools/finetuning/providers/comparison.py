"""Why a provider or a base is left out of a comparison, and what surrounds the ranking.

The tool is :func:`finetuning.providers.compare_providers`; what is heavy is imported late.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import Constraints, Option, StaleRow, Workload
from finetuning.records import Json, NextCall

if TYPE_CHECKING:
    from finetuning.providers.catalogue import ModelEntry, Provider, Region
    from finetuning.providers.pricing import PriceUsed
    from finetuning.providers.terms import Availability

WHERE: Final = "compare_providers"
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


def assumptions_of(work: Workload | None) -> list[str]:
    """Return what a ranking takes for granted."""
    if work is None:
        return ["no workload: ranked by the price of training one million tokens"]
    return [
        f"{work.cycles} training jobs, one more where the base retires within the year",
        "traffic 0.6 to 1.6 times what was said; GPUs at 0.25 to 0.45 of their peak",
        "quality is not compared and a small base is cheap: name model_family",
        "dedicated serving: the fewest GPUs that hold the weights, 730 hours a month; its "
        "throughput was not checked",
    ]


def counted(work: Workload, assumptions: list[str]) -> Workload:
    """Return the workload with the tokens of its data counted; the tokenizer is noted.

    Raises:
        BadInputError: There is no data, or not one token in it.
    """
    if work.data is None:
        raise BadInputError(
            WHERE,
            "the workload has neither data nor training_tokens",
            "one of the two",
            "Pass training_tokens=<tokens of one epoch>",
        )
    from finetuning.files import data_files, read_records
    from finetuning.records import Record
    from finetuning.tokens import count_examples, counter_for

    files = data_files(work.data, where="data")
    path = files.get("train") or files["data"]
    rows = (item for item in read_records(path, source=work.data) if isinstance(item, Record))
    stats = count_examples((row.data for row in rows), counter_for())
    if not stats.total:
        raise BadInputError(
            WHERE,
            f"not one token could be counted in {work.data!r}",
            "a file with training rows",
            f"Run: fine-tuning validate-jsonl {work.data}",
        )
    assumptions.append(
        f"{stats.total:,} tokens counted with {stats.tokenizer}, not with each base's own tokenizer"
    )
    return work.model_copy(update={"training_tokens": stats.total})


def stale_rows(old_prices: Iterable[PriceUsed]) -> list[StaleRow]:
    """Return the old prices of the listed options, each once, refused ones first."""
    rows = {price.name: price for price in old_prices}
    ordered = sorted(rows.values(), key=lambda price: (not price.refused, -price.age_days))
    return [
        StaleRow(name=p.name, age_days=p.age_days, as_of=p.as_of, refused=p.refused)
        for p in ordered
    ]


def facts_of(wanted: Constraints, work: Workload | None, day: dt.date) -> dict[str, Json]:
    """Return the facts about fitness that a comparison states."""
    facts: dict[str, Json] = {"method_wanted": wanted.method, "as_of": day.isoformat()}
    if wanted.tuning is not None:
        facts["tuning_wanted"] = wanted.tuning
    if wanted.data_sensitivity is not None:
        facts["data_sensitivity"] = wanted.data_sensitivity
    if work is not None:
        facts |= {
            "training_tokens": work.training_tokens,
            "requests_per_month": work.requests_per_month,
            "tokens_in": work.tokens_in,
            "tokens_out": work.tokens_out,
        }
    return facts


def next_calls(
    options: list[Option], wanted: Constraints, work: Workload | None, day: dt.date, some: bool
) -> list[NextCall]:
    """Return the call that makes sense after a comparison; ``some``: there is any option."""
    if not options:
        facts = {"facts": facts_of(wanted, work, day)}
        return [] if some else [NextCall(tool="assess_fit", args=facts, why="nothing is on offer")]
    best = options[0]
    if work is None:
        return []
    traffic = work.model_dump(include={"requests_per_month", "tokens_in", "tokens_out"})
    served = best.serving[0].provider if best.serving else best.provider
    args: dict[str, Json] = {
        "provider": best.provider,
        "model": best.model,
        "method": wanted.method,
        "training_tokens": work.training_tokens,
        "cycles": work.cycles,
        "serving": traffic | ({} if served == best.provider else {"provider": served}),
        "as_of": day.isoformat(),
    }
    return [
        NextCall(tool="estimate_cost", args=args, why="the parts of this price, and break-even")
    ]
