"""Serving, alternatives, break-even: what is priced, what is never said, what never pays."""

from __future__ import annotations

import importlib.util
import math
import re
import socket
from dataclasses import replace
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.costs import CostEstimate, CurrentModel, ServingTraffic, estimate_cost
from finetuning.costs.economics import (
    Case,
    Spread,
    break_even_requests,
    months_between,
    net_present_value,
    paying_requests,
    tornado,
)
from finetuning.costs.payback import (
    break_even_months,
    draw_outcomes,
    months_percentiles,
    share_within,
    volume_percentiles,
)
from finetuning.costs.schema import money, tidy
from finetuning.errors import BadInputError, MissingExtraError
from finetuning.tokens import counter_for

TRAFFIC = {"requests_per_month": 2_000_000, "tokens_in": 500, "tokens_out": 150}
TODAY = {
    "price_in_usd_per_mtok": "2",
    "price_out_usd_per_mtok": "10",
    "price_cached_usd_per_mtok": "0.1",
    "tokens_in": 2500,
    "tokens_out": 150,
}


def estimate(
    provider: str = "together", model: str = "Qwen/Qwen3.5-9B", **more: Any
) -> CostEstimate:
    arguments: dict[str, Any] = {
        "as_of": "2026-11-20",
        "training_tokens": 5_000_000,
        "labour_usd": 5_000,
        "serving": TRAFFIC,
        "current": TODAY,
        **more,
    }
    return estimate_cost(provider, model, "sft", **arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # names come from tables


def per_month(result: CostEstimate) -> dict[str, Decimal | None]:
    return {a.name: a.usd_per_month for a in result.alternatives}


def test_the_alternatives_without_training_are_always_priced() -> None:
    prices = per_month(estimate())
    assert prices["current"] == Decimal(13_000)
    assert prices["cached"] == Decimal(5_400)  # 2,000 tokens that tuning would drop, cached
    assert prices["batch"] == Decimal(6_500)
    assert prices["cheaper_base"] == Decimal(290)
    assert prices["tuned_dedicated"] == Decimal("3.99") * 730


def test_dedicated_serving_is_hours_times_replicas_times_rate() -> None:
    result = estimate(serving={**TRAFFIC, "hours": 100, "replicas": 2})
    assert result.serving_usd_per_month == Decimal("798.00")
    h200 = estimate(gpu="H200")
    assert any("0.761 requests a second" in warning for warning in h200.warnings)
    assert h200.serving_usd_per_month == Decimal("5.99") * 730


def test_token_billed_serving_costs_nothing_when_idle() -> None:
    result = estimate("prime_intellect", serving={**TRAFFIC, "requests_per_month": 0})
    assert result.serving_usd_per_month == 0
    busy = estimate("prime_intellect")
    assert busy.serving_usd_per_month == 2_000_000 * Decimal("0.00019")
    assert busy.break_even.requests_per_month == 0


def test_a_tuned_openai_model_is_billed_at_its_own_token_prices() -> None:
    result = estimate("openai", "gpt-4.1-mini", serving={**TRAFFIC, "cached_tokens": 100})
    each = (400 * Decimal("0.80") + 100 * Decimal("0.20") + 150 * Decimal("3.20")) / 10**6
    assert result.serving_usd_per_month == 2_000_000 * each


def test_an_azure_deployment_costs_its_hours_and_the_bases_tokens() -> None:
    result = estimate(
        "azure",
        "gpt-4.1-mini",
        prices={"train_usd_per_mtok": "5"},
        accept_stale=True,
    )
    tokens = (500 * Decimal("0.4") + 150 * Decimal("1.6")) / 10**6
    assert result.serving_usd_per_month == 730 * Decimal("1.70") + 2_000_000 * tokens


def test_a_tuned_gemini_costs_what_its_base_costs() -> None:
    result = estimate("vertex", "gemini-3.1-flash-lite", prices={"train_usd_per_mtok": "3"})
    assert result.serving_usd_per_month == 2_000_000 * Decimal("0.00035")


def test_storage_is_added_and_gigabyte_storage_is_named() -> None:
    bedrock = estimate(
        "bedrock",
        "nova-lite",
        prices={"train_usd_per_mtok": "2", "storage_usd_per_month": "1.95"},
    )
    assert bedrock.serving_usd_per_month is not None
    assert str(bedrock.serving_usd_per_month).endswith(".95")
    catalogue = estimate(
        "bedrock", "nova-lite", prices={"train_usd_per_mtok": "2"}, accept_stale=True
    )
    assert catalogue.serving_usd_per_month == bedrock.serving_usd_per_month
    tinker = estimate("tinker", "Qwen/Qwen3-8B")
    assert any("per GB and month" in warning for warning in tinker.warnings)
    kept = estimate("tinker", "Qwen/Qwen3-8B", serving={**TRAFFIC, "storage_gb": "20"})
    assert kept.serving_parts["storage"] == 2


def test_serving_elsewhere_is_priced_there() -> None:
    result = estimate(serving={**TRAFFIC, "provider": "prime_intellect"})
    assert result.serving_usd_per_month == Decimal(380)


def elsewhere(result: CostEstimate) -> dict[str | None, Decimal | None]:
    return {
        a.provider: a.usd_per_month
        for a in result.alternatives
        if a.name == "tuned_token_billed_elsewhere"
    }


def test_token_billed_adapters_at_other_providers_are_priced_or_named() -> None:
    result = estimate()
    assert elsewhere(result)["prime_intellect"] == Decimal(380)
    assert elsewhere(result)["wandb"] is None
    assert "wandb have no price here: not ruled out" in result.break_even.reason


def test_nothing_is_hopeless_before_token_billed_adapters_were_priced() -> None:
    few = {**TRAFFIC, "requests_per_month": 100_000}
    result = estimate(serving=few)  # $650 today, $2,912.70 on a card of one's own
    assert result.break_even.route == "tuned_token_billed_elsewhere at prime_intellect"
    assert result.break_even.months is not None
    assert result.serving_usd_per_month == 100_000 * Decimal("0.00019")
    assert sum(result.serving_parts.values()) == result.serving_usd_per_month
    assert result.one_off_usd == 5_000 + 3 * 5 * Decimal("0.60")  # and trained there
    assert any("tuned_dedicated at together never pays" in text for text in result.warnings)
    wanted = estimate(serving={**few, "replicas": 1})  # but who asks for a card gets the card
    assert wanted.break_even.route == "tuned_dedicated at together"
    assert wanted.break_even.months is None
    assert "cheaper_base at openai would cost $14.50 a month" in wanted.break_even.reason
    assert "prime_intellect would cost $19.00 a month." in wanted.break_even.reason


def test_weights_that_cannot_leave_are_served_elsewhere_only_where_trained_too() -> None:
    closed = estimate("openai", "gpt-4.1-mini", as_of="2026-10-01")
    assert "wandb" not in elsewhere(closed)


def test_own_serving_without_a_price_leaves_break_even_unknown() -> None:
    result = estimate("local", "Qwen/Qwen3-8B")
    assert result.serving_usd_per_month is None
    assert result.break_even.months is None
    assert "no price of serving" in result.break_even.reason
    priced = estimate("local", "Qwen/Qwen3-8B", prices={"host_usd_per_hour": "0.5"})
    assert priced.serving_usd_per_month == Decimal(365)
    assert priced.break_even.months is not None


def test_rented_machines_serve_at_their_hourly_price() -> None:
    result = estimate("baseten", "Qwen/Qwen3-8B", gpu="H100")
    assert result.serving_usd_per_month == Decimal("6.50") * 730


def test_a_provider_whose_serving_is_not_known_says_so() -> None:
    result = estimate("vertex", "google/gemma-3-27b-it", prices={"train_usd_per_mtok": "1"})
    assert result.serving_usd_per_month is None
    assert any("is not known" in warning for warning in result.warnings)
    nebius = estimate("nebius", "meta-llama/Meta-Llama-3.1-8B-Instruct")
    assert any("no price was read" in warning for warning in nebius.warnings)
    assert "adapters at nebius, wandb have no price here: not ruled out" in nebius.break_even.reason
    own = estimate(
        "nebius",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        prices={"tuned_in_usd_per_mtok": "0.1", "tuned_out_usd_per_mtok": "0.1"},
    )
    assert own.serving_usd_per_month == 2_000_000 * Decimal("0.000065")


def test_a_tuned_base_whose_price_nobody_knows_is_not_priced() -> None:
    result = estimate("azure", "Qwen-32B", prices={"train_usd_per_mtok": "1"}, accept_stale=True)
    assert any("not counted" in warning for warning in result.warnings)


def test_it_pays_and_the_sentence_says_when() -> None:
    result = estimate()
    even = result.break_even
    assert even.months is not None
    assert even.months.p10 is not None
    assert even.months.p90 is not None
    assert even.months.p10 < even.months.p90
    assert even.probability_within_horizon == 1
    assert even.requests_per_month == 448_108
    assert "pays back in about 0.5 months" in even.reason
    assert "cheaper_base" in even.reason
    assert result.npv_usd is not None
    assert result.npv_usd > 100_000


def test_what_never_pays_is_null_with_the_reason_and_exit_code_0() -> None:
    result = estimate(
        "openai",
        "gpt-4.1-mini",
        current={"model": "gpt-6-luna", "tokens_in": 2500, "tokens_out": 150},
    )
    even = result.break_even
    assert even.months is None
    assert even.requests_per_month is None
    assert even.probability_within_horizon == 0
    assert even.reason.startswith("Never pays")
    assert result.exit_code() == 0
    assert result.npv_usd is not None
    assert result.npv_usd < 0


def test_what_pays_only_with_more_traffic_says_in_how_many_draws() -> None:
    result = estimate(serving={**TRAFFIC, "requests_per_month": 400_000, "replicas": 1})
    even = result.break_even
    assert "with more traffic it does in" in even.reason
    assert even.months is not None
    assert even.months.p90 is None


@pytest.mark.parametrize(
    ("serving", "current", "words"),
    [(None, TODAY, "pass serving"), (TRAFFIC, None, "pass current"), (None, None, "pass serving")],
)
def test_without_traffic_or_todays_model_break_even_is_unknown_not_guessed(
    serving: dict[str, Any] | None, current: dict[str, Any] | None, words: str
) -> None:
    result = estimate(serving=serving, current=current)
    assert words in result.break_even.reason
    assert result.npv_usd is None
    assert [swing.factor for swing in result.tornado] == [
        "labour",
        "cycles",
        "twice the data",
        "epochs, one fewer or one more in three",
    ]  # the price of this model has no range, so it moves nothing
    if serving is not None:
        assert per_month(result)["cheaper_base"] == Decimal(250)


def test_todays_model_is_named_or_priced_but_not_both() -> None:
    named = estimate(current={"model": "claude-sonnet-5-5", "tokens_in": 2500, "tokens_out": 150})
    assert per_month(named)["current"] == Decimal(13_000)
    with pytest.raises(BadInputError, match="neither a model nor prices"):
        estimate(current={"tokens_in": 10, "tokens_out": 1})
    with pytest.raises(BadInputError, match="both a model and prices"):
        estimate(current={**TODAY, "model": "gpt-6-luna"})


def test_an_unknown_cache_or_batch_price_is_null_with_the_reason() -> None:
    without = {key: value for key, value in TODAY.items() if "cached" not in key}
    result = estimate(current=without)
    assert per_month(result)["cached"] is None
    nova = estimate(
        current={"model": "bedrock:amazon.nova-lite-v1:0", "tokens_in": 9, "tokens_out": 9}
    )
    assert per_month(nova)["batch"] is None


def test_the_one_off_cost_is_the_sum_of_its_parts() -> None:
    result = estimate(cycles=4)
    assert result.one_off_usd == sum(result.one_off_parts.values()) == Decimal("5006.80")


def test_the_same_seed_gives_the_same_answer_and_another_one_other_draws() -> None:
    first, second = (estimate(seed=7).model_dump(exclude={"chart_file"}) for _ in range(2))
    assert first == second
    slow = {**TRAFFIC, "requests_per_month": 500_000}
    months = [estimate(seed=seed, serving=slow).break_even.months for seed in (7, 8)]
    assert months[0] != months[1]


def test_the_tornado_has_five_factors_the_largest_first() -> None:
    swings = [abs(s.high_usd - s.low_usd) for s in estimate().tornado]
    assert len(swings) == 5
    assert swings == sorted(swings, reverse=True)


def test_the_page_stands_alone_and_shows_the_sums(tmp_path: Path) -> None:
    result = estimate(output_dir=str(tmp_path / "page"))
    assert result.chart_file is not None
    assert Path(result.chart_file) == tmp_path / "page" / "cost.html"
    html = Path(result.chart_file).read_text(encoding="utf-8")
    assert "<svg" in html
    assert "Cumulative cost" in html
    assert "$2,912.70" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    with pytest.raises(BadInputError, match="already holds files"):
        estimate(output_dir=str(tmp_path / "page"))
    assert estimate(output_dir=str(tmp_path / "page"), overwrite=True).chart_file


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "Pays within the horizon in 100% of the draws"),
        ({"serving": {**TRAFFIC, "requests_per_month": 500_000}}, "Pays within the horizon"),
        ({"serving": {**TRAFFIC, "requests_per_month": 1}}, "Never pays"),
        ({"serving": None}, "Whether it pays is not known"),
    ],
)
def test_the_pages_banner_says_what_the_answer_is(more: dict[str, Any], words: str) -> None:
    result = estimate(**more)
    assert result.chart_file is not None
    assert words in Path(result.chart_file).read_text(encoding="utf-8")


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert estimate(current={"model": "claude-opus-5-5", "tokens_in": 9, "tokens_out": 9}).next


