"""Charts as inline SVG, drawn for a phone first: line, interval (forest) and bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from finetuning.pages.axes import Scale, scale_for
from finetuning.pages.blocks import DASHES, SERIES_COLOURS, escape, format_number

WIDTH: Final = 420
"""Width of every chart in its own units: text of 12 stays readable at 340 pixels."""

_LEFT, _RIGHT, _MOST_POINTS, _MOST_LETTERS = 52, 14, 400, 58


class Series(NamedTuple):
    """One line of a chart: its name in the legend, and its points."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: Sequence[tuple[float, str]] = (),
    log_y: bool = False,
) -> str:
    """Return lines over a common x axis; gaps stay gaps where a value is not finite.

    Args:
        series: Lines to draw; each is thinned to 400 points that keep its peaks.
        title: What the chart shows.
        x_label: Name and unit of the x axis.
        y_label: Name and unit of the y axis.
        marks: Vertical lines: x and a short text (for example the best checkpoint).
        log_y: Logarithmic y axis; values at or below zero become gaps.
    """
    runs = [_runs(one.points, log_y) for one in series]
    shown = [point for parts in runs for part in parts for point in part]
    where = [x for x, _ in marks if math.isfinite(x)]
    top, bottom = 12 + 15 * min(len(where), 3), 250
    x_scale = scale_for([x for x, _ in shown] + where, _LEFT, WIDTH - _RIGHT, pad=0.01)
    y_scale = scale_for([y for _, y in shown], bottom, top, log=log_y)
    parts = [*_x_axis(x_scale, top, bottom, x_label), *_y_axis(y_scale, y_label)]
    for index, line in enumerate(runs):
        parts += [_path(part, x_scale, y_scale, index) for part in line]
    ordered = sorted(mark for mark in marks if math.isfinite(mark[0]))
    parts += [_mark(x_scale(x), k % 3, top, bottom, text) for k, (x, text) in enumerate(ordered)]
    names = [one.name for one in series] if len(series) > 1 else []
    return _figure(title, f"{title}. {y_label}; {x_label}.", parts, bottom + 40, names)


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    title: str,
    x_label: str,
    zero: float = 0.0,
    margin: float | None = None,
) -> str:
    """Return a forest plot: one interval per row against zero and, if given, the margin.

    Args:
        rows: Label, point, low, high. Label and numbers stand above each interval.
        title: What the chart shows.
        x_label: Name and unit of the x axis.
        zero: Where the line of no difference stands.
        margin: Half-width of the band around ``zero`` that counts as no difference.
    """
    finite = [v for row in rows for v in row[1:] if math.isfinite(v)] + [zero]
    if margin is not None:
        finite += [zero - margin, zero + margin]
    top, step = 14, 36
    bottom = top + step * max(1, len(rows))
    scale = scale_for(finite, 16, WIDTH - 16)
    parts: list[str] = []
    if margin is not None:
        left, right = scale(zero - margin), scale(zero + margin)
        parts.append(
            f'<rect class="band" x="{left}" y="{top}" width="{round(right - left, 2)}" '
            f'height="{bottom - top}"/>'
        )
    parts += _x_axis(scale, top, bottom, x_label)
    parts.append(_segment("axis", scale(zero), top, scale(zero), bottom))
    for index, row in enumerate(rows):
        parts += _interval(row, scale, top + step * index, index)
    spoken = "; ".join(f"{row[0]} {_interval_words(row)}" for row in rows)
    return _figure(title, f"{title}. {x_label}. {spoken}", parts, bottom + 40, [])


def bar_chart(rows: Sequence[tuple[str, float]], *, title: str, x_label: str) -> str:
    """Return horizontal bars from zero, each with its label and value above it.

    Args:
        rows: Label and value.
        title: What the chart shows.
        x_label: Name and unit of the x axis.
    """
    finite = [value for _, value in rows if math.isfinite(value)]
    top, step = 10, 34
    bottom = top + step * max(1, len(rows))
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if low == high:
        high = 1.0
    room = 0.04 * (high - low)
    scale = Scale(low - (room if low < 0 else 0), high + room, 16, WIDTH - 16)
    parts = _x_axis(scale, top, bottom, x_label)
    for index, (label, value) in enumerate(rows):
        y = top + step * index
        parts.append(_label(16, y + 12, f"{label}: {format_number(value)}"))
        if math.isfinite(value):
            left, right = sorted((scale(0.0), scale(value)))
            parts.append(
                f'<rect x="{left}" y="{y + 17}" width="{max(0.5, round(right - left, 2))}" '
                f'height="12" rx="1" style="fill:var(--s{int(value < 0)})"/>'
            )
    parts.append(_segment("axis", scale(0.0), top, scale(0.0), bottom))
    spoken = "; ".join(f"{label} {format_number(value)}" for label, value in rows)
    return _figure(title, f"{title}. {x_label}. {spoken}", parts, bottom + 40, [])


