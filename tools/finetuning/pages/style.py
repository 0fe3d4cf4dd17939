"""The look of every page: one style sheet, light and dark, screen, phone and paper."""

from __future__ import annotations

from typing import Final

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
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line); }
th { background: var(--panel); }
th.number, td.number { text-align: right; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; }
dd { margin: 0; }
figure { margin: 1rem 0; max-width: 38rem; break-inside: avoid; }
figcaption { font-size: .92rem; }
td.short { white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; font-family: inherit; paint-order: stroke;
  stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round; }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .mark { stroke: var(--warning); stroke-width: 1; stroke-dasharray: 3 3; }
svg .band { fill: var(--neutral-ground); }
svg .series { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .92rem; padding: 0;
  margin: .3rem 0; list-style: none; }
.legend svg { display: inline-block; width: 2rem; height: .8rem; vertical-align: middle; }
@media (max-width: 30rem) { body { padding: .7rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; } .banner, th, svg {
  -webkit-print-color-adjust: exact; print-color-adjust: exact; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } .scroll { overflow: visible; } }
"""
)