def test_the_next_calls_carry_the_facts_as_they_are() -> None:
    result = estimate()
    assert [call.tool for call in result.next] == ["assess_fit"]
    assert estimate(serving=None).next == []
    assert result.next[0].args["facts"] == result.fit_facts
    assert result.fit_facts["price_in_usd_per_mtok"] == "2"
    assert result.fit_facts["requests_per_month"] == 2_000_000


def test_a_summary_is_one_line_with_the_price() -> None:
    line = estimate().summary()
    assert line.startswith("One job: $1.70; serving $2,912.70 a month.")
    assert "\n" not in line


def test_a_result_stays_short() -> None:
    counter = counter_for("gpt-4o")
    assert sum(counter.count([estimate().model_dump_json()])) <= 2_000


def test_assumptions_are_paged_and_what_was_given_comes_last(tmp_path: Path) -> None:
    whole = estimate(limit=None, output_dir=str(tmp_path / "a"))
    assert whole.total == len(whole.assumptions) > 10
    assert whole.next_offset is None
    first = estimate()
    assert first.next_offset == len(first.assumptions) == 10
    assert estimate(offset=10).assumptions == whole.assumptions[10:20]
    given = [a.confidence == "given" for a in whole.assumptions]
    assert given == sorted(given)
    html = (tmp_path / "a" / "cost.html").read_text("utf-8")
    assert all(escape(a.name) in html for a in whole.assumptions)
    with pytest.raises(BadInputError, match="limit of at least 1"):
        estimate(limit=0)


