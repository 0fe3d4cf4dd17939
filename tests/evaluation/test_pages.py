"""Pages: everything a person's data could hold is shown as text, and charts are readable."""

from __future__ import annotations

import datetime as dt
import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning import pages
from finetuning.errors import MissingExtraError
from finetuning.pages.blocks import THEMES, log_ticks, nice_ticks
from finetuning.pages.drawing import Scale, fold, scale_for, shorten

VOID = {"meta", "line", "rect", "circle", "polyline", "polygon", "br"}
HOSTILE = '<script>alert("x")</script> & \' \x00\x1b\u202e\ud800'


class Checker(HTMLParser):
    """Collects tags, attributes and text, and notices tags that are not closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def everything(text: str) -> str:
    """Return a page with the same text in every place that takes one."""
    return pages.page(
        text,
        [
            pages.banner("bad", text, text),
            pages.heading(text),
            pages.paragraph(text),
            pages.table([text, text], [[text, 1], [text, None]], caption=text),
            pages.key_values([(text, text), (text, 2.5)]),
            pages.bullet_list([text]),
            pages.line_chart(
                [pages.Series(text, [(0, 1), (1, 2)]), pages.Series(text, [(0, 2)])],
                title=text,
                x_label=text,
                y_label=text,
                marks=[(1, text)],
            ),
            pages.interval_chart([(text, 1, 0, 2)], title=text, x_label=text, margin=0.5),
            pages.bar_chart([(text, 3)], title=text, x_label=text),
            pages.tornado_chart(
                [(text, 1, 3)], point=2, title=text, x_label=text, ends=(text, text)
            ),
            pages.heat_map(
                [[text]], columns=[text], rows=[text], title=text, x_label=text, y_label=text
            ),
        ],
        subtitle=text,
    )


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=60))
def test_any_text_stays_text_wherever_it_is_put(text: str) -> None:
    checker = parse(everything(text))
    reference = parse(everything("x" * len(text)))  # short cells have a class of their own
    assert checker.tags == reference.tags
    assert [name for name, _ in checker.attributes] == [name for name, _ in reference.attributes]


def test_a_hostile_text_is_shown_and_not_obeyed() -> None:
    page = everything(HOSTILE)
    checker = parse(page)
    assert "script" not in checker.tags
    assert 'alert("x")' in checker.text
    assert not any(c in page for c in ("\x00", "\x1b", "\u202e", "\ud800"))
    page.encode("utf-8")


def test_a_page_needs_nothing_from_outside() -> None:
    page = everything("text")
    checker = parse(page)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(checker.tags)
    assert not [v for n, v in checker.attributes if n in {"src", "href", "onclick", "onload"}]
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page


def test_a_page_follows_the_theme_and_prints_and_names_its_language() -> None:
    page = pages.page("题目", [pages.paragraph("正文")], language="zh")
    assert 'lang="zh-Hans"' in page
    for query in ("prefers-color-scheme: dark", "@media print", "max-width: 30rem"):
        assert query in page


def test_cells_are_aligned_by_what_their_column_holds() -> None:
    table = pages.table(["name", "count"], [["a", 1], ["b", None], ["c", True]])
    assert table.count('class="number"') == 3  # the head, 1 and ✓
    assert "–" in table
    assert "✓" in table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1234.5, "1,234"),
        (0.12345, "0.123"),
        (-2.5, "−2.5"),
        (12345678.0, "1.23e+07"),
        (0.00001, "1.00e-05"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_are_short_and_have_a_true_minus(value: float, shown: str) -> None:
    assert pages.format_number(value) == shown


def test_decimals_can_be_asked_for() -> None:
    assert pages.format_number(2, 2) == "2.00"
    assert pages.format_number(-0.001, 1) == "0.0"


@settings(max_examples=200)
@given(
    st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False),
    st.floats(1e-6, 1e9, allow_nan=False),
)
def test_ticks_lie_inside_their_axis_and_are_few(low: float, width: float) -> None:
    high = low + width
    if not high > low + 1e-9 * max(abs(low), abs(high)):
        return
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 12
    for tick in ticks:
        assert low - 1e-6 * width <= tick.value <= high + 1e-6 * width


@given(st.floats(1e-8, 1e6), st.floats(1.6, 1e8))
def test_logarithmic_ticks_lie_inside_their_axis(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert len(ticks) <= 14
    assert all(low * 0.99 <= tick.value <= low * factor * 1.01 for tick in ticks)


def test_a_scale_maps_its_ends_to_its_pixels() -> None:
    scale = Scale(0.0, 10.0, 100.0, 200.0)
    assert (scale(0.0), scale(5.0), scale(10.0)) == (100.0, 150.0, 200.0)
    logarithmic = Scale(1.0, 100.0, 0.0, 100.0, log=True)
    assert logarithmic(10.0) == 50.0
    assert logarithmic.ticks()[0].value == 1.0


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [1e-9, 1e-9]])
@pytest.mark.parametrize("log", [False, True])
def test_a_scale_has_width_whatever_the_values(values: list[float], log: bool) -> None:
    if log and values == [0.0, 0.0]:
        return
    scale = scale_for(values, 0.0, 100.0, log=log)
    assert scale.high > scale.low
    assert all(0 <= scale(value) <= 100 for value in values)


def test_gaps_and_infinities_break_a_line_instead_of_bending_it() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, 3.0), (3.0, 2.0), (4.0, math.inf)]
    chart = pages.line_chart([pages.Series("a", points)], title="t", x_label="x", y_label="y")
    assert chart.count("<polyline") == 1
    assert chart.count("<circle") == 1
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_logarithmic_chart_leaves_out_what_it_cannot_show() -> None:
    chart = pages.line_chart(
        [pages.Series("a", [(0, 0.0), (1, 1.0), (2, 100.0)])],
        title="t",
        x_label="x",
        y_label="y",
        log_y=True,
    )
    assert chart.count("<polyline") == 1


def test_a_long_line_is_thinned_and_keeps_its_peak() -> None:
    points = [(float(k), 1.0) for k in range(24_000)]
    points[12_345] = (12_345.0, 50.0)
    chart = pages.line_chart([pages.Series("a", points)], title="t", x_label="x", y_label="y")
    assert len(chart) < 20_000
    numbers = re.findall(r'points="([^"]+)"', chart)[0].split()
    assert len(numbers) <= 400
    highest = min(float(pair.split(",")[1]) for pair in numbers)
    assert highest < 30


def test_charts_without_any_data_are_still_drawn() -> None:
    assert "<svg" in pages.line_chart([], title="t", x_label="x", y_label="y")
    assert "<svg" in pages.bar_chart([], title="t", x_label="x")
    assert "<svg" in pages.interval_chart([], title="t", x_label="x")
    one = pages.bar_chart([("a", math.nan), ("b", 0.0)], title="t", x_label="x")
    assert "a: –" in one


def test_an_interval_that_is_not_finite_shows_its_numbers_and_no_bar() -> None:
    chart = pages.interval_chart(
        [("a", 1.0, -math.inf, math.inf), ("b", math.nan, 0.0, 1.0)], title="t", x_label="x"
    )
    assert "[−∞, ∞]" in chart
    assert chart.count("<circle") == 1


def test_negative_bars_start_at_zero() -> None:
    chart = pages.bar_chart([("a", -2.0), ("b", 4.0)], title="t", x_label="USD")
    assert "a: −2" in chart
    assert chart.count("<rect") == 2


def test_a_seventh_series_is_told_apart_by_its_dashes() -> None:
    series = [pages.Series(str(k), [(0, k), (1, k)]) for k in range(7)]
    chart = pages.line_chart(series, title="t", x_label="x", y_label="y")
    assert 'stroke-dasharray="6 3"' in chart


def test_charts_say_in_words_what_they_draw() -> None:
    chart = pages.interval_chart([("em", 0.5, 0.25, 0.75)], title="Diff", x_label="score (0..1)")
    assert 'aria-label="Diff. score (0..1). em 0.5 [0.25, 0.75]"' in chart
    assert 'role="img"' in chart


# --- a decision in pictures ----------------------------------------------------------------------

DAY = dt.date(2026, 11, 20)


def payback(notice: str = "") -> str:
    return pages.line_chart(
        [pages.Series("gain", [(0, -100.0), (12, 300.0)])],
        title="Payback",
        x_label="months",
        y_label="USD",
        band=[(0, -150.0, -50.0), (12, 100.0, 500.0)],
        band_name="P10 to P90",
        notice=notice,
    )


def timeline(*rows: pages.TimelineRow) -> str:
    end = dt.date(2028, 1, 1)
    return pages.timeline_chart(rows, start=dt.date(2026, 1, 1), end=end, today=DAY, title="T")


def figures() -> list[str]:
    ends = pages.TimelineRow("base", dt.date(2027, 1, 14), [(DAY, "last job")], "closing")
    return [
        payback("never pays back"),
        pages.tornado_chart([("labour", 1.0, 3.0)], point=2.0, title="Factors", x_label="USD"),
        pages.heat_map(
            [["now", "tuned"], ["now", "now"]],
            columns=["1k", "1M"],
            rows=["short", "long"],
            title="Cheapest",
            x_label="requests",
            y_label="tokens",
            here=(1, 0),
        ),
        timeline(ends, pages.TimelineRow("open one", None)),
    ]


def test_a_band_runs_along_its_low_edge_and_back_along_its_high_one() -> None:
    chart = payback()
    corners = re.findall(r'<polygon class="band" points="([^"]+)"', chart)[0].split()
    xs = [float(corner.split(",")[0]) for corner in corners]
    ys = [float(corner.split(",")[1]) for corner in corners]
    assert xs[:2] == sorted(xs[:2])
    assert xs[2:] == sorted(xs[2:], reverse=True)
    assert ys[0] > ys[3]  # low lies below high: pixels grow downwards
    assert ys[1] > ys[2]
    assert "P10 to P90" in chart
    assert "<polyline" in chart


def test_what_must_not_be_missed_stands_inside_the_chart_and_in_what_is_read_aloud() -> None:
    chart = payback("Never pays back: a month costs $12 more than today, whatever the traffic is.")
    checker = parse(chart)
    spoken = next(value for name, value in checker.attributes if name == "aria-label")
    assert spoken is not None
    assert "Never pays back" in spoken
    assert checker.text.count("Never pays back") == 1
    assert len(re.findall("<text", chart)) > len(re.findall("<text", payback()))


def test_a_tornado_has_two_ends_around_its_point_and_says_all_three() -> None:
    chart = pages.tornado_chart(
        [("labour", 1.0, 3.0), ("price", 2.5, 1.75)],
        point=2.0,
        title="Factors",
        x_label="USD",
        ends=("low end", "high end"),
    )
    assert "labour: 1 … 3" in chart
    assert "now 2. labour 1 to 3; price 2.5 to 1.75" in chart
    boxes = re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"[^>]*--s([01])', chart)[2:]
    (left, wide, _), (right, *_), *_ = boxes
    assert float(left) + float(wide) == pytest.approx(float(right), abs=0.02)
    assert [side for *_, side in boxes] == ["0", "1", "0", "1"]
    assert "low end" in chart


def test_a_heat_map_names_each_winner_by_letter_too() -> None:
    chart = figures()[2]
    letters = re.findall(r'text-anchor="middle" >([AB])</text>', chart)
    assert letters == ["A", "B", "A", "A"]
    assert "A: now" in chart
    assert "B: tuned" in chart
    assert chart.count('class="here"') == 1
    assert "short: now, tuned; long: now, now" in chart
    whole = pages.heat_map([["x"]], columns=["1"], rows=["1"], title="t", x_label="x", y_label="y")
    assert 'class="here"' not in whole


def test_a_timeline_writes_every_date_and_cuts_what_lies_outside() -> None:
    early = pages.TimelineRow("gone", dt.date(2020, 1, 1), [(dt.date(2020, 1, 1), "end")], "closed")
    late = pages.TimelineRow("stays", dt.date(2040, 1, 1), [], "preview")
    chart = timeline(early, late)
    assert "2020-01-01 end" in chart
    assert "2026-11-20" in chart
    bars = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart)]
    assert bars == [0.5, 388.0]


@pytest.mark.parametrize("text", [HOSTILE, "词" * 200, "word " * 60])
def test_long_and_hostile_texts_fit_into_every_picture(text: str) -> None:
    row = pages.TimelineRow(text, None, [(DAY, text)])
    for chart in (payback(text), timeline(row)):
        checker = parse(chart)
        assert "script" not in checker.tags
        assert text == HOSTILE or checker.text.count(text[0]) >= text.count(text[0])


def test_texts_are_cut_and_folded_by_the_columns_they_take() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("价格表上的", 6) == "价格…"
    assert fold("价格表上的数字", 6) == ["价格表", "上的数", "字"]
    assert fold("https://a.example/long", 9) == ["https://a", ".example/", "long"]
    assert fold("one two three", 7) == ["one two", "three"]
    assert fold("") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("number", range(4))
def test_each_picture_stands_alone_as_an_svg_file(number: int, theme: str) -> None:
    chosen = "dark" if theme == "dark" else "light"
    text = pages.standalone_svg(figures()[number], chosen)
    root = ET.fromstring(text)  # well-formed
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--" not in text
    assert THEMES[chosen]["ground"] in text
    title = parse(figures()[number]).text.split("  ")[0]
    assert title[:4] in "".join(root.itertext())


def test_only_charts_can_stand_alone() -> None:
    with pytest.raises(ValueError, match="not a chart"):
        pages.standalone_svg("<figure></figure>")


def test_a_png_is_a_picture_of_the_chart_or_the_pip_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    if importlib.util.find_spec("resvg_py") is None:
        with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[plots\]"):
            pages.write_png(payback(), path)
        assert not path.exists()
        return
    data = pages.write_png(payback(), path, zoom=2).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 840
    assert len(data) > 5000


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_stand_out_from_the_ground_in_both_themes(theme: str) -> None:
    colours = THEMES[theme]
    for name in ("ink", "soft", "good", "bad", "warning", "neutral"):
        assert contrast(colours[name], colours["ground"]) >= 4.5, name
    for name in (f"s{k}" for k in range(6)):
        assert contrast(colours[name], colours["ground"]) >= 3, name
    for name in ("good", "bad", "warning", "neutral"):
        assert contrast(colours[name], colours[f"{name}-ground"]) >= 4.5, name


def test_a_scatter_shows_both_intervals_zero_and_what_others_lost() -> None:
    chart = pages.scatter_chart(
        [("tuned", (0.06, 0.04, 0.08), (0.2, 0.1, 0.3)), ("arm", (0.01, 0, 0.02), (0.05, 0, 0.1))],
        title="Gain against loss",
        x_label="loss",
        y_label="gain",
        marks=[(0.05, "LoRA"), (0.111, "rsLoRA")],
    )
    assert chart.count("<circle") == 2
    assert "LoRA" in chart
    assert "rsLoRA" in chart
    assert "tuned: 0.06 against 0.2; arm: 0.01 against 0.05" in chart
    ET.fromstring(chart)


def test_markdown_holds_the_same_words_and_tables_and_no_marks_of_its_own() -> None:
    page = pages.page(
        "A *title*",
        [
            pages.banner("good", "Improved", "by 3"),
            pages.heading("Task"),
            pages.paragraph("one_two <three> & [four]"),
            pages.table(["name", "value"], [("a|b", 1.5), ("c", None)]),
            pages.key_values([("key", "value")]),
            pages.bullet_list(["first", "second"]),
            pages.bar_chart([("x", 2.0)], title="Bars", x_label="units"),
        ],
    )
    text = pages.to_markdown(page)
    assert text.startswith("# A \\*title\\*\n")
    for line in (
        "**Improved**",
        "## Task",
        "one\\_two \\<three> & \\[four\\]",
        "| name | value |",
        "|---|---|",
        "| a\\|b | 1.5 |",
        "- key: value",
        "- first",
    ):
        assert line in text.splitlines(), line
    assert "Bars. units" in text
    assert "<svg" not in text
    assert "<style" not in text


@given(st.text(max_size=200))
def test_any_text_becomes_markdown_on_one_line(text: str) -> None:
    lines = pages.to_markdown(pages.page("t", [pages.paragraph(text)])).splitlines()
    assert len([line for line in lines if line.strip()]) <= 2
