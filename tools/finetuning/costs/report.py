"""An estimate as a page that stands alone, the refusal of old prices, and the next calls."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from finetuning import pages
from finetuning.costs.economics import Case
from finetuning.costs.payback import unknown
from finetuning.costs.request import Ledger, Request
from finetuning.costs.schema import CostEstimate, Training, money
from finetuning.costs.training import Priced
from finetuning.files import write_text
from finetuning.providers.terms import Availability
from finetuning.records import Json, NextCall

_UNDRAWN: Final = frozenset({"tuned_token_billed_elsewhere"})
"""Alternatives of another provider: their training is not priced here, so they have no curve."""


def refuse(request: Request, priced: Priced, ledger: Ledger, known: Availability) -> CostEstimate:
    """Return the result for prices that are too old: no sums, and the call that accepts them."""
    names = ", ".join(price.name for price in ledger.stale if price.refused)
    bill = Training(
        billed_tokens=priced.training.billed_tokens, usd=None, formula=priced.training.formula
    )
    return CostEstimate(
        provider=request.provider,
        model=known.model or request.model,
        method=request.method,
        as_of=request.day,
        training=bill,
        gpu=priced.gpu,
        break_even=unknown(f"Not computed: the price of {names} was read over 180 days ago."),
        assumptions=ledger.in_order(),
        total=len(ledger.assumptions),
        stale_prices=ledger.stale,
        base_retires_on=known.base_retires_on,
        warnings=ledger.warnings,
        fit_facts=request.facts(None),
        next=[
            NextCall(
                tool="estimate_cost",
                args={**_arguments(request), "accept_stale": True},
                why="Use the old prices knowingly",
            )
        ],
    )


def _arguments(request: Request) -> dict[str, Json]:
    """Return the arguments that repeat this call."""
    given: dict[str, Json] = {
        "provider": request.provider,
        "model": request.model,
        "method": request.method,
        "tuning": request.tuning,
        "data": request.data,
        "training_tokens": request.training_tokens,
        "n_epochs": request.n_epochs,
        "gpu": request.gpu,
        "n_gpus": request.n_gpus,
        "labour_usd": str(request.labour_usd),
        "as_of": request.day.isoformat(),
    }
    for name in ("rft", "serving", "current"):
        value = getattr(request, name)
        given[name] = None if value is None else value.model_dump(mode="json", exclude_none=True)
    given["prices"] = request.overrides.model_dump(mode="json", exclude_none=True) or None
    return {name: value for name, value in given.items() if value is not None}


def next_calls(request: Request, facts: dict[str, Json]) -> list[NextCall]:
    """Return the calls that make sense after an estimate."""
    calls: list[NextCall] = []
    if request.data is not None and request.provider == "local":
        calls.append(
            NextCall(
                tool="configure_training",
                args={
                    "base_model": request.model,
                    "data": request.data,
                    "method": request.method,
                    "tuning": request.tuning,
                },
                why="Decide the knobs, and check that it fits this machine",
            )
        )
    if request.serving is not None and request.current is not None:
        calls.append(
            NextCall(tool="assess_fit", args={"facts": facts}, why="Weigh the money with the rest")
        )
    return calls


def write_page(
    estimate: CostEstimate, case: Case, folder: Path, *, language: Literal["en", "zh"] = "en"
) -> Path:
    """Write ``cost.html`` with the sums, the curves and the factors; return its path.

    Args:
        estimate: The finished estimate.
        case: The numbers behind it.
        folder: Where to write.
        language: Language of the page: en or zh.
    """
    sections = [_verdict(estimate), pages.key_values(_sums(estimate))]
    if estimate.alternatives:
        sections.append(
            pages.table(
                ["per month", "USD", "note"],
                [
                    [_label(a.name, a.provider), _dollars(a.usd_per_month), a.note]
                    for a in estimate.alternatives
                ],
                caption="The same requests, month by month",
            )
        )
        sections.append(
            pages.line_chart(
                _curves(estimate, case),
                title="Cumulative cost",
                x_label="months",
                y_label="USD",
            )
        )
    if estimate.tornado:
        sections.append(
            pages.bar_chart(
                [(s.factor, float(abs(s.high_usd - s.low_usd))) for s in estimate.tornado],
                title="What moves the result most",
                x_label="USD between the low and the high end",
            )
        )
    if estimate.warnings:
        sections += [pages.heading("Warnings"), pages.bullet_list(estimate.warnings)]
    sections += [
        pages.heading("What this stands on"),
        pages.table(
            ["assumption", "value", "unit", "source", "as of", "confidence"],
            [
                [a.name, a.value, a.unit, a.source, a.as_of, a.confidence]
                for a in estimate.assumptions
            ],
        ),
    ]
    path = folder / "cost.html"
    write_text(
        path,
        pages.page(
            f"Cost of tuning {estimate.model} at {estimate.provider}",
            sections,
            language=language,
            subtitle=f"{estimate.method}, as of {estimate.as_of.isoformat()}, US dollars",
        ),
    )
    return path


def _verdict(estimate: CostEstimate) -> str:
    even = estimate.break_even
    if even.probability_within_horizon is None:
        return pages.banner("neutral", estimate.summary().split(". ")[0], even.reason)
    if even.months is None:
        return pages.banner("bad", "Never pays", even.reason)
    likely = even.probability_within_horizon >= 0.5
    headline = f"Pays within the horizon in {even.probability_within_horizon:.0%} of the draws"
    return pages.banner("good" if likely else "warning", headline, even.reason)


def _sums(estimate: CostEstimate) -> list[tuple[str, str]]:
    pairs = [("billing rule", estimate.training.formula)]
    if (cost := estimate.training.usd) is not None:
        pairs.append(("one job", f"{money(cost.point)} ({money(cost.p10)} to {money(cost.p90)})"))
    if estimate.one_off_usd is not None:
        pairs.append(("before the first request", money(estimate.one_off_usd)))
    if estimate.npv_usd is not None:
        pairs.append(("net present value", money(estimate.npv_usd)))
    if estimate.base_retires_on is not None:
        pairs.append(("the base retires on", estimate.base_retires_on.isoformat()))
    return pairs


def _curves(estimate: CostEstimate, case: Case) -> list[pages.Series]:
    return [
        pages.Series(
            _label(option.name, option.provider),
            [
                (float(month), float(_start(option.name, case) + option.usd_per_month * month))
                for month in range(case.horizon + 1)
            ],
        )
        for option in estimate.alternatives
        if option.usd_per_month is not None and option.name not in _UNDRAWN
    ]


def _start(name: str, case: Case) -> Decimal:
    return case.one_off if name.startswith("tuned") else Decimal(0)


def _label(name: str, provider: str | None) -> str:
    words = name.replace("_", " ")
    return f"{words} ({provider})" if provider else words


def _dollars(value: Decimal | None) -> str:
    return "not known" if value is None else money(value)
