"""Which options meet the constraints, why the others do not, and in which order they stand."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

import msgspec

from finetuning.providers import (
    Constraints,
    Excluded,
    Option,
    SourceRead,
    Tuning,
    Workload,
)
from finetuning.providers.catalogue import (
    ModelEntry,
    Provider,
    all_providers,
    base_of,
    load_provider,
)
from finetuning.providers.comparison import (
    of_family,
    reasons_against,
    region_of,
    weights_leave,
)
from finetuning.providers.offers import MONTHS, Job, Way, serve, train, year
from finetuning.providers.pricing import Book, PriceUsed
from finetuning.providers.terms import Availability, availability

SOON_DAYS: Final = 180
"""A base that retires sooner never stands first: the tuned model dies with it."""
YEAR_DAYS: Final = 365
SURE: Final = {"read": "1", "second_hand": "0.95", "secondary": "0.9", "conflict": "0.85"}
"""Factor of the score by how sure the least sure price is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An option with what its place in the order depends on."""

    option: Option
    soon: bool
    known: bool
    usd: Decimal
    factor: Decimal
    old_prices: list[PriceUsed] = field(default_factory=list["PriceUsed"])


_available = functools.lru_cache(maxsize=2048)(availability)


def rank(
    wanted: Constraints, work: Workload | None, day: dt.date
) -> tuple[list[Candidate], list[Excluded]]:
    """Return the options, best first, and everything else with the reason.

    Args:
        wanted: The constraints.
        work: What is trained and served; None prices the training of a million tokens.
        day: The day of the answer.
    """
    region = None if wanted.region is None else region_of(wanted.region)
    found: list[Candidate] = []
    refused: list[Excluded] = []
    for entry in all_providers():
        general = _available(entry.id, None, wanted.customer, day)
        if not general.can_start:
            refused.append(
                Excluded(provider=entry.id, excluded_because=general.why, sources=_read(general))
            )
            continue
        models = _models(entry, wanted)
        if not models:
            refused.append(Excluded(provider=entry.id, excluded_because=_no_model(entry, wanted)))
        for model in models:
            known = _available(entry.id, model.id, wanted.customer, day)
            reasons = list(reasons_against(entry, model, wanted, region, known))
            if reasons:
                pages = [] if known.can_start else _read(known)
                refused.append(
                    Excluded(
                        provider=entry.id,
                        model=model.id,
                        excluded_because=reasons[0],
                        sources=pages,
                    )
                )
                continue
            candidate = _candidate(entry, model, wanted, work, known)
            limit = wanted.max_monthly_usd
            if limit is not None and (over := _over(candidate.option, limit)) is not None:
                refused.append(Excluded(provider=entry.id, model=model.id, excluded_because=over))
            else:
                found.append(candidate)
    return _ordered(found, refused), _grouped(refused)


def _models(entry: Provider, wanted: Constraints) -> list[ModelEntry]:
    """Return the models to judge; a machine that takes any base is judged with open bases."""
    if not entry.any_model:
        return [model for model in entry.models if model.methods]
    bases = load_provider("local").models
    own = tuple(entry.billing)
    if wanted.model_family is None:
        against = (list(reasons_against(entry, base, wanted, None, None)) for base in bases)
        fitting = [base for base, why in zip(bases, against, strict=True) if not why]
        fitting.sort(key=lambda base: (not base.representative, -(base.params_b or 0)))
        bases = tuple(fitting[:1]) or bases[:1]
    else:
        bases = tuple(base for base in bases if of_family(base, wanted.model_family))
    return [msgspec.structs.replace(base, methods=own) for base in bases]


def _no_model(entry: Provider, wanted: Constraints) -> str:
    if entry.any_model:
        return f"no base of the family {wanted.model_family!r} is in the catalogue"
    return "trains nothing; it only serves adapters trained elsewhere"


def _candidate(
    entry: Provider,
    model: ModelEntry,
    wanted: Constraints,
    work: Workload | None,
    known: Availability,
) -> Candidate:
    day = known.as_of
    book = Book(day)
    free = weights_leave(entry, model)
    tuning: Tuning = wanted.tuning or "lora"
    plain = work or Workload(
        training_tokens=1_000_000, requests_per_month=0, tokens_in=0, tokens_out=0
    )
    job = train(entry, model, wanted.method, tuning, book, plain)
    ways = serve(entry, model, book, plain, weights=free)
    way = ways[0] if ways else None
    end = known.base_retires_on
    left = None if end is None else (end - day).days
    jobs = plain.cycles + (left is not None and left <= YEAR_DAYS)
    spread = None if work is None else year(job, way, plain, jobs)
    soon = left is not None and left <= SOON_DAYS
    usd = Decimal(0) if job is None else job.usd_per_mtok if work is None else Decimal(0)
    usd = usd if spread is None else spread.p50
    requests = None if work is None else work.requests_per_month
    option = Option(
        provider=entry.id,
        model=model.id,
        status=known.status,
        why=_why(entry, model, known, job, way, work, wanted),
        dates=known.dates,
        methods=list(model.methods),
        serving=[way.offer(requests) for way in ways[:3]],
        weights_downloadable={"yes": True, "no": False}.get(model.weights or entry.weights),
        residency=(entry.data.residency if entry.data is not None else "") or "not known",
        latency=_latency(way),
        train_usd_per_mtok=None if job is None else job.usd_per_mtok,
        usd_12_months=spread,
        base_retires_on=end,
        score=0.0,
        sources=_sources(entry, model, known, book),
    )
    old = [price for price in (*book.refused, *book.used) if price.stale]
    factor = _factor(known, way, left, book)
    priced = spread is not None if work is not None else job is not None
    return Candidate(option, soon, priced, usd, factor, old)


def _read(known: Availability) -> list[SourceRead]:
    facts = {fact.url: fact for fact in known.sources}.values()
    return [
        SourceRead(url=fact.url, checked=fact.checked, confidence=fact.confidence) for fact in facts
    ][:2]


def _factor(known: Availability, way: Way | None, left: int | None, book: Book) -> Decimal:
    factor = Decimal("0.8") if known.status == "preview" else Decimal(1)
    if way is not None and way.serving.status == "preview":
        factor *= Decimal("0.9")
    factor *= min((Decimal(SURE[price.confidence]) for price in book.used), default=Decimal(1))
    if any(price.stale for price in book.used):
        factor *= Decimal("0.9")
    if left is not None and left <= YEAR_DAYS:
        factor *= Decimal("0.3") if left <= SOON_DAYS else Decimal("0.7")
    return factor


def _why(
    entry: Provider,
    model: ModelEntry,
    known: Availability,
    job: Job | None,
    way: Way | None,
    work: Workload | None,
    wanted: Constraints,
) -> str:
    said = [known.why]
    if entry.any_model:
        said.append("any open base runs here, priced with this one")
    said.append("its training price is not known" if job is None else job.words)
    if work is not None and way is not None:
        month = way.monthly(work.requests_per_month)
        words = "at a price not known" if month is None else f"{way.words}, ${month:,.2f} a month"
        said.append(f"served at {way.provider} {words}")
    elif way is None:
        said.append("how it is served is not known")
    if wanted.languages and not (base_of(model) or model).languages:
        claimed = (base_of(model) or model).languages_claimed
        said.append(
            f"its makers claim {claimed} languages, test {', '.join(wanted.languages)}"
            if claimed
            else f"which languages it knows was not read, test {', '.join(wanted.languages)}"
        )
    return "; ".join(said)


def _latency(way: Way | None) -> str:
    if way is None:
        return "not known"
    if way.serving.latency:
        return way.serving.latency
    return "your load on your replica decides" if way.serving.billing == "hour" else "not known"


def _sources(
    entry: Provider, model: ModelEntry, known: Availability, book: Book
) -> list[SourceRead]:
    """Return at most two pages: of the dates, of the model, of the first prices."""
    pages = [(fact.url, fact.checked, str(fact.confidence)) for fact in known.sources[:1]]
    source = entry.sources.get(model.source)
    if source is not None:
        pages.append((source.url, source.checked, str(source.confidence)))
    pages += [(price.source, price.as_of, str(price.confidence)) for price in book.used]
    unique = list(dict.fromkeys(pages))[:2]
    return [SourceRead(url=url, checked=day, confidence=sure) for url, day, sure in unique]


def _over(option: Option, limit: Decimal) -> str | None:
    spread = option.usd_12_months
    if spread is None:
        return "its price is not known, so a limit cannot be checked"
    month = spread.p50 / MONTHS
    return f"${month:,.2f} a month is over ${limit:,.2f}" if month > limit else None


def _ordered(found: list[Candidate], refused: list[Excluded]) -> list[Candidate]:
    """Return candidates with their scores, best first; a base that ends soon never leads."""
    known = [candidate.usd for candidate in found if candidate.known]
    cheapest = max(min(known, default=Decimal(0)), Decimal("0.01"))
    scored = [_scored(candidate, cheapest) for candidate in found]
    scored.sort(
        key=lambda c: (c.soon, not c.known, -c.option.score, c.option.provider, c.option.model)
    )
    if scored and scored[0].soon:
        for candidate in scored:
            option = candidate.option
            when = f"its base retires on {option.base_retires_on}, within {SOON_DAYS} days"
            refused.append(
                Excluded(
                    provider=option.provider,
                    model=option.model,
                    excluded_because=f"{when}; {option.why}",
                    sources=option.sources,
                )
            )
        return []
    return scored


def _scored(candidate: Candidate, cheapest: Decimal) -> Candidate:
    """Return the candidate with its score: cheapest ÷ its price, times what lowers the trust."""
    share = Decimal("0.01")
    if candidate.known:
        share = min(Decimal(1), cheapest / max(candidate.usd, Decimal("0.01")))
    score = float(round(share * candidate.factor, 4))
    return replace(candidate, option=candidate.option.model_copy(update={"score": score}))


def _grouped(refused: list[Excluded]) -> list[Excluded]:
    """Return exclusions, one row where a provider's models share the reason; whole ones first."""
    by_provider: dict[str, list[Excluded]] = {}
    for row in refused:
        by_provider.setdefault(row.provider, []).append(row)
    rows: list[Excluded] = []
    for provider, found in by_provider.items():
        models = [model for model in load_provider(provider).models if model.methods]
        if len(found) == len(models) and len({row.excluded_because for row in found}) == 1:
            found = [found[0].model_copy(update={"model": None})]
        rows += found
    return sorted(rows, key=lambda row: (row.model is not None, not row.sources))