def _runs(points: Sequence[tuple[float, float]], log_y: bool) -> list[list[tuple[float, float]]]:
    """Split a line where it cannot be drawn, and thin what is left."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    total = sum(map(len, runs))
    return [_thin(run, max(4, _MOST_POINTS * len(run) // total)) for run in runs if run]


def _thin(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Keep the lowest and the highest point of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    width = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), width):
        part = range(start, min(start + width, len(points)))
        low = min(part, key=lambda i: points[i][1])
        high = max(part, key=lambda i: points[i][1])
        kept += [points[i] for i in sorted({low, high})]
    return kept


def _path(points: list[tuple[float, float]], x_scale: Scale, y_scale: Scale, index: int) -> str:
    colour = index % SERIES_COLOURS
    if len(points) == 1:
        x, y = points[0]
        return f'<circle cx="{x_scale(x)}" cy="{y_scale(y)}" r="3" style="fill:var(--s{colour})"/>'
    steps = " ".join(f"{x_scale(x)},{y_scale(y)}" for x, y in points)
    return f'<polyline class="series" {_stroke(index)} points="{steps}"/>'


def _stroke(index: int) -> str:
    dash = DASHES[index // SERIES_COLOURS % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'style="stroke:var(--s{index % SERIES_COLOURS})"{dashed}'


def _mark(x: float, row: int, top: float, bottom: float, text: str) -> str:
    anchor, shift = ("end", -4) if x > WIDTH * 0.6 else ("start", 4)
    y = 14 + 15 * row
    return _segment("mark", x, y - 8, x, bottom) + _label(x + shift, y, text, anchor=anchor)


def _interval(
    row: tuple[str, float, float, float], scale: Scale, y: float, index: int
) -> list[str]:
    _, point, low, high = row
    parts = [_label(16, y + 13, f"{row[0]}: {_interval_words(row)}")]
    stroke = f'style="stroke:var(--s{index % SERIES_COLOURS});stroke-width:2"'
    middle = y + 24
    if math.isfinite(low) and math.isfinite(high):
        left, right = scale(low), scale(high)
        for x1, y1, x2, y2 in (
            (left, middle, right, middle),
            (left, middle - 4, left, middle + 4),
            (right, middle - 4, right, middle + 4),
        ):
            parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {stroke}/>')
    if math.isfinite(point):
        fill = f'style="fill:var(--s{index % SERIES_COLOURS})"'
        parts.append(f'<circle cx="{scale(point)}" cy="{middle}" r="4" {fill}/>')
    return parts


def _interval_words(row: tuple[str, float, float, float]) -> str:
    point, low, high = (format_number(value) for value in row[1:])
    return f"{point} [{low}, {high}]"


def _x_axis(scale: Scale, top: float, bottom: float, label: str) -> list[str]:
    parts = [_segment("axis", scale.start, bottom, scale.end, bottom)]
    for tick in scale.ticks():
        x = scale(tick.value)
        parts.append(_segment("grid", x, top, x, bottom))
        parts.append(_label(x, bottom + 15, tick.label, anchor="middle", soft=True))
    middle = (scale.start + scale.end) / 2
    return [*parts, _label(middle, bottom + 32, label, anchor="middle")]


def _y_axis(scale: Scale, label: str) -> list[str]:
    parts = [_segment("axis", _LEFT, scale.start, _LEFT, scale.end)]
    for tick in scale.ticks():
        y = scale(tick.value)
        parts.append(_segment("grid", _LEFT, y, WIDTH - _RIGHT, y))
        parts.append(_label(_LEFT - 5, y + 4, tick.label, anchor="end", soft=True))
    middle = round((scale.start + scale.end) / 2, 2)
    turned = f'transform="rotate(-90 10 {middle})"'
    return [*parts, _label(10, middle, label, anchor="middle", extra=turned)]


def _segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _label(
    x: float, y: float, text: str, *, anchor: str = "start", soft: bool = False, extra: str = ""
) -> str:
    kind = ' class="soft"' if soft else ""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}"{kind} {extra}>{escape(_short(text))}</text>'
    )


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _figure(title: str, description: str, parts: list[str], height: float, names: list[str]) -> str:
    keys = "".join(
        f'<li><svg viewBox="0 0 32 10" aria-hidden="true"><line x1="0" y1="5" x2="32" y2="5" '
        f'stroke-width="3" {_stroke(index)}/></svg> {escape(name)}</li>'
        for index, name in enumerate(names)
    )
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg></figure>"
    )
