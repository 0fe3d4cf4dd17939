"""Which options are offered, in which order, at which price, and why the rest is not."""

from __future__ import annotations

import datetime as dt
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import (
    Constraints,
    Option,
    ProviderComparison,
    Workload,
    all_providers,
    availability,
    compare_providers,
    load_provider,
)
from finetuning.tokens import counter_for

TODAY = "2026-11-20"
WORK: dict[str, Any] = {
    "training_tokens": 2_000_000,
    "requests_per_month": 100_000,
    "tokens_in": 800,
    "tokens_out": 200,
}


def compare(
    work: dict[str, Any] | None = None,
    *,
    as_of: str = TODAY,
    limit: int | None = None,
    offset: int = 0,
    **wanted: Any,
) -> ProviderComparison:
    constraints = Constraints.model_validate({"method": "sft", "customer": "new"} | wanted)
    workload = None if work is None else Workload.model_validate(work)
    return compare_providers(
        constraints, workload=workload, as_of=as_of, limit=limit, offset=offset
    )


def option(result: ProviderComparison, provider: str, model: str | None = None) -> Option:
    return next(o for o in result.options if o.provider == provider and model in {None, o.model})


def why_not(result: ProviderComparison, provider: str, model: str | None = None) -> str:
    rows = [row for row in result.excluded if row.provider == provider]
    return next(row.excluded_because for row in rows if model in {None, row.model} or not row.model)


# --- the day of the answer -------------------------------------------------------------------


def test_openai_was_open_in_may_and_nobody_could_know_the_end_of_its_bases() -> None:
    openai = option(compare(WORK, as_of="2026-05-01"), "openai", "gpt-4.1-mini-2025-04-14")
    assert openai.status == "open"
    assert openai.base_retires_on is None
    assert openai.usd_12_months is not None
    assert openai.train_usd_per_mtok == Decimal("5.00")


def test_today_openai_is_closed_to_new_customers_with_dates_and_sources() -> None:
    row = next(row for row in compare(WORK).excluded if row.provider == "openai")
    assert row.model is None
    assert "training ended for new on 2026-05-07" in row.excluded_because
    assert "training ends on 2027-01-06" in row.excluded_because
    assert row.sources[0].url.startswith("https://developers.openai.com/")
    assert row.sources[0].checked >= "2026-09"


def test_today_openai_is_closing_for_existing_customers() -> None:
    result = compare(WORK, customer="existing_active")
    openai = option(result, "openai", "gpt-4.1-2025-04-14")
    assert openai.status == "existing_only"
    assert openai.dates["training_end"] == dt.date(2027, 1, 6)
    assert openai.base_retires_on == dt.date(2027, 1, 14)
    assert result.options[-1].base_retires_on is not None, "what ends soon stands last"
    assert "dormant" in why_not(compare(WORK, customer="existing_dormant"), "openai")


def test_nothing_that_is_closed_is_offered_and_nothing_that_ends_soon_leads() -> None:
    day = dt.date.fromisoformat(TODAY)
    for customer in ("new", "existing_active", "existing_dormant"):
        for method in ("sft", "dpo", "rft", "kto", "grpo", "cpt"):
            result = compare(WORK, customer=customer, method=method)
            for offered in result.options:
                known = availability(offered.provider, offered.model, customer, day)
                assert known.can_start
                assert offered.status != "closed"
            if result.options and (end := result.options[0].base_retires_on):
                assert (end - day).days > 180


def test_a_base_that_ends_within_half_a_year_stands_last_and_is_no_answer_alone() -> None:
    wanted: dict[str, Any] = {"customer": "existing_active", "model_family": "gpt-4o-mini"}
    both = compare(WORK, **wanted)
    assert [o.provider for o in both.options] == ["azure", "openai"]
    alone = compare(WORK, **wanted, max_monthly_usd="10000")  # Azure's price is not known
    assert (alone.exit_code(), alone.total) == (1, 0)
    assert "retires on 2027-01-14, within 180 days" in why_not(
        alone, "openai", "gpt-4o-mini-2024-07-18"
    )


