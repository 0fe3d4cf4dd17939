"""Vendors asked through their own packages, against HTTP servers on this machine."""

from __future__ import annotations

import json
import sqlite3
import stat
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from finetuning import approval
from finetuning.errors import BadInputError, MissingExtraError, NotAllowedError
from finetuning.evaluation import EvalComparison, compare_eval
from finetuning.evaluation.servers import pause_seconds
from finetuning.evaluation.targets import VendorTarget, parse_target

NO_HEADERS: dict[str, str] = {}
KEY = "-".join(["key", "of", "a", "test"])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_chats(tmp_path / "chats.jsonl", 6)


def write_chats(path: Path, count: int) -> Path:
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"say word{k}"},
                {"role": "assistant", "content": f"word{k}"},
            ]
        }
        for k in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


PRICES: dict[str, Any] = {
    "price_in_usd_per_mtok": Decimal(1),
    "price_out_usd_per_mtok": Decimal(2),
    "max_tokens": 16,
}


def approved(data: Path, base: str, **options: Any) -> EvalComparison:
    """Plan, approve as a person would, and run."""
    plan = compare_eval(str(data), base, **options)
    assert plan.needs_approval
    approval.approve_plan(str(plan.plan_id), Decimal(1))
    return compare_eval(str(data), base, dry_run=False, plan_id=plan.plan_id, **options)


@pytest.mark.parametrize(
    ("target", "path", "key_header"),
    [
        ("openai:m", "/v1/chat/completions", f"Bearer {KEY}"),
        ("azure:deployed", "/openai/v1/chat/completions", f"Bearer {KEY}"),
        ("anthropic:m", "/v1/messages", f"Bearer {KEY}"),
        ("bedrock:vendor.m-v1:0", "/model/vendor.m-v1%3A0/converse", "AWS4-HMAC-SHA256"),
        ("vertex:m", "models/m:generateContent", KEY),
    ],
)
def test_every_vendor_is_asked_in_its_own_way_and_answers(
    vendor: Any, data: Path, target: str, path: str, key_header: str
) -> None:
    if target.startswith("vertex"):
        pytest.importorskip("google.genai", reason="the extra google is not installed")
    result = approved(data, target, **PRICES)
    assert result.verdict == "baseline"
    assert result.task[0].base == 1.0
    asked, headers, body = vendor.requests[0]
    assert asked.endswith(path)
    sent = [headers.get(name) or "" for name in ("authorization", "x-api-key", "x-goog-api-key")]
    assert any(value.startswith(key_header) for value in sent), sorted(headers)
    text = json.dumps(body)
    assert "Be brief." in text
    assert '"temperature": 0' in text
    assert "16" in text
    kept = json.dumps(result.model_dump(mode="json")) + Path(str(result.report_file)).read_text()
    assert KEY not in kept
    assert "word3" not in json.dumps(result.model_dump(mode="json"))


