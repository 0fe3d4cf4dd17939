"""What follows about the circumstances: who takes the job, the licence, where it fits; gates."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.errors import UnknownNameError
from finetuning.fit.schema import Facts, Stage, Status
from finetuning.providers import Customer
from finetuning.providers.terms import Availability, availability

if TYPE_CHECKING:
    from finetuning.providers.catalogue import ModelEntry, Provider

_STAYS: Final = frozenset({"on_premise", "air_gapped", "on_device"})
_NF4_BYTES: Final = 0.56
_ADAM_BYTES: Final = 16.0
_OVERHEAD: Final = 1.1
_FIXED_GB: Final = 2.0
"""Bytes per parameter (4-bit weights with scales; weight, gradient and Adam), a tenth for adapters
and activations, 1-2 GB for context (training.md#memory, checked 2026-11-20)."""

_EU: Final = frozenset(
    "EU AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()
)
"""Codes that mean the European Union or one of its members."""


_WORDS: Final = re.compile("[a-z]{4,}")


class Standing(NamedTuple):
    """What the catalogue says about a provider for these facts.

    Attributes:
        known: Who can start a job and until when, or None for a provider it does not hold.
        methods: What is offered: for the model where it is known, else by the provider.
        tunes_model: Whether the model can be tuned at all; None where it is not known.
        last_base_ends: The day the last of its tunable bases ends, where every one has a day.
        keeps_tools: Whether the tuned model can still call tools.
    """

    known: Availability | None
    methods: tuple[str, ...]
    tunes_model: bool | None = None
    last_base_ends: dt.date | None = None
    keeps_tools: bool | None = None


@functools.lru_cache(maxsize=512)
def _standing(
    provider: str, model: str | None, customer: Customer | None, day: dt.date
) -> Standing:
    from finetuning.providers.catalogue import find_model, load_provider

    try:
        entry = load_provider(provider)
    except UnknownNameError:
        return Standing(None, ())
    if model is not None:
        name = model.split(":")[1] if model.startswith("ft:") and ":" in model[3:] else model
        try:
            found = find_model(provider, name)
        except UnknownNameError:
            gone = _last_of_its_kind(entry, name, customer, day)
            if gone is not None:
                return Standing(gone, (), False)
        else:
            known = availability(provider, found.id, customer, day)
            return Standing(
                known, found.methods, bool(found.methods), known.base_retires_on, found.tools
            )
    bases = [availability(provider, m.id, None, day).base_retires_on for m in _tunable(entry, day)]
    known_ends = [end for end in bases if end is not None]
    last = max(known_ends) if known_ends and len(known_ends) == len(bases) else None
    return Standing(availability(provider, None, customer, day), tuple(entry.billing), None, last)


def _last_of_its_kind(
    entry: Provider, name: str, customer: Customer | None, day: dt.date
) -> Availability | None:
    """Return how an unlisted model's listed relatives ended, where every one of them has.

    Relatives share a word of the name ("claude") that no base which is still open has.
    """
    wanted = set(_WORDS.findall(name.casefold()))
    for model in _tunable(entry, day):
        wanted -= set(_WORDS.findall(model.id.casefold()))
    kin = [m.id for m in entry.models if wanted & set(_WORDS.findall(m.id.casefold()))]
    return availability(entry.id, kin[-1], customer, day) if kin else None


def _tunable(entry: Provider, day: dt.date) -> list[ModelEntry]:
    """Return the bases of a provider that somebody could still tune on a day."""
    return [
        model
        for model in entry.models
        if model.methods and availability(entry.id, model.id, None, day).status != "closed"
    ]


def day_of(facts: Facts) -> dt.date:
    """Return the day the question is asked: as said, else today."""
    day: dt.date | None = facts["as_of"]
    return day or dt.datetime.now(tz=dt.UTC).date()


def _stands(facts: Facts) -> Standing:
    if facts["provider"] is None:
        return Standing(None, ())
    return _standing(
        facts["provider"], facts["provider_model"], facts["provider_customer"], day_of(facts)
    )


def _known(facts: Facts) -> Availability | None:
    return _stands(facts).known


def _about(read: Callable[[Availability], Any]) -> Callable[[Facts], Any]:
    def derive(facts: Facts) -> Any:
        known = _known(facts)
        return None if known is None else read(known)

    return derive


def _offers_method(facts: Facts) -> bool | None:
    wanted = facts["method_wanted"]
    if wanted is None or _known(facts) is None:
        return None
    return wanted in _stands(facts).methods


def _dates(known: Availability) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {day.isoformat()}" for name, day in known.dates.items()
    )


def _sends_data(facts: Facts) -> bool | None:
    if facts["deployment"] in _STAYS or facts["provider"] == "local":
        return False
    if facts["provider"] is not None or facts["deployment"] == "cloud":
        return True
    return None


def _own_hardware(facts: Facts) -> bool | None:
    sends = facts["sends_data"]
    return None if sends is None else not sends


def _training_gb(facts: Facts, bytes_per_parameter: float) -> float | None:
    params = facts["params"]
    if params is None:
        return None
    return float(round(params * bytes_per_parameter * _OVERHEAD / 1e9 + _FIXED_GB, 1))


def _gpu_total(facts: Facts) -> float | None:
    each = facts["gpu_memory_gb"]
    return None if each is None else float(each * max(1, facts["n_gpus"] or 1))


