"""What charts are drawn with: scales, axes, labels, the figure and its PNG."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from finetuning.errors import require
from finetuning.pages.blocks import (
    DASHES,
    SERIES_COLOURS,
    SVG_STYLE,
    THEMES,
    Tick,
    escape,
    log_ticks,
    nice_ticks,
)

WIDTH: Final = 420
"""Width of every chart in its own units: text of 12 stays readable at 340 pixels."""

RIGHT: Final = 14
"""Room to the right of the plane of a chart with a vertical axis."""

MOST_COLUMNS: Final = 60
"""Longest text on a chart; a Chinese character takes two columns."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps data values to pixels.

    Attributes:
        low: Data value at ``start``.
        high: Data value at ``end``.
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        log: Logarithmic when true.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5) -> list[Tick]:
        """Return the numbers to write along this axis."""
        return (
            log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, count)
        )


def scale_for(
    values: list[float], start: float, end: float, *, log: bool = False, pad: float = 0.04
) -> Scale:
    """Return a scale that holds every finite value with a little room on both sides."""
    if not values:
        return Scale(1.0, 10.0, start, end, log) if log else Scale(0.0, 1.0, start, end)
    low, high = min(values), max(values)
    if log:
        low, high = (low / 1.2, high * 1.2) if high / low < 1.5 else (low, high)
        return Scale(low, high, start, end, log)
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(high) * 0.1 or 1.0
        return Scale(low - room, high + room, start, end)
    return Scale(low - pad * span, high + pad * span, start, end)


def x_axis(scale: Scale, top: float, bottom: float, label: str) -> list[str]:
    """Return the horizontal axis with its grid and its name."""
    parts = [segment("axis", scale.start, bottom, scale.end, bottom)]
    for tick in scale.ticks(6):
        x = scale(tick.value)
        parts.append(segment("grid", x, top, x, bottom))
        room = 4 * len(tick.label)
        inside = min(max(x, room), WIDTH - room)
        parts.append(text_at(inside, bottom + 15, tick.label, anchor="middle", soft=True))
    middle = (scale.start + scale.end) / 2
    return [*parts, text_at(middle, bottom + 32, label, anchor="middle")]


def left_of(labels: Sequence[str]) -> int:
    """Return where the plane begins, so that the axis' numbers and its name have room."""
    return 30 + 7 * max((len(label) for label in labels), default=0)


def y_axis(scale: Scale, left: float, label: str) -> list[str]:
    """Return the vertical axis at ``left`` with its grid and its name."""
    parts = [segment("axis", left, scale.start, left, scale.end)]
    for tick in scale.ticks():
        y = scale(tick.value)
        parts.append(segment("grid", left, y, WIDTH - RIGHT, y))
        parts.append(text_at(left - 5, y + 4, tick.label, anchor="end", soft=True))
    return [*parts, turned((scale.start + scale.end) / 2, label)]


def turned(y: float, text: str) -> str:
    """Return the name of a vertical axis, written upwards at the left edge."""
    middle = round(y, 2)
    return text_at(11, middle, text, anchor="middle", extra=f'transform="rotate(-90 11 {middle})"')


def segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a straight line of a class of the style sheet."""
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def box(x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1) -> str:
    """Return a rectangle filled with a colour of the style sheet, such as ``s0`` or ``good``."""
    faint = f";fill-opacity:{opacity:g}" if opacity < 1 else ""
    return (
        f'<rect x="{round(x, 2)}" y="{round(y, 2)}" width="{round(max(0.5, width), 2)}" '
        f'height="{height}" rx="1" style="fill:var(--{fill}){faint}"/>'
    )


def text_at(
    x: float, y: float, text: str, *, anchor: str = "start", soft: bool = False, extra: str = ""
) -> str:
    """Return one line of text, shortened to what a chart has room for."""
    kind = ' class="soft"' if soft else ""
    shown = escape(shorten(text))
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{kind} {extra}>{shown}</text>'


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shorten(text: str, most: int = MOST_COLUMNS) -> str:
    """Return a text cut to ``most`` columns, with an ellipsis where something is missing."""
    if _columns(text) <= most:
        return text
    place = len(text)
    while place and _columns(text[:place]) >= most:
        place -= 1
    return text[:place] + "…"


def fold(text: str, most: int = MOST_COLUMNS) -> list[str]:
    """Return a text in lines of at most ``most`` columns, broken between words where it can be."""
    lines: list[str] = []
    for word in text.split():
        if lines and _columns(f"{lines[-1]} {word}") <= most:
            lines[-1] += f" {word}"
            continue
        while _columns(word) > most:  # Chinese, or an address
            place = most // 2 if _columns(word[:most]) > most else most
            lines.append(word[:place])
            word = word[place:]
        lines.append(word)
    return lines


def stroke(index: int) -> str:
    """Return the colour and dash of the ``index``-th line as attributes."""
    dash = DASHES[index // SERIES_COLOURS % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'style="stroke:var(--s{index % SERIES_COLOURS})"{dashed}'


def line_key(index: int) -> str:
    """Return the sample of a line for the legend."""
    return f'<line x1="0" y1="5" x2="32" y2="5" stroke-width="3" {stroke(index)}/>'


def figure(
    title: str,
    description: str,
    parts: Sequence[str],
    height: float,
    keys: Sequence[tuple[str, str]] = (),
) -> str:
    """Return a chart with its caption and legend.

    Args:
        title: Caption above the chart.
        description: What somebody hears who cannot see it: the numbers, in words.
        parts: What is drawn, as SVG.
        height: Height in the chart's units.
        keys: Sample (SVG, 32 by 10) and name of each entry of the legend.
    """
    entries = "".join(
        f'<li><svg viewBox="0 0 32 10" aria-hidden="true">{sample}</svg> {escape(name)}</li>'
        for sample, name in keys
    )
    legend = f'<ul class="legend">{entries}</ul>' if entries else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg></figure>"
    )


_FIGURE: Final = re.compile(
    r"<figcaption>(.*?)</figcaption>(?:<ul class=\"legend\">(.*?)</ul>)?"
    r'<svg viewBox="0 0 \d+ ([\d.]+)" role="img"[^>]*>(.*)</svg></figure>',
    re.DOTALL,
)
_KEY: Final = re.compile(r"<li><svg[^>]*>(.*?)</svg> (.*?)</li>", re.DOTALL)


def standalone_svg(chart: str, theme: Literal["light", "dark"] = "light") -> str:
    """Return a chart of this package as an SVG file of its own: caption and legend drawn in."""
    found = _FIGURE.search(chart)
    if found is None:
        raise ValueError("not a chart of this package; expected what a chart function returned")
    caption, legend, height, body = found.groups()
    lines = fold(caption, 56)
    parts = [f'<text x="8" y="{18 + 17 * k}">{line}</text>' for k, line in enumerate(lines)]
    y = 7 + 17 * len(lines)
    for sample, name in _KEY.findall(legend or ""):
        parts += [f'<g transform="translate(8 {y + 4})">{sample}</g>']
        parts += [f'<text x="46" y="{y + 13}">{name}</text>']
        y += 17
    tall = y + 6 + float(height)
    style = re.sub(r"var\(--([\w-]+)\)", lambda m: THEMES[theme][m[1]], SVG_STYLE)
    inner = "".join(parts) + f'<g transform="translate(0 {y + 6})">{body}</g>'
    inner = re.sub(r"var\(--([\w-]+)\)", lambda m: THEMES[theme][m[1]], inner)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{tall:g}" '
        f'viewBox="0 0 {WIDTH} {tall:g}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="{THEMES[theme]["ground"]}"/>{inner}</svg>'
    )


def write_png(
    chart: str, path: Path, *, theme: Literal["light", "dark"] = "light", zoom: int = 2
) -> Path:
    """Write a chart as a PNG picture and return its path.

    Args:
        chart: What a chart function of this package returned.
        path: Where to write.
        theme: Colours.
        zoom: Pixels per unit of the chart, 1 to 8 (the chart is 420 units wide).

    Raises:
        MissingExtraError: The extra ``plots`` is not installed.
    """
    resvg = cast("Any", require("resvg_py", feature="PNG pictures", extra="plots"))
    svg = standalone_svg(chart, theme)
    path.write_bytes(bytes(resvg.svg_to_bytes(svg_string=svg, zoom=zoom)))
    return path
