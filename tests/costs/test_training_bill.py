"""The bill of one job: each provider's rule, counted files, machine hours, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.costs import CostEstimate, estimate_cost
from finetuning.costs.economics import Spread, spread_around
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import UnknownPriceError

DAY = "2026-11-20"
TINY_BASE = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 150,
    "tie_word_embeddings": True,
}


def estimate(provider: str, model: str, method: str = "sft", **more: Any) -> CostEstimate:
    arguments: dict[str, Any] = {"as_of": DAY, **more}
    return estimate_cost(provider, model, method, **arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # names come from tables


def point(result: CostEstimate) -> Decimal:
    assert result.training.usd is not None
    return result.training.usd.point


# provider, model, method, arguments, dollars worked out by hand from the published rule
CASES: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("openai", "gpt-4.1-mini", "sft", {"training_tokens": 2_000_000, "n_epochs": 3}, "30"),
    ("openai", "gpt-4o", "sft", {"training_tokens": 100_000, "n_epochs": 4}, "10"),
    ("together", "Qwen/Qwen3.5-9B", "sft", {"training_tokens": 50_000_000, "n_epochs": 3}, "51"),
    (
        "together",
        "Qwen/Qwen3.5-27B",
        "dpo",
        {
            "training_tokens": 10_000_000,
            "n_epochs": 1,
            "validation_tokens": 1_000_000,
            "n_evals": 5,
        },
        "39.3",
    ),
    ("tinker", "Qwen/Qwen3-8B", "sft", {"training_tokens": 1_000_000, "n_epochs": 2}, "0.88"),
    (
        "nebius",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "sft",
        {"training_tokens": 1_000_000, "n_epochs": 3},
        "1.2",
    ),
    (
        "prime_intellect",
        "Qwen/Qwen3.5-4B",
        "sft",
        {"training_tokens": 1_000_000, "n_epochs": 1},
        "0.3",
    ),
    ("fireworks", "gemma-4-31b-it", "sft", {"training_tokens": 1_000_000, "n_epochs": 2}, "6"),
]


@pytest.mark.parametrize(("provider", "model", "method", "more", "usd"), CASES)
def test_token_billed_jobs_cost_what_the_published_rule_says(
    provider: str, model: str, method: str, more: dict[str, Any], usd: str
) -> None:
    result = estimate(provider, model, method, **more)
    assert point(result) == Decimal(usd)
    assert sum(result.training.parts.values()) == point(result)


def test_the_epochs_are_the_providers_own_when_none_are_given() -> None:
    assert estimate("together", "Qwen/Qwen3.5-9B", training_tokens=10).training.billed_tokens == 10
    assert estimate("tinker", "Qwen/Qwen3-8B", training_tokens=10).training.billed_tokens == 30
    assert estimate("openai", "gpt-4o", training_tokens=10).training.billed_tokens == 30


def test_epochs_beyond_what_the_model_takes_are_refused() -> None:
    with pytest.raises(BadInputError, match="n_epochs=5"):
        estimate(
            "bedrock",
            "nova-lite",
            training_tokens=1_000,
            n_epochs=6,
            prices={"train_usd_per_mtok": "2"},
        )


def test_own_prices_replace_the_catalogue_and_are_listed_as_given() -> None:
    result = estimate(
        "bedrock", "nova-lite", training_tokens=1_000_000, prices={"train_usd_per_mtok": 2}
    )
    assert point(result) == Decimal(4)  # two epochs by default
    given = [a for a in result.assumptions if a.name == "train_usd_per_mtok"]
    assert [a.confidence for a in given] == ["given"]


def test_a_minimum_charge_is_a_part_of_the_bill() -> None:
    result = estimate(
        "together", "Qwen/Qwen3.5-9B", training_tokens=1_000, prices={"minimum_usd_per_job": "4"}
    )
    assert point(result) == Decimal(4)
    assert set(result.training.parts) == {"tokens", "minimum charge"}
    assert sum(result.training.parts.values()) == Decimal(4)


def test_a_minimum_on_which_pages_disagree_only_widens_the_range() -> None:
    result = estimate("together", "Qwen/Qwen3.5-9B", training_tokens=1_000_000, n_epochs=1)
    assert result.training.usd is not None
    assert (result.training.usd.point, result.training.usd.p90) == (Decimal("0.34"), Decimal(22))
    assert any("may charge up to" in warning for warning in result.warnings)


def test_a_price_range_reaches_the_percentiles() -> None:
    usd = estimate("together", "Qwen/Qwen3.5-122B-A10B", training_tokens=10**8).training.usd
    assert usd is not None
    assert usd.point == Decimal(203)
    assert Decimal(203) < usd.p10 < usd.p50 < usd.p90 < Decimal(700)


def rows(write: Callable[..., Path], *texts: str) -> Path:
    return write(
        "rows.jsonl", *(json.dumps({"prompt": text, "completion": "yes"}) for text in texts)
    )


def test_tokens_are_counted_on_the_file_and_long_rows_are_cut(
    write_lines: Callable[..., Path],
) -> None:
    path = rows(write_lines, "one two three", "a " * 400)
    whole = estimate("openai", "gpt-4o", data=str(path), n_epochs=1)
    cut = estimate("openai", "gpt-4o", data=str(path), n_epochs=1, max_length=50)
    assert whole.training.billed_tokens is not None
    assert cut.training.billed_tokens is not None
    assert whole.training.billed_tokens > 400
    assert 50 < cut.training.billed_tokens < 60
    assert any("1 of 2 rows are cut" in warning for warning in cut.warnings)
    assert any(a.name == "tokenizer of rows.jsonl" for a in cut.assumptions)


def test_two_rows_get_the_automatic_epochs_of_a_small_file(
    write_lines: Callable[..., Path],
) -> None:
    result = estimate("openai", "gpt-4o", data=str(rows(write_lines, "one", "two")))
    assert "25 epochs" in result.training.formula


def test_another_models_tokenizer_widens_the_range(write_lines: Callable[..., Path]) -> None:
    path = rows(write_lines, *("some words to count " * 50 for _ in range(20)))
    exact = estimate("openai", "gpt-4o", data=str(path), n_epochs=1).training.usd
    guessed = estimate("tinker", "Qwen/Qwen3-8B", data=str(path), n_epochs=1).training.usd
    assert exact is not None
    assert guessed is not None
    assert exact.p10 == exact.p90
    assert guessed.p10 < guessed.point < guessed.p90


def test_unpacked_rows_are_billed_at_full_length_where_padding_is(
    write_lines: Callable[..., Path],
) -> None:
    path = rows(write_lines, "one", "two", "three")
    result = estimate(
        "together", "Qwen/Qwen3.5-9B", data=str(path), n_epochs=2, packing=False, max_length=1024
    )
    assert result.training.billed_tokens == 2 * 3 * 1024
    with pytest.raises(BadInputError, match="rows × maximum length"):
        estimate("together", "Qwen/Qwen3.5-9B", training_tokens=10, packing=False)


def test_a_prepared_folder_bills_its_validation_rows_where_the_provider_does(
    tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    line = json.dumps({"prompt": "one two three four", "completion": "five"})
    write_lines("prepared/train.jsonl", line, line)
    write_lines("prepared/validation.jsonl", line)
    folder = str(tmp_path / "prepared")
    none = estimate("together", "Qwen/Qwen3.5-9B", data=folder, n_epochs=1)
    four = estimate("together", "Qwen/Qwen3.5-9B", data=folder, n_epochs=1, n_evals=4)
    azure = estimate(
        "azure", "gpt-4o", data=folder, n_epochs=1, n_evals=4, prices={"train_usd_per_mtok": 1}
    )
    assert none.training.billed_tokens is not None
    assert four.training.billed_tokens == 3 * none.training.billed_tokens
    assert azure.training.billed_tokens == none.training.billed_tokens


def test_gemini_bills_the_prompts_of_preference_data_twice(
    write_lines: Callable[..., Path],
) -> None:
    row = {
        "contents": [{"role": "user", "parts": [{"text": "word " * 200}]}],
        "completions": [{"score": 1, "completion": {"role": "model", "parts": [{"text": "a"}]}}],
    }
    path = write_lines("pairs.jsonl", json.dumps(row))
    arguments: dict[str, Any] = {
        "as_of": "2026-10-01",
        "n_epochs": 1,
        "prices": {"train_usd_per_mtok": 1},
    }
    result = estimate("vertex", "gemini-2.5-flash", "dpo", data=str(path), **arguments)
    assert result.training.billed_tokens is not None
    assert result.training.billed_tokens > 400
    with pytest.raises(BadInputError, match="data=<file>"):
        estimate("vertex", "gemini-2.5-flash", "dpo", training_tokens=10, **arguments)


def test_unreadable_rows_are_left_out_and_named_and_none_at_all_is_an_error(
    write_lines: Callable[..., Path],
) -> None:
    good = json.dumps({"prompt": "one", "completion": "two"})
    path = write_lines("mixed.jsonl", good, "{broken", good)
    result = estimate("openai", "gpt-4o", data=str(path), n_epochs=1)
    assert any("1 rows could not be read" in warning for warning in result.warnings)
    with pytest.raises(BadInputError):
        estimate("openai", "gpt-4o", data=str(write_lines("bad.jsonl", "{broken", "{also")))


def test_a_file_whose_text_was_not_read_is_noticed(write_lines: Callable[..., Path]) -> None:
    path = write_lines(
        "odd.jsonl", json.dumps({"prompt": "a", "completion": "b", "unread_column": "word " * 500})
    )
    result = estimate("openai", "gpt-4o", data=str(path), n_epochs=1)
    assert any("check that the columns" in warning for warning in result.warnings)


def test_a_folder_without_training_rows_is_an_error(
    tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    write_lines("only/test.jsonl", json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(BadInputError, match=r"train\.jsonl"):
        estimate("openai", "gpt-4o", data=str(tmp_path / "only"))


def test_rented_hours_are_rounded_up_to_the_billing_step_and_priced() -> None:
    result = estimate("hf_jobs", "Qwen/Qwen3-8B", training_tokens=5_000_000, gpu="h200")
    assert result.gpu is not None
    minutes = point(result) / Decimal("5.00") * 60
    assert abs(minutes - round(minutes)) < Decimal("0.001")
    assert result.gpu.hours["p10"] < result.gpu.hours["p50"] < result.gpu.hours["p90"]
    assert result.gpu.memory_gb is not None
    assert result.gpu.memory_gb > 16
    two = estimate("hf_jobs", "Qwen/Qwen3-8B", training_tokens=5_000_000, gpu="H200", n_gpus=2)
    assert two.gpu is not None
    assert two.gpu.hours["p50"] < result.gpu.hours["p50"]


def test_rented_hours_need_a_gpu_a_known_model_and_a_price() -> None:
    with pytest.raises(BadInputError, match="T4, L4"):
        estimate("hf_jobs", "Qwen/Qwen3-8B", training_tokens=1_000)
    with pytest.raises(UnknownNameError, match="base model"):
        estimate("hf_jobs", "no/such-model", training_tokens=1_000, gpu="H200")
    with pytest.raises(UnknownPriceError, match="hf_jobs/any:gpu:H200"):
        estimate("hf_jobs", "Qwen/Qwen3-8B", training_tokens=1_000, gpu="B200")
    with pytest.raises(BadInputError, match="its GPUs, with prices="):
        estimate("sagemaker", "Qwen/Qwen3-8B", training_tokens=1_000)


def test_own_hardware_sends_no_bill_and_says_what_is_not_counted(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(TINY_BASE), encoding="utf-8")
    result = estimate("local", str(base), training_tokens=50_000)
    assert point(result) == 0
    assert result.gpu is not None
    assert result.gpu.device == "CPU"
    assert any("not included" in a.value for a in result.assumptions)
    priced = estimate(
        "local",
        str(base),
        training_tokens=10**12,
        gpu="RTX 4090",
        prices={"gpu_usd_per_hour": "0.3"},
    )
    assert point(priced) > 0


def test_a_local_file_leads_to_the_configuration_of_the_run(
    write_lines: Callable[..., Path],
) -> None:
    path = str(rows(write_lines, "one"))
    result = estimate("local", "someone/some-model", data=path)
    assert [call.tool for call in result.next] == ["configure_training"]
    assert result.next[0].args["data"] == path


def test_an_old_way_to_serve_is_left_out_and_does_not_block_the_others() -> None:
    traffic = {"requests_per_month": 1_000, "tokens_in": 10, "tokens_out": 10}
    arguments: dict[str, Any] = {
        "training_tokens": 1_000,
        "serving": traffic,
        "prices": {"train_usd_per_mtok": "2", "storage_usd_per_month": "1.95"},
    }
    result = estimate("bedrock", "nova-lite", "sft", **arguments)
    old = next(a for a in result.alternatives if a.name == "tuned_dedicated")
    assert old.usd_per_month is None
    assert "accept_stale" in old.note
    assert result.serving_usd_per_month is not None
    dedicated = estimate(
        "bedrock", "nova-lite", "sft", **{**arguments, "serving": {**traffic, "hours": 1}}
    )
    assert dedicated.exit_code() == 3


def test_hours_of_an_unknown_base_on_own_hardware_stay_unknown() -> None:
    result = estimate("local", "someone/some-model", training_tokens=1_000)
    assert result.gpu is None
    assert point(result) == 0
    assert any("is not known, so no hours" in warning for warning in result.warnings)


def test_reinforcement_jobs_are_billed_by_hours_and_grader_tokens() -> None:
    job = {
        "hours": 4,
        "grader_model": "gpt-6-luna",
        "grader_tokens_in": 1_000_000,
        "grader_tokens_out": 100_000,
    }
    result = estimate("azure", "o4-mini", "rft", rft=job, accept_stale=True)
    assert result.training.parts == {
        "hours": Decimal(400),
        "grader": Decimal("0.15"),
    }
    plain = estimate("azure", "o4-mini", "rft", rft={"hours": "2.5"}, accept_stale=True)
    assert point(plain) == Decimal(250)
    with pytest.raises(BadInputError, match="hours"):
        estimate("azure", "o4-mini", "rft")
    own = estimate("azure", "o4-mini", "rft", rft={"hours": 1}, prices={"train_usd_per_hour": "90"})
    assert point(own) == Decimal(90)


def test_a_free_job_is_free_and_its_old_price_must_be_accepted() -> None:
    assert estimate("fireworks", "qwen3p5-9b", "rft").exit_code() == 3
    assert point(estimate("fireworks", "qwen3p5-9b", "rft", accept_stale=True)) == 0


def test_a_price_of_more_than_180_days_is_refused_until_accepted() -> None:
    refused = estimate("modal", "Qwen/Qwen3-8B", training_tokens=10**6, gpu="H100")
    assert refused.exit_code() == 3
    assert refused.training.usd is None
    assert refused.chart_file is None
    assert [price.refused for price in refused.stale_prices] == [True]
    assert "too long ago" in refused.summary()
    again = estimate_cost(**refused.next[0].args)
    assert again.exit_code() == 0
    assert again.stale_prices[0].refused


def test_a_price_of_more_than_90_days_is_flagged_but_used() -> None:
    result = estimate("openai", "gpt-4o", training_tokens=1_000)
    assert result.exit_code() == 0
    assert result.stale_prices[0].age_days == 107


@pytest.mark.parametrize(
    ("provider", "model", "method", "named"),
    [
        ("openai", "gpt-4.1-mni", "sft", "gpt-4.1-mini"),
        ("opnai", "gpt-4.1-mini", "sft", "openai"),
        ("together", "openai/gpt-oss-20b", "sft", "together/"),
        ("nowhere", "any", "sft", "provider"),
    ],
)
def test_what_is_not_known_is_an_error_that_names_the_nearest(
    provider: str, model: str, method: str, named: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        estimate(provider, model, method, training_tokens=1_000)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "neither data nor training_tokens"),
    ({"training_tokens": 0}, "out of range"),
    ({"training_tokens": 10, "data": "x.jsonl"}, "both given"),
    ({"training_tokens": 10, "discount_rate": 12}, r"0\.12\?"),
    ({"training_tokens": 10, "horizon_months": 0}, "1 to 120"),
    ({"training_tokens": 10, "labour_usd": -1}, "labour_usd"),
    ({"training_tokens": 10, "as_of": "20 November"}, "2026-11-20"),
    ({"data": "no-such-file.jsonl"}, "no-such-file"),
]


@pytest.mark.parametrize(("more", "words"), BAD)
def test_a_call_that_cannot_be_answered_says_why_and_writes_nothing(
    more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=words):
        estimate("openai", "gpt-4o", output_dir=str(tmp_path / "out"), **more)
    assert not (tmp_path / "out").exists()


def test_a_method_that_a_model_does_not_take_is_an_error() -> None:
    with pytest.raises(BadInputError, match="not offered for gpt-4o-mini"):
        estimate("openai", "gpt-4o-mini", "dpo", training_tokens=10)
    with pytest.raises(BadInputError, match="cannot be tuned"):
        estimate("openai", "gpt-6-luna", training_tokens=10)


def test_a_closed_service_is_refused_with_its_day() -> None:
    with pytest.raises(BadInputError, match="2025-09-15"):
        estimate("cohere", "command-r", training_tokens=10)


def test_a_closing_base_is_warned_about_with_its_day() -> None:
    result = estimate("openai", "gpt-4o", training_tokens=10)
    assert str(result.base_retires_on) == "2027-01-14"
    assert any("in 55 days" in warning for warning in result.warnings)
    noted = estimate(
        "bedrock", "nova-lite", training_tokens=10, prices={"train_usd_per_mtok": 1}
    ).warnings
    assert any("lose tool calling" in warning for warning in noted)


@settings(deadline=None)
@given(
    tokens=st.integers(1, 10**9),
    more=st.integers(0, 10**8),
    epochs=st.integers(1, 20),
    price=st.decimals("0.01", "100", places=3),
    rise=st.decimals("0", "10", places=3),
)
def test_more_tokens_epochs_or_price_never_cost_less(
    tokens: int, more: int, epochs: int, price: Decimal, rise: Decimal
) -> None:
    from finetuning.costs.request import Job, Ledger, parse_day
    from finetuning.costs.schema import PriceOverrides
    from finetuning.costs.training import price_training
    from finetuning.providers import find_model, load_provider
    from finetuning.providers.terms import TrainingAmounts

    def cost(tokens: int, epochs: int, price: Decimal) -> list[Decimal]:
        job = Job(
            provider=load_provider("tinker"),
            model=find_model("tinker", "Qwen/Qwen3-8B"),
            given_model="Qwen/Qwen3-8B",
            method="sft",
            tuning="lora",
            formula="tokens_epochs",
            day=parse_day(DAY),
            overrides=PriceOverrides(train_usd_per_mtok=price),
        )
        amounts = TrainingAmounts(train_tokens=tokens, n_epochs=epochs)
        band = Spread(Decimal("0.7"), Decimal("1.3"))
        usd = price_training(job, amounts, band, Ledger(job.day)).training.usd
        assert usd is not None
        return [usd.p10, usd.p50, usd.point, usd.p90]

    base = cost(tokens, epochs, price)
    for other in (
        cost(tokens + more, epochs, price),
        cost(tokens, epochs + 1, price),
        cost(tokens, epochs, price + rise),
    ):
        assert all(a <= b for a, b in zip(base, other, strict=True))


@given(
    low=st.decimals("0.1", "1", places=3),
    high=st.decimals("1", "9", places=3),
    usd=st.decimals("0", "1000000", places=4),
)
def test_percentiles_are_ordered_and_stay_within_the_range(
    low: Decimal, high: Decimal, usd: Decimal
) -> None:
    result = spread_around(usd, Spread(low, high))
    margin = Decimal("0.000001")
    assert usd * low - margin <= result.p10 <= result.p50 <= result.p90 <= usd * high + margin


@pytest.mark.parametrize(
    ("provider", "model", "more", "words"),
    [
        ("tinker", "Qwen/Qwen3-8B", {}, "billed by its rollouts"),
        ("tinker", "Qwen/Qwen3-8B", {"rft": {"hours": 3}}, "billed by its rollouts"),
        ("azure", "o4-mini", {"rft": {"prefill_tokens": 3}}, "billed by the hour"),
        ("fireworks", "gemma-4-31b-it", {"rft": {"hours": 3}}, "billed by GPU time"),
        ("fireworks", "gemma-4-31b-it", {"gpu": "H200"}, "billed by GPU time"),
    ],
)
def test_a_reinforcement_job_says_what_its_rule_needs(
    provider: str, model: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        estimate(provider, model, "rft", as_of="2026-06-01", **more)


def test_a_rate_for_lora_is_no_rate_for_full_tuning() -> None:
    full = estimate("fireworks", "qwen3p5-9b", tuning="full", training_tokens=10**6, n_epochs=1)
    assert point(full) == 1
    with pytest.raises(UnknownPriceError, match=r"gemma-4-31b-it:train_sft:full.*\(LoRA\)"):
        estimate("fireworks", "gemma-4-31b-it", tuning="full", training_tokens=10**6)
    both = estimate("together", "Qwen/Qwen3.5-9B", tuning="full", training_tokens=10**6)
    assert point(both) == Decimal("0.34")


def test_a_rule_that_nobody_read_needs_a_rate_of_ones_own_and_says_so() -> None:
    with pytest.raises(BadInputError, match="cannot compute"):
        estimate("alibaba", "qwen3-32b", training_tokens=10)
    own = estimate(
        "alibaba", "qwen3-32b", training_tokens=10**6, prices={"train_usd_per_mtok": "2"}
    )
    assert point(own) == 6
    (rule,) = (a for a in own.assumptions if a.name == "billing rule")
    assert rule.confidence == "assumed"


def test_a_price_a_thousand_times_too_high_or_low_is_noticed() -> None:
    def checks(rate: str) -> list[bool]:
        prices = {"train_usd_per_mtok": rate}
        result = estimate("together", "Qwen/Qwen3.5-9B", training_tokens=10**8, prices=prices)
        assert [c.ok for c in result.sanity] == [
            not any("is the price per million" in w for w in result.warnings)
        ]
        return [c.ok for c in result.sanity]

    assert checks("0.34") == [True]
    assert checks("340") == [False]
    assert checks("0.00034") == [False]


def test_machine_hours_stand_beside_the_roofline_and_a_published_reading() -> None:
    result = estimate("hf_jobs", "meta-llama/Llama-3.1-8B", training_tokens=10**8, gpu="A100-80")
    assert [(c.name, c.ok) for c in result.sanity] == [("hours against the roofline", True)]
    assert result.gpu is not None
    assert "measured" in (result.gpu.nearest_measured_point or "")
    (share,) = (a for a in result.assumptions if a.name == "share of the peak")
    assert share.value == "0.25 to 0.45"


def test_a_base_like_no_published_one_has_no_reading_beside_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY_BASE), "utf-8")
    result = estimate("local", str(tmp_path), training_tokens=10**6, gpu="H100")
    assert result.gpu is not None
    assert result.gpu.nearest_measured_point is None


def test_evaluations_without_their_tokens_are_warned_about_where_they_are_billed() -> None:
    result = estimate("together", "Qwen/Qwen3.5-9B", training_tokens=10, n_evals=3)
    assert any("pass validation_tokens" in warning for warning in result.warnings)
    azure = estimate(
        "azure",
        "gpt-4.1",
        training_tokens=10,
        n_evals=3,
        prices={"train_usd_per_mtok": "2"},
    )
    assert not any("validation_tokens" in warning for warning in azure.warnings)


def test_the_conditions_of_a_price_are_part_of_its_assumption() -> None:
    result = estimate("azure", "o4-mini", "rft", rft={"hours": 2}, as_of="2026-06-01")
    (price,) = (a for a in result.assumptions if a.name.endswith(":train_rft"))
    assert price.unit.startswith("usd_per_hour: a job pauses at 5,000 USD")
