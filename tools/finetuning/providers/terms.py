"""A provider's terms: who can start a job and until when, and what is billed."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from pydantic import ConfigDict, Field

from finetuning.errors import BadInputError
from finetuning.providers import CUSTOMERS, Customer, Method
from finetuning.providers.catalogue import (
    Confidence,
    Event,
    Formula,
    ModelEntry,
    Provider,
    find_model,
    load_provider,
)
from finetuning.records import Model

Status = Literal["open", "existing_only", "preview", "closed"]


class Fact(Model):
    """A dated fact of the catalogue with its source."""

    model_config = ConfigDict(defer_build=True)

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

    model_config = ConfigDict(defer_build=True)

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
    events = [event for event in entry.lifecycle if _concerns(event, model_id, day)]
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


def _concerns(event: Event, model_id: str | None, day: dt.date) -> bool:
    """Say whether an event is about a model, and could be known on that day."""
    if event.announced is not None and day < event.announced:
        return False
    return "*" in event.models or model_id in event.models


def _shut_out(events: list[Event], day: dt.date) -> set[Customer]:
    """Return the customers who can no longer start a job on that day."""
    shut: set[Customer] = set()
    for event in events:
        if event.event != "preview" and event.date <= day:
            shut.update(CUSTOMERS if event.event == "inference_end" else event.customers)
    return shut


def _status(entry: Provider, events: list[Event], day: dt.date) -> tuple[Status, str]:
    shut = _shut_out(events, day)
    ends = [event for event in events if event.event != "preview"]
    said = "; ".join(_sentence(event, day) for event in sorted(ends, key=lambda e: e.date))
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


class TrainingAmounts(Model):
    """What goes into a training job, before any rule is applied.

    ``train_tokens`` and ``prompt_tokens`` are of one epoch; ``padded_tokens`` is rows times the
    maximum length and stands for the real tokens where packing is off.
    """

    model_config = ConfigDict(defer_build=True)

    train_tokens: int
    n_epochs: int
    prompt_tokens: int | None = None
    validation_tokens: int = 0
    n_evals: int = 0
    padded_tokens: int | None = None


class Billed(Model):
    """Billed tokens and the rule in words."""

    model_config = ConfigDict(defer_build=True)

    tokens: int
    formula: str


def billed_tokens(formula: Formula, amounts: TrainingAmounts) -> Billed:
    """Apply a provider's rule for training tokens.

    Args:
        formula: Name of the rule.
        amounts: Token counts, epochs and evaluations.

    Raises:
        BadInputError: The rule needs prompt tokens that are not known, or counts no tokens.

    Source: the providers' own pages, one row each (checked 2026-11-20); knowledge:
    costs.md#training
    """
    train, epochs = amounts.train_tokens, amounts.n_epochs
    times = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    if formula == "tokens_epochs_validation":
        once = train if amounts.padded_tokens is None else amounts.padded_tokens
        name = "training tokens" if amounts.padded_tokens is None else "rows × maximum length"
        total = epochs * once + amounts.n_evals * amounts.validation_tokens
        words = f"{times} × {once:,} {name}"
        if amounts.n_evals:
            words += f" + {amounts.n_evals} evaluations × {amounts.validation_tokens:,} tokens"
        return Billed(tokens=total, formula=words)
    if formula == "gemini_preference":
        if amounts.prompt_tokens is None:
            raise BadInputError(
                "training_tokens",
                "this provider bills the prompts of preference data twice, and the share of "
                "prompt tokens is not known",
                "the preference file itself",
                "Pass data=<file> instead of training_tokens",
            )
        once = train + amounts.prompt_tokens
        return Billed(
            tokens=epochs * once,
            formula=f"{times} × {once:,} tokens (every prompt twice, every answer once)",
        )
    if formula in {"tokens_epochs", "gpu_hours", "own_hours"}:
        name = "training tokens" if formula == "tokens_epochs" else "processed tokens"
        return Billed(tokens=epochs * train, formula=f"{times} × {train:,} {name}")
    raise BadInputError(
        "method",
        f"the rule {formula!r} does not count training tokens",
        "a token-billed method",
        "Choose method sft",
    )


def billing_rule(provider: Provider, method: Method) -> Formula:
    """Return the billing rule of a provider for a method.

    Raises:
        BadInputError: The provider does not offer the method, or its rule is not known.
    """
    rule = provider.billing.get(method)
    if rule is None or rule in {"unknown", "three_rates"}:
        offered = [name for name, known in provider.billing.items() if known != "unknown"]
        what = "is not offered" if rule is None else "has a bill that this tool cannot compute yet"
        raise BadInputError(
            "method",
            f"{method!r} {what} at {provider.id}",
            f"one of {', '.join(offered) or 'none: the provider trains nothing'}",
            f"Use method={offered[0]!r}" if offered else "Choose another provider",
        )
    return rule


def openai_auto_epochs(n_rows: int) -> int:
    """Return the epochs that OpenAI's published recipe gives a file of so many rows.

    Three; up to 25 where three passes are under 100 rows, down to 1 where they pass 25,000.

    Source: openai/openai-cookbook, Chat_finetuning_data_prep (checked 2026-11-20).
    """
    if n_rows * 3 < 100:
        return min(25, max(1, 100 // max(1, n_rows)))
    if n_rows * 3 > 25_000:
        return max(1, 25_000 // n_rows)
    return 3


def planned_epochs(provider: Provider, model: ModelEntry, asked: int | None) -> int:
    """Return the passes of a job: as asked, else the provider's own choice, else three."""
    default = provider.default_epochs
    own = int(default) if default is not None and default.isdigit() else 3
    low, high = model.epochs_range or (1, 1000)
    return min(high, max(low, asked or own))


def day_of(as_of: str | None, where: str) -> dt.date:
    """Return the day that a text like 2026-11-20 means; None means today."""
    try:
        return dt.date.fromisoformat(as_of) if as_of else dt.datetime.now(tz=dt.UTC).date()
    except ValueError as error:
        what, step = f"as_of={as_of!r} is not a day", "Leave it out for today"
        raise BadInputError(where, what, "a day like 2026-11-20", step) from error


def whole_steps(seconds: Decimal, step_seconds: int) -> Decimal:
    """Round a duration up to a provider's billing step (second, minute, hour)."""
    steps = (seconds / step_seconds).to_integral_value(ROUND_CEILING)
    return steps * step_seconds
