"""The page of an estimate: every picture it should have, the word never, and its two languages."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finetuning.costs import CostEstimate, estimate_cost
from finetuning.costs.economics import Case, Spread
from finetuning.costs.page import write_page
from finetuning.errors import MissingExtraError

BUSY: dict[str, Any] = {"requests_per_month": 300_000, "tokens_in": 600, "tokens_out": 150}
NOW: dict[str, Any] = {
    "price_in_usd_per_mtok": "3",
    "price_out_usd_per_mtok": "15",
    "price_cached_usd_per_mtok": "0.3",
    "tokens_in": 2600,
    "tokens_out": 150,
}
CASE = Case(
    training=Decimal(30),
    training_spread=Spread(Decimal("0.9"), Decimal("1.1")),
    cycles=3,
    labour=Decimal(4000),
    requests=Decimal(300_000),
    now_request=Decimal("0.01005"),
    tuned_request=Decimal("0.00096"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINE_TUNING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(tmp_path))
    return tmp_path


def estimated(folder: Path, name: str = "page", **changes: Any) -> tuple[CostEstimate, str]:
    arguments: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "method": "sft",
        "training_tokens": 2_000_000,
        "serving": BUSY,
        "current": NOW,
        "labour_usd": Decimal(4000),
        "as_of": "2026-11-20",
        "accept_stale": True,
        "output_dir": str(folder / name),
        **changes,
    }
    result = estimate_cost(**arguments)
    assert result.chart_file is not None
    return result, Path(result.chart_file).read_text("utf-8")


def captions(html: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


def test_an_estimate_with_traffic_shows_all_five_pictures(folder: Path) -> None:
    result, html = estimated(folder)
    shown = captions(html)
    assert shown[:3] == ["When it pays back", "Cumulative cost", "What moves the result most"]
    assert shown[3].startswith("Cheapest option, one-off cost spread over 12 months")
    assert shown[4] == "How long each service and the tuned model live"
    spoken = re.findall(r'aria-label="How long([^"]*)"', html)[0]
    assert "2027-01-06 last job" in spoken
    assert "2027-01-14 the base ends" in spoken
    assert "trained again" in spoken
    assert result.break_even.months is not None
    texts = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", html))
    assert re.search(r"after 2\.\d months", texts)
    assert html.count('<polygon class="band"') == 1
    assert "Never" not in texts


def test_what_never_pays_says_so_inside_the_picture(folder: Path) -> None:
    few = {**BUSY, "requests_per_month": 10, "hours": 730, "replicas": 1}
    changes: dict[str, Any] = {"provider": "together", "model": "Qwen/Qwen3.5-9B", "serving": few}
    result, html = estimated(folder, **changes)
    assert result.break_even.months is None
    texts = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", html))
    assert re.search(r"Never pays back: a month costs \$[\d,.]+ more than today\.", texts)
    assert "<strong>Never pays</strong>" in html


def test_what_pays_too_late_says_within_which_months(folder: Path) -> None:
    result, html = estimated(folder, labour_usd=Decimal(90_000))
    assert result.break_even.probability_within_horizon is not None
    assert "Never pays back within 12 months." in html


def test_the_map_frames_the_traffic_given_and_leaves_the_cheaper_base_out(folder: Path) -> None:
    _, html = estimated(folder)
    chart = html[html.index("Cheapest option") :]
    chart = chart[: chart.index("</figure>")]
    assert chart.count('class="here"') == 1
    assert "cheaper base (" not in chart
    assert all(
        f">{volume}<" in chart for volume in ("10k", "30k", "100k", "300k", "900k", "3M", "9M")
    )
    assert "tuned" in chart


def test_the_chinese_page_has_no_english_words_of_its_own(folder: Path) -> None:
    _, html = estimated(folder, language="zh")
    assert 'lang="zh-Hans"' in html
    assert captions(html)[:3] == ["何时回本", "累计成本", "影响结果最大的因素"]
    for english in ("When it pays", "net gain", "requests per month<", "What this stands on"):
        assert english not in html
    assert "一万次抽样的 P10 至 P90" in html


def test_without_traffic_there_is_no_payback_to_draw(folder: Path) -> None:
    _, html = estimated(folder, serving=None, current=None)
    assert captions(html) == [
        "What moves the result most",
        "How long each service and the tuned model live",
    ]
    assert "spent before the first request, USD" in html


def test_the_line_of_the_payback_ends_at_the_gain_of_the_horizon(folder: Path) -> None:
    result, _ = estimated(folder)
    case = replace(CASE, retrain_first=4, retrain_every=6)
    html = write_page(result, case, folder).read_text("utf-8")
    end = case.saving * 12 - case.one_off - 2 * case.again
    spoken = re.findall(r'aria-label="When it pays back\.([^"]*)"', html)[0]
    assert f"to {float(end):,.0f}" in spoken
    assert f"{float(-case.one_off):,.0f}".replace("-", "−") in spoken


def test_pictures_are_written_as_png_or_the_extra_is_named(folder: Path) -> None:
    result, html = estimated(folder)
    if importlib.util.find_spec("resvg_py") is None:
        with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[plots\]"):
            write_page(result, CASE, folder, png=True)
        return
    write_page(result, CASE, folder, png=True)
    assert len(list(folder.glob("cost-*.png"))) == len(captions(html))


def test_services_elsewhere_stand_in_the_timeline_and_free_ones_have_no_end(folder: Path) -> None:
    _, html = estimated(folder, provider="together", model="Qwen/Qwen3.5-9B")
    spoken = re.findall(r'aria-label="How long([^"]*)"', html)[0]
    assert "together: Qwen/Qwen3.5-9B: open" in spoken
    assert len(re.findall(r"[\w_]+: [\w/.-]+: (?:open|preview|closing|closed)", spoken)) >= 3


def test_a_base_of_ones_own_has_a_timeline_too(folder: Path) -> None:
    _, html = estimated(folder, provider="local", model="Qwen/Qwen3-8B", serving=None, current=None)
    assert "How long each service" not in html