def test_a_service_that_is_gone_was_there_before() -> None:
    assert "2025-09-15" in why_not(compare(), "cohere")
    assert "no tunable model" in why_not(compare(), "gemini_api")


def test_the_same_question_gets_the_same_answer() -> None:
    assert compare(WORK) == compare(WORK)


# --- prices ----------------------------------------------------------------------------------


def test_a_token_billed_option_is_priced_by_hand() -> None:
    """Tinker Qwen3-8B: 3 jobs × 2M × 3 epochs × $0.44/M, and 12 × 100,000 requests."""
    found = option(compare(WORK), "tinker", "Qwen/Qwen3-8B")
    training = Decimal(3) * 2 * 3 * Decimal("0.44")
    request = (800 * Decimal("0.195") + 200 * Decimal("0.60")) / 1_000_000
    at = [
        training + 12 * 100_000 * traffic * request for traffic in (Decimal("0.6"), Decimal("1.6"))
    ]
    assert found.usd_12_months is not None
    assert (
        at[0] < found.usd_12_months.p10 < found.usd_12_months.p50 < found.usd_12_months.p90 < at[1]
    )
    assert found.serving[0].usd_per_month == Decimal("27.60")
    assert found.train_usd_per_mtok == Decimal("0.44")


def test_without_traffic_the_price_is_exactly_that_of_the_jobs() -> None:
    idle = WORK | {"requests_per_month": 0, "cycles": 2, "n_epochs": 5}
    found = option(compare(idle), "tinker", "Qwen/Qwen3-8B")
    assert found.usd_12_months is not None
    exact = (Decimal(2) * 2 * 5 * Decimal("0.44")).quantize(Decimal("0.01"))
    assert {found.usd_12_months.p10, found.usd_12_months.p90} == {exact}


def test_an_adapter_may_be_served_where_it_was_not_trained() -> None:
    found = option(compare(WORK), "fireworks", "accounts/fireworks/models/qwen3p5-9b")
    assert found.serving[0].provider == "nebius"
    assert found.serving[0].billing == "hour"
    own = next(way for way in found.serving if way.provider == "fireworks")
    assert own.usd_per_month == 730 * Decimal("8.00")
    assert own.rank_limit == 32
    glm = option(compare(WORK), "fireworks", "accounts/fireworks/models/glm-5p3-flash")
    assert (glm.serving[0].billing, glm.serving[0].rank_limit) == ("token", 64)


def test_weights_that_stay_are_served_at_home_only() -> None:
    result = compare(WORK, customer="existing_active")
    for name in ("openai", "bedrock"):
        homes = {way.provider for o in result.options if o.provider == name for way in o.serving}
        assert homes == {name}


def test_a_price_in_yuan_is_turned_into_dollars_at_the_dated_rate() -> None:
    found = option(compare(WORK), "alibaba", "qwen3-32b")
    yuan = (800 * Decimal(2) + 200 * Decimal(8)) / 1_000_000 * 100_000
    month = found.serving[0].usd_per_month
    assert month is not None
    assert abs(month - yuan / Decimal("6.7758")) < Decimal("0.01")
    before = option(compare(WORK, as_of="2026-05-01"), "alibaba", "qwen3-32b")
    assert before.serving[0].usd_per_month is None, "no rate is known before its day"


def test_an_unknown_price_stays_unknown_and_stands_behind_the_known_ones() -> None:
    result = compare(WORK)
    known = [found.usd_12_months is not None for found in result.options]
    assert known == sorted(known, reverse=True)
    nova = option(result, "bedrock", "amazon.nova-lite-v1:0:300k")
    assert (nova.usd_12_months, nova.train_usd_per_mtok) == (None, None)
    assert "training price is not known" in nova.why


def test_a_price_read_half_a_year_ago_is_named_and_not_used() -> None:
    result = compare(WORK)
    modal = option(result, "modal")
    assert modal.usd_12_months is None
    assert any(row.name.startswith("modal/") and row.refused for row in result.stale_rows)
    fresh = option(compare(WORK, as_of="2026-08-01"), "modal")
    assert fresh.usd_12_months is not None


