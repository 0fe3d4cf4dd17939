"""Turns the arguments of an estimate into a checked request."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from finetuning.costs.amounts import (
    Counted,
    count_data,
    decide_epochs,
    training_amounts,
)
from finetuning.costs.inputs import CurrentModel, PriceOverrides, RftJob, ServingTraffic
from finetuning.costs.job import Job
from finetuning.costs.ledger import Ledger
from finetuning.errors import BadInputError
from finetuning.providers import Method, ProviderId, Tuning
from finetuning.providers.catalogue import find_model, load_provider
from finetuning.providers.terms import Availability, TrainingAmounts, availability, billing_rule


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
    rule = billing_rule(entry, request.method)
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


def amounts_of(
    request: Request, job: Job, ledger: Ledger
) -> tuple[TrainingAmounts | None, Counted | None]:
    """Count what is trained on; (None, None) where the rule counts something else."""
    if job.formula in {"hours_grader", "job"}:
        return None, None
    if request.data is not None:
        counted = count_data(request.data, request.model, request.max_length, ledger)
    elif request.training_tokens is not None:
        counted = Counted(train_tokens=request.training_tokens)
        ledger.assume("training_tokens", request.training_tokens, "tokens", "as given", "given")
    else:
        return None, None
    if request.validation_tokens is not None:
        counted = counted.model_copy(update={"validation_tokens": request.validation_tokens})
    epochs = decide_epochs(request.n_epochs, counted.n_rows, job.provider, job.model, ledger)
    amounts = training_amounts(
        counted,
        job.formula,
        n_epochs=epochs,
        n_evals=request.n_evals,
        packing=request.packing,
        max_length=request.max_length,
    )
    return amounts, counted
