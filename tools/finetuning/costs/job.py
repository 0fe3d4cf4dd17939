"""One training job, as everything that prices it sees it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from finetuning.costs.inputs import PriceOverrides, RftJob
from finetuning.providers.names import Method, Tuning
from finetuning.providers.schema import Formula, ModelEntry, Provider


@dataclass(frozen=True, slots=True)
class Job:
    """One training job: who bills it, by which rule, on what."""

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
