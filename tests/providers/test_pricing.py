"""Prices by model, band, day and GPU; billing rules; base-model prices."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import (
    UnknownPriceError,
    base_prices,
    billed_tokens,
    billing_rule,
    find_price,
    load_provider,
    search_price,
)
from finetuning.providers.catalogue import Formula
from finetuning.providers.pricing import listed_gpus, reference_bases
from finetuning.providers.terms import TrainingAmounts, openai_auto_epochs, whole_steps

TODAY = dt.date(2026, 11, 20)

# provider, model, kind, gpu, dollars: rows of the dated price table, one per price
ROWS = [
    ("openai", "gpt-4.1", "train_sft", None, "25.00"),
    ("openai", "gpt-4.1-mini", "tuned_cached", None, "0.20"),
    ("openai", "gpt-4o", "tuned_out", None, "15.00"),
    ("openai", "gpt-4o-mini", "train_sft", None, "3.00"),
    ("azure", "o4-mini", "train_rft", None, "100.00"),
    ("azure", "gpt-4.1", "host", None, "1.70"),
    ("vertex", "gemini-2.5-pro", "train_sft", None, "25.00"),
    ("together", "Qwen/Qwen3.5-0.8B", "train_sft", None, "0.34"),
    ("together", "Qwen/Qwen3.5-9B", "train_dpo", None, "0.84"),
    ("together", "Qwen/Qwen3.5-27B", "train_sft", None, "1.05"),
    ("together", "Qwen/Qwen3.5-35B-A3B", "train_dpo", None, "2.62"),
    ("together", "Qwen/Qwen3.5-122B-A10B", "train_sft", None, "2.03"),
    ("together", "Qwen/Qwen3.5-9B", "host", "H200", "5.99"),
    ("fireworks", "qwen3p5-9b", "train_sft", None, "0.50"),
    ("fireworks", "gemma-4-31b-it", "train_sft", None, "3.00"),
    ("fireworks", "DeepSeek R1/V3", "train_sft", None, "10.00"),
    ("fireworks", "qwen3p5-9b", "train_dpo", None, "1.00"),
    ("fireworks", "qwen3p5-9b", "train_rft", None, "0.00"),
    ("fireworks", "qwen3p5-9b", "host", "B200", "13.00"),
    ("crusoe", "openai/gpt-oss-120b", "train_sft", None, "6.00"),
    ("crusoe", "gpt-oss-120b", "host", "H200", "6.00"),
    ("nebius", "meta-llama/Llama-3.3-70B-Instruct", "gpu", "H100", "4.50"),
    ("prime_intellect", "openai/gpt-oss-20b", "train_sft", None, "0.40"),
    ("hf_jobs", "any/model", "gpu", "L40S", "1.80"),
    ("fireworks", "gemma-4-31b-it", "host", "h100", "8.00"),
    ("tinker", "Qwen/Qwen3-8B", "train_sft", None, "0.44"),
    ("tinker", "Qwen/Qwen3.8-27B", "train_sft", None, "4.103"),
    ("tinker", "Qwen/Qwen3-8B", "storage", None, "0.10"),
    ("nebius", "meta-llama/Meta-Llama-3.1-8B-Instruct", "train_sft", None, "0.40"),
    ("prime_intellect", "Qwen/Qwen3.5-9B", "tuned_in", None, "0.20"),
    ("hf_jobs", "any/model", "gpu", "A100 80GB", "2.50"),
    ("modal", "any/model", "gpu", "L40S", "1.9512"),
    ("lambda", "any/model", "gpu", "A100-40", "1.48"),
    ("runpod", "any/model", "gpu", "H100", "2.69"),
    ("baseten", "any/model", "gpu", "B200", "9.98"),
    ("mistral", "any", "minimum", None, "4.00"),
    ("bedrock", "nova-lite", "host", None, "108.15"),
]


@pytest.mark.parametrize(("provider", "model", "kind", "gpu", "usd"), ROWS)
def test_each_price_of_the_table_is_found(
    provider: str, model: str, kind: str, gpu: str | None, usd: str
) -> None:
    price = find_price(provider, model, kind, TODAY, gpu=gpu)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # kinds come from a table
    assert price.usd == Decimal(usd)
    assert price.source
    assert price.as_of


def test_an_old_price_is_kept_and_answers_for_its_own_day() -> None:
    model = "Qwen/Qwen3.5-9B"
    assert find_price("together", model, "train_sft", dt.date(2026, 6, 1)).usd == Decimal("0.48")
    assert find_price("together", model, "train_sft", dt.date(2026, 9, 19)).usd == Decimal("0.34")
    august = find_price("fireworks", "qwen3p5-9b", "host", dt.date(2026, 8, 31), gpu="H100")
    assert august.usd == Decimal("7.00")


def test_a_range_and_a_conflict_keep_both_ends() -> None:
    price = find_price("together", "Qwen/Qwen3.5-122B-A10B", "train_sft", TODAY)
    assert (price.usd, price.usd_high) == (Decimal("2.03"), Decimal("7.00"))
    conflict = find_price("vertex", "gemini-2.5-flash-lite", "train_sft", TODAY)
    assert (conflict.usd, conflict.usd_high, conflict.confidence) == (
        Decimal("1.00"),
        Decimal("1.50"),
        "conflict",
    )


def test_a_named_variant_is_taken_only_when_asked_for() -> None:
    plain = find_price("lambda", "any/model", "gpu", TODAY, gpu="H100")
    pcie = search_price("lambda", "any/model", "gpu", TODAY, gpu="H100", variant="PCIe")
    assert plain.usd == Decimal("3.78")
    assert pcie is not None
    assert pcie.usd == Decimal("2.86")


@pytest.mark.parametrize(
    ("provider", "model", "named"),
    [
        ("together", "openai/gpt-oss-20b", "together/27B to 35B:train_sft"),  # between two bands
        ("fireworks", "glm-5p1", "fireworks/"),  # size not known
        ("bedrock", "nova-micro", "train_sft"),  # only from memory
        ("azure", "gpt-4.1", "train_sft"),  # only as an example
        ("openai", "gpt-4.1-nano", "openai/gpt-4.1-mini"),  # retired
    ],
)
def test_a_price_that_is_not_known_is_an_error_that_names_the_nearest(
    provider: str, model: str, named: str
) -> None:
    with pytest.raises(UnknownPriceError) as caught:
        find_price(provider, model, "train_sft", TODAY)
    assert named in str(caught.value)
    assert "prices={" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_age_is_flagged_after_90_days_and_refused_after_180() -> None:
    ages = {
        day: find_price("openai", "gpt-4.1", "train_sft", dt.date(2026, 8, 5) + dt.timedelta(day))
        for day in (0, 90, 91, 180, 181)
    }
    assert [ages[day].stale for day in (0, 90, 91)] == [False, False, True]
    assert [ages[day].refused for day in (180, 181)] == [False, True]
    assert find_price("openai", "gpt-4.1", "train_sft", dt.date(2026, 5, 1)).age_days == 0


def test_rented_gpus_are_listed_cheapest_first() -> None:
    assert listed_gpus("hf_jobs", "gpu", TODAY)[:2] == ["T4", "L4"]
    assert listed_gpus("local", "gpu", TODAY) == []


AMOUNTS = TrainingAmounts(train_tokens=1_000, n_epochs=3, validation_tokens=100, n_evals=2)


@pytest.mark.parametrize(
    ("formula", "change", "tokens"),
    [
        ("tokens_epochs", {}, 3_000),
        ("tokens_epochs_validation", {}, 3_200),
        ("tokens_epochs_validation", {"padded_tokens": 4_096}, 12_488),
        ("gemini_preference", {"prompt_tokens": 400}, 4_200),
        ("own_hours", {}, 3_000),
        ("gpu_hours", {}, 3_000),
    ],
)
def test_each_rule_counts_as_its_provider_says(
    formula: Formula, change: dict[str, int], tokens: int
) -> None:
    billed = billed_tokens(formula, AMOUNTS.model_copy(update=change))
    assert billed.tokens == tokens
    assert "3 epochs" in billed.formula


def test_a_rule_that_lacks_its_numbers_says_what_it_needs() -> None:
    with pytest.raises(BadInputError, match="data=<file>"):
        billed_tokens("gemini_preference", AMOUNTS)
    with pytest.raises(BadInputError, match="does not count training tokens"):
        billed_tokens("job", AMOUNTS)


@given(
    tokens=st.integers(0, 10**9),
    epochs=st.integers(1, 50),
    more=st.integers(0, 10**6),
    formula=st.sampled_from(["tokens_epochs", "tokens_epochs_validation", "own_hours"]),
)
def test_more_tokens_or_epochs_never_bill_less(
    tokens: int, epochs: int, more: int, formula: Formula
) -> None:
    base = billed_tokens(formula, TrainingAmounts(train_tokens=tokens, n_epochs=epochs))
    longer = billed_tokens(formula, TrainingAmounts(train_tokens=tokens + more, n_epochs=epochs))
    again = billed_tokens(formula, TrainingAmounts(train_tokens=tokens, n_epochs=epochs + 1))
    assert base.tokens <= min(longer.tokens, again.tokens)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(4, 25), (10, 10), (33, 3), (34, 3), (8_333, 3), (8_334, 2), (90_000, 1)]
)
def test_automatic_epochs_follow_the_published_recipe(rows: int, epochs: int) -> None:
    assert openai_auto_epochs(rows) == epochs


def test_a_method_that_a_provider_does_not_offer_is_an_error() -> None:
    assert billing_rule(load_provider("together"), "dpo") == "tokens_epochs_validation"
    with pytest.raises(BadInputError, match="'dpo' is not offered at nebius"):
        billing_rule(load_provider("nebius"), "dpo")
    with pytest.raises(BadInputError, match="cannot compute yet"):
        billing_rule(load_provider("tinker"), "rft")
    with pytest.raises(BadInputError, match="trains nothing"):
        billing_rule(load_provider("wandb"), "sft")


def test_rented_time_is_rounded_up_to_the_billing_step() -> None:
    assert whole_steps(Decimal("61"), 60) == 120
    assert whole_steps(Decimal("60"), 60) == 60
    assert whole_steps(Decimal("0.2"), 1) == 1


def test_reference_bases_are_priced_from_the_catalogue() -> None:
    assert reference_bases() == [("openai", "gpt-6-luna")]
    prices = base_prices("gpt-6-luna", TODAY)
    assert (prices.in_usd_per_mtok, prices.out_usd_per_mtok) == (Decimal("0.10"), Decimal("0.50"))
    assert prices.request_usd(1_000, 500, 100) == Decimal("0.000105")


def test_other_base_models_are_priced_by_the_price_package() -> None:
    sonnet = base_prices("anthropic:claude-sonnet-5-5", TODAY)
    assert (sonnet.in_usd_per_mtok, sonnet.cached_usd_per_mtok, sonnet.out_usd_per_mtok) == (
        Decimal("2"),
        Decimal("0.1"),
        Decimal("10"),
    )
    assert sonnet.batch_fraction == Decimal("0.5")
    assert (sonnet.source, sonnet.age_days) == ("genai-prices 0.2.3", 22)
    assert base_prices("bedrock:amazon.nova-lite-v1:0", TODAY).batch_fraction is None


def test_long_requests_pay_the_rate_of_their_length() -> None:
    assert base_prices("gpt-6-luna", TODAY, tokens_in=300_000).in_usd_per_mtok == Decimal("0.2")
    assert base_prices("claude-haiku-5-5", TODAY, tokens_in=90_000).in_usd_per_mtok == Decimal(
        "0.1"
    )


def test_a_request_without_a_cache_rate_pays_full_price_for_cached_tokens() -> None:
    prices = base_prices("gpt-6-luna", TODAY).model_copy(update={"cached_usd_per_mtok": None})
    assert prices.request_usd(1_000, 500, 0) == prices.request_usd(1_000, 0, 0)


def test_an_unknown_base_model_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="gpt-6-luna"):
        base_prices("gpt-6-lunar", TODAY)
    with pytest.raises(UnknownNameError, match="unknown model"):
        base_prices("together:no-such-model", TODAY)
    with pytest.raises(UnknownPriceError, match="voyage"):
        base_prices("voyage-3.5", TODAY, provider="voyageai")


def test_the_reference_base_before_its_price_was_known_falls_back_to_the_package() -> None:
    assert base_prices("gpt-6-luna", dt.date(2026, 11, 1), provider="openai").as_of == "2026-10-29"


def test_a_price_package_nobody_has_dated_is_as_fresh_as_its_youngest_dated_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finetuning.providers.market._PACKAGE_DAYS", {})
    prices = base_prices("claude-sonnet-5-5", dt.date(2026, 9, 1))
    assert dt.date(2026, 1, 1) < dt.date.fromisoformat(prices.as_of) <= dt.date(2026, 9, 1)


PACKAGE_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "bedrock": ("aws", {"amazon.nova-2-lite-v1:0:256k": "global.amazon.nova-2-lite-v1:0"}),
    "fireworks": ("fireworks", {}),
    "openai": (
        "openai",
        {
            "gpt-4.1-2025-04-14": "gpt-4.1",
            "gpt-4.1-mini-2025-04-14": "gpt-4.1-mini",
            "gpt-4o-2024-08-06": "gpt-4o",
            "gpt-4o-mini-2024-07-18": "gpt-4o-mini",
        },
    ),
    "vertex": ("google", {}),
}
KNOWN_CONFLICTS: set[tuple[str, str, str]] = set()
"""Base prices in which the catalogue and genai-prices differ; each is a marked row there."""


def test_base_prices_agree_with_the_price_package_or_are_a_marked_conflict() -> None:
    import genai_prices

    different: set[tuple[str, str, str]] = set()
    compared = 0
    for provider, (vendor, names) in PACKAGE_NAMES.items():
        entry = load_provider(provider)
        for row in entry.prices:
            if row.kind not in {"base_in", "base_cached", "base_out"} or not row.holds_on(TODAY):
                continue
            name = names.get(row.models[0], row.models[0].rsplit(":", 1)[0])
            used = genai_prices.calc_price(
                genai_prices.Usage(input_tokens=1, output_tokens=1),
                name,
                provider_id=vendor,
                genai_request_timestamp=dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC),
            ).model_price
            field = {"base_in": "input", "base_cached": "cache_read", "base_out": "output"}[
                row.kind
            ]
            theirs = getattr(used, f"{field}_mtok")
            theirs = getattr(theirs, "base", theirs)
            compared += 1
            if theirs != row.amount:
                different.add((provider, row.models[0], row.kind))
                assert entry.sources[row.source].confidence == "conflict", (
                    name,
                    theirs,
                    row.amount,
                )
    assert compared >= 30
    assert different == KNOWN_CONFLICTS


def test_a_price_in_yuan_carries_its_rate_and_the_older_of_both_days() -> None:
    price = find_price("alibaba", "qwen3.5-27b", "tuned_out", TODAY)
    assert price.usd == (Decimal("4.8") / Decimal("6.7758")).quantize(Decimal("0.000001"))
    assert (price.unit, price.age_days) == ("usd_per_mtok", 172)
    assert "6.7758 CNY per USD of 2026-06-01" in price.conditions
    longer = search_price("alibaba", "qwen3.5-27b", "tuned_out", TODAY, tokens_in=200_000)
    assert longer is not None
    assert longer.usd == (Decimal("14.4") / Decimal("6.7758")).quantize(Decimal("0.000001"))
    assert search_price("alibaba", "qwen3.5-27b", "tuned_in", TODAY, tokens_in=300_000) is None
    assert search_price("alibaba", "qwen3.5-27b", "tuned_out", dt.date(2026, 5, 1)) is None


def test_gpus_that_the_speed_table_lacks_match_by_their_exact_name() -> None:
    assert find_price("hf_jobs", "m", "gpu", TODAY, gpu="rtx-pro-6000").usd == Decimal("2.75")
    with pytest.raises(UnknownPriceError, match="hf_jobs/any:gpu:H200"):
        find_price("hf_jobs", "m", "gpu", TODAY, gpu="H300")
