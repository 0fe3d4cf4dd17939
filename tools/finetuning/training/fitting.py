"""What memory and time a run needs, and what makes it fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple, cast

from finetuning import estimate
from finetuning.records import Finding, Json, NextCall
from finetuning.training.config import TrainingConfig, finding
from finetuning.training.environment import Device
from finetuning.training.hazards import ATTENTION
from finetuning.training.profile import DataProfile

_ROOM: Final = 1.0 + estimate.MEMORY_ERROR_FRACTIONS[1]
"""The estimate is taken with the 90th percentile of its error before it is said to fit."""
_CPU_MFU: Final = (0.12, 0.25, 0.55)
"""Share of a thread's fp32 peak that our loss reaches: tiny models and a busy machine, the demo,
and the best loop measured (training.md#time, 2026-11)."""
_CPU_START_SECONDS: Final = 7.0
_GPU_START_SECONDS: Final = 30.0
"""From launch to the first step: CPU measured 2026-11; GPU an allowance, not measured."""
_STEP_SECONDS: Final = 0.008
"""Overhead of one step beyond its arithmetic (measured 2026-11 on the demo)."""
_SEQUENCES: Final = {"dpo": 2, "kto": 2}
"""Sequences that a row becomes: both answers, or the answer and a strange one for the KL term."""
_WORK: Final = {"dpo": 1.5, "kto": 1.5, "grpo": 2.0}
"""Work per sequence against plain training: the reference model's forward pass; for GRPO writing
the answers and scoring them once more (forward 2, all of LoRA 4 per parameter: reckoned, not
measured)."""
_STACKS: Final[dict[str, estimate.Stack]] = {
    "axolotl": "axolotl",
    "llama_factory": "llama_factory",
    "ms_swift": "ms_swift",
    "unsloth": "unsloth",
}
_GPUS_TRIED: Final = (2, 4, 8)
_MOST_WAYS: Final = 3
_MOST_CUT: Final = 0.05


def memory_gb(
    shape: estimate.Architecture,
    profile: DataProfile,
    config: TrainingConfig,
    device: Device,
    engine: str = "local",
) -> float:
    """Return the estimated peak memory of a configuration on one device, in GB.

    Args:
        shape: The base model.
        profile: The training rows.
        config: The settings.
        device: Where it runs; several processes share weights and optimizer (FSDP2).
        engine: Who trains.
    """
    longest = profile.longest_tokens
    if config.method == "grpo":
        longest += config.max_completion_length
    sequences = config.per_device_train_batch_size * _SEQUENCES.get(config.method, 1)
    stack = _STACKS.get(engine, device.stack)
    if stack == "trl" and config.method in _WORK:
        stack = "plain"  # these losses keep the logits
    full, width = config.tuning == "full", 2 if config.precision == "bf16" else 4
    terms = estimate.memory_terms(
        shape,
        tuning=config.tuning,
        r=config.r,
        tokens_per_microbatch=sequences * min(longest, config.max_length),
        gradient_checkpointing=config.gradient_checkpointing,
        stack=stack,
        labelled_fraction=profile.labelled_fraction if config.labels_on_answers_only else 1.0,
        targets=_targets(config.target_modules),
        weight_bytes=None if full else width,
    )
    shared = terms["weights"] + terms["trained"]
    if full and config.method in _SEQUENCES:
        shared += 4.0 * shape.parameters  # the reference model, a second copy
    if device.kind == "gpu":
        shared /= config.num_processes
    return (shared + terms["activations"] + terms["logits"] + terms["fixed"]) / 1e9


def _targets(targets: str | list[str]) -> estimate.Targets:
    names = set(targets) if not isinstance(targets, str) else {targets}
    if names <= {"q_proj", "v_proj"}:
        return "qv"
    return "attention" if names <= ATTENTION else "all"


def fits(need_gb: float, device: Device) -> bool:
    """Tell whether a need, with the error of its estimate, stays below the device's memory."""
    return need_gb * _ROOM <= device.memory_gb


def time_seconds(
    shape: estimate.Architecture, profile: DataProfile, config: TrainingConfig, device: Device
) -> dict[str, float] | None:
    """Return the estimated time as p10, p50, p90; None when the device's speed is not known."""
    if device.flops is None:
        return None
    batch, on_cpu = config.per_device_train_batch_size, device.kind == "cpu"
    padded = batch > 1 and not (config.length_buckets or config.packing)
    row = profile.p95_tokens if padded else profile.mean_tokens
    sequences = _SEQUENCES.get(config.method, 1)
    if config.method == "grpo":
        row, sequences = row + config.max_completion_length, config.num_generations
    passes = profile.rows * sequences * config.num_train_epochs
    found = estimate.training_time_seconds(
        shape,
        tokens=round(passes * min(row, config.max_length) * _WORK.get(config.method, 1.0)),
        tuning=config.tuning,
        device_flops=device.flops,
        n_devices=config.num_threads if on_cpu else config.num_processes,
        mfu=_CPU_MFU if on_cpu else device.mfu,
        fixed_seconds=(_CPU_START_SECONDS if on_cpu else _GPU_START_SECONDS)
        + passes / batch / config.num_processes * _STEP_SECONDS,
    )
    return {name: round(seconds, 1) for name, seconds in found.items()}


def shrink_to_fit(
    config: TrainingConfig,
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    fixed: Collection[str],
    engine: str = "local",
) -> tuple[TrainingConfig, dict[str, str]]:
    """Trade micro-batch for accumulation, then switch checkpointing on, until a run fits.

    Returns the settings, which may still not fit, and the reasons for those that changed; those
    named in ``fixed`` stay as they are.
    """
    why: dict[str, str] = {}
    least = 2 if config.method == "kto" else 1

    def too_large() -> bool:
        return not fits(memory_gb(shape, profile, config, device, engine), device)

    for checkpointing in (False, True):
        if checkpointing and too_large() and "gradient_checkpointing" not in fixed:
            config = config.model_copy(update={"gradient_checkpointing": True})
            why["gradient_checkpointing"] = (
                "on: without it the run does not fit [estimate of this run]"
            )
        while (
            "per_device_train_batch_size" not in fixed
            and too_large()
            and config.per_device_train_batch_size > least
        ):
            config = config.model_copy(
                update={
                    "per_device_train_batch_size": config.per_device_train_batch_size // 2,
                    "gradient_accumulation_steps": config.gradient_accumulation_steps * 2,
                }
            )
            why["gradient_accumulation_steps"] = (
                "smaller micro-batches with the same effective batch, to fit into "
                f"{device.memory_gb:g} GB [estimate of this run]"
            )
    return config, why


class Way(NamedTuple):
    """A change that makes a run fit: in words, and as arguments of configure_training."""

    words: str
    arguments: dict[str, Json]


def ways_to_fit(
    config: TrainingConfig,
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    engine: str = "local",
) -> list[Way]:
    """Return up to three changes, each reckoned anew, after which the run fits."""
    found: list[Way] = []
    for way, changes, other in _plans(config, profile, device):
        changed = config.model_copy(update=changes)
        smaller, _ = shrink_to_fit(changed, shape, profile, other, (), engine)
        need = memory_gb(shape, profile, smaller, other, engine)
        alike = any(set(way.arguments) == set(earlier.arguments) for earlier in found)
        if fits(need, other) and not alike and len(found) < _MOST_WAYS:
            found.append(way._replace(words=f"{way.words} ({need:.1f} GB each)"))
    return found


def advise(
    arguments: dict[str, Json],
    need_gb: float,
    config: TrainingConfig,
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    engine: str,
) -> tuple[Finding, list[NextCall]]:
    """Return what to change so that a run fits, in words and as calls that can be made."""
    ways = ways_to_fit(config, shape, profile, device, engine)
    words = "; or ".join(way.words for way in ways)
    named = finding(
        "does_not_fit",
        need=need_gb,
        there=device.memory_gb,
        device=device.name,
        ways=f"It fits with {words}" if words else "Choose a smaller base",
    )
    calls: list[NextCall] = []
    for way in ways:
        place: dict[str, Json] = {}
        if device.kind == "gpu" and "gpu" not in way.arguments:
            place = {"gpu": device.name, "gpu_memory_gb": device.memory_gb}
        given = cast("dict[str, Json]", arguments["overrides"])
        more = cast("dict[str, Json]", way.arguments.get("overrides", {}))
        called = {**arguments, **place, **way.arguments, "overrides": {**given, **more}}
        calls.append(NextCall(tool="configure_training", args=called, why=f"fits: {way.words}"))
    return named, calls


def _plans(
    config: TrainingConfig, profile: DataProfile, device: Device
) -> Iterator[tuple[Way, dict[str, Any], Device]]:
    lighter = {"full": "lora", "lora": "qlora"}.get(config.tuning)
    if lighter and not (lighter == "qlora" and device.kind == "cpu"):
        four_bits = {"tuning": lighter, "quantisation": "nf4" if lighter == "qlora" else "none"}
        yield Way(f"tuning={lighter!r}", {"tuning": lighter}), four_bits, device
    for length in (profile.p99_tokens, profile.p95_tokens):
        short = max(16, -(-length // 8) * 8)
        cut = profile.longer_than(short) / profile.rows
        if short < config.max_length and cut <= _MOST_CUT:
            words = f"max_length={short}, which cuts {cut:.1%} of the rows"
            yield Way(words, {"overrides": {"max_length": short}}), {"max_length": short}, device
    kind, memory = device.name, device.memory_gb
    if device.kind == "gpu":
        for count in _GPUS_TRIED:
            several: dict[str, Json] = {"engine": "torchrun", "n_gpus": count}
            yield Way(f"{count} x {kind} with torchrun", several), {"num_processes": count}, device
    for gpu in sorted(estimate.GPUS.values(), key=lambda each: each.memory_gb):
        if gpu.memory_gb > memory or device.kind == "cpu":
            larger = Device(kind="gpu", name=gpu.name, memory_gb=gpu.memory_gb, flops=gpu.flops)
            words = f"a GPU of {gpu.memory_gb:g} GB ({gpu.name})"
            yield Way(words, {"gpu": gpu.name}), {"precision": "bf16"}, larger
