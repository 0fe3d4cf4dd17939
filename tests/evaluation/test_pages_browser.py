"""A real browser, without network, draws what a page says."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from finetuning import pages

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


def colours(png: Path) -> set[bytes]:
    """Return the colours of an 8-bit RGB(A) screenshot."""
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
    found: set[bytes] = set()
    before = bytearray(width * channels)
    for row in range(height):
        start = row * (1 + width * channels)
        line = bytearray(raw[start + 1 : start + 1 + width * channels])
        _unfilter(raw[start], line, before, channels)
        found.update(bytes(line[k : k + 3]) for k in range(0, len(line), channels))
        before = line
    return found


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
