"""Draws every HTML page: words, tables and charts, escaped, offline, light and dark."""

from __future__ import annotations

from finetuning.pages.blocks import (
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
from finetuning.pages.charts import Series, bar_chart, interval_chart, line_chart
from finetuning.pages.drawing import standalone_svg, write_png
from finetuning.pages.planning import TimelineRow, heat_map, timeline_chart, tornado_chart
from finetuning.pages.sheet import review_sheet

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
    "standalone_svg",
    "table",
    "timeline_chart",
    "tornado_chart",
    "write_png",
]
