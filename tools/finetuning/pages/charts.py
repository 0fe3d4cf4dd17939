"""Charts as inline SVG, drawn for a phone first: line, interval (forest) and bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from finetuning.pages.blocks import SERIES_COLOURS, format_number
from finetuning.pages.drawing import (
    RIGHT,
    WIDTH,
    Scale,
    box,
    figure,
    fold,
    left_of,
    line_key,
    scale_for,
    segment,
    stroke,
    text_at,
    x_axis,
    y_axis,
)

_MOST_POINTS: Final = 400


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
    band: Sequence[tuple[float, float, float]] = (),
    band_name: str = "",
    notice: str = "",
) -> str:
    """Return lines over a common x axis; gaps stay gaps where a value is not finite.

    Args:
        series: Lines to draw; each is thinned to 400 points that keep its peaks.
        title: What the chart shows.
        x_label: Name and unit of the x axis.
        y_label: Name and unit of the y axis.
        marks: Vertical lines: x and a short text (for example the best checkpoint).
        log_y: Logarithmic y axis; values at or below zero become gaps.
        band: A shaded range behind the lines: x, low, high; with it zero gets a line.
        band_name: Its name in the legend.
        notice: Words inside the chart, at its top: what the reader must not miss.
    """
    runs = [_runs(one.points, log_y) for one in series]
    shown = [point for parts in runs for part in parts for point in part]
    where = [x for x, _ in marks if math.isfinite(x)]
    said = fold(notice, 56)
    top = 12 + 15 * min(len(where), 3) + 16 * len(said)
    bottom = 238 + top
    levels = [y for _, y in shown] + [y for point in band for y in point[1:]]
    y_scale = scale_for(levels + [0.0] * bool(band), bottom, top, log=log_y)
    left = left_of([tick.label for tick in y_scale.ticks()])
    x_scale = scale_for([x for x, _ in shown] + where, left, WIDTH - RIGHT, pad=0.0)
    parts = [text_at(8, 14 + 16 * k, line) for k, line in enumerate(said)]
    if band:
        edge = [*((x, low) for x, low, _ in band), *((x, high) for x, _, high in reversed(band))]
        corners = " ".join(f"{x_scale(x)},{y_scale(y)}" for x, y in edge)
        parts.append(f'<polygon class="band" points="{corners}"/>')
    parts += [*x_axis(x_scale, top, bottom, x_label), *y_axis(y_scale, left, y_label)]
    if band:
        parts.append(segment("axis", left, y_scale(0.0), WIDTH - RIGHT, y_scale(0.0)))
    for index, line in enumerate(runs):
        parts += [_path(part, x_scale, y_scale, index) for part in line]
    ordered = sorted(mark for mark in marks if math.isfinite(mark[0]))
    low = 14 + 16 * len(said)
    parts += [_mark(x_scale(x), low + 15 * (k % 3), bottom, t) for k, (x, t) in enumerate(ordered)]
    named = len(series) > 1 or bool(band)
    keys = [(line_key(k), one.name) for k, one in enumerate(series) if named]
    if band:
        keys.append(('<rect class="band" width="32" height="10"/>', band_name))
    spoken = f"{title}. {y_label}; {x_label}. {notice}{_ends(series)}"
    return figure(title, spoken, parts, bottom + 40, keys)


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
        parts.append(box(left, top, right - left, bottom - top, "neutral-ground"))
    parts += x_axis(scale, top, bottom, x_label)
    parts.append(segment("axis", scale(zero), top, scale(zero), bottom))
    for index, row in enumerate(rows):
        parts += _interval(row, scale, top + step * index, index)
    spoken = "; ".join(f"{row[0]} {_interval_words(row)}" for row in rows)
    return figure(title, f"{title}. {x_label}. {spoken}", parts, bottom + 40)


def scatter_chart(
    points: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return named points with their intervals in both directions, and zero of both axes.

    Args:
        points: Name, x and y, each as value, low end, high end.
        title: What the chart shows.
        x_label: Name and unit of the x axis.
        y_label: Name and unit of the y axis.
        marks: Vertical lines for comparison: x and a short text.
    """
    top, bottom = 14 + 15 * len(marks), 250 + 15 * len(marks)
    across = [value for _, xs, _ in points for value in xs] + [x for x, _ in marks]
    y_scale = scale_for([v for _, _, ys in points for v in ys] + [0.0], bottom, top)
    left = left_of([tick.label for tick in y_scale.ticks()])
    x_scale = scale_for([*across, 0.0], left, WIDTH - RIGHT)
    parts = [*x_axis(x_scale, top, bottom, x_label), *y_axis(y_scale, left, y_label)]
    parts.append(segment("axis", left, y_scale(0.0), WIDTH - RIGHT, y_scale(0.0)))
    parts.append(segment("axis", x_scale(0.0), top, x_scale(0.0), bottom))
    for k, (x, text) in enumerate(sorted(marks)):
        parts.append(_mark(x_scale(x), 14 + 15 * k, bottom, text))
    for index, (_, xs, ys) in enumerate(points):
        colour = f"var(--s{index % SERIES_COLOURS})"
        (x, *x_ends), (y, *y_ends) = map(x_scale, xs), map(y_scale, ys)
        for x1, y1, x2, y2 in ((x_ends[0], y, x_ends[1], y), (x, y_ends[0], x, y_ends[1])):
            stroked = f'style="stroke:{colour};stroke-width:2"'
            parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {stroked}/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="5" style="fill:{colour}"/>')
    spoken = "; ".join(
        f"{name}: {format_number(xs[0])} against {format_number(ys[0])}" for name, xs, ys in points
    )
    keys = [(line_key(k), name) for k, (name, _, _) in enumerate(points)]
    return figure(title, f"{title}. {x_label}; {y_label}. {spoken}", parts, bottom + 40, keys)


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
    parts = x_axis(scale, top, bottom, x_label)
    for index, (label, value) in enumerate(rows):
        y = top + step * index
        parts.append(text_at(16, y + 12, f"{label}: {format_number(value)}"))
        if math.isfinite(value):
            left, right = sorted((scale(0.0), scale(value)))
            parts.append(box(left, y + 17, right - left, 12, f"s{int(value < 0)}"))
    parts.append(segment("axis", scale(0.0), top, scale(0.0), bottom))
    spoken = "; ".join(f"{label} {format_number(value)}" for label, value in rows)
    return figure(title, f"{title}. {x_label}. {spoken}", parts, bottom + 40)


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
    return f'<polyline class="series" {stroke(index)} points="{steps}"/>'


def _ends(series: Sequence[Series]) -> str:
    """Say where each line starts and ends."""
    words = [
        f"{one.name}: {format_number(one.points[0][1])} to {format_number(one.points[-1][1])}"
        for one in series
        if one.points
    ]
    return " " + "; ".join(words)


def _mark(x: float, y: float, bottom: float, text: str) -> str:
    anchor, shift = ("end", -4) if x > WIDTH * 0.6 else ("start", 4)
    return segment("mark", x, y - 8, x, bottom) + text_at(x + shift, y, text, anchor=anchor)


def _interval(
    row: tuple[str, float, float, float], scale: Scale, y: float, index: int
) -> list[str]:
    _, point, low, high = row
    parts = [text_at(16, y + 13, f"{row[0]}: {_interval_words(row)}")]
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