def test_a_minimum_charge_raises_a_small_job() -> None:
    small = {"training_tokens": 1_000, "requests_per_month": 0, "tokens_in": 0, "tokens_out": 0}
    found = option(compare(small), "together", "Qwen/Qwen3.5-9B")
    assert found.usd_12_months is not None
    assert Decimal(0) < found.usd_12_months.p10 < found.usd_12_months.p90 <= Decimal(66)


def test_a_base_that_ends_within_the_year_costs_one_job_more() -> None:
    idle = WORK | {"requests_per_month": 0, "cycles": 1, "n_epochs": 1}
    found = option(compare(idle, customer="existing_active"), "openai", "gpt-4.1-2025-04-14")
    assert found.usd_12_months is not None
    assert found.usd_12_months.p50 == 2 * 2 * Decimal("25.00")


@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(1, 10**8),
    requests=st.integers(0, 10**6),
    more=st.integers(1, 10**6),
)
def test_more_tokens_or_requests_never_cost_less(tokens: int, requests: int, more: int) -> None:
    base = {
        "training_tokens": tokens,
        "requests_per_month": requests,
        "tokens_in": 500,
        "tokens_out": 100,
    }
    first = compare(base, model_family="qwen")
    for grown in (
        base | {"training_tokens": tokens + more},
        base | {"requests_per_month": requests + more},
        base | {"n_epochs": 9},
    ):
        later = {
            (o.provider, o.model): o.usd_12_months
            for o in compare(grown, model_family="qwen").options
        }
        for found in first.options:
            spread = later[found.provider, found.model]
            if found.usd_12_months is not None:
                assert spread is not None
                assert spread.p10 <= spread.p50 <= spread.p90
                assert found.usd_12_months.p50 <= spread.p50


def test_jobs_billed_otherwise_than_by_token_are_priced_or_unknown() -> None:
    idle = WORK | {"requests_per_month": 0}
    rft = compare(idle, method="rft", as_of="2026-05-01")
    free = option(rft, "fireworks", "accounts/fireworks/models/qwen3p5-9b")
    assert free.usd_12_months is not None
    assert free.usd_12_months.p90 == 0
    assert option(rft, "tinker").usd_12_months is None
    o4 = option(compare(idle, method="rft", as_of="2026-05-01"), "azure", "o4-mini-2025-04-16")
    assert o4.usd_12_months is None, "its hours are not known"
    preference = option(compare(idle, method="dpo", as_of="2026-09-01"), "vertex")
    assert preference.usd_12_months is None, "how long the prompts are is not known"


def test_dedicated_serving_of_a_model_of_unknown_size_has_no_price() -> None:
    found = option(compare(WORK), "fireworks", "accounts/fireworks/models/glm-5p1")
    assert all(way.usd_per_month is None for way in found.serving)


def test_full_tuning_has_its_own_price() -> None:
    found = option(
        compare(WORK, tuning="full"), "fireworks", "accounts/fireworks/models/qwen3p5-9b"
    )
    assert found.train_usd_per_mtok == Decimal("1.00")
    assert option(compare(WORK, tuning="full"), "hf_jobs").train_usd_per_mtok is not None


# --- constraints -----------------------------------------------------------------------------


