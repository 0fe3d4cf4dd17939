"""Where it would run: who takes the job, whether the data leaves, whether it fits."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from finetuning.errors import UnknownNameError
from finetuning.providers import Customer
from finetuning.providers.terms import Availability, availability

Facts = Mapping[str, Any]

_STAYS: Final = frozenset({"on_premise", "air_gapped", "on_device"})
_NF4_BYTES: Final = 0.56
_ADAM_BYTES: Final = 16.0
_OVERHEAD: Final = 1.1
_FIXED_GB: Final = 2.0
"""Bytes per parameter (4-bit weights with scales; weight, gradient and Adam), a tenth for adapters
and activations, 1-2 GB for context (training.md section 8, checked 2026-11-20)."""


class Standing(NamedTuple):
    """What the catalogue says about a provider for these facts."""

    known: Availability | None
    methods: tuple[str, ...]


@functools.lru_cache(maxsize=512)
def _standing(
    provider: str, model: str | None, customer: Customer | None, day: dt.date
) -> Standing:
    from finetuning.providers.catalogue import find_model, load_provider

    try:
        methods = tuple(load_provider(provider).billing)
        if model is not None:
            methods = find_model(provider, model).methods
        return Standing(availability(provider, model, customer, day), methods)
    except UnknownNameError:
        if model is not None:
            return _standing(provider, None, customer, day)
        return Standing(None, ())


def day_of(facts: Facts) -> dt.date:
    """Return the day the question is asked: as said, else today."""
    day: dt.date | None = facts["as_of"]
    return day or dt.datetime.now(tz=dt.UTC).date()


def _known(facts: Facts) -> Availability | None:
    if facts["provider"] is None:
        return None
    standing = _standing(
        facts["provider"], facts["provider_model"], facts["provider_customer"], day_of(facts)
    )
    return standing.known


def _about(read: Callable[[Availability], Any]) -> Callable[[Facts], Any]:
    def derive(facts: Facts) -> Any:
        known = _known(facts)
        return None if known is None else read(known)

    return derive


def _offers_method(facts: Facts) -> bool | None:
    wanted = facts["method_wanted"]
    if wanted is None or _known(facts) is None:
        return None
    day = day_of(facts)
    return wanted in _standing(facts["provider"], facts["provider_model"], None, day).methods


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
    known = _known(facts)
    if known is None or known.base_retires_on is None:
        return None
    return (known.base_retires_on - known.as_of).days


DERIVED: Final[dict[str, Callable[[Facts], Any]]] = {
    "provider_hosted": lambda facts: (
        None if facts["provider"] is None else facts["provider"] != "local"
    ),
    "provider_can_start": _about(lambda known: known.can_start),
    "provider_status": _about(lambda known: known.status),
    "provider_why": _about(lambda known: known.why),
    "provider_dates": _about(_dates),
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
}
"""Derived facts about place and provider, by name."""
