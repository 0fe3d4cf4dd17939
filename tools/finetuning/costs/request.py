"""What is asked: the checked arguments, the job they name, and the ledger of what they rest on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from finetuning.costs.schema import (
    Assumption,
    Check,
    CurrentModel,
    PriceOverrides,
    RftJob,
    ServingTraffic,
    StalePrice,
    Sureness,
)
from finetuning.errors import BadInputError
from finetuning.providers import Method, ProviderId, Tuning
from finetuning.providers.catalogue import (
    Formula,
    ModelEntry,
    Provider,
    find_model,
    load_provider,
)
from finetuning.providers.market import TokenPrices
from finetuning.providers.pricing import REFUSED_DAYS, STALE_DAYS, PriceUsed
from finetuning.providers.terms import Availability, availability, billing_rule
from finetuning.records import Json


class Ledger:
    """Collects assumptions, stale prices and warnings in the order they come up."""

    def __init__(self, day: dt.date) -> None:
        """Start empty, for an estimate of that day."""
        self.day = day
        self.assumptions: list[Assumption] = []
        self.stale: list[StalePrice] = []
        self.warnings: list[str] = []
        self.checks: list[Check] = []

    @property
    def refused(self) -> bool:
        """Say whether any price used is too old to be used without consent."""
        return any(price.refused for price in self.stale)

    def in_order(self) -> list[Assumption]:
        """Return the assumptions, what the caller gave last."""
        return sorted(self.assumptions, key=lambda known: known.confidence == "given")

    def assume(
        self, name: str, value: object, unit: str, source: str, confidence: Sureness
    ) -> None:
        """Note a number that was not looked up as a price; the first of a name stays."""
        if any(known.name == name for known in self.assumptions):
            return
        self.assumptions.append(
            Assumption(
                name=name,
                value=str(value),
                unit=unit,
                source=source,
                as_of=self.day.isoformat(),
                confidence=confidence,
            )
        )

    def use(self, price: PriceUsed) -> PriceUsed:
        """Note a catalogue price and its age, and return it."""
        value = (
            f"{price.usd}" if price.usd == price.usd_high else f"{price.usd} to {price.usd_high}"
        )
        self._note(price.name, value, price.unit, price, price.conditions)
        return price

    def use_rate(self, name: str, value: str, rate: TokenPrices, conditions: str = "") -> None:
        """Note token prices that stand in one row together."""
        self._note(name, value, "usd_per_mtok", rate, conditions)

    def _note(
        self, name: str, value: str, unit: str, price: PriceUsed | TokenPrices, conditions: str
    ) -> None:
        if any(known.name == name for known in self.assumptions):
            return
        self.assumptions.append(
            Assumption(
                name=name,
                value=value,
                unit=f"{unit}: {conditions}" if conditions else unit,
                source=price.source,
                as_of=price.as_of,
                confidence=cast("Sureness", price.confidence),
            )
        )
        if price.age_days > STALE_DAYS:
            self.stale.append(
                StalePrice(
                    name=name,
                    age_days=price.age_days,
                    as_of=price.as_of,
                    refused=price.age_days > REFUSED_DAYS,
                )
            )

    def merge(self, other: Ledger) -> None:
        """Take over what another ledger noted, as if it had been noted here."""
        known = {assumption.name for assumption in self.assumptions}
        self.assumptions += [a for a in other.assumptions if a.name not in known]
        self.stale += [price for price in other.stale if price.name not in known]
        for text in other.warnings:
            self.warn(text)

    def check(self, name: str, ok: bool, detail: str, otherwise: str) -> None:
        """Note whether a number agrees with another way to reach it; warn where it does not."""
        self.checks.append(Check(name=name, ok=ok, detail=detail))
        if not ok:
            self.warn(f"{detail}: {otherwise}")

    def warn(self, text: str) -> None:
        """Note a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of ``estimate_cost``, checked; the tool's docstring says what each means."""

    provider: ProviderId
    model: str
    method: Method
    tuning: Tuning
    data: str | None
    training_tokens: int | None
    n_epochs: int | None
    validation_tokens: int | None
    n_evals: int
    packing: bool
    max_length: int | None
    gpu: str | None
    n_gpus: int
    rft: RftJob | None
    serving: ServingTraffic | None
    current: CurrentModel | None
    labour_usd: Decimal
    cycles: int
    horizon_months: int
    discount_rate: Decimal
    overrides: PriceOverrides
    day: dt.date
    seed: int

    def __post_init__(self) -> None:
        """Check the ranges that the docstring of the tool states."""
        ranges: list[tuple[str, int | Decimal | None, int | Decimal, int | Decimal]] = [
            ("training_tokens", self.training_tokens, 1, 10**15),
            ("n_epochs", self.n_epochs, 1, 1_000),
            ("validation_tokens", self.validation_tokens, 0, 10**15),
            ("n_evals", self.n_evals, 0, 10_000),
            ("max_length", self.max_length, 1, 10**7),
            ("n_gpus", self.n_gpus, 1, 100_000),
            ("labour_usd", self.labour_usd, 0, 10**12),
            ("cycles", self.cycles, 1, 1_000),
            ("horizon_months", self.horizon_months, 1, 120),
            ("discount_rate", self.discount_rate, 0, 1),
        ]
        for name, part in (("serving", self.serving), ("current", self.current)):
            if part is not None:
                ranges.append((f"{name}.cached_tokens", part.cached_tokens, 0, part.tokens_in))
        for name, value, low, high in ranges:
            if value is not None and not low <= value <= high:
                hint = f"; {value / 100}?" if name == "discount_rate" and value <= 100 else ""
                raise BadInputError(
                    name, f"{value} is out of range", f"{low} to {high}{hint}", "Correct it"
                )
        if self.data is not None and self.training_tokens is not None:
            raise BadInputError(
                "data",
                "data and training_tokens are both given",
                "one of the two",
                "Leave training_tokens out to count the file",
            )

    def facts(self, training_tokens: int | None) -> dict[str, Json]:
        """Return the facts of the request that assess_fit accepts."""
        facts: dict[str, Json] = {
            "provider": self.provider,
            "provider_model": self.model,
            "method_wanted": self.method,
            "tuning_wanted": self.tuning,
            "training_tokens": training_tokens,
        }
        if self.serving is not None:
            facts["requests_per_month"] = self.serving.requests_per_month
        if (now := self.current) is not None:
            facts |= {"tokens_in": now.tokens_in, "tokens_out": now.tokens_out}
            for side in ("in", "out", "cached"):
                price = getattr(now, f"price_{side}_usd_per_mtok")
                facts[f"price_{side}_usd_per_mtok"] = None if price is None else str(price)
        return {name: value for name, value in facts.items() if value is not None}