GEMINI, NOVA = "gemini-3.1-flash-lite", "amazon.nova-lite-v1:0:300k"
CASES: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"method": "dpo"}, "nebius", None, "dpo is not offered"),
    ({"tuning": "full"}, "tinker", None, "full is not offered (only lora)"),
    ({"tuning": "qlora"}, "together", None, "qlora is not offered"),
    ({"on_premise": True}, "together", None, "not on your premises"),
    ({"needs_weights": True}, "bedrock", NOVA, "cannot be downloaded"),
    ({"needs_tools": True}, "bedrock", NOVA, "tool calls"),
    ({"needs_vision": True}, "nebius", None, "images in the training data: not known"),
    ({"data_sensitivity": "personal"}, "tinker", None, "trains on customers' data is not known"),
    ({"data_sensitivity": "health"}, "vertex", GEMINI, "no agreement for health data"),
    ({"data_sensitivity": "secret"}, "fireworks", None, "secret data would leave"),
    ({"region": "eu-central-1"}, "bedrock", NOVA, "stays in eu is not known (known: us)"),
    ({"region": "Beijing"}, "together", None, "stays in cn is not known"),
    ({"model_family": "llama"}, "tinker", None, "not of the family 'llama'"),
    ({"licence": "apache-2.0"}, "nebius", None, "its licence is llama-3"),
    ({"licence": "mit"}, "tinker", "deepseek-ai/DeepSeek-V3.1", "licence of its base is not known"),
    ({"licence": "permissive"}, "vertex", "gemini-3.5-flash", "its licence is proprietary"),
    ({"context_tokens": 200_000}, "tinker", "Qwen/Qwen3-8B", "context of 40960 tokens"),
    ({"languages": ["zh"]}, "nebius", None, "its makers support en, de"),
    ({"gpu_memory_gb": 8, "model_family": "3.5-9b"}, "local", None, "memory, there is 8 GB"),
    ({"max_monthly_usd": "20"}, "together", None, "a month is over $20"),
    ({"max_monthly_usd": "20"}, "local", None, "price is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "provider", "model", "why"), CASES)
def test_what_does_not_meet_a_constraint_is_left_out_with_the_reason(
    wanted: dict[str, Any], provider: str, model: str | None, why: str
) -> None:
    result = compare(WORK, **wanted)
    assert all(o.provider != provider or (model and o.model != model) for o in result.options)
    assert why in why_not(result, provider, model)


@pytest.mark.parametrize(
    ("wanted", "provider"),
    [
        ({"on_premise": True}, "local"),
        ({"data_sensitivity": "secret"}, "bedrock"),
        ({"data_sensitivity": "health"}, "fireworks"),
        ({"region": "europe-west4"}, "nebius"),
        ({"region": "singapore"}, "alibaba"),
        ({"needs_weights": True}, "together"),
        ({"needs_tools": True, "model_family": "qwen"}, "tinker"),
        ({"tuning": "full", "licence": "permissive"}, "together"),
        ({"languages": ["zh"], "context_tokens": 200_000}, "together"),
        ({"max_monthly_usd": "20"}, "prime_intellect"),
    ],
)
def test_what_meets_the_constraints_is_offered(wanted: dict[str, Any], provider: str) -> None:
    assert provider in {o.provider for o in compare(WORK, **wanted).options}


def test_own_memory_decides_which_bases_fit() -> None:
    def fits(**wanted: Any) -> set[str]:
        result = compare(on_premise=True, gpu_memory_gb=24, model_family="qwen", **wanted)
        return {o.model for o in result.options}

    small = compare(on_premise=True, gpu_memory_gb=6).options
    assert [o.model for o in small] == ["meta-llama/Llama-3.2-1B-Instruct"]
    assert "Qwen/Qwen3.5-9B" in fits()
    assert "Qwen/Qwen3-32B" not in fits()
    assert "Qwen/Qwen3-32B" in fits(tuning="qlora")
    assert "Qwen/Qwen3.5-9B" not in fits(tuning="full")


def test_every_option_and_every_exclusion_is_there_once() -> None:
    result = compare(WORK)
    offered = {(o.provider, o.model) for o in result.options}
    left_out = {(row.provider, row.model) for row in result.excluded}
    assert len(offered) == result.total
    assert not offered & left_out
    whole = {provider for provider, model in left_out if model is None}
    for entry in all_providers():
        for model in entry.models:
            if model.methods and not entry.any_model:
                place = (entry.id, model.id)
                assert place in offered or place in left_out or entry.id in whole
        names = {provider for provider, _ in offered | left_out}
        assert entry.id in names


def test_a_rented_machine_is_priced_with_a_base_that_meets_the_constraints() -> None:
    plain = option(compare(WORK), "hf_jobs")
    assert plain.model == "Qwen/Qwen3.5-9B"
    assert "any open base runs here" in plain.why
    llama = compare(WORK, model_family="llama", licence="llama-3.3")
    assert {o.model for o in llama.options if o.provider == "hf_jobs"} == {
        "meta-llama/Llama-3.3-70B-Instruct"
    }
    assert "no base of the family" in why_not(compare(model_family="no-such-family"), "hf_jobs")


def test_languages_that_nobody_listed_are_said_to_be_untested() -> None:
    result = compare(languages=["sw"])
    assert "201 languages, test sw" in option(result, "together", "Qwen/Qwen3.5-9B").why
    assert (
        "which languages it knows was not read"
        in option(result, "tinker", "openai/gpt-oss-20b").why
    )


# --- the shape of the answer -----------------------------------------------------------------


def test_scores_fall_and_every_option_has_a_source_and_its_day() -> None:
    result = compare(WORK)
    priced = [o.score for o in result.options if o.usd_12_months is not None]
    assert priced == sorted(priced, reverse=True)
    assert all(0 <= o.score <= 1 for o in result.options)
    assert all(o.sources for o in result.options)
    assert all(source.checked for o in result.options for source in o.sources)


def test_no_option_exits_1_and_says_what_to_ask_next() -> None:
    result = compare(WORK, method="cpt", on_premise=True, gpu_memory_gb=1)
    assert (result.exit_code(), result.total, result.options) == (1, 0, [])
    assert "No option on 2026-11-20" in result.summary()
    assert result.next[0].tool == "assess_fit"


def test_pages_follow_one_another_and_fit_an_assistant() -> None:
    everything = compare(WORK, needs_weights=True)
    seen: list[Option] = []
    offset: int | None = 0
    counter = counter_for()
    while offset is not None:
        part = compare(WORK, needs_weights=True, limit=3, offset=offset)
        text = json.dumps(part.model_dump(mode="json"))
        assert counter.count([text])[0] <= 2_000
        seen += part.options
        offset = part.next_offset
    assert seen == everything.options
    assert compare(limit=3, offset=10_000).summary().endswith("none from this offset on.")
    assert compare(limit=3, offset=10_000).next == []


def test_the_next_call_prices_the_best_option() -> None:
    result = compare(WORK, model_family="qwen")
    call = result.next[0]
    assert (call.tool, call.args["provider"]) == ("estimate_cost", result.options[0].provider)
    assert call.args["serving"]["requests_per_month"] == 100_000
    other = compare(
        WORK, model_family="Qwen3.5-9B", needs_weights=True, data_sensitivity="personal"
    )
    assert other.next[0].args["serving"].get("provider", other.options[0].provider)
    assert compare().next == []
    assert result.fit_facts["training_tokens"] == 2_000_000


def test_tokens_are_counted_in_the_data(write_lines: Callable[..., Path]) -> None:
    row = json.dumps(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
    )
    path = write_lines("train.jsonl", *[row] * 10)
    counted = compare(
        {k: v for k, v in WORK.items() if k != "training_tokens"} | {"data": str(path)}
    )
    tokens = counted.fit_facts["training_tokens"]
    assert tokens % 10 == 0
    assert 50 <= tokens <= 200
    assert any("tokens counted" in said for said in counted.assumptions)


def test_a_call_that_cannot_be_answered_says_what_it_needs(
    write_lines: Callable[..., Path],
) -> None:
    traffic = {k: v for k, v in WORK.items() if k != "training_tokens"}
    with pytest.raises(BadInputError, match="neither data nor training_tokens"):
        compare(traffic)
    with pytest.raises(BadInputError, match="without a workload"):
        compare(max_monthly_usd="5")
    with pytest.raises(BadInputError, match="is not a day"):
        compare(as_of="yesterday")
    with pytest.raises(UnknownNameError, match="unknown region 'mars'"):
        compare(region="mars")
    with pytest.raises(BadInputError, match="not one token"):
        compare(traffic | {"data": str(write_lines("empty.jsonl", "{}"))})


def test_it_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_provider.cache_clear()
    assert compare(WORK).total > 20


def test_the_benchmark_still_runs() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "compare_providers.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "options priced: 7" in done.stdout
