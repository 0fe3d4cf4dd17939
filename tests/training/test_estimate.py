"""Estimates come from a model's shape and agree with what the libraries count."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning import estimate
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.estimate import Architecture, Stack

LLAMA_8B = estimate.read_architecture("meta-llama/Llama-3.1-8B-Instruct")


def config_folder(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def model_without_weights(config: dict[str, Any]) -> Any:
    """Build a model as transformers does, on the device that holds no numbers."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    values = dict(config)
    with torch.device("meta"):
        built = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        return transformers.AutoModelForCausalLM.from_config(built)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # inside transformers, old families
@pytest.mark.parametrize("name", sorted(estimate.known_models()))
def test_parameter_counts_of_the_table_are_those_of_transformers(name: str) -> None:
    row = dict(estimate.known_models()[name])
    assert str(row.pop("source")).startswith(("https://", "transformers"))
    assert row.pop("parameters") == estimate.read_architecture(name).parameters
    model = model_without_weights(row)
    shape = estimate.read_architecture(name)
    assert shape.as_of == "2026-11-20"
    assert shape.parameters == sum(tensor.numel() for tensor in model.parameters())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # inside peft
def test_adapter_size_is_that_of_peft(tmp_path: Path) -> None:
    peft: Any = importlib.import_module("peft")
    model = model_without_weights(SHAPE)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear"))
    shape = estimate.read_architecture(config_folder(tmp_path, **SHAPE))
    assert estimate.lora_parameters(shape, 8) == wrapped.get_nb_trainable_parameters()[0]


def test_weights_on_disk_decide_the_count_and_whether_the_head_is_tied(tmp_path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    safetensors: Any = importlib.import_module("safetensors.torch")
    config_folder(tmp_path, **SHAPE)
    assert not estimate.read_architecture(tmp_path).tie_word_embeddings
    tensors = {"model.x": torch.zeros(3, 5), "model.y": torch.zeros(7)}
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    shape = estimate.read_architecture(str(tmp_path))
    assert (shape.parameters, shape.active_parameters) == (22, 22)
    assert shape.tie_word_embeddings
    assert estimate.read_architecture(tmp_path / "config.json").parameters == 22


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list"),
        ("{", "is not JSON"),
        ('{"model_type": "llama"}', "has no positive hidden_size"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadInputError, match=message):
        estimate.read_architecture(tmp_path)


def test_damaged_weights_and_missing_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds no config\.json"):
        estimate.read_architecture(tmp_path)
    config_folder(tmp_path, **SHAPE)
    for content in (b"\xff" * 16, b"\x05\0\0\0\0\0\0\0nojsn"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(BadInputError, match="not in safetensors format"):
            estimate.read_architecture(tmp_path)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="qwen3-8b"):
        estimate.read_architecture("Qwen/Qwen33-8B")


def test_older_and_nested_configs_are_understood(tmp_path: Path) -> None:
    old = config_folder(tmp_path, model_type="gpt2", n_embd=64, n_layer=2, n_head=4, vocab_size=99)
    shape = estimate.read_architecture(old)
    assert (shape.intermediate_size, shape.n_kv_heads, shape.gated_mlp) == (256, 4, False)
    nested = config_folder(tmp_path, model_type="gemma3", text_config=SHAPE)
    assert estimate.read_architecture(nested).hidden_size == 64


def test_a_mixture_of_experts_computes_with_fewer_parameters_than_it_holds(tmp_path: Path) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    shape = estimate.read_architecture(config_folder(tmp_path, **SHAPE, **experts))
    assert shape.parameters - shape.active_parameters == 6 * 3 * 64 * 32 * 2
    dense = estimate.read_architecture(config_folder(tmp_path, **SHAPE))
    assert estimate.lora_parameters(shape, 4) < estimate.lora_parameters(dense, 4)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("H100", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("a100", "A100 80GB"),
        ("l4", "L4"),
        ("L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("A10G", "A10"),
        ("Tesla T4", "T4"),
    ],
)
def test_gpus_are_found_by_the_names_people_use(name: str, found: str) -> None:
    assert estimate.find_gpu(name).name == found


def test_an_unknown_gpu_names_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown GPU"):
        estimate.find_gpu("Voodoo 2")


def gigabytes(shape: Architecture, **changes: Any) -> float:
    arguments: dict[str, Any] = {
        "tuning": "lora",
        "r": 16,
        "tokens_per_microbatch": 4096,
        "gradient_checkpointing": True,
        "stack": "trl",
        **changes,
    }
    return estimate.training_memory_gb(shape, **arguments)


def test_memory_is_in_the_range_that_people_report_for_8b() -> None:
    assert 17 < gigabytes(LLAMA_8B) < 24
    assert 5.5 < gigabytes(LLAMA_8B, tuning="qlora", tokens_per_microbatch=1024) < 11
    assert gigabytes(LLAMA_8B, tuning="full") > 128


tokens = st.integers(1, 20_000)
stacks: st.SearchStrategy[Stack] = st.sampled_from(("local_cpu", "trl", "plain"))


@settings(max_examples=60)
@given(tokens, st.integers(1, 64), st.booleans(), stacks)
def test_more_of_anything_never_needs_less_memory(
    count: int, r: int, checkpointing: bool, stack: Stack
) -> None:
    def need(count: int, r: int, checkpointing: bool = checkpointing) -> float:
        return gigabytes(
            LLAMA_8B,
            tokens_per_microbatch=count,
            r=r,
            gradient_checkpointing=checkpointing,
            stack=stack,
        )

    assert need(count, r) <= need(count + 1, r)
    assert need(count, r) <= need(count, r + 1)
    terms = estimate.memory_terms(
        LLAMA_8B,
        tuning="lora",
        r=r,
        tokens_per_microbatch=count,
        gradient_checkpointing=checkpointing,
        stack=stack,
    )
    assert sum(terms.values()) / 1e9 == pytest.approx(need(count, r))


def test_scoring_labelled_positions_alone_saves_the_logits_of_the_rest() -> None:
    whole = gigabytes(LLAMA_8B, stack="local_cpu")
    assert gigabytes(LLAMA_8B, stack="local_cpu", labelled_fraction=0.5) == pytest.approx(
        whole - 4096 * 128_256 * 6 / 1e9
    )


def test_time_follows_the_flops_and_is_an_ordered_range() -> None:
    seconds = estimate.training_time_seconds(
        LLAMA_8B, tokens=1_000_000, tuning="lora", device_flops=989e12, fixed_seconds=60.0
    )
    assert seconds["p10"] < seconds["p50"] < seconds["p90"]
    # 4 × 7.5e9 × 1e6 / (0.35 × 989e12), and the fixed minute
    assert seconds["p50"] == pytest.approx(60 + 86.7, rel=0.01)
    double: Callable[[int], float] = lambda n: estimate.training_time_seconds(  # noqa: E731 - local
        LLAMA_8B, tokens=n, tuning="full", device_flops=1e12, n_devices=2
    )["p90"]
    assert double(2000) == pytest.approx(2 * double(1000))


def test_a_tied_embedding_is_multiplied_as_the_head() -> None:
    tied = estimate.read_architecture("qwen3-0.6b")
    untied = estimate.read_architecture("qwen3-8b")
    assert estimate.training_flops(tied, tokens=1, tuning="lora") == 4.0 * tied.parameters
    assert estimate.training_flops(untied, tokens=1, tuning="lora") < 4.0 * untied.parameters