CASE = Case(
    training=Decimal(100),
    training_spread=Spread(Decimal("0.7"), Decimal("1.5")),
    cycles=3,
    labour=Decimal(1_000),
    requests=Decimal(100_000),
    now_request=Decimal("0.01"),
    tuned_request=Decimal("0.002"),
    tuned_fixed=Decimal(200),
    rate=Decimal(0),
)


def test_the_numbers_of_a_case_follow_the_published_formulas() -> None:
    assert CASE.one_off == Decimal(1_300)
    assert CASE.saving == Decimal(600)
    assert break_even_requests(CASE) == 25_000
    assert net_present_value(CASE) == Decimal(12 * 600 - 1_300)


def test_a_forced_retraining_costs_one_cycle() -> None:
    later = replace(CASE, retrain_first=6)
    assert later.again == Decimal(100) + Decimal(1_000) / 3
    assert net_present_value(CASE) - net_present_value(later) == Decimal("433.33")
    assert replace(CASE, retrain_first=15, horizon=36).retrain_at == (15, 30)
    assert replace(CASE, retrain_first=1).retrain_at == (1,)
    assert replace(CASE, retrain_first=40).retrain_at == ()
    assert CASE.retrain_at == ()


def test_break_even_is_after_every_retraining_that_comes_before_it() -> None:
    assert break_even_months(CASE) == Decimal("2.17")  # 1,300 / 600
    assert break_even_months(replace(CASE, retrain_first=3)) == Decimal("2.17")
    once = replace(CASE, labour=Decimal(2_100), cycles=1, retrain_first=2)  # 2,200 first and again
    assert break_even_months(once) == Decimal("7.33")  # (2,200 + 2,200) / 600, before month 17
    slow = replace(once, requests=Decimal(52_000))  # saves 216 a month: 10.2 months, twice, thrice
    assert break_even_months(slow) == Decimal("30.56")  # 3 * 2,200 / 216: after months 2 and 17
    assert break_even_months(replace(slow, requests=Decimal(40_000))) is None  # 120 * 15 < 2,200


