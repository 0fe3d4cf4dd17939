"""One training job as everything that prices it sees it, with its hours and memory."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from typing import Final

from finetuning.costs.inputs import PriceOverrides, RftJob
from finetuning.costs.ledger import Ledger
from finetuning.costs.results import GpuNeed
from finetuning.providers import Method, Tuning
from finetuning.providers.catalogue import Formula, ModelEntry, Provider

_RANK: Final = 16
_ROW_TOKENS: Final = 2048
"""Adapter rank and tokens per micro-batch of the memory estimate when nothing is said."""

_CPU_UTILISATION: Final = (0.05, 0.17, 0.55)
"""Share of a thread's peak: small shapes, stock TRL (0.17) and the best loop (0.55) on a CPU
(training.md section 6, measured 2026-11)."""

_CPU_START_SECONDS: Final = 8.0
"""From start to first step with TRL on a CPU (training.md section 6, measured 2026-11)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training job: who bills it, by which rule, on what."""

    provider: Provider
    model: ModelEntry
    given_model: str
    method: Method
    tuning: Tuning
    formula: Formula
    day: dt.date
    overrides: PriceOverrides
    gpu: str | None = None
    n_gpus: int = 1
    max_length: int | None = None
    rft: RftJob | None = None


def need_of(job: Job, tokens: int, ledger: Ledger) -> GpuNeed:
    """Return hours (p10, p50, p90) and memory of training on ``tokens`` in all.

    Raises:
        UnknownNameError: The base model or the GPU is not known.
    """
    from finetuning.estimate import (
        CPU_THREAD_FLOPS,
        find_gpu,
        read_architecture,
        training_memory_gb,
        training_time_seconds,
    )

    shape = read_architecture(job.given_model)
    if job.gpu is None:
        device, flops = "CPU", CPU_THREAD_FLOPS * (os.cpu_count() or 1)
        seconds = training_time_seconds(
            shape,
            tokens=tokens,
            tuning=job.tuning,
            device_flops=flops,
            mfu=_CPU_UTILISATION,
            fixed_seconds=_CPU_START_SECONDS,
        )
        ledger.assume("share of the CPU's peak", "0.05 to 0.55", "fraction", "training.md", "read")
    else:
        gpu = find_gpu(job.gpu)
        device = gpu.name
        seconds = training_time_seconds(
            shape,
            tokens=tokens,
            tuning=job.tuning,
            device_flops=gpu.flops,
            n_devices=job.n_gpus,
        )
        ledger.assume("share of the GPU's peak", "0.25 to 0.45", "fraction", "costs.md", "assumed")
    memory = training_memory_gb(
        shape,
        tuning=job.tuning,
        r=_RANK,
        tokens_per_microbatch=job.max_length or _ROW_TOKENS,
        gradient_checkpointing=job.gpu is not None,
        stack="local_cpu" if job.gpu is None else "trl",
    )
    return GpuNeed(
        hours={name: value / 3600 for name, value in seconds.items()},
        memory_gb=round(memory, 3),
        device=device,
        n_gpus=job.n_gpus,
    )
