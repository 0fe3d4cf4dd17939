"""The device a run is planned for, and whether the run fits on it."""

from __future__ import annotations

from typing import Final, Literal

from finetuning import estimate
from finetuning.estimate import Architecture, Stack
from finetuning.records import Model
from finetuning.training import hardware
from finetuning.training.config import TrainingConfig
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


class Device(Model):
    """Where training is planned: what it is called, its memory and, where known, its speed."""

    kind: Literal["cpu", "gpu"]
    name: str
    memory_gb: float
    flops: float | None
    count: int = 1

    @property
    def stack(self) -> Stack:
        """How memory is used there."""
        return "local_cpu" if self.kind == "cpu" else "trl"


def plan_device(gpu: str | None, gpu_memory_gb: float | None, n_gpus: int) -> Device:
    """Return the device that the caller named, else the one this machine has.

    Args:
        gpu: Name of a GPU, or None.
        gpu_memory_gb: Memory of one GPU; decides over the table.
        n_gpus: GPUs of that kind.

    Raises:
        UnknownNameError: ``gpu`` is not in the table and no memory was given.
    """
    if gpu is None and gpu_memory_gb is None:
        return _own_device()
    if gpu is None:
        name, flops, memory = "GPU", None, 0.0
    elif gpu_memory_gb is None:
        known = estimate.find_gpu(gpu)
        name, flops, memory = known.name, known.flops, known.memory_gb
    else:
        name, flops, memory = gpu, _flops_of(gpu), 0.0
    return Device(
        kind="gpu", name=name, memory_gb=gpu_memory_gb or memory, flops=flops, count=n_gpus
    )


def _flops_of(gpu: str) -> float | None:
    try:
        return estimate.find_gpu(gpu).flops
    except ValueError:
        return None


def _own_device() -> Device:
    gpus = hardware.list_gpus()
    if gpus:
        largest = max(gpus, key=lambda gpu: gpu.memory_gb)
        return Device(
            kind="gpu",
            name=largest.name,
            memory_gb=largest.memory_gb,
            flops=_flops_of(largest.name),
        )
    return Device(
        kind="cpu",
        name=hardware.cpu_info().name,
        memory_gb=round(hardware.free_ram_gb(), 2),
        flops=estimate.CPU_THREAD_FLOPS,
    )


def memory_gb(
    shape: Architecture, profile: DataProfile, config: TrainingConfig, device: Device
) -> float:
    """Return the estimated peak memory of a configuration on a device, in GB."""
    longest = min(profile.longest_tokens, config.max_length)
    return estimate.training_memory_gb(
        shape,
        tuning="lora",
        r=config.r,
        tokens_per_microbatch=config.per_device_train_batch_size * longest,
        gradient_checkpointing=config.gradient_checkpointing,
        stack=device.stack,
        labelled_fraction=profile.labelled_fraction if config.labels_on_answers_only else 1.0,
    )


def fits(need_gb: float, device: Device) -> bool:
    """Tell whether a need, with the error of its estimate, stays below the device's memory."""
    return need_gb * _ROOM <= device.memory_gb


def time_seconds(
    shape: Architecture, profile: DataProfile, config: TrainingConfig, device: Device
) -> dict[str, float] | None:
    """Return the estimated time as p10, p50, p90; None when the device's speed is not known."""
    if device.flops is None:
        return None
    batch = config.per_device_train_batch_size
    row = profile.mean_tokens if batch == 1 else profile.p95_tokens  # padded to the longest
    tokens = round(profile.rows * min(row, config.max_length) * config.num_train_epochs)
    steps = profile.rows * config.num_train_epochs / batch
    on_cpu = device.kind == "cpu"
    start = _CPU_START_SECONDS if on_cpu else _GPU_START_SECONDS
    found = estimate.training_time_seconds(
        shape,
        tokens=tokens,
        tuning="lora",
        device_flops=device.flops,
        n_devices=config.num_threads if on_cpu else device.count,
        mfu=_CPU_MFU if on_cpu else (0.25, 0.35, 0.45),
        fixed_seconds=start + steps * _STEP_SECONDS,
    )
    return {name: round(seconds, 1) for name, seconds in found.items()}
