"""What follows about the circumstances: who takes the job, where it fits, whether it pays.

Whether it pays is computed from prices and traffic, never read from a volume.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
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
and activations, 1-2 GB for context (training.md#memory, checked 2026-11-20)."""

_EU: Final = frozenset(
    "EU AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()
)
"""Codes that mean the European Union or one of its members."""

LABOUR_USD: Final = Decimal(5_000)
"""People's time for a tuning project when nothing is said: two to three weeks of one engineer.
An assumption of this project, named in the answer."""

_CYCLES: Final = 3
_HORIZON: Final = 12


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


def _llama4_in_eu(facts: Facts) -> bool | None:
    base, place = facts["base_model"], facts["jurisdiction"]
    if base is None or place is None:
        return None
    name = base.casefold().replace("_", "-").replace("-", "")
    return "llama4" in name and place.strip().upper() in _EU


class Bill(NamedTuple):
    """A month of the same requests, in dollars: today, cached, on a cheap base, tuned."""

    current: Decimal
    cached: Decimal | None
    cheap_base: Decimal | None
    tuned: Decimal | None


def _bill(facts: Facts) -> Bill | None:
    """Price the month; None where the volume or today's price is not known."""
    from finetuning.providers.market import market

    requests = facts["requests_per_month"]
    tokens_in, tokens_out = facts["tokens_in"], facts["tokens_out"]
    price_in, price_out = facts["price_in_usd_per_mtok"], facts["price_out_usd_per_mtok"]
    spend = facts["monthly_spend_usd"]  # a tried answer is a plain number, a known one a Decimal
    static = min(facts["static_prompt_tokens"] or 0, tokens_in or 0)
    shaped = None not in (requests, tokens_in, tokens_out)
    current = None if spend is None else Decimal(spend)
    if shaped and price_in is not None and price_out is not None:
        current = _monthly(requests, tokens_in, tokens_out, price_in, price_out)
    if current is None:
        return None
    if not shaped:
        return Bill(current, None, None, None)
    cached = None
    if facts["price_cached_usd_per_mtok"] is not None and price_in is not None:
        saved = price_in - facts["price_cached_usd_per_mtok"]
        cached = current - requests * static * saved / 1_000_000
    known = market(day_of(facts))
    cheap = known.base_usd(tokens_in, static, tokens_out) * requests
    tuned = known.tuned_usd(tokens_in - static, tokens_out)
    return Bill(current, cached, cheap, None if tuned is None else tuned * requests)


def _monthly(
    requests: int, tokens_in: int, tokens_out: int, price_in: Decimal, price_out: Decimal
) -> Decimal:
    return requests * (tokens_in * price_in + tokens_out * price_out) / 1_000_000


def _saving(facts: Facts) -> Decimal | None:
    """Return what a tuned model saves a month against the best way that is good enough."""
    bill: Bill | None = facts["bill"]
    if bill is None or bill.tuned is None:
        return None
    others = [bill.current, bill.cached]
    if facts["cheap_base_suffices"] is not False:
        others.append(bill.cheap_base)
    return min(price for price in others if price is not None) - bill.tuned


def _pays(facts: Facts) -> bool | None:
    """Say whether the saving earns the project back within a year, discounted."""
    saving: Decimal | None = facts["monthly_saving"]
    if saving is None:
        return None
    if saving <= 0:
        return False
    from finetuning.costs.economics import Case, Spread, net_present_value
    from finetuning.providers.market import market

    rows = max(facts["n_examples"] or 0, facts["n_teacher_outputs"] or 0)
    tokens = facts["training_tokens"] or rows * (facts["tokens_in"] + facts["tokens_out"])
    rate = market(day_of(facts)).train_usd_per_mtok
    case = Case(
        training=(rate or Decimal(0)) * tokens * 3 / 1_000_000,
        training_spread=Spread(),
        cycles=_CYCLES,
        labour=LABOUR_USD,
        requests=Decimal(1),
        now_request=saving,
        horizon=_HORIZON,
    )
    return net_present_value(case) > 0


def _most_saving(facts: Facts) -> Decimal | None:
    """Return the most that any way could save in a year."""
    bill: Bill | None = facts["bill"]
    if bill is None:
        return None
    known = [price for price in (bill.cached, bill.cheap_base, bill.tuned) if price is not None]
    least = min(known) if known else Decimal(0)
    return (_HORIZON * (bill.current - min(least, bill.current))).quantize(Decimal(1))


def _cached_fraction(facts: Facts) -> float | None:
    bill: Bill | None = facts["bill"]
    if bill is None or bill.cached is None or not bill.current:
        return None
    return round(float((bill.current - bill.cached) / bill.current), 2)


def _rounded_saving(facts: Facts) -> Decimal | None:
    saving: Decimal | None = facts["monthly_saving"]
    return None if saving is None else saving.quantize(Decimal(1))


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
    "licence_family": _licence_family,
    "llama4_in_eu": _llama4_in_eu,
    "bill": _bill,
    "monthly_saving": _saving,
    "saving_per_month_usd": _rounded_saving,
    "tuning_pays": _pays,
    "most_saving_per_year_usd": _most_saving,
    "cached_saves_fraction": _cached_fraction,
    "labour_usd": lambda facts: LABOUR_USD,
}
"""Derived facts about place, provider, licence and money, by name."""
