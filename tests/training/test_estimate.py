"""Estimates come from a model's shape and agree with what the libraries count."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning import estimate
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.estimate import Architecture, Stack
from finetuning.estimate.architecture import read_tables

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "memory_estimate.py"
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


PLAIN_FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "mixtral",
)


@pytest.mark.parametrize(
    "name", [n for n, r in estimate.known_models().items() if r["model_type"] in PLAIN_FAMILIES]
)
def test_a_config_on_disk_is_counted_as_transformers_counts_it(tmp_path: Path, name: str) -> None:
    row = estimate.known_models()[name]
    shape = estimate.read_architecture(config_folder(tmp_path, **row))
    assert shape.parameters == row["parameters"]


def test_a_shared_expert_carries_an_adapter_and_the_fused_ones_do_not() -> None:
    both = estimate.read_architecture("gemma-4-26b-a4b")
    without = both.model_copy(update={"shared_intermediate_size": 0})
    h, more = both.hidden_size, both.shared_intermediate_size
    difference = estimate.lora_parameters(both, 2) - estimate.lora_parameters(without, 2)
    assert difference == 2 * both.n_layers * 3 * (h + more)


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
        ("NVIDIA RTX PRO 6000 Blackwell", "RTX PRO 6000"),
        ("H20", "H20"),
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
    assert 60 < gigabytes(LLAMA_8B, tuning="full", weight_bytes=2) < 80


tokens = st.integers(1, 20_000)
stacks: st.SearchStrategy[Stack] = st.sampled_from(get_args(Stack))
tunings: st.SearchStrategy[estimate.Tuning] = st.sampled_from(("lora", "qlora", "full"))


@settings(max_examples=80)
@given(tokens, st.integers(1, 64), st.booleans(), stacks, tunings)
def test_more_of_anything_never_needs_less_memory(
    count: int, r: int, checkpointing: bool, stack: Stack, tuning: estimate.Tuning
) -> None:
    def need(count: int, r: int) -> float:
        return gigabytes(
            LLAMA_8B,
            tuning=tuning,
            tokens_per_microbatch=count,
            r=r,
            gradient_checkpointing=checkpointing,
            stack=stack,
        )

    assert need(count, r) <= need(count + 1, r)
    assert need(count, r) <= need(count, r + 1)
    terms = estimate.memory_terms(
        LLAMA_8B,
        tuning=tuning,
        r=r,
        tokens_per_microbatch=count,
        gradient_checkpointing=checkpointing,
        stack=stack,
    )
    assert set(terms) == {"weights", "trained", "activations", "logits", "fixed"}
    assert all(value >= 0 for value in terms.values())
    assert sum(terms.values()) / 1e9 == pytest.approx(need(count, r))


@settings(max_examples=60)
@given(st.sampled_from(sorted(estimate.known_models())), tokens, stacks, tunings)
def test_checkpointing_and_fewer_bits_never_need_more(
    name: str, count: int, stack: Stack, tuning: estimate.Tuning
) -> None:
    shape = estimate.read_architecture(name)
    one: dict[str, Any] = {"tokens_per_microbatch": count, "stack": stack}
    kept = gigabytes(shape, tuning=tuning, gradient_checkpointing=False, **one)
    if shape.n_experts == 0 and stack not in ("trl", "plain"):
        assert gigabytes(shape, tuning=tuning, **one) <= kept * 1.02
    for kind in ("nf4-dq", "gptq"):
        few = gigabytes(shape, tuning="qlora", quantisation=kind, **one)
        assert few <= gigabytes(shape, tuning="qlora", **one)


def test_scoring_labelled_positions_alone_saves_the_logits_of_the_rest() -> None:
    whole = gigabytes(LLAMA_8B, stack="local_cpu")
    assert gigabytes(LLAMA_8B, stack="local_cpu", labelled_fraction=0.9) == pytest.approx(
        whole - 0.1 * 4096 * 128_256 * 12 / 1e9
    )
    for stack in ("plain", "liger", "trl"):
        assert gigabytes(LLAMA_8B, stack=stack, labelled_fraction=0.1) == pytest.approx(
            gigabytes(LLAMA_8B, stack=stack)
        )


def test_the_peak_is_one_moment_and_not_the_sum_of_all() -> None:
    """Logits are let go before a layer is computed again: 16 x 4096 tokens of Mistral on an A100.

    Source: fms-acceleration, peak of torch's allocated memory 50.12 GB with and without logits.
    """
    shape = estimate.read_architecture("mistral-7b-v0.1")
    terms = {
        stack: estimate.memory_terms(
            shape,
            tuning="lora",
            r=16,
            tokens_per_microbatch=65_536,
            gradient_checkpointing=True,
            stack=stack,
            targets="attention",
        )
        for stack in ("liger", "plain")
    }
    assert terms["liger"]["logits"] == 0
    assert terms["plain"]["logits"] > 0
    inputs = 65_536 * 4096 * 32 * 2
    assert terms["plain"]["activations"] == inputs
    assert terms["liger"]["activations"] > inputs
    assert sum(terms["liger"].values()) / 1e9 == pytest.approx(50.12, rel=0.03)


def test_full_tuning_peaks_at_the_step_unless_the_optimizer_works_in_place() -> None:
    """Ten bytes a parameter in bf16: measured for three models (fms-acceleration, 2026-11-20)."""
    shape = estimate.read_architecture("mistral-7b-v0.1")
    small: dict[str, Any] = {"tuning": "full", "weight_bytes": 2, "tokens_per_microbatch": 16_384}
    assert gigabytes(shape, stack="liger", **small) == pytest.approx(72.43, rel=0.01)
    assert gigabytes(shape, stack="trl", **small) < 66


def test_four_bit_weights_with_bitsandbytes_turn_the_residual_stream_to_fp32() -> None:
    each = {
        kind: gigabytes(LLAMA_8B, tuning="qlora", stack="plain", quantisation=kind)
        for kind in ("nf4", "gptq")
    }
    assert each["nf4"] - each["gptq"] > 4096 * 4096 * 32 * 2 / 1e9
    assert gigabytes(LLAMA_8B, stack="unsloth") < gigabytes(LLAMA_8B, stack="liger")


def test_a_mixture_keeps_the_activations_of_its_chosen_experts(tmp_path: Path) -> None:
    sparse = estimate.read_architecture("mixtral-8x7b-v0.1")
    dense = estimate.read_architecture("mistral-7b-v0.1")
    assert sparse.active_parameters < 0.3 * sparse.parameters
    for checkpointing in (True, False):
        more = gigabytes(sparse, stack="liger", gradient_checkpointing=checkpointing)
        less = gigabytes(dense, stack="liger", gradient_checkpointing=checkpointing)
        assert more - less > 2 * (sparse.parameters - dense.parameters) / 1e9


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # inside peft
@pytest.mark.parametrize(
    ("targets", "modules"),
    [
        ("qv", ["q_proj", "v_proj"]),
        ("attention", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("mlp", ["gate_proj", "up_proj", "down_proj"]),
    ],
)
def test_adapters_on_some_layers_have_the_size_peft_gives_them(
    tmp_path: Path, targets: estimate.Targets, modules: list[str]
) -> None:
    peft: Any = importlib.import_module("peft")
    model = model_without_weights(SHAPE)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=modules))
    shape = estimate.read_architecture(config_folder(tmp_path, **SHAPE))
    counted = estimate.lora_parameters(shape, 4, targets)
    assert counted == wrapped.get_nb_trainable_parameters()[0]


# --- published readings --------------------------------------------------------------------------


def test_every_reading_has_a_known_base_a_source_and_a_day() -> None:
    points = estimate.measured_points()
    assert len(points) >= 200
    used = [point for point in points if point.half != "excluded"]
    assert len(used) >= 120
    assert len({point.base for point in used}) >= 20
    sources = read_tables()["sources"]
    for point in points:
        assert estimate.read_architecture(point.base).parameters > 0
        url, day, sureness, what = sources[point.source]
        assert url.startswith("https://")
        assert day == "2026-11-20"
        assert sureness in ("read", "second_hand")
        assert what
        assert point.memory_gb > 1
        assert bool(point.excluded_because) == (point.half == "excluded")


def test_the_halves_are_those_of_the_hash_and_share_no_group() -> None:
    used = [point for point in estimate.measured_points() if point.half != "excluded"]

    def group(point: estimate.MeasuredPoint) -> str:
        family = point.source.partition("_")[0]
        return f"{family}|{point.base}|{point.tuning}|{point.stack}"

    def place(name: str) -> str:
        return hashlib.sha256(f"memory-points 2026-11-20:{name}".encode()).hexdigest()

    ordered = sorted({group(point) for point in used}, key=place)
    half = {name: ("develop", "unseen")[k % 2] for k, name in enumerate(ordered)}
    assert all(half[group(point)] == point.half for point in used)


def test_the_estimate_is_as_near_to_the_readings_as_it_says() -> None:
    specification = importlib.util.spec_from_file_location("memory_estimate", BENCHMARK)
    assert specification is not None
    assert specification.loader is not None
    benchmark: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    for half in ("develop", "unseen"):
        points = [point for point in estimate.measured_points() if point.half == half]
        found = benchmark.figures(benchmark.errors(benchmark.ours, points))
        assert found["median"] <= 0.06
        assert found["p90"] <= 0.11
        low = [error for error in benchmark.errors(benchmark.ours, points) if error < -0.05]
        assert len(low) <= 1  # LitGPT without checkpointing; training.md#memory
        for peer in benchmark.ESTIMATORS:
            if peer != "ours":
                theirs = benchmark.figures(benchmark.errors(benchmark.ESTIMATORS[peer], points))
                assert theirs["median"] > 5 * found["median"]


def test_the_benchmark_runs_and_prints_its_peers() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--each"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "accelerate estimate-memory" in done.stdout
    assert "GB measured" in done.stdout


@pytest.mark.parametrize("name", ["qwen3-8b", "llama-3.3-70b", "smollm2-135m", "gpt-oss-20b"])
@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
def test_the_nearest_reading_is_of_the_same_tuning_and_says_where_it_stands(
    name: str, tuning: estimate.Tuning
) -> None:
    shape = estimate.read_architecture(name)
    point = estimate.nearest_measured_point(
        shape, tuning=tuning, r=16, tokens_per_microbatch=2048, stack="plain"
    )
    assert point is not None
    assert point.tuning == tuning
    assert point.source != "unsloth"  # its table says what fits, not what was taken
    words = point.words()
    assert f"{point.memory_gb:g} GB measured (https://" in words
    assert "read 2026-11-20" in words


def test_a_reading_of_the_very_plan_is_found() -> None:
    found = estimate.nearest_measured_point(
        estimate.read_architecture("mistral-7b-v0.1"),
        tuning="lora",
        r=16,
        tokens_per_microbatch=32_768,
        stack="plain",
    )
    assert found is not None
    assert (found.base, found.rows, found.row_tokens) == ("Mistral-7B-v0.1", 8, 4096)
    kept = found._replace(gradient_checkpointing=False, r=0, allocated_gb=None)
    assert "no checkpointing" in kept.words()
    assert kept.memory_gb == found.device_gb
    assert math.isnan(kept._replace(device_gb=None).memory_gb)


# --- time ----------------------------------------------------------------------------------------


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


def test_embeddings_per_layer_are_looked_up_and_not_multiplied() -> None:
    shape = estimate.read_architecture("google/gemma-4-E2B-it")
    assert shape.multiplied_parameters < 0.6 * shape.parameters


def test_published_speeds_lie_in_the_range_of_their_gpu() -> None:
    """Packed rows of 4096 tokens: shares of the peak that k · N · D reached."""
    shares: list[float] = []
    for point in estimate.measured_points():
        if not point.source.startswith("fms") or point.tokens_per_second is None:
            continue
        flops = estimate.training_flops(
            estimate.read_architecture(point.base),
            tokens=point.tokens_per_second,
            tuning=point.tuning,
        )
        shares.append(flops / estimate.find_gpu(point.hardware).flops)
    low, _, high = estimate.find_gpu("A100").mfu
    inside = [share for share in shares if low <= share <= high]
    assert len(shares) > 60
    assert len(inside) / len(shares) >= 0.75
    assert min(shares) > 0.19
    assert max(shares) < 0.51


def test_gpus_carry_a_range_of_what_is_reached_and_a_source() -> None:
    for gpu in estimate.GPUS.values():
        low, middle, high = gpu.mfu
        assert 0 < low < middle < high < 1
        assert gpu.source
        assert estimate.find_gpu(gpu.name) == gpu
