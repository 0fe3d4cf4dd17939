"""configure_training chooses settings with reasons, refuses dangerous ones and writes the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning import estimate
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.training import TrainingPlan, configure_training, load_config
from finetuning.training.config import KNOBS
from finetuning.training.knobs import choose_learning_rate
from finetuning.training.profile import profile_data

Configure = Callable[..., TrainingPlan]


@pytest.fixture
def configure(base: Path, prepared: Path) -> Configure:
    """Return configure_training with the tiny base and the small data filled in."""

    def call(**arguments: Any) -> TrainingPlan:
        given: dict[str, Any] = {"base_model": str(base), "data": str(prepared), **arguments}
        return configure_training(**given)

    return call


def codes(plan: TrainingPlan) -> dict[str, str]:
    return {finding.code: finding.severity for finding in plan.findings}


def test_it_writes_a_config_that_launch_lora_takes(configure: Configure, base: Path) -> None:
    plan = configure(goal="orders as JSON")
    (file,) = plan.files
    assert plan.exit_code() == 0
    assert plan.next[0].args == {"config": file}
    config = load_config(file, where="test")
    assert config.model_dump(mode="json") == plan.config
    assert config.base_model == str(base)
    assert config.goal == "orders as JSON"
    assert Path(str(config.validation_file)).name == "validation.jsonl"
    assert Path(str(config.test_file)).name == "test.jsonl"
    assert plan.fits
    assert plan.summary().startswith("Ready:")
    assert plan.fit_facts["n_examples"] == 32


def test_every_setting_it_chose_has_a_reason_and_a_source(configure: Configure) -> None:
    plan = configure()
    assert {"learning_rate", "r", "max_length"} <= set(plan.why) <= set(KNOBS)
    assert all(reason.endswith("]") and "[" in reason for reason in plan.why.values())


def test_a_tiny_model_gets_the_extrapolated_rate_and_is_told_so(configure: Configure) -> None:
    plan = configure()
    assert plan.config["learning_rate"] == pytest.approx(4.28e-3)
    assert "far outside the range it was calibrated for" in plan.why["learning_rate"]
    assert plan.config["num_train_epochs"] == 10.0
    assert plan.config["num_threads"] == 1
    assert plan.config["max_length"] == 32


def test_the_answer_fits_two_thousand_tokens(configure: Configure) -> None:
    from finetuning.tokens import counter_for

    text = configure().model_dump_json()
    assert counter_for().count([text])[0] <= 2000


@pytest.mark.parametrize(
    ("model", "steps", "rate", "words"),
    [
        ("llama-3.1-8b", 1000, 2.86e-4, "calibrated for 2048 to 8192"),
        ("qwen3-8b", 1000, 4.73e-4, "calibrated for 2048 to 5120"),
        ("qwen3-8b", 50, 7.1e-4, "times 1.5 because the run has only 50 steps"),
        ("qwen3-0.6b", 1000, 5.27e-4, "outside its calibrated range"),
        ("gemma-3-4b", 1000, 2e-4, "no published formula covers gemma3_text"),
    ],
)
def test_the_rate_is_that_of_the_published_formula(
    model: str, steps: int, rate: float, words: str
) -> None:
    choice = choose_learning_rate(estimate.read_architecture(model), steps)
    assert choice.value == pytest.approx(rate, rel=0.01)
    assert words in choice.reason


@settings(max_examples=50)
@given(st.integers(16, 1024))
def test_no_tiny_model_gets_more_than_the_highest_rate_that_worked(hidden: int) -> None:
    shape = estimate.read_architecture("llama-3.2-1b").model_copy(
        update={"hidden_size": hidden, "parameters": 1_000_000}
    )
    rate = choose_learning_rate(shape, 300).value
    assert 5e-4 < rate <= 5e-3
    assert math.isfinite(rate)


def test_a_rate_for_full_tuning_is_refused_with_lora(configure: Configure) -> None:
    plan = configure(overrides={"learning_rate": 2e-5})
    assert codes(plan)["learning_rate_low_for_lora"] == "error"
    assert plan.exit_code() == 1
    assert plan.files == []
    assert plan.summary().startswith("Refused: learning_rate 2e-05")
    assert plan.config["learning_rate"] == 2e-5
    assert plan.why["learning_rate"].startswith("set by the caller; proposed: 0.00428")


def test_the_same_rate_on_purpose_is_written_with_a_warning(configure: Configure) -> None:
    risks = ["learning_rate_low_for_lora"]
    plan = configure(overrides={"learning_rate": 2e-5, "accept_risks": risks})
    assert codes(plan)["learning_rate_low_for_lora"] == "warning"
    assert plan.exit_code() == 0


@pytest.mark.parametrize(
    ("overrides", "code", "severity"),
    [
        ({"learning_rate": 0.5}, "learning_rate_high", "error"),
        ({"max_length": 20}, "rows_truncated", "error"),
        ({"num_train_epochs": 30}, "many_epochs", "warning"),
        ({"per_device_train_batch_size": 64}, "batch_large_for_lora", "warning"),
        ({"num_train_epochs": 1}, "few_steps", "warning"),
        ({"target_modules": ["q_proj", "v_proj"]}, "attention_only", "warning"),
        ({"r": 1, "target_modules": "all-linear"}, None, None),
        ({"completion_only_loss": False}, "loss_on_all_tokens", "warning"),
    ],
)
def test_dangers_are_named(
    configure: Configure, overrides: dict[str, Any], code: str | None, severity: str | None
) -> None:
    found = codes(configure(overrides=overrides))
    assert (code is None) or (found[code] == severity)
    for name, value in overrides.items():
        assert configure(overrides=overrides).config[name] == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"assistant_only_loss": True}, "assistant_only_loss is set, but the rows are trl_prompt"),
        ({"max_length": 4096}, "beyond the base's context"),
        ({"target_modules": ["q_proj", "lm_head"]}, "names lm_head"),
        ({"r": "sixteen"}, "r is 'sixteen'"),
        ({"lora_dropout": 5}, "lora_dropout is 5"),
    ],
)
def test_contradictions_and_wrong_types_are_bad_calls(
    configure: Configure, overrides: dict[str, Any], message: str, isolated_environment: Path
) -> None:
    with pytest.raises(BadInputError, match=message):
        configure(overrides=overrides)
    assert not isolated_environment.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"learning_rat": 1e-3}}, "learning_rate"),
        ({"method": "sftt"}, "sft"),
        ({"engine": "axolotle"}, "axolotl"),
        ({"base_model": "Qwen/Qwen9-8B"}, "qwen3-8b"),
        ({"gpu": "Voodoo"}, "unknown GPU"),
    ],
)
def test_unknown_names_name_the_nearest(
    configure: Configure, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        configure(**arguments)


PAIRS = {"chosen": "Rome", "rejected": "Milan"}


@pytest.mark.parametrize(
    ("row", "form", "method"),
    [
        ({"prompt": "send", "completion": "Rome"}, "trl_prompt_completion", "sft"),
        ({"prompt": "send", "completion": "Rome", "label": True}, "trl_kto", "kto"),
        ({"prompt": "send", **PAIRS}, "trl_preference", "dpo"),
        (PAIRS, "trl_preference", "dpo"),
        ({"text": "send Rome"}, "trl_text", "cpt"),
        ({"prompt": "send", "answer": "Rome"}, "trl_prompt", "grpo"),
        ({"prompt": [{"role": "user", "content": "send"}]}, "trl_prompt", "grpo"),
    ],
)
def test_the_rows_of_each_method_are_known_and_those_of_another_named(
    row: dict[str, Any], form: str, method: str, write_lines: Callable[..., Path]
) -> None:
    path = write_lines("rows.jsonl", json.dumps(row))
    assert profile_data(path, None).row_format == form
    assert profile_data(path, None, method).row_format == form
    other = "cpt" if method != "cpt" else "dpo"
    with pytest.raises(BadInputError, match=f"they are {form}.*Use method='{method}'"):
        profile_data(path, None, other)


def test_what_stands_beside_a_prompt_is_the_verifiers(write_lines: Callable[..., Path]) -> None:
    path = write_lines("rows.jsonl", json.dumps({"prompt": "send", "completion": "Rome"}))
    assert profile_data(path, None, "grpo").row_format == "trl_prompt"


def test_of_a_pair_of_answers_the_longer_counts(
    write_lines: Callable[..., Path], base: Path
) -> None:
    pair = {"prompt": "send", "chosen": "Rome", "rejected": "Rome Milan Rome"}
    profile = profile_data(write_lines("rows.jsonl", json.dumps(pair)), base)
    assert (profile.longest_tokens, profile.labelled_tokens) == (5, 4)


def test_without_validation_there_is_a_warning_and_no_evaluation_steps(
    configure: Configure, prepared: Path
) -> None:
    plan = configure(data=str(prepared / "train.jsonl"))
    assert codes(plan)["no_validation"] == "warning"
    assert plan.config["validation_file"] is None
    with pytest.raises(BadInputError, match="there is no validation file"):
        configure(data=str(prepared / "train.jsonl"), overrides={"eval_steps": 5})


def test_a_folder_without_training_rows_is_refused(configure: Configure, prepared: Path) -> None:
    (prepared / "train.jsonl").unlink()
    with pytest.raises(BadInputError, match=r"but no train\.jsonl"):
        configure()


def test_rows_of_no_known_format_are_refused(
    configure: Configure, write_lines: Callable[..., Path]
) -> None:
    with pytest.raises(BadInputError, match="none of 2 rows"):
        configure(data=str(write_lines("t.jsonl", '{"text": "a"}', "[1]")))


def test_damaged_rows_are_an_error_with_their_line(
    configure: Configure, write_lines: Callable[..., Path]
) -> None:
    good = json.dumps({"prompt": "send", "completion": "Rome"})
    plan = configure(data=str(write_lines("t.jsonl", good, '{"prompt": 1}', "{", good)))
    (finding,) = [f for f in plan.findings if f.code == "wrong_row_format"]
    assert (finding.line, finding.severity) == (2, "error")
    assert plan.exit_code() == 1


def test_messages_are_measured_with_their_answers(write_lines: Callable[..., Path]) -> None:
    messages = [{"role": "user", "content": "send"}, {"role": "assistant", "content": "to Rome"}]
    whole = json.dumps({"messages": messages})
    split = json.dumps({"prompt": messages[:1], "completion": messages[1:]})
    for line in (whole, split):
        profile = profile_data(write_lines("chat.jsonl", line), None)
        assert profile.row_format == "trl_messages"
        assert 0 < profile.labelled_tokens < profile.total_tokens
        assert not profile.exact


def test_many_rows_are_counted_in_batches(write_lines: Callable[..., Path], base: Path) -> None:
    row = json.dumps({"prompt": "send", "completion": "Rome"})
    profile = profile_data(write_lines("many.jsonl", *[row] * 2500), base)
    assert (profile.rows, profile.total_tokens, profile.labelled_tokens) == (2500, 7500, 5000)
    assert profile.exact
    assert profile.longer_than(2) == 2500


def test_one_very_long_row_does_not_set_the_length(
    configure: Configure, write_lines: Callable[..., Path], base: Path
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100_000}))
    rows = [{"prompt": "send", "completion": "Rome"}] * 299
    rows.append({"prompt": "send " * 5000, "completion": "Rome"})
    plan = configure(data=str(write_lines("t.jsonl", *map(json.dumps, rows))))
    assert plan.config["max_length"] == 16
    assert "99th percentile; the longest row has 5002 tokens" in plan.why["max_length"]
    assert "rows_truncated" not in codes(plan)


def test_rows_beyond_the_context_are_cut_there_and_it_is_said(
    configure: Configure, write_lines: Callable[..., Path]
) -> None:
    row = json.dumps({"prompt": "send " * 1000, "completion": "Rome"})
    plan = configure(data=str(write_lines("t.jsonl", row)))
    assert plan.config["max_length"] == 256
    assert codes(plan)["rows_truncated"] == "error"


def test_a_public_model_is_planned_for_a_gpu_before_it_is_here(configure: Configure) -> None:
    plan = configure(base_model="Qwen/Qwen3-8B", gpu="H100", overrides={"r": 32})
    assert plan.fits
    assert 15 < plan.memory_gb < 80
    assert plan.time_seconds is not None
    assert plan.time_seconds["p10"] < plan.time_seconds["p90"]
    assert plan.config["precision"] == "bf16"
    assert codes(plan)["base_not_here"] == "warning"
    assert "approximate" in plan.why["max_length"]
    assert plan.device == "H100"


def test_what_does_not_fit_says_what_to_change(configure: Configure) -> None:
    plan = configure(base_model="meta-llama/Llama-3.3-70B-Instruct", gpu_memory_gb=24)
    assert not plan.fits
    assert plan.exit_code() == 1
    assert codes(plan)["does_not_fit"] == "error"
    assert plan.time_seconds is None, "nobody said how fast that GPU is"
    assert plan.config["gradient_checkpointing"]
    assert plan.config["per_device_train_batch_size"] == 1


def test_a_known_gpu_may_have_other_memory_and_an_unknown_one_only_memory(
    configure: Configure,
) -> None:
    assert configure(gpu="A100", gpu_memory_gb=40).time_seconds is not None
    assert configure(gpu="Voodoo", gpu_memory_gb=40).time_seconds is None


def test_micro_batches_shrink_until_the_run_fits(
    configure: Configure, write_lines: Callable[..., Path]
) -> None:
    row = json.dumps({"prompt": "send " * 1500, "completion": "Rome"})
    data = str(write_lines("long.jsonl", *[row] * 400))
    plan = configure(base_model="Qwen/Qwen3-8B", data=data, gpu_memory_gb=30)
    assert plan.fits
    batch = plan.config["per_device_train_batch_size"]
    assert batch < 16
    assert batch * plan.config["gradient_accumulation_steps"] == 16
    assert "same effective batch" in plan.why["gradient_accumulation_steps"]
    fixed = configure(
        base_model="Qwen/Qwen3-8B",
        data=data,
        gpu_memory_gb=30,
        overrides={"per_device_train_batch_size": 16},
    )
    assert fixed.config["per_device_train_batch_size"] == 16


def test_the_gpu_of_this_machine_is_planned_for(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert configure().device == "NVIDIA L4"


def test_a_base_in_the_home_is_found_by_name(
    configure: Configure, base: Path, isolated_environment: Path
) -> None:
    (isolated_environment / "bases").mkdir(parents=True)
    base.rename(isolated_environment / "bases" / "mine")
    plan = configure(base_model="mine")
    assert plan.config["base_model"] == str(isolated_environment / "bases" / "mine")
    assert configure(base_model=plan.config["base_model"] + "/config.json").files


def test_an_output_folder_that_holds_results_is_left_alone(
    configure: Configure, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    plan = configure(output_dir=str(folder))
    assert plan.files == [str(folder / "training.json")]
    before = (folder / "training.json").read_bytes()
    with pytest.raises(BadInputError, match="already holds files"):
        configure(output_dir=str(folder), overrides={"r": 8})
    assert (folder / "training.json").read_bytes() == before


def test_rank_below_the_answers_is_named(
    configure: Configure, write_lines: Callable[..., Path]
) -> None:
    rows = [{"prompt": "send", "completion": "Rome " * 200}] * 60
    data = str(write_lines("t.jsonl", *map(json.dumps, rows)))
    assert codes(configure(data=data, overrides={"r": 2}))["rank_small_for_data"] == "warning"
    assert "rank_small_for_data" not in codes(configure(data=data))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "dpoo"}, UnknownNameError, "dpo"),
        ({"tuning": "loro"}, UnknownNameError, "lora"),
        ({"engine": "axolotl"}, UnknownNameError, "unknown engine"),
        ({"learning_rat": 1}, UnknownNameError, "learning_rate"),
        ({"r": 0}, BadInputError, "r is 0"),
        ({"method": "dpo"}, BadInputError, "method dpo is asked for, but the rows are trl_prompt"),
    ],
)
def test_a_config_written_by_hand_is_checked_in_the_same_words(
    configure: Configure, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    config = configure().config
    with pytest.raises(error, match=message):
        load_config({**config, **changes}, where="test")


@pytest.mark.parametrize(("text", "what"), [("{", "is not JSON"), ("[]", "holds a list")])
def test_a_file_that_is_no_config_is_named(
    write_lines: Callable[..., Path], text: str, what: str
) -> None:
    with pytest.raises(BadInputError, match=what):
        load_config(str(write_lines("config.json", text)), where="test")


def test_rows_of_nothing_known_name_the_command_that_prepares_them(
    write_lines: Callable[..., Path],
) -> None:
    path = write_lines("rows.jsonl", '{"a": 1}')
    with pytest.raises(BadInputError, match=r"prepare-data .* --target trl_preference"):
        profile_data(path, None, "dpo")
    with pytest.raises(BadInputError, match="none of 1 rows"):
        profile_data(path, None)
