"""Keeps what an estimate stands on: prices used, assumptions made, warnings given."""

from __future__ import annotations

import datetime as dt
from typing import Protocol

from finetuning.costs.results import Assumption, StalePrice, Sureness
from finetuning.providers.pricing import REFUSED_DAYS, STALE_DAYS, PriceUsed


class Dated(Protocol):
    """A price with its source and its age."""

    @property
    def source(self) -> str:
        """Where it was read."""
        ...

    @property
    def as_of(self) -> str:
        """When it was read."""
        ...

    @property
    def age_days(self) -> int:
        """Days since then."""
        ...


class Ledger:
    """Collects assumptions, stale prices and warnings in the order they come up."""

    def __init__(self, day: dt.date) -> None:
        """Start empty, for an estimate of that day."""
        self.day = day
        self.assumptions: list[Assumption] = []
        self.stale: list[StalePrice] = []
        self.warnings: list[str] = []

    @property
    def refused(self) -> bool:
        """Say whether any price used is too old to be used without consent."""
        return any(price.refused for price in self.stale)

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
        self._note(price.name, value, price.unit, price, price.confidence)
        return price

    def use_rate(self, name: str, value: object, rate: Dated, confidence: str) -> None:
        """Note a token price that did not come as a catalogue row."""
        self._note(name, str(value), "usd_per_mtok", rate, confidence)

    def _note(self, name: str, value: str, unit: str, price: Dated, confidence: str) -> None:
        if any(known.name == name for known in self.assumptions):
            return
        sureness: dict[str, Sureness] = {
            "second_hand": "second_hand",
            "secondary": "secondary",
            "conflict": "conflict",
        }
        self.assumptions.append(
            Assumption(
                name=name,
                value=value,
                unit=unit,
                source=price.source,
                as_of=price.as_of,
                confidence=sureness.get(confidence, "read"),
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

    def warn(self, text: str) -> None:
        """Note a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)
