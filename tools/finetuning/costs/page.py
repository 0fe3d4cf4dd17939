"""An estimate as a page that stands alone: sums, pictures, and what they stand on."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from finetuning import pages
from finetuning.costs.economics import Case
from finetuning.costs.payback import break_even_months, draw_outcomes
from finetuning.costs.report import CHINESE
from finetuning.costs.schema import Alternative, CostEstimate, money
from finetuning.errors import UnknownNameError
from finetuning.files import write_text
from finetuning.providers.terms import availability

_VOLUMES: Final = ("1/30", "1/10", "1/3", "1", "3", "10", "30")
_LENGTHS: Final = ("1/4", "1/2", "1", "2", "4")
"""Columns and rows of the heat map, as multiples of the traffic and the length given."""
_DATES: Final = {
    "preview_since": "preview",
    "training_end_new": "closed to new customers",
    "training_end": "last job",
    "inference_end": "tuned models end",
}
_ENDS: Final = frozenset({"last job", "tuned models end", "the base ends"})
_KINDS: Final[dict[str, Literal["open", "closing", "closed", "preview"]]] = {
    "open": "open",
    "preview": "preview",
    "closed": "closed",
}
"""Dates of the catalogue in words, those that end a service, and its state as a colour."""


def write_page(
    estimate: CostEstimate,
    case: Case,
    folder: Path,
    *,
    language: Literal["en", "zh"] = "en",
    png: bool = False,
) -> Path:
    """Write ``cost.html`` with the sums and the pictures; return its path.

    Args:
        estimate: The finished estimate.
        case: The numbers behind it.
        folder: Where to write.
        language: Language of the page: en or zh.
        png: Write each picture as ``cost-1.png`` and so on too; takes the extra ``plots``.
    """
    page = _Page(estimate, case, language)
    charts = page.charts()
    sections = [page.verdict(), pages.key_values(page.sums()), *page.options(), *charts]
    sections += [*page.remarks(), page.assumptions()]
    path = folder / "cost.html"
    title = f"{page.say('Cost of tuning')}: {estimate.model}, {estimate.provider}"
    below = f"{estimate.method}, {estimate.as_of.isoformat()}, USD"
    write_text(path, pages.page(title, sections, language=language, subtitle=below))
    for number, chart in enumerate(charts if png else [], start=1):
        pages.write_png(chart, folder / f"cost-{number}.png")
    return path


class _Page:
    """The parts of the page of one estimate, in one language."""

    def __init__(self, estimate: CostEstimate, case: Case, language: str) -> None:
        self.estimate, self.case, self.language = estimate, case, language
        self.priced = [a for a in estimate.alternatives if a.usd_per_month is not None]

    def say(self, text: str, *values: object) -> str:
        """Return a text of the page in its language, with values in its places."""
        return (CHINESE[text] if self.language == "zh" else text).format(*values)

    def verdict(self) -> str:
        even = self.estimate.break_even
        if even.probability_within_horizon is None:
            return pages.banner("neutral", self.estimate.summary().split(". ")[0], even.reason)
        if even.months is None:
            return pages.banner("bad", self.say("Never pays"), even.reason)
        share = f"{even.probability_within_horizon:.0%}"
        kind: pages.BannerKind = "good" if even.probability_within_horizon >= 0.5 else "warning"
        said = self.say("Pays within the horizon in {} of the draws", share)
        return pages.banner(kind, said, even.reason)

    def sums(self) -> list[tuple[str, str]]:
        told = self.estimate
        pairs = [("billing rule", told.training.formula)]
        if (cost := told.training.usd) is not None:
            words = f"{money(cost.point)} ({money(cost.p10)} – {money(cost.p90)})"
            pairs.append(("one job", words))
        if told.one_off_usd is not None:
            pairs.append(("before the first request", money(told.one_off_usd)))
        if told.npv_usd is not None:
            pairs.append(("net present value", money(told.npv_usd)))
        if told.base_retires_on is not None:
            pairs.append(("the base retires on", told.base_retires_on.isoformat()))
        return [(self.say(name), value) for name, value in pairs]

    def options(self) -> list[str]:
        rows = [
            [_label(a), _dollars(a.usd_per_month) or self.say("not known"), a.note]
            for a in self.estimate.alternatives
        ]
        heads = [self.say("per month"), "USD", self.say("note")]
        caption = self.say("The same requests, month by month")
        return [pages.table(heads, rows, caption=caption)] if rows else []

    def charts(self) -> list[str]:
        known = self.estimate.break_even.probability_within_horizon is not None
        charts = [self._payback()] if known else []
        if self.priced:
            charts.append(
                pages.line_chart(
                    [self._curve(option) for option in self.priced],
                    title=self.say("Cumulative cost"),
                    x_label=self.say("months"),
                    y_label="USD",
                )
            )
        if self.estimate.tornado:
            charts.append(self._tornado())
        if len(self.priced) > 2 and self.case.requests > 0:
            charts.append(self._map())
        if self.priced or self.estimate.base_retires_on is not None:
            charts.append(self._life())
        return charts

    def _payback(self) -> str:
        case, point = self.case, break_even_months(self.case)
        months = range(case.horizon + 1)
        seed = int(str(self.estimate.settings.get("seed", 0)))
        band = draw_outcomes(case, seed).band(months)
        forced = case.retrain_at
        gains = [
            (
                float(m),
                float(case.saving * m - case.one_off - case.again * sum(f <= m for f in forced)),
            )
            for m in months
        ]
        marks: list[tuple[float, str]] = []
        notice = self.say("Never pays back within {} months.", case.horizon)
        if case.saving <= 0:
            notice = self.say(
                "Never pays back: a month costs {} more than today.", money(-case.saving)
            )
        elif point is not None and point <= case.horizon:
            when = f"{point:.1f}" if point >= Decimal("0.1") else "< 0.1"
            marks, notice = [(float(point), self.say("after {} months", when))], ""
        return pages.line_chart(
            [pages.Series(self.say("gained so far, all spending taken off"), gains)],
            title=self.say("When it pays back"),
            x_label=self.say("months"),
            y_label=self.say("net gain, USD"),
            marks=marks,
            band=[(float(month), low, high) for month, low, _, high in band],
            band_name=self.say("P10 to P90 of 10,000 draws"),
            notice=notice,
        )

    def _curve(self, option: Alternative) -> pages.Series:
        each, months = option.usd_per_month or Decimal(0), range(self.case.horizon + 1)
        points = [(float(m), float(each * m + _spent(self.case, m, option))) for m in months]
        return pages.Series(_label(option), points)

    def _tornado(self) -> str:
        told = self.estimate
        point = told.one_off_usd if told.npv_usd is None else told.npv_usd
        name = "spent before the first request, USD" if told.npv_usd is None else ""
        return pages.tornado_chart(
            [(s.factor, float(s.low_usd), float(s.high_usd)) for s in told.tornado],
            point=float(point or 0),
            title=self.say("What moves the result most"),
            x_label=self.say(name or "net present value, USD"),
            ends=(self.say("low end"), self.say("high end")),
        )

    def _map(self) -> str:
        volumes = [round(self.case.requests * _fraction(text)) for text in _VOLUMES]
        cells = [
            [_label(self._cheapest(volume, _fraction(length))) for volume in volumes]
            for length in _LENGTHS
        ]
        title = (
            "Cheapest option, one-off cost spread over {} months; without a cheaper base, which "
            "only a test can rule in"
        )
        return pages.heat_map(
            cells,
            columns=[_short(volume) for volume in volumes],
            rows=_LENGTHS,
            title=self.say(title, self.case.horizon),
            x_label=self.say("requests per month"),
            y_label=self.say("tokens, × today"),
            here=(_VOLUMES.index("1"), _LENGTHS.index("1")),
        )

    def _cheapest(self, volume: int, length: Decimal) -> Alternative:
        def monthly(option: Alternative) -> Decimal:
            once = _spent(self.case, self.case.horizon, option) / self.case.horizon
            return option.fixed_usd + volume * length * option.request_usd + once

        return min((a for a in self.priced if a.name != "cheaper_base"), key=monthly)

    def _life(self) -> str:
        told, case = self.estimate, self.case
        start, planned = told.as_of, _later(told.as_of, case.horizon)
        days = [_later(start, month) for month in case.retrain_at]
        again = [(day, f"{self.say('trained again')}, {money(case.again)}") for day in days]
        trainers = dict.fromkeys(
            [(told.provider, told.model)]
            + [(a.provider, a.model) for a in self.priced if a.name.startswith("tuned")]
        )
        rows = [self._service(str(who), what) for who, what in trainers if who is not None]
        rows.append(pages.TimelineRow(self.say("tuned model, as planned"), planned, again))
        known = [day for row in rows for day, _ in row.events]
        return pages.timeline_chart(
            rows,
            start=min([start, *(day for day in known if day > _later(start, -12))]),
            end=max([planned, *known]) + dt.timedelta(days=30),
            today=start,
            title=self.say("How long each service and the tuned model live"),
        )

    def _service(self, provider: str, model: str | None) -> pages.TimelineRow:
        """Return until when a base can be tuned at a provider, with its dates in words."""
        try:
            known = availability(provider, model, as_of=self.estimate.as_of)
        except UnknownNameError:  # a base that is brought along, or one's own
            known = availability(provider, as_of=self.estimate.as_of)
        dates = {_DATES[name]: day for name, day in known.dates.items() if name in _DATES}
        if known.base_retires_on is not None:
            dates["the base ends"] = known.base_retires_on
        events = sorted((day, self.say(words)) for words, day in dates.items())
        until = min((d for w, d in dates.items() if w in _ENDS), default=None)
        kind = _KINDS.get(known.status, "closing")
        return pages.TimelineRow(f"{provider}: {model or '*'}", until, events, kind)

    def remarks(self) -> list[str]:
        checks = [f"{'✓' if c.ok else '✗'} {c.name}: {c.detail}" for c in self.estimate.sanity]
        lists = {"Checks": checks, "Warnings": self.estimate.warnings}
        return [
            pages.heading(self.say(name)) + pages.bullet_list(items)
            for name, items in lists.items()
            if items
        ]

    def assumptions(self) -> str:
        names = ("assumption", "value", "unit", "source", "as of", "confidence")
        rows = [
            [a.name, a.value, a.unit, a.source, a.as_of, a.confidence]
            for a in self.estimate.assumptions
        ]
        head = pages.heading(self.say("What this stands on"))
        return head + pages.table([self.say(name) for name in names], rows)


def _spent(case: Case, month: int, option: Alternative) -> Decimal:
    """Return what an option has cost until a month beyond serving: the project, and again."""
    if not option.name.startswith("tuned"):
        return Decimal(0)
    if option.training_usd is not None:
        case = replace(case, training=option.training_usd)
    return case.one_off + case.again * sum(m <= month for m in case.retrain_at)


def _later(day: dt.date, months: int) -> dt.date:
    return day + dt.timedelta(days=round(months * 365.25 / 12))


def _fraction(text: str) -> Decimal:
    above, _, below = text.partition("/")
    return Decimal(above) / Decimal(below or 1)


def _short(value: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def _label(option: Alternative) -> str:
    words = option.name.replace("_", " ")
    return f"{words} ({option.provider})" if option.provider else words


def _dollars(value: Decimal | None) -> str:
    return "" if value is None else money(value)
