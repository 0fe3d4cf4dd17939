"""The words and the look of a page: text, numbers, blocks and the style sheet."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

# Characters that HTML forbids or that could reorder a line (C0, C1, bidi overrides).
_FORBIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def escape(text: str) -> str:
    """Return ``text`` safe for element content and for quoted attributes."""
    return html.escape(_FORBIDDEN.sub("\ufffd", text), quote=True)


def format_number(value: float, decimals: int | None = None) -> str:
    """Return a number as a reader wants it: few digits, grouped thousands, a true minus.

    Args:
        value: Any float; infinities and NaN are shown as symbols.
        decimals: Digits after the point; None chooses three significant ones.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if decimals is None and size != 0 and (size >= 1e7 or size < 1e-4):
        text = f"{value:.2e}"
    elif decimals is None:
        places = 0 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text.replace(",", "")) == 0 else "−" + text[1:]
    return text


class Tick(NamedTuple):
    """One number on an axis."""

    value: float
    label: str


_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def nice_ticks(low: float, high: float, count: int = 5) -> list[Tick]:
    """Return round numbers between ``low`` and ``high``, about ``count`` of them.

    From 10,000 on they are written with k, M or G.
    """
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    size = max(abs(low), abs(high))
    enough = ((u, name) for u, name in _UNITS if size >= 10 * u and size < 1e13)
    unit, suffix = next(enough, (1.0, ""))
    shown = step / unit
    decimals = max(0, -math.floor(math.log10(shown)))
    if round(shown * 10**decimals, 6) % 1:  # a step of 2.5 needs one digit more
        decimals += 1
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = None if size >= 1e13 or step < 1e-4 or decimals > 6 else decimals
    return [
        Tick(k * step, format_number(k * step / unit, digits) + (suffix if k else ""))
        for k in range(first, last + 1)
    ]


def log_ticks(low: float, high: float) -> list[Tick]:
    """Return ticks for a logarithmic axis; ``low`` and ``high`` are above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, (last - first) // 6)
    factors = (1,) if last - first > 3 else (1, 2, 5)
    values = [f * 10.0**k for k in range(first, last + 1, stride) for f in factors]
    return [Tick(v, format_number(v)) for v in values if low * 0.999 <= v <= high * 1.001]


SERIES_COLOURS: Final = 6
"""Colours before they repeat (each repeat changes the dash pattern as well)."""

DASHES: Final = ("", "6 3", "2 3")
"""Dash patterns of lines, so that a grey print still tells series apart."""

# Series colours: the Okabe-Ito palette, which colour-blind readers can tell apart.
# Source: https://jfly.uni-koeln.de/color/ (from memory, 2008 edition).
_LIGHT: Final = """
  --ground: #ffffff; --panel: #f5f6f8; --ink: #1c2026; --soft: #5b6470; --line: #d5dae1;
  --good: #0b6b43; --good-ground: #e3f5ec; --bad: #a01b1b; --bad-ground: #fbe7e6;
  --warning: #7a4b00; --warning-ground: #fdf1da; --neutral: #2b4a75; --neutral-ground: #e7eef8;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #a0518c; --s4: #8a6d00; --s5: #3f6f8f;
"""
_DARK: Final = """
  --ground: #14171c; --panel: #1e232b; --ink: #e8ebef; --soft: #a3adba; --line: #3a424e;
  --good: #7ddcae; --good-ground: #11352a; --bad: #ff9d96; --bad-ground: #421a1a;
  --warning: #ffcf7a; --warning-ground: #3d2d0c; --neutral: #a9c8f5; --neutral-ground: #1b2c45;
  --s0: #56b4e9; --s1: #ff9248; --s2: #3fd0a4; --s3: #dd9ccc; --s4: #f0e442; --s5: #9ec9e6;
"""

THEMES: Final[dict[str, dict[str, str]]] = {
    name: dict(re.findall(r"--([\w-]+): (#\w+);", rules))
    for name, rules in (("light", _LIGHT), ("dark", _DARK))
}
"""Theme → name → colour."""

SVG_STYLE: Final = """svg text { fill: var(--ink); font-size: 12px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC",
    "Microsoft YaHei", "Noto Sans CJK SC", "DejaVu Sans", sans-serif;
  paint-order: stroke; stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round; }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .mark { stroke: var(--warning); stroke-width: 1; stroke-dasharray: 3 3; }
svg .here { fill: none; stroke: var(--ink); stroke-width: 2.5; }
svg .band { fill: var(--s0); fill-opacity: .22; }
svg .series { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
"""

STYLE: Final = (
    ":root { color-scheme: light dark;"
    + _LIGHT
    + "}\n@media (prefers-color-scheme: dark) { :root {"
    + _DARK
    + "} }\n@media print { :root {"
    + _LIGHT
    + """} }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1rem; background: var(--ground);
  color: var(--ink); line-height: 1.5; overflow-wrap: anywhere;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC",
    "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .4rem 0; }