def test_a_volume_that_pays_back_within_the_horizon_pays_all_spending() -> None:
    busy = replace(CASE, retrain_first=6)
    wanted = paying_requests(busy)
    assert wanted is not None
    at = replace(busy, requests=Decimal(wanted))
    below = replace(busy, requests=Decimal(wanted - 1))
    assert net_present_value(at) >= 0 > net_present_value(below)


def test_never_is_infinite_in_every_percentile() -> None:
    draws = draw_outcomes(replace(CASE, tuned_request=Decimal(1)), seed=0)
    assert set(draws.months) == set(draws.volumes) == {math.inf}
    assert len(draws.months) == 10_000
    assert months_percentiles(draws.months) is None
    assert volume_percentiles(draws.volumes) is None
    assert share_within(draws.months, 12) == 0


def test_the_draws_agree_with_a_plain_simulation_of_the_months() -> None:
    case = replace(CASE, retrain_first=4, retrain_every=5, rate=Decimal("0.2"))
    draws = draw_outcomes(case, seed=3)
    by_hand: list[float] = []
    for debt, saving in zip(draws.one_offs, draws.savings, strict=True):
        gained, month = -debt, 0
        while gained < -1e-9 and month < 10_000:
            due = min(-gained / saving, 1.0) if saving > 0 else 1.0
            if due < 1:
                by_hand.append(month + due)
                break
            month += 1
            gained += saving
            if month >= 4 and (month - 4) % 5 == 0:
                gained -= debt / 3
        else:
            by_hand.append(float(month) if gained >= -1e-9 else math.inf)
    assert draws.months == pytest.approx(sorted(by_hand), abs=1e-6)
    worth = [
        sum(saving * 1.2 ** (-m / 12) for m in range(1, 13))
        - debt * (1 + sum(1.2 ** (-m / 12) for m in (4, 9)) / 3)
        for debt, saving in zip(draws.one_offs, draws.savings, strict=True)
    ]
    worth.sort()
    value = draws.net_present_values()
    assert [float(value.p10), float(value.p50), float(value.p90)] == pytest.approx(
        [worth[999], worth[4999], worth[8999]], abs=0.01
    )


