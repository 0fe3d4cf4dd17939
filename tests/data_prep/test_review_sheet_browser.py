"""A person reviews rows in a real browser, without network, by keyboard, and saves a file."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetuning.data_prep.review import ReviewSampler, read_reviews

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]


class Browser:
    """A headless browser that refuses every connection, driven through its debugging pipe."""

    def __init__(self, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # the browser talks on its descriptors 3 and 4
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), *options],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], 60)
            assert ready, "the browser says nothing"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        one, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(one)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self._events.append(answer)  # it may be what somebody waits for next
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, method: str) -> dict[str, Any]:
        while True:
            message = self._events.pop(0) if self._events else self._message()
            if message.get("method") == method:
                return message["params"]

    def open(self, page: Path) -> None:
        # the load event of this very document: the one before may still send its own
        loader = self.call("Page.navigate", url=page.as_uri())["loaderId"]
        while True:
            event = self.wait_for("Page.lifecycleEvent")
            if (event["loaderId"], event["name"]) == (loader, "load"):
                return

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        return self.value(f"document.querySelector({selector!r}).textContent")

    def press(self, key: str, *, ctrl: bool = False) -> None:
        more = {"text": key} if len(key) == 1 and not ctrl else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=2 * ctrl, **more)

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        os.close(self._write)
        self.process.terminate()
        self.process.wait(30)
        os.close(self._read)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path)
    yield made
    made.close()


def rows() -> list[bytes]:
    texts = [
        ("where is my parcel", "It left us on Monday."),
        ("<img src=x onerror=document.title='broken'>", "</script><b>bold</b>"),
        ("line one\r\nline two", "kept as it is"),
        ("reset", "Use the link in the mail."),
    ]
    return [
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        for asked, answer in texts
    ]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    sampler = ReviewSampler(10)
    for line, raw in enumerate(rows(), start=1):
        notes = ["refusal"] * (line == 4) + ["quotes_left_out"] * (line == 2)
        sampler.add(raw, source="in.csv", line=line, notes=notes)
    path = tmp_path / "review.html"
    assert sampler.write(path, target="openai_chat") == 4
    return path


def test_person_decides_by_keyboard_and_the_saved_file_is_read_back(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    browser.open(page)
    assert browser.text("#count").startswith("Row 1 of 4: 0 decided")
    assert browser.text("#place") == "in.csv, line 4, train"
    assert "refusal: An answer that refuses." in browser.text("#why")
    browser.press("r")
    assert browser.text("#place") == "in.csv, line 2, train"
    assert browser.text(".field pre") == "<img src=x onerror=document.title='broken'>"
    browser.press("e")
    browser.value("document.querySelectorAll('textarea')[1].value = 'plain'")
    browser.press("Enter", ctrl=True)
    while "line 3" not in browser.text("#place"):
        browser.press("j")
    browser.press("e")
    browser.press("Enter", ctrl=True)  # nothing was changed: approved, its CR LF untouched
    browser.press("a")
    assert "4 decided (2 approved, 1 edited, 1 rejected)" in browser.text("#count")
    assert browser.value("document.title") == "Review"
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(downloads),
        eventsEnabled=True,
    )
    browser.press("s")
    while browser.wait_for("Browser.downloadProgress")["state"] != "completed":
        pass
    reviews = read_reviews(
        str(downloads / "reviews.jsonl"), target="openai_chat", where="reviews_file"
    )
    parcel, image, lines, reset = (reviews.decide(raw) for raw in rows())
    assert (parcel.raw, lines.raw) == (rows()[0], rows()[2])
    assert (reset.raw, reset.code) == (None, "review_rejected")
    assert image.code == "edited_in_review"
    assert image.raw is not None
    assert orjson.loads(image.raw)["messages"][1]["content"] == "plain"
    assert reviews.counts == {"approved": 2, "edited": 1, "rejected": 1}
    assert reviews.findings() == []


def test_decisions_outlive_the_page_and_can_be_taken_back(browser: Browser, page: Path) -> None:
    for _ in range(5):  # a browser that is just starting now and then loses all it was to store
        browser.open(page)
        browser.press("a")
        browser.press("r")
        browser.value("localStorage.setItem('stored', 'yes')")
        browser.open(page)
        if browser.value("localStorage.getItem('stored')") == "yes":
            break
    assert "2 decided (1 approved, 0 edited, 1 rejected)" in browser.text("#count")
    assert browser.text("#count").startswith("Row 3 of 4")
    browser.press("k")
    assert browser.value("document.querySelector('#reject').getAttribute('aria-pressed')") == "true"
    browser.press("u")
    assert "1 decided" in browser.text("#count")
    browser.press("n")
    assert browser.text("#count").startswith("Row 3 of 4")


def test_escape_drops_an_edit(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("e")
    assert browser.value("document.activeElement.tagName") == "TEXTAREA"
    browser.value("document.querySelector('textarea').value = 'gone'")
    browser.press("Escape")
    assert browser.text(".field pre") == "reset"
    assert "0 decided" in browser.text("#count")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_sheet_fits_the_screen_in_both_themes(
    browser: Browser, page: Path, theme: str, width: int
) -> None:
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    browser.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
    )
    browser.open(page)
    assert browser.value("document.documentElement.scrollWidth") <= width
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[theme]
    lowest = browser.value(
        "Math.min(...[...document.querySelectorAll('button')].map(b => b.offsetHeight))"
    )
    assert lowest >= 44
    if folder := os.environ.get("REVIEW_PICTURES"):
        (Path(folder) / f"{theme}{width}.png").write_bytes(browser.picture())


def test_page_asks_for_nothing_and_runs_no_other_script(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("performance.getEntriesByType('resource').length") == 0
    browser.value(
        "{ const s = document.createElement('script'); s.textContent = 'window.other = 1';"
        " document.body.append(s); }"
    )
    assert browser.value("window.other === undefined")