h2 { font-size: 1.2rem; margin: 1.8rem 0 .5rem; border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; }
.subtitle, caption, figcaption, dt { color: var(--soft); }
.banner { border-left: .4rem solid; border-radius: .3rem; padding: .7rem 1rem; margin: 1rem 0; }
.banner strong { display: block; font-size: 1.25rem; }
.banner p { margin: .2rem 0 0; color: var(--ink); }
.good { color: var(--good); background: var(--good-ground); }
.bad { color: var(--bad); background: var(--bad-ground); }
.warning { color: var(--warning); background: var(--warning-ground); }
.neutral { color: var(--neutral); background: var(--neutral-ground); }
.scroll { overflow-x: auto; margin: .8rem 0; } svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line); }
th { background: var(--panel); }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; }
dd { margin: 0; } figure { margin: 1rem 0; max-width: 38rem; break-inside: avoid; }
figcaption { font-size: .92rem; } td.short { white-space: nowrap; }
"""
    + SVG_STYLE
    + """.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .92rem; padding: 0;
  margin: .3rem 0; list-style: none; }
.legend svg { display: inline-block; width: 2rem; height: .8rem; vertical-align: middle; }
@media (max-width: 30rem) { body { padding: .7rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; } .banner, th, svg {
  -webkit-print-color-adjust: exact; print-color-adjust: exact; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } .scroll { overflow: visible; } }
"""
)


BannerKind = Literal["good", "bad", "neutral", "warning"]
Language = Literal["en", "zh"]
Cell = str | int | float | None
"""What a table cell may hold: text as it is, numbers formatted, None as a dash."""

_ONE_LINE: Final = 28
"""Longest text of a cell that is never broken: intervals stay in one piece."""

_LANGUAGE_TAGS: Final = {"en": "en", "zh": "zh-Hans"}

# A page loads nothing and runs no script but the one it was made with: the browser refuses.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    title: str,
    sections: Sequence[str],
    *,
    language: Language = "en",
    subtitle: str = "",
    script: str = "",
) -> str:
    """Return one self-contained HTML page that opens offline, on any screen and on paper.

    Args:
        title: Shown as the heading and in the browser tab.
        sections: Fragments made by the functions of this package, in reading order; they are
            HTML already, so plain text goes through :func:`paragraph` first.
        language: ``en`` or ``zh``; it chooses fonts and how a reader speaks the page.
        subtitle: One line below the heading, or empty.
        script: The only script that the page may run; it must not hold ``</script``.
    """
    policy, code = _POLICY, ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy, code = f"{_POLICY}; script-src 'sha256-{digest}'", f"<script>{script}</script>\n"
    below = f'<p class="subtitle">{escape(subtitle)}</p>\n' if subtitle else ""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="{_LANGUAGE_TAGS[language]}">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{below}{body}\n</main>\n{code}</body>\n</html>\n"
    )


def banner(kind: BannerKind, headline: str, detail: str) -> str:
    """Return the verdict of a page: a coloured box with a headline and one sentence."""
    below = f"<p>{escape(detail)}</p>" if detail else ""
    return (
        f'<div class="banner {escape(kind)}" role="status"><strong>{escape(headline)}</strong>'
        f"{below}</div>"
    )


def heading(text: str) -> str:
    """Return a section heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return one paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = "") -> str:
    """Return a table that scrolls sideways inside its own box on a phone.

    Args:
        headers: Column heads, with units.
        rows: One sequence per row; numbers are right-aligned and formatted.
        caption: What the table shows, or empty.
    """
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = list(rows)
    head = "".join(
        f'<th scope="col"{_number_class(row[k] for row in lines)}>{escape(text)}</th>'
        for k, text in enumerate(headers)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in lines)
    return (
        f'<div class="scroll"><table>{above}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def key_values(pairs: Iterable[tuple[str, Cell]]) -> str:
    """Return name and value pairs, in two columns where there is room."""
    items = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_words(value))}</dd>" for name, value in pairs
    )
    return f"<dl>\n{items}\n</dl>"


def bullet_list(items: Iterable[str]) -> str:
    """Return a bulleted list of plain texts."""
    inner = "\n".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>\n{inner}\n</ul>"


def _words(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "✓" if value else "✗"
    return value if isinstance(value, str) else format_number(value)


def _cell(value: Cell) -> str:
    words = _words(value)
    kind = _number_class([value]) or (' class="short"' if len(words) <= _ONE_LINE else "")
    return f"<td{kind}>{escape(words)}</td>"


def _number_class(values: Iterable[Cell]) -> str:
    """Return the class of a column of numbers (its head stands above them)."""
    kinds = [isinstance(value, int | float) for value in values if value is not None]
    return ' class="number"' if kinds and all(kinds) else ""
