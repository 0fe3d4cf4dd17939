"""Pages: everything a person's data could hold is shown as text, and charts are readable."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning import pages
from finetuning.pages.blocks import log_ticks, nice_ticks
from finetuning.pages.drawing import Scale, scale_for

VOID = {"meta", "line", "rect", "circle", "polyline", "br"}
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