def test_a_second_run_pays_only_for_what_is_new(
    vendor: Any, tmp_path: Path, isolated_environment: Path
) -> None:
    first = approved(write_chats(tmp_path / "a.jsonl", 4), "openai:m", **PRICES)
    assert first.verdict == "baseline"
    assert len(vendor.requests) == 4
    more = write_chats(tmp_path / "b.jsonl", 6)
    plan = compare_eval(str(more), "openai:m", **PRICES)
    assert plan.plan is not None
    assert plan.plan.steps == ["base: send 2 prompts to 127.0.0.1 (4 more are known)"]
    result = approved(more, "openai:m", **PRICES)
    assert len(vendor.requests) == 6
    assert result.task[0].base == 1.0
    assert "base: 4 of 6 answers were paid for by an earlier call" in result.cautions
    store = isolated_environment / "answers.sqlite"
    for file in isolated_environment.glob("answers.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with sqlite3.connect(store) as connection:
        states = connection.execute("SELECT state, count(*) FROM answers GROUP BY 1").fetchall()
    connection.close()
    assert states == [("done", 6)]


def test_other_settings_are_another_question(vendor: Any, data: Path) -> None:
    approved(data, "openai:m", **PRICES)
    approved(data, "openai:m", **{**PRICES, "max_tokens": 17})
    approved(data, "openai:other", **PRICES)
    assert len(vendor.requests) == 18


def test_prompts_that_repeat_are_paid_once(vendor: Any, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "same.jsonl", 2)
    data.write_text(data.read_text() * 3)
    result = approved(data, "anthropic:m", **PRICES)
    assert len(vendor.requests) == 2
    assert result.task[0].n == 6
    assert result.task[0].base == 1.0


@pytest.mark.parametrize("target", ["openai:m", "anthropic:m", "bedrock:m"])
@pytest.mark.parametrize("ending", [(429, {"Retry_After": "0"}), (503, {}), (0, {})])
def test_a_busy_or_broken_vendor_is_asked_again(
    vendor: Any, data: Path, target: str, ending: tuple[int, dict[str, str]]
) -> None:
    vendor.script = {1: ending, 2: ending}
    result = approved(data, target, **PRICES)
    assert result.task[0].base == 1.0
    assert len(vendor.requests) == 8


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_is_not_repeated(vendor: Any, data: Path, status: int) -> None:
    vendor.script = dict.fromkeys(range(1, 100), (status, NO_HEADERS))
    result = approved(data, "openai:m", **PRICES)
    assert len(vendor.requests) == 6
    assert result.verdict == "invalid"
    assert result.reasons == [f"base: 6 of 6 requests failed (6 x status {status})"]


@pytest.mark.parametrize("target", ["openai:m", "anthropic:m", "bedrock:m"])
def test_nothing_more_is_sent_after_a_key_is_refused(
    vendor: Any, tmp_path: Path, target: str
) -> None:
    vendor.script = dict.fromkeys(range(1, 100), (401, NO_HEADERS))
    data = write_chats(tmp_path / "many.jsonl", 60)
    result = approved(data, target, **PRICES)
    assert len(vendor.requests) <= 8
    assert result.reasons == ["base: 60 of 60 requests failed (60 x status 401)"]


@pytest.mark.parametrize("target", ["openai:m", "anthropic:m", "bedrock:m"])
def test_a_model_without_temperature_is_asked_without_and_that_is_said(
    vendor: Any, data: Path, target: str
) -> None:
    vendor.refuse_temperature = True
    result = approved(data, target, **PRICES)
    assert result.task[0].base == 1.0
    assert any("takes no temperature" in caution for caution in result.cautions)


def test_failed_requests_are_asked_again_by_the_next_run(vendor: Any, data: Path) -> None:
    vendor.script = dict.fromkeys(range(1, 7), (400, NO_HEADERS))
    assert approved(data, "openai:m", **PRICES).verdict == "invalid"
    assert approved(data, "openai:m", **PRICES).task[0].base == 1.0


def test_offline_mode_refuses_a_vendor_before_any_connection(
    vendor: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    with pytest.raises(NotAllowedError, match="FINE_TUNING_OFFLINE=1"):
        compare_eval(str(data), "openai:m", dry_run=False, plan_id="plan_000000000000")
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("target", "variable"),
    [
        ("openai:m", "OPENAI_API_KEY"),
        ("azure:m", "AZURE_OPENAI_ENDPOINT"),
        ("anthropic:m", "ANTHROPIC_API_KEY"),
        ("bedrock:m", "AWS_REGION"),
    ],
)
def test_what_the_environment_lacks_is_named(
    vendor: Any, data: Path, monkeypatch: pytest.MonkeyPatch, target: str, variable: str
) -> None:
    monkeypatch.delenv(variable)
    with pytest.raises(BadInputError, match=variable):
        approved(data, target, **PRICES)


def test_a_vendor_whose_package_is_missing_names_its_extra(
    vendor: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[anthropic\]"):
        approved(data, "anthropic:m", **PRICES)


def test_the_catalogue_prices_a_plan_and_an_unknown_price_stays_unknown(
    vendor: Any, data: Path
) -> None:
    known = compare_eval(str(data), "openai:gpt-6-luna", max_tokens=1000).plan
    assert known is not None
    assert known.cost_usd is not None
    # 6 answers of at most 1,000 tokens at $0.50 per million, plus the prompts
    assert Decimal("0.0030") <= known.cost_usd < Decimal("0.0032")
    tuned = "ft:gpt-4.1-mini-2025-04-14:org::id"
    tuned_plan = compare_eval(str(data), f"openai:{tuned}", max_tokens=1000).plan
    assert tuned_plan is not None
    assert tuned_plan.cost_usd is not None
    assert Decimal("0.0192") <= tuned_plan.cost_usd < Decimal("0.0200")  # $3.20 per million
    unknown = compare_eval(str(data), "openai:no-such-model")
    assert unknown.plan is not None
    assert unknown.plan.cost_usd is None
    with pytest.raises(NotAllowedError, match="unknown"):
        approval.approve_plan(str(unknown.plan_id), Decimal(100))


def test_a_standing_approval_covers_a_catalogue_price_but_never_the_callers(
    vendor: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_MAX_USD", "1")
    plan = compare_eval(str(data), "openai:gpt-6-luna")
    result = compare_eval(str(data), "openai:gpt-6-luna", dry_run=False, plan_id=plan.plan_id)
    assert result.task[0].base == 1.0
    stated = compare_eval(str(data), "openai:x", **PRICES)
    with pytest.raises(NotAllowedError, match="not approved"):
        compare_eval(str(data), "openai:x", dry_run=False, plan_id=stated.plan_id, **PRICES)


def test_pauses_grow_and_a_server_that_wants_too_long_a_wait_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finetuning.evaluation.servers.PAUSE_SECONDS", (0.5, 30.0))
    pauses = [pause_seconds(attempt, None) for attempt in range(12)]
    assert all(pause is not None and 0 < pause <= 30 for pause in pauses)
    assert 0.25 <= cast("float", pauses[0]) <= 0.5
    assert 15 <= cast("float", pauses[-1]) <= 30
    assert pause_seconds(0, 7.0) == 7.0
    assert pause_seconds(0, 9999.0) is None


def test_a_plan_names_where_prompts_really_go(monkeypatch: pytest.MonkeyPatch, vendor: Any) -> None:
    target = cast("VendorTarget", parse_target("openai:m", where="base"))
    assert target.host == "127.0.0.1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert target.host == "api.openai.com"