def test_the_band_ends_at_the_horizon_with_the_undiscounted_value() -> None:
    case = replace(CASE, retrain_first=6)
    band = draw_outcomes(case, seed=0).band([0, 5, 6, 12])
    assert [row[0] for row in band] == [0, 5, 6, 12]
    assert all(low <= middle <= high for _, low, middle, high in band)
    assert band[0][3] < 0 < band[3][2]
    flat = draw_outcomes(case, seed=0).net_present_values()
    assert band[3][1:] == pytest.approx(
        [float(flat.p10), float(flat.p50), float(flat.p90)], abs=0.01
    )


def test_the_middle_of_the_draws_is_near_the_point() -> None:
    months = months_percentiles(draw_outcomes(CASE, seed=0).months)
    assert months is not None
    point = break_even_months(CASE)
    assert point is not None
    assert months.p50 is not None
    assert abs(months.p50 - point) < point / 3


def test_a_case_without_traffic_weighs_the_one_off_cost() -> None:
    swings = {s.factor: s for s in tornado(CASE, with_traffic=False)}
    assert swings["cycles"].high_usd == Decimal(1_500)


def test_a_factor_that_moves_nothing_is_not_in_the_tornado() -> None:
    named = {s.factor for s in tornado(replace(CASE, labour=Decimal(0)), with_traffic=False)}
    assert named
    assert "labour" not in named
    free = replace(CASE, labour=Decimal(0), training=Decimal(0))
    assert tornado(free, with_traffic=False) == []
    assert estimate("local", "someone/some-model", serving=None, labour_usd=0).tornado == []