def _at_most(needed: float | None, there: float | None) -> bool | None:
    return None if needed is None or there is None else needed <= there


def _days_left(facts: Facts) -> int | None:
    """Return the days until the base ends; without a named base, until the last one does."""
    standing = _stands(facts)
    if standing.last_base_ends is None:
        return None
    return (standing.last_base_ends - day_of(facts)).days


def _licence_family(facts: Facts) -> str | None:
    text = f"{facts['base_licence'] or ''} {facts['base_model'] or ''}".casefold()
    if not text.strip():
        return None
    if "llama" in text:
        return "llama"
    licence = (facts["base_licence"] or "").casefold()
    if any(part in licence for part in ("-nc", "non-commercial", "noncommercial", "research")):
        return "non_commercial"
    return "other"


def _llama_name_missing(facts: Facts) -> bool | None:
    if facts["licence_family"] != "llama" or facts["product_name"] is None:
        return None
    return not facts["product_name"].strip().casefold().startswith("llama")


def _llama4_in_eu(facts: Facts) -> bool | None:
    base, place = facts["base_model"], facts["jurisdiction"]
    if base is None or place is None:
        return None
    name = base.casefold().replace("_", "-").replace("-", "")
    return "llama4" in name and place.strip().upper() in _EU


DERIVED: Final[dict[str, Callable[[Facts], Any]]] = {
    "provider_hosted": lambda facts: (
        None if facts["provider"] is None else facts["provider"] != "local"
    ),
    "provider_can_start": _about(lambda known: known.can_start),
    "provider_status": _about(lambda known: known.status),
    "provider_why": _about(lambda known: known.why),
    "provider_dates": _about(_dates),
    "provider_tunes_model": lambda facts: _stands(facts).tunes_model,
    "provider_keeps_tools": lambda facts: _stands(facts).keeps_tools,
    "provider_closing": _about(lambda known: known.status == "existing_only"),
    "provider_offers_method": _offers_method,
    "base_ends_in_days": _days_left,
    "sends_data": _sends_data,
    "own_hardware": _own_hardware,
    "least_training_gb": lambda facts: _training_gb(facts, _NF4_BYTES),
    "full_training_gb": lambda facts: _training_gb(facts, _ADAM_BYTES),
    "least_serving_gb": lambda facts: _training_gb(facts, _NF4_BYTES),
    "gpu_total_gb": _gpu_total,
    "fits_in_gpu": lambda facts: _at_most(facts["least_training_gb"], facts["gpu_total_gb"]),
    "full_fits": lambda facts: _at_most(facts["full_training_gb"], facts["gpu_total_gb"]),
    "fits_on_device": lambda facts: _at_most(facts["least_serving_gb"], facts["device_ram_gb"]),
    "licence_family": _licence_family,
    "llama4_in_eu": _llama4_in_eu,
    "llama_name_missing": _llama_name_missing,
}
"""Derived facts about place, provider and licence, by name."""


def _evaluation(view: Facts) -> tuple[Status, str]:
    if view["eval_exists"]:
        return "pass", "held-out rows or a measured score exist"
    if view["eval_exists"] is False:
        return "fail", "there are no held-out rows yet; this verdict does not wait for them"
    return "unknown", "nobody said that held-out rows with a metric exist"


def _law(view: Facts) -> tuple[Status, str]:
    kind = view["data_sensitivity"]
    if view["teacher_closed_api"] and view["student_use"] != "internal":
        return "unknown", "answers of a closed model: what they may be used for is not settled"
    if kind == "none":
        return "pass", "no personal, health or secret data"
    if kind in {"personal", "health"} and view["identified"] is False:
        return "pass", "nobody can be identified in the data (as stated, not checked here)"
    if kind in {"personal", "health"} and view["consent"] and not _needs_baa(view):
        return "pass", "a right to use the data is stated"
    if kind == "secret" and view["sends_data"] is False:
        return "pass", "the data stays on your machines"
    return "unknown", "whether this data may be used for training is not known"


def _needs_baa(view: Facts) -> bool:
    return bool(
        view["data_sensitivity"] == "health"
        and view["sends_data"] is not False
        and not view["baa_signed"]
    )


def _provider(view: Facts) -> tuple[Status, str]:
    if view["provider"] == "local":
        return "pass", "your own machine takes every job"
    if view["provider_can_start"] and view["provider_offers_method"] is not False:
        return "pass", f"{view['provider']}: {view['provider_why']}"
    if view["provider"] is None:
        return "unknown", "no provider is named"
    if view["provider_can_start"] is False:
        return "fail", f"{view['provider']}: {view['provider_why']}"
    return "unknown", f"{view['provider']}: whether you can start a job there is not known"


def _feasible(view: Facts) -> tuple[Status, str]:
    if view["fits_in_gpu"] and view["own_hardware"]:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "pass", f"4-bit training needs about {needed} GB of {there} GB"
    if view["own_hardware"] and view["fits_in_gpu"] is False:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "fail", f"4-bit training needs about {needed} GB of {there} GB"
    if view["provider_hosted"] and view["provider_can_start"]:
        return "pass", "the provider brings the hardware"
    return "unknown", "the base's size or the machine is not known"


STANDING: Final[dict[Stage, Callable[[Facts], tuple[Status, str]]]] = {
    "evaluation": _evaluation,
    "law": _law,
    "provider": _provider,
    "feasible": _feasible,
}
"""What is known about each gate where no rule spoke: its status and why."""
