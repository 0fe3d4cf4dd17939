"""Draws every HTML page: words, tables and charts, escaped, offline, light and dark.

Here: the charts for a decision about money and time: tornado, heat map and timeline.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Final, Literal, NamedTuple

from finetuning.pages.blocks import (
    SERIES_COLOURS,
    BannerKind,
    banner,
    bullet_list,
    escape,
    format_number,
    heading,
    key_values,
    page,
    paragraph,
    table,
)
from finetuning.pages.charts import (
    Series,
    bar_chart,
    interval_chart,
    line_chart,
    scatter_chart,
)
from finetuning.pages.drawing import (
    RIGHT,
    WIDTH,
    Scale,
    box,
    figure,
    fold,
    left_of,
    scale_for,
    segment,
    standalone_svg,
    text_at,
    turned,
    write_png,
    x_axis,
)
from finetuning.pages.sheets import review_sheet, text_fields

__all__ = [
    "BannerKind",
    "Series",
    "TimelineRow",
    "banner",
    "bar_chart",
    "bullet_list",
    "escape",
    "format_number",
    "heading",
    "heat_map",
    "interval_chart",
    "key_values",
    "line_chart",
    "page",
    "paragraph",
    "review_sheet",
    "scatter_chart",
    "standalone_svg",
    "table",
    "text_fields",
    "timeline_chart",
    "to_markdown",
    "tornado_chart",
    "write_png",
]


def tornado_chart(
    rows: Sequence[tuple[str, float, float]],
    *,
    point: float,
    title: str,
    x_label: str,
    ends: tuple[str, str] = ("low", "high"),
) -> str:
    """Return what each factor does to a result when it alone moves: one bar around the point.

    Args:
        rows: Factor, result at its low end, result at its high end; the largest swing first.
        point: The result as it is.
        title: What the chart shows.
        x_label: Name and unit of the result.
        ends: Names of the two ends of a factor, for the legend.
    """
    finite = [v for row in rows for v in row[1:] if math.isfinite(v)] + [point]
    top, step = 14, 36
    bottom = top + step * max(1, len(rows))
    scale = scale_for(finite, 16, WIDTH - 16)
    parts = x_axis(scale, top, bottom, x_label)
    parts.append(segment("mark", scale(point), top, scale(point), bottom))
    for index, (label, *values) in enumerate(rows):
        y = top + step * index
        for side, value in enumerate(values):
            left, right = sorted((scale(point), scale(value)))
            parts.append(box(left, y + 18, right - left, 12, f"s{side}"))
        low, high = map(format_number, values)
        parts.append(text_at(16, y + 13, f"{label}: {low} … {high}"))
    spoken = "; ".join(f"{n} {format_number(a)} to {format_number(b)}" for n, a, b in rows)
    keys = [(box(0, 0, 32, 10, f"s{side}"), name) for side, name in enumerate(ends)]
    said = f"{title}. {x_label}; now {format_number(point)}. {spoken}"
    return figure(title, said, parts, bottom + 40, keys)


class TimelineRow(NamedTuple):
    """One row of a timeline.

    ``until`` is the last day it can be used (None: no end known), ``kind`` decides the colour,
    and ``events`` are days with what happens on them.
    """

    label: str
    until: dt.date | None
    events: Sequence[tuple[dt.date, str]] = ()
    kind: Literal["open", "closing", "closed", "preview"] = "open"


_FILLS: Final = {"open": "good", "closing": "warning", "closed": "bad", "preview": "neutral"}


def timeline_chart(
    rows: Sequence[TimelineRow], *, start: dt.date, end: dt.date, today: dt.date, title: str
) -> str:
    """Return how long each row can be used, with its dates in words below its bar.

    Args:
        rows: What to draw, in reading order.
        start: First day of the picture.
        end: Last day of the picture; a bar that runs on reaches it.
        today: Gets a dashed line.
        title: What the chart shows.
    """
    scale = Scale(start.toordinal(), end.toordinal(), 16, WIDTH - 16)

    def place(day: dt.date) -> float:
        return scale(min(max(day, start), end).toordinal())

    parts: list[str] = []
    y, spoken = 20.0, list[str]()
    for row in rows:
        words = fold("; ".join(f"{day.isoformat()} {what}" for day, what in row.events))
        right = place(row.until) if row.until else place(end)
        parts += [text_at(16, y + 12, row.label)]
        parts += [box(16, y + 18, right - 16, 9, _FILLS[row.kind], opacity=0.75)]
        parts += [segment("axis", place(d), y + 15, place(d), y + 30) for d, _ in row.events]
        parts += [text_at(16, y + 42 + 15 * k, line, soft=True) for k, line in enumerate(words)]
        spoken.append(f"{row.label}: {row.kind}. {' '.join(words)}")
        y += 36 + 15 * len(words)
    years = [dt.date(year, 1, 1) for year in range(start.year + 1, end.year + 1)]
    behind = [segment("grid", place(day), 18, place(day), y) for day in years]
    behind.append(segment("mark", place(today), 18, place(today), y + 4))
    for day in years:
        side = min(place(day), WIDTH - 32)
        behind.append(text_at(side, 12, str(day.year), anchor="middle", soft=True))
    side = min(max(place(today), 46), WIDTH - 46)
    behind.append(text_at(side, y + 17, today.isoformat(), anchor="middle", soft=True))
    return figure(title, f"{title}. {' '.join(spoken)}", [*behind, *parts], y + 26)


def heat_map(
    cells: Sequence[Sequence[str]],
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
    here: tuple[int, int] | None = None,
) -> str:
    """Return a grid that says in each cell which option wins there, by letter and by colour.

    Args:
        cells: Name of the winner, one sequence per row, from the bottom row up.
        columns: Words below the columns.
        rows: Words beside the rows, from the bottom row up.
        title: What the chart shows.
        x_label: Name and unit of the columns.
        y_label: Name and unit of the rows.
        here: Column and row of the case at hand, which gets a frame; or None.
    """
    names = list(dict.fromkeys(name for row in cells for name in row))
    left = left_of(rows)
    wide = (WIDTH - left - RIGHT) / max(1, len(columns))
    top, tall = 10, 30
    bottom = top + tall * len(rows)
    parts: list[str] = []
    for k, (label, row) in enumerate(zip(rows, cells, strict=True)):
        y = bottom - tall * (k + 1)
        parts.append(text_at(left - 5, y + 19, label, anchor="end", soft=True))
        for column, name in enumerate(row):
            x, place = left + wide * column, names.index(name)
            parts.append(box(x + 1, y + 1, wide - 2, tall - 2, _tint(place), opacity=0.3))
            middle = round(x + wide / 2, 2)
            parts.append(text_at(middle, y + 19, _letter(place), anchor="middle"))
    for column, label in enumerate(columns):
        middle = round(left + wide * (column + 0.5), 2)
        parts.append(text_at(middle, bottom + 15, label, anchor="middle", soft=True))
    parts.append(text_at((left + WIDTH - RIGHT) / 2, bottom + 32, x_label, anchor="middle"))
    parts.append(turned((top + bottom) / 2, y_label))
    if here is not None:
        x, y = round(left + wide * here[0], 2), bottom - tall * (here[1] + 1)
        parts.append(
            f'<rect class="here" x="{x}" y="{y}" width="{round(wide, 2)}" height="{tall}"/>'
        )
    spoken = "; ".join(f"{label}: {', '.join(row)}" for label, row in zip(rows, cells, strict=True))
    keys = [
        (box(4, 0, 24, 10, _tint(k), opacity=0.3), f"{_letter(k)}: {name}")
        for k, name in enumerate(names)
    ]
    described = f"{title}. {y_label}, by {x_label} ({', '.join(columns)}). {spoken}"
    return figure(title, described, parts, bottom + 40, keys)


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place)


def _tint(place: int) -> str:
    return f"s{place % SERIES_COLOURS}"


class _Markdown(HTMLParser):
    """Turns the blocks of a page into Markdown; a chart becomes the words that describe it."""

    _BEFORE: Final = {
        "h1": "\n# ",
        "h2": "\n## ",
        "p": "\n",
        "li": "- ",
        "strong": "**",
        "mark": "**",
    }
    _AFTER: Final = {"h1": "\n", "h2": "\n", "p": "\n", "li": "\n", "strong": "**", "mark": "**",
                    "dt": ": ", "dd": "\n"}  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._columns = self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in {"svg", "head", "script", "figcaption"}:
            self._hidden += 1
            self.parts.append(f"{_bare(named.get('aria-label') or '')}\n" * ("aria-label" in named))
        elif tag in {"figure", "table"}:
            self.parts.append("\n")
        elif tag in {"th", "td"}:
            self.parts.append("| ")
            self._columns += tag == "th"
        else:
            self.parts.append("- " if tag == "dt" else self._BEFORE.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"svg", "head", "script", "figcaption"}:
            self._hidden -= 1
        elif tag in {"th", "td"}:
            self.parts.append(" ")
        elif tag == "tr":
            self.parts.append("|\n" + "|---" * self._columns + "|\n" * (self._columns > 0))
            self._columns = 0
        else:
            self.parts.append(self._AFTER.get(tag, ""))

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            ends = " " * data[0].isspace(), " " * data[-1].isspace()
            self.parts.append(ends[0] + _bare(data) + ends[1])


def _bare(text: str) -> str:
    """Return text on one line in which no sign is a mark of Markdown."""
    return re.sub(r"([\\`*_|<\[\]])", r"\\\1", " ".join(text.split()))


def to_markdown(html_page: str) -> str:
    """Return a page of this package as Markdown: the same words and tables, no pictures."""
    reader = _Markdown()
    reader.feed(html_page)
    return re.sub(r"\n{3,}", "\n\n", "".join(reader.parts)).strip() + "\n"