@given(
    requests=st.integers(0, 10**8),
    more=st.integers(0, 10**7),
    fixed=st.integers(0, 10**5),
    rise=st.integers(0, 10**4),
)
def test_more_traffic_never_delays_and_dearer_hosting_never_hastens_break_even(
    requests: int, more: int, fixed: int, rise: int
) -> None:
    base = replace(CASE, requests=Decimal(requests), tuned_fixed=Decimal(fixed))
    busier = replace(base, requests=Decimal(requests + more))
    dearer = replace(base, tuned_fixed=Decimal(fixed + rise))
    assert base.saving <= busier.saving
    assert dearer.saving <= base.saving
    assert net_present_value(dearer) <= net_present_value(base) <= net_present_value(busier)


@given(st.decimals("0", "1000000000", places=6))
def test_tidying_money_changes_nothing_but_zeros(value: Decimal) -> None:
    assert tidy(value) == value
    assert int(tidy(value).as_tuple().exponent) <= -2


def test_a_replica_takes_as_many_gpus_as_hold_the_base() -> None:
    large = estimate("together", "Qwen/Qwen3.5-122B-A10B")  # 270 GB: 2 H200 are the cheapest
    assert large.serving_usd_per_month == 2 * Decimal("5.99") * 730
    named = estimate("together", "Qwen/Qwen3.5-122B-A10B", gpu="H100")
    assert named.serving_usd_per_month == 4 * Decimal("3.99") * 730
    (count,) = (a for a in named.assumptions if a.name == "GPUs of a replica")
    assert count.value == "4"
    small = estimate("together", "Qwen/Qwen3.5-27B", limit=None)
    assert all(a.name != "GPUs of a replica" for a in small.assumptions)


@pytest.mark.parametrize("part", ["serving", "current"])
def test_no_more_tokens_are_read_from_a_cache_than_are_sent(part: str) -> None:
    whole = {"serving": TRAFFIC, "current": TODAY}[part]
    too_many: dict[str, Any] = {part: {**whole, "cached_tokens": 2501}}
    with pytest.raises(BadInputError, match=f"{part}.cached_tokens"):
        estimate(**too_many)


def test_prices_in_yuan_carry_their_rate_and_its_day() -> None:
    result = estimate(
        "alibaba", "qwen3-32b", prices={"train_usd_per_mtok": "1"}, accept_stale=True, limit=None
    )
    (price,) = (a for a in result.assumptions if a.name == "alibaba/qwen3-32b:tuned")
    assert "2 CNY at 6.7758 CNY per USD of 2026-06-01" in price.unit


def test_the_pictures_are_written_as_png_when_asked(tmp_path: Path) -> None:
    if importlib.util.find_spec("resvg_py") is None:
        with pytest.raises(MissingExtraError, match="plots"):
            estimate(png=True, output_dir=str(tmp_path / "png"))
        return
    estimate(png=True, output_dir=str(tmp_path / "png"))
    pictures = sorted((tmp_path / "png").glob("*.png"))
    assert len(pictures) >= 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_the_page_speaks_chinese_when_asked(tmp_path: Path) -> None:
    result = estimate(language="zh", output_dir=str(tmp_path / "zh"))
    assert result.chart_file is not None
    html = Path(result.chart_file).read_text("utf-8")
    assert 'lang="zh' in html
    assert re.search("[\u4e00-\u9fff]{4}", html)


def test_money_is_written_with_cents_or_with_the_digits_that_count() -> None:
    assert money(Decimal("-1234.5")) == "-$1,234.50"
    assert money(Decimal("1234.5")) == "$1,234.50"
    assert money(Decimal("0.0004")) == "$0.0004"
    assert money(Decimal(0)) == "$0.00"


def test_months_between_days_are_whole_and_never_negative() -> None:
    import datetime as dt

    day = dt.date(2026, 11, 20)
    assert months_between(day, dt.date(2027, 1, 14)) == 1
    assert months_between(day, dt.date(2027, 1, 20)) == 2
    assert months_between(day, dt.date(2026, 1, 1)) == 0


def test_the_objects_of_a_call_refuse_unknown_names() -> None:
    with pytest.raises(ValueError, match="request_per_month"):
        ServingTraffic.model_validate({**TRAFFIC, "request_per_month": 1})
    with pytest.raises(ValueError, match="tokens_in"):
        CurrentModel.model_validate({"tokens_out": 1})
