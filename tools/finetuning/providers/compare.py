"""The tool: which provider and base to take for these constraints, on a day, at which price.

Servers import this at their start: the catalogue and its prices are read when one compares.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING

from finetuning.errors import BadInputError
from finetuning.providers.comparison import (
    Constraints,
    Option,
    ProviderComparison,
    StaleRow,
    Workload,
)
from finetuning.records import Json, NextCall, page

if TYPE_CHECKING:
    from finetuning.providers.ranking import Candidate

WHERE = "compare_providers"


def compare_providers(
    constraints: Constraints,
    *,
    workload: Workload | None = None,
    as_of: str | None = None,
    limit: int | None = 50,
    offset: int = 0,
) -> ProviderComparison:
    """Rank the providers and bases that meet constraints on a day, with reasons.

    With a workload every option is priced over 12 months, training and serving together, served
    where it is cheapest. Closed services, and whatever a fact rules out, are listed with why. It
    opens no connection: facts and prices come from the dated catalogue.

    Args:
        constraints: What an option has to meet; method and customer are required.
        workload: Training tokens (or data) and monthly traffic; null: training price only.
        as_of: Day of the answer, for example 2026-11-20; null: today. A past day gives that
            day's answer.
        limit: Options and exclusions listed, 1 or more; null lists all.
        offset: Options and exclusions left out at the start, at least 0.

    Returns:
        Options best first, exclusions with their reason, prices that are old, assumptions.

    Raises:
        BadInputError: An argument is out of range, or a price limit comes without a workload.
        UnknownNameError: A region is not known.

    Source: the provider catalogue, each row with its page and day; knowledge: providers.md
    """
    from finetuning.providers.ranking import rank
    from finetuning.providers.terms import day_of

    wanted = Constraints.model_validate(constraints)
    work = None if workload is None else Workload.model_validate(workload)
    day = day_of(as_of, WHERE)
    if wanted.max_monthly_usd is not None and work is None:
        raise BadInputError(
            WHERE,
            "max_monthly_usd comes without a workload, so no month can be priced",
            "a workload beside it",
            "Pass workload={training_tokens, requests_per_month, tokens_in, tokens_out}",
        )
    assumptions = _assumptions(work)
    if work is not None and work.training_tokens is None:
        work = _counted(work, assumptions)
    candidates, excluded = rank(wanted, work, day)
    shown, more = page(candidates, limit, offset, where=WHERE)
    left_out, more_left_out = page(excluded, limit, offset, where=WHERE)
    options = [candidate.option for candidate in shown]
    return ProviderComparison(
        as_of=day,
        options=options,
        total=len(candidates),
        excluded=left_out,
        excluded_total=len(excluded),
        next_offset=more if more is not None else more_left_out,
        stale_rows=_stale(shown)[:limit],
        assumptions=assumptions,
        next=_next(options, wanted, work, day, bool(candidates)),
        fit_facts=_facts(wanted, work, day),
    )


def _assumptions(work: Workload | None) -> list[str]:
    if work is None:
        return ["no workload: ranked by the price of training one million tokens"]
    return [
        f"{work.cycles} training jobs, one more where the base retires within the year",
        "traffic 0.6 to 1.6 times what was said; GPUs at 0.25 to 0.45 of their peak",
        "quality is not compared and a small base is cheap: name model_family",
        "dedicated serving: the fewest GPUs that hold the weights, 730 hours a month; its "
        "throughput was not checked",
    ]


def _counted(work: Workload, assumptions: list[str]) -> Workload:
    """Return the workload with the tokens of its data counted."""
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


def _stale(shown: Iterable[Candidate]) -> list[StaleRow]:
    """Return the old prices of the listed options, each once, refused ones first."""
    rows = {price.name: price for candidate in shown for price in candidate.old_prices}
    ordered = sorted(rows.values(), key=lambda price: (not price.refused, -price.age_days))
    return [
        StaleRow(name=p.name, age_days=p.age_days, as_of=p.as_of, refused=p.refused)
        for p in ordered
    ]


def _facts(wanted: Constraints, work: Workload | None, day: dt.date) -> dict[str, Json]:
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


def _next(
    options: list[Option], wanted: Constraints, work: Workload | None, day: dt.date, some: bool
) -> list[NextCall]:
    if not options:
        facts = {"facts": _facts(wanted, work, day)}
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