def parse_day(as_of: str | None) -> dt.date:
    """Return the day of an estimate; None means today.

    Raises:
        BadInputError: Not a date in the form 2026-11-20.
    """
    if as_of is None:
        return dt.datetime.now(tz=dt.UTC).date()
    try:
        return dt.date.fromisoformat(as_of)
    except ValueError as error:
        raise BadInputError(
            "as_of", f"{as_of!r} is not a date", "a day such as 2026-11-20", "Write it that way"
        ) from error


@dataclass(frozen=True, slots=True)
class Job:
    """One training job as everything that prices it sees it: who bills it, by which rule."""

    provider: Provider
    model: ModelEntry
    given_model: str
    method: Method
    tuning: Tuning
    formula: Formula
    day: dt.date
    overrides: PriceOverrides
    gpu: str | None = None
    n_gpus: int = 1
    max_length: int | None = None
    rft: RftJob | None = None


def _rule(entry: Provider, request: Request, ledger: Ledger) -> Formula:
    """Return the billing rule; with one's own rate per token an unknown one is tokens × epochs."""
    known = entry.billing.get(request.method)
    if known == "unknown" and request.overrides.train_usd_per_mtok is not None:
        ledger.assume("billing rule", "tokens × epochs", "rule", "not read: check it", "assumed")
        return "tokens_epochs"
    return known if known == "three_rates" else billing_rule(entry, request.method)


def job_of(request: Request, ledger: Ledger) -> tuple[Job, Availability]:
    """Look up the provider, the model and the billing rule.

    Raises:
        UnknownNameError: The provider or the model is not in the catalogue.
        BadInputError: The service is closed, or the method is not offered.
    """
    entry = load_provider(request.provider)
    target = find_model(request.provider, request.model)
    if entry.service == "closed":
        raise BadInputError(
            "provider",
            f"{entry.name} trains nothing any more: "
            f"{availability(request.provider, None, None, request.day).why}",
            "a provider that takes jobs",
            "Choose together, fireworks, tinker, vertex or local",
        )
    rule = _rule(entry, request, ledger)
    if request.method not in target.methods:
        offered = ", ".join(target.methods) or "none: it cannot be tuned"
        raise BadInputError(
            "method",
            f"{request.method!r} is not offered for {target.id} at {request.provider}",
            f"one of {offered}",
            "Choose another model or method",
        )
    known = availability(request.provider, request.model, None, request.day)
    if known.status in {"closed", "existing_only"}:
        ledger.warn(f"{entry.name}: {known.why}")
    if target.note:
        ledger.warn(f"{target.id}: {target.note}")
    job = Job(
        provider=entry,
        model=target,
        given_model=request.model,
        method=request.method,
        tuning=request.tuning,
        formula=rule,
        day=request.day,
        overrides=request.overrides,
        gpu=request.gpu,
        n_gpus=request.n_gpus,
        max_length=request.max_length,
        rft=request.rft,
    )
    return job, known
