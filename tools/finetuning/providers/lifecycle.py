"""Who can still start a job at a provider, until when, and how that is known."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from finetuning.providers.catalogue import find_model, load_provider
from finetuning.providers.names import CUSTOMERS, Customer
from finetuning.providers.schema import Confidence, Event, Provider
from finetuning.records import Model

Status = Literal["open", "existing_only", "preview", "closed"]


class Fact(Model):
    """A dated fact of the catalogue with its source."""

    what: str
    date: dt.date | None = None
    url: str
    checked: str
    confidence: Confidence


class Availability(Model):
    """Whether jobs start at a provider on a day; ``can_start`` answers for the customer asked.

    ``dates`` maps ``training_end``, ``training_end_<customer>``, ``inference_end`` and
    ``preview_since`` to days, past ones included.
    """

    provider: str
    model: str | None
    customer: Customer | None
    as_of: dt.date
    status: Status
    can_start: bool | None = Field(description="Null: it depends on the customer, who is unknown.")
    why: str
    dates: dict[str, dt.date]
    base_retires_on: dt.date | None
    sources: list[Fact]


def availability(
    provider: str,
    model: str | None = None,
    customer: Customer | None = None,
    as_of: dt.date | None = None,
) -> Availability:
    """Say whether a provider takes fine-tuning jobs on a day, for whom and until when.

    Args:
        provider: Provider id of the catalogue, for example ``together``.
        model: Exact model id or alias; None asks about the provider as a whole.
        customer: Who asks; None leaves the answer open where it depends on that.
        as_of: The day asked about; None means today.

    Raises:
        UnknownNameError: A provider or model that the catalogue does not have.
    """
    day = as_of or dt.datetime.now(tz=dt.UTC).date()
    entry = load_provider(provider)
    model_id = find_model(provider, model).id if model is not None else None
    events = [event for event in entry.lifecycle if _concerns(event, model_id)]
    status, why = _status(entry, events, day)
    return Availability(
        provider=provider,
        model=model_id,
        customer=customer,
        as_of=day,
        status=status,
        can_start=_can_start(status, events, customer, day),
        why=why,
        dates=_dates(events),
        base_retires_on=min((e.date for e in events if e.event == "inference_end"), default=None),
        sources=[_fact(entry, event) for event in events],
    )


def _concerns(event: Event, model_id: str | None) -> bool:
    return "*" in event.models or (model_id is not None and model_id in event.models)


def _shut_out(events: list[Event], day: dt.date) -> set[Customer]:
    """Return the customers who can no longer start a job on that day."""
    shut: set[Customer] = set()
    for event in events:
        if event.event != "preview" and event.date <= day:
            shut.update(CUSTOMERS if event.event == "inference_end" else event.customers)
    return shut


def _status(entry: Provider, events: list[Event], day: dt.date) -> tuple[Status, str]:
    shut = _shut_out(events, day)
    past = [event for event in events if event.event != "preview" and event.date <= day]
    told = "; ".join(_sentence(event, day) for event in sorted(past, key=lambda e: e.date))
    coming = [event for event in events if event.date > day and event.event != "preview"]
    ahead = "; ".join(_sentence(event, day) for event in sorted(coming, key=lambda e: e.date))
    said = "; ".join(part for part in (told, ahead) if part)
    if shut >= set(CUSTOMERS):
        return "closed", said
    if "new" in shut:
        return "existing_only", said
    if any(event.event == "preview" and event.date <= day for event in events):
        return "preview", said or "in preview: the terms can change without notice"
    return "open", said or f"no closing date of {entry.name} is in the catalogue"


def _sentence(event: Event, day: dt.date) -> str:
    past = event.date <= day
    verb = {
        "training_end": "training ended" if past else "training ends",
        "inference_end": "the base and its fine-tunes ended"
        if past
        else "the base and its fine-tunes end",
    }[event.event]
    who = "" if set(event.customers) == set(CUSTOMERS) else f" for {', '.join(event.customers)}"
    when = f"{'' if event.exact else 'about '}{event.date.isoformat()}"
    return f"{verb}{who} on {when}" + (f" ({event.note})" if event.note else "")


def _can_start(
    status: Status, events: list[Event], customer: Customer | None, day: dt.date
) -> bool | None:
    if customer is not None:
        return customer not in _shut_out(events, day)
    return {"open": True, "preview": True, "closed": False}.get(status)


def _dates(events: list[Event]) -> dict[str, dt.date]:
    dates: dict[str, dt.date] = {}
    for event in sorted(events, key=lambda e: e.date):
        if event.event == "preview":
            dates.setdefault("preview_since", event.date)
        elif event.event == "inference_end" or set(event.customers) == set(CUSTOMERS):
            dates.setdefault(event.event, event.date)
        else:
            for who in event.customers:
                dates.setdefault(f"{event.event}_{who}", event.date)
    return dates


def _fact(entry: Provider, event: Event) -> Fact:
    source = entry.sources[event.source]
    return Fact(
        what=_sentence(event, event.date) if event.event != "preview" else "preview",
        date=event.date,
        url=source.url,
        checked=source.checked,
        confidence=source.confidence,
    )
