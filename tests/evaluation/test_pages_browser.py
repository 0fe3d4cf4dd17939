"""A real browser, without network, draws what a page says."""

from __future__ import annotations

import datetime as dt
import html
import itertools
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from finetuning import pages
from finetuning.pages.blocks import THEMES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]


def browse(folder: Path, page: Path, *options: str) -> str:
    """Open a page with every connection refused and return what the browser prints."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        page.as_uri(),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, encoding="utf-8"
    )
    return done.stdout


def picture(png: Path) -> list[list[bytes]]:
    """Return the pixels of an 8-bit RGB(A) screenshot, row by row."""
    data = png.read_bytes()
    place, body = 8, b""
    width = height = channels = 0
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        chunk = data[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", chunk[:10])
            channels = 4 if colour == 6 else 3
        body += chunk if kind == b"IDAT" else b""
        place += 12 + size
    raw = zlib.decompress(body)
    rows: list[list[bytes]] = []
    before = bytearray(width * channels)
    for row in range(height):
        start = row * (1 + width * channels)
        line = bytearray(raw[start + 1 : start + 1 + width * channels])
        _unfilter(raw[start], line, before, channels)
        rows.append([bytes(line[k : k + 3]) for k in range(0, len(line), channels)])
        before = line
    return rows


def colours(png: Path) -> set[bytes]:
    """Return the colours of a screenshot."""
    return {pixel for row in picture(png) for pixel in row}


def _unfilter(kind: int, line: bytearray, before: bytearray, channels: int) -> None:
    for k in range(len(line)):
        left = line[k - channels] if k >= channels else 0
        up = before[k]
        corner = before[k - channels] if k >= channels else 0
        if kind == 4:
            guess = left + up - corner
            near = min((left, up, corner), key=lambda value: abs(guess - value))
        else:
            near = (0, left, up, (left + up) // 2)[kind]
        line[k] = (line[k] + near) & 255


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    body = [
        pages.banner("good", "Improved", "<script>document.title = 'broken'</script>"),
        pages.interval_chart([("em", 0.5, 0.2, 0.8)], title="Diff", x_label="score (0..1)"),
        pages.line_chart(
            [pages.Series("loss", [(0, 3.0), (10, 1.0)])],
            title="Loss",
            x_label="step",
            y_label="nats per token",
        ),
    ]
    path.write_text(pages.page("A page", body), encoding="utf-8")
    return path


def test_the_browser_finds_the_text_and_runs_no_script(tmp_path: Path, sample: Path) -> None:
    dom = browse(tmp_path, sample, "--dump-dom")
    assert "<title>A page</title>" in dom
    assert "em: 0.5 [0.2, 0.8]" in dom
    assert "nats per token" in dom


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_screenshot_shows_banner_and_charts_in_both_themes(
    tmp_path: Path, sample: Path, theme: str
) -> None:
    png = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    browse(tmp_path, sample, f"--screenshot={png}", "--window-size=400,900", *dark)
    found = colours(png)
    ground, series = {
        "light": (b"\xff\xff\xff", b"\x00\x72\xb2"),
        "dark": (b"\x14\x17\x1c", b"\x56\xb4\xe9"),
    }[theme]
    assert ground in found
    assert series in found


# --- the pictures of a decision, measured where the browser put them -----------------------------

PROBE = """<script>addEventListener("load", () => {
  const box = (e) => (({ left, top, right, bottom }) =>
    [left, top, right, bottom])(e.getBoundingClientRect());
  const charts = [...document.querySelectorAll("figure > svg[role=img]")].map((svg) => ({
    name: svg.getAttribute("aria-label").slice(0, 40), box: box(svg),
    texts: [...svg.querySelectorAll("text")].map((t) => [t.textContent, ...box(t)]),
    shapes: [...svg.querySelectorAll("rect, polygon, polyline")].map((e) => box(e)) }));
  const page = document.documentElement;
  const found = { width: page.getBoundingClientRect().width, scroll: page.scrollWidth, charts };
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END"; });</script>"""
DAY = dt.date(2026, 11, 20)


def decision() -> str:
    """Return a page with every picture of a decision, its texts as long as they come."""
    months = range(13)
    long = "Together: Qwen/Qwen3.5-35B-A3B-Instruct, dedicated, 2 replicas, Europe"
    rows = [
        pages.TimelineRow(
            long,
            dt.date(2027, 1, 6),
            [(dt.date(2026, 5, 8), "closed to new customers"), (dt.date(2027, 1, 6), "last job")],
            "closing",
        ),
        pages.TimelineRow("open: Fireworks", None, [(dt.date(2027, 12, 30), "base ends")]),
    ]
    charts = [
        pages.line_chart(
            [pages.Series("gained so far", [(m, 1500.0 * m - 6000) for m in months])],
            title="When it pays back",
            x_label="months",
            y_label="net gain, USD",
            marks=[(4.0, "after 4.0 months")],
            band=[(m, 900.0 * m - 7000, 2600.0 * m - 5000) for m in months],
            band_name="P10 to P90 of 10,000 draws",
        ),
        pages.line_chart(
            [pages.Series("gained so far", [(m, -120_000.0 * m - 6000) for m in months])],
            title="When it pays back",
            x_label="months",
            y_label="net gain, USD",
            band=[(m, -150_000.0 * m - 7000, -90_000.0 * m - 5000) for m in months],
            band_name="P10 to P90 of 10,000 draws",
            notice="Never pays back: a month costs $120,000.00 more than today, at any traffic.",
        ),
        pages.tornado_chart(
            [("requests per month, two fifths fewer or three fifths more", -1e6, 2.5e6)]
            + [(f"factor {k}", 7e5 - k * 1e5, 8e5 + k * 1e5) for k in range(4)],
            point=7.5e5,
            title="What moves the result most",
            x_label="net present value, USD",
        ),
        pages.heat_map(
            [
                [("current", "cached", "tuned dedicated")[(i + j) // 4] for j in range(7)]
                for i in range(5)
            ],
            columns=["10k", "30k", "100k", "300k", "900k", "3M", "9M"],
            rows=["1/4", "1/2", "1", "2", "4"],
            title="Cheapest option",
            x_label="requests per month",
            y_label="tokens, × today",
            here=(3, 2),
        ),
        pages.timeline_chart(
            rows, start=dt.date(2026, 1, 1), end=dt.date(2028, 1, 1), today=DAY, title="Until when"
        ),
    ]
    return pages.page("A decision", charts)


def measure(tmp_path: Path, text: str, width: int) -> dict[str, Any]:
    """Return where a window of this width puts every text and shape of the page's charts."""
    path = tmp_path / "measured.html"
    open_page = re.sub(r"<meta http-equiv=.*?>", "", text, flags=re.DOTALL)
    narrow = f"<style>html {{ width: {width}px; }}</style>"  # a window has 500 pixels at least
    path.write_text(open_page.replace("</body>", narrow + PROBE + "</body>"), encoding="utf-8")
    dom = browse(tmp_path, path, "--dump-dom", f"--window-size={max(500, width)},3000")
    found = re.search(r"FOUND(.*?)END", dom, re.DOTALL)
    assert found is not None
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    return values


@pytest.mark.parametrize("width", [360, 1000])
def test_no_text_of_a_picture_is_cut_or_covered_on_a_phone_or_a_desk(
    tmp_path: Path, width: int
) -> None:
    found = measure(tmp_path, decision(), width)
    assert found["scroll"] <= max(500, found["width"])
    assert found["width"] == width
    assert len(found["charts"]) == 5
    for chart in found["charts"]:
        left, top, right, bottom = chart["box"]
        for inner in [text[1:] for text in chart["texts"]] + chart["shapes"]:
            assert left - 1 <= inner[0], (chart["name"], inner)
            assert inner[2] <= right + 1, (chart["name"], inner)
            assert top - 1 <= inner[1], (chart["name"], inner)
            assert inner[3] <= bottom + 1, (chart["name"], inner)
        for one, other in itertools.combinations(chart["texts"], 2):
            across = min(one[3], other[3]) - max(one[1], other[1])
            down = min(one[4], other[4]) - max(one[2], other[2])
            assert across <= 1 or down <= 2, (one[0], other[0])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_band_covers_the_pixels_between_its_percentiles_and_no_others(
    tmp_path: Path, theme: str
) -> None:
    text = decision()
    box = measure(tmp_path, text, 600)["charts"][0]["box"]
    path, png = tmp_path / "page.html", tmp_path / "page.png"
    path.write_text(text, encoding="utf-8")
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    browse(tmp_path, path, f"--screenshot={png}", "--window-size=600,3000", *dark)
    pixels = picture(png)
    corners: list[str] = re.findall(r'<polygon class="band" points="([^"]+)"', text)[0].split()
    edge = [(float(x), float(y)) for x, _, y in (corner.partition(",") for corner in corners)]
    low, high = edge[:13], edge[:12:-1]
    left, top_edge, right = (float(value) for value in box[:3])
    zoom = (right - left) / 420

    def at(x: float, y: float) -> bytes:
        return pixels[round(top_edge + y * zoom)][round(left + x * zoom)]

    colour = {name: bytes.fromhex(value[1:]) for name, value in THEMES[theme].items()}
    blend = bytes(
        round(0.22 * s + 0.78 * g) for s, g in zip(colour["s0"], colour["ground"], strict=True)
    )
    for month in (7, 9, 11):  # between the grid's even months
        x, bottom, top = low[month][0], low[month][1], high[month][1]
        for share in (0.2, 0.8):
            inside = at(x, bottom + share * (top - bottom))
            assert max(abs(a - b) for a, b in zip(inside, blend, strict=True)) <= 3
        assert at(x, bottom + 6) == colour["ground"]
        assert at(x, top - 6) == colour["ground"]
    line = [at(low[7][0], y) for y in range(round(high[7][1]), round(low[7][1]))]
    assert colour["s0"] in line  # the line itself runs inside
