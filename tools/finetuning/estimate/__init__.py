"""Estimate: what a model is made of, and the memory and time that training it takes.

Here: the time, the devices that supply it and the published readings. What a model is made of and
its memory are imported when they are used first.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.errors import UnknownNameError, lazy

if TYPE_CHECKING:
    from finetuning.estimate.architecture import (
        Architecture,
        Targets,
        known_models,
        lora_parameters,
        read_architecture,
    )
    from finetuning.estimate.memory import (
        MEMORY_ERROR_FRACTIONS,
        Quantisation,
        Stack,
        Tuning,
        memory_terms,
        training_memory_gb,
    )
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(
        __name__,
        architecture="Architecture Targets known_models lora_parameters read_architecture",
        memory="MEMORY_ERROR_FRACTIONS Quantisation Stack Tuning memory_terms training_memory_gb",
    )

__all__ = [
    "CPU_THREAD_FLOPS",
    "GPUS",
    "MEMORY_ERROR_FRACTIONS",
    "Architecture",
    "Gpu",
    "MeasuredPoint",
    "Quantisation",
    "Stack",
    "Targets",
    "Tuning",
    "find_gpu",
    "known_models",
    "lora_parameters",
    "measured_points",
    "memory_terms",
    "nearest_measured_point",
    "read_architecture",
    "training_flops",
    "training_memory_gb",
    "training_time_seconds",
]

MFU_RANGE: Final = (0.25, 0.35, 0.45)
"""Model-FLOPs utilisation on GPUs, low, middle and high: a prior (costs.md#gpu-hours)."""

_FLOPS_PER_PARAMETER: Final = {"full": 6.0, "lora": 4.0, "qlora": 4.5}
"""Per token: forward 2, gradient of the activations 2, of the weights 2; QLoRA also unpacks its
weights (the 0.5 is this project's allowance, not a measurement)."""


def training_flops(arch: Architecture, *, tokens: int, tuning: Tuning) -> float:
    """Return the floating-point operations of training on ``tokens``, padding included.

    Source: FLOPs = k · N · D, k = 6 for full tuning and 4 for LoRA, N the parameters that a token
    is multiplied with (costs.md#gpu-hours, checked 2026-11-20).
    """
    return _FLOPS_PER_PARAMETER[tuning] * arch.multiplied_parameters * tokens


def training_time_seconds(
    arch: Architecture,
    *,
    tokens: int,
    tuning: Tuning,
    device_flops: float,
    n_devices: int = 1,
    mfu: tuple[float, float, float] = MFU_RANGE,
    fixed_seconds: float = 0.0,
) -> dict[str, float]:
    """Return the estimated training time in seconds as ``{p10, p50, p90}``.

    Args:
        arch: The base model.
        tokens: Tokens processed over all epochs, padding included.
        tuning: ``lora``, ``qlora`` or ``full``.
        device_flops: Peak FLOP/s of one device at the precision used.
        n_devices: Devices that share the work.
        mfu: Low, middle and high share of the peak that is reached, 0..1.
        fixed_seconds: Start, per-step overhead and saving, added to each.
    """
    flops = training_flops(arch, tokens=tokens, tuning=tuning)
    low, middle, high = (flops / (share * device_flops * n_devices) for share in reversed(mfu))
    return {
        "p10": low + fixed_seconds,
        "p50": middle + fixed_seconds,
        "p90": high + fixed_seconds,
    }


class Gpu(NamedTuple):
    """A GPU: dense 16-bit tensor throughput without sparsity, memory, and what is reached of it.

    ``mfu`` is the low, middle and high share of the peak that k · N · D reaches; ``measured``
    tells whether published runs stand behind it.
    """

    name: str
    flops: float
    memory_gb: float
    mfu: tuple[float, float, float] = MFU_RANGE
    measured: bool = False
    source: str = "NVIDIA product data sheet (checked 2026-11-20)"


_A100: Final = (0.25, 0.35, 0.45)
"""85 runs with checkpointing, rows of 4096: LoRA 0.23 to 0.37, QLoRA 0.21 to 0.50, full 0.34 to
0.49 (fms-acceleration, tables.json, 2026-11-20)."""
_HOPPER: Final = (0.15, 0.28, 0.42)
"""Lower than an A100's: the same kernels fill less of it (Llama 3.1 8B, full, 2 x 8192 tokens in
4.7 s on an H100: 0.16; well-packed runs of 2025 and 2026: up to 0.4; read 2026-11-20)."""
_CONSUMER: Final = (0.25, 0.42, 0.55)
"""One RTX 4090, packed rows of 2048, torch.compile: 0.44 to 0.56 (torchtune, 2026-11-20)."""

_READ_SECOND_HAND: Final = "NVIDIA's figure as others quote it (read 2026-11-20)"
_FROM_MEMORY: Final = "from memory of NVIDIA's data sheet: verify before citing"

GPUS: Final[dict[str, Gpu]] = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 65e12, 16),
        Gpu("V100", 125e12, 32, source=_READ_SECOND_HAND),
        Gpu("L4", 121e12, 24),
        Gpu("A10", 125e12, 24),
        Gpu("A40", 150e12, 48, source=_READ_SECOND_HAND),
        Gpu("RTX A6000", 155e12, 48, source=_FROM_MEMORY),
        Gpu("L40S", 362e12, 48),
        Gpu("RTX 3090", 71e12, 24),
        Gpu("RTX 4090", 165e12, 24, _CONSUMER, measured=True),
        Gpu("RTX 5090", 210e12, 32, _CONSUMER, source=_FROM_MEMORY),
        Gpu("RTX PRO 6000", 504e12, 96, source=_READ_SECOND_HAND),
        Gpu("A100 40GB", 312e12, 40, _A100, measured=True),
        Gpu("A100 80GB", 312e12, 80, _A100, measured=True),
        Gpu("H20", 148e12, 96, source=_FROM_MEMORY),
        Gpu("H100", 989e12, 80, _HOPPER, measured=True),
        Gpu("H200", 989e12, 141, _HOPPER),
        Gpu("B200", 2250e12, 180, _HOPPER),
        Gpu("B300", 2250e12, 288, _HOPPER, source=_FROM_MEMORY),
    )
}
"""Dense 16-bit peak with fp32 accumulation (half of the figure printed with sparsity)."""

CPU_THREAD_FLOPS: Final = 110e9
"""Peak fp32 matrix multiply of one thread, AMD EPYC with AVX-512 (measured 2026-11)."""


_PATTERNS: Final = (
    ("a100.*40", "A100 40GB"),
    ("a100", "A100 80GB"),
    ("l40s", "L40S"),
    ("h100", "H100"),
    ("h200", "H200"),
    (r"\bh20\b", "H20"),
    ("b200", "B200"),
    ("b300", "B300"),
    ("5090", "RTX 5090"),
    ("4090", "RTX 4090"),
    ("3090", "RTX 3090"),
    (r"pro[ -]?6000", "RTX PRO 6000"),
    (r"a6000", "RTX A6000"),
    (r"\bv100", "V100"),
    (r"\ba40\b", "A40"),
    (r"\bl4\b", "L4"),
    (r"\ba10g?\b", "A10"),
    (r"\bt4\b", "T4"),
)


def find_gpu(name: str) -> Gpu:
    """Return a GPU of the table by a name as people and drivers write it.

    Args:
        name: For example ``H100``, ``a100-80gb`` or ``NVIDIA A100-SXM4-80GB``; an A100 without a
            size counts as the 80 GB one.

    Raises:
        UnknownNameError: No such GPU in the table; the nearest are named.
    """
    for pattern, key in _PATTERNS:
        if re.search(pattern, name.lower().replace("_", "-")):
            return GPUS[key]
    raise UnknownNameError("gpu", "GPU", name, GPUS)


class MeasuredPoint(NamedTuple):
    """A published reading of memory while tuning, in GB (10⁹ bytes).

    ``allocated_gb`` is the peak of torch's live tensors, ``device_gb`` what the card or the
    allocator held; either can be missing. ``tokens_per_second`` is None where none was published.
    """

    base: str
    tuning: Tuning
    r: int
    targets: str
    dtype: str
    rows: int
    row_tokens: int
    gradient_checkpointing: bool
    stack: str
    allocated_gb: float | None
    device_gb: float | None
    hardware: str
    tokens_per_second: int | None
    source: str
    half: str
    excluded_because: str

    @property
    def memory_gb(self) -> float:
        """The reading that says what the run needed: allocated where it was published."""
        return self.allocated_gb or self.device_gb or math.nan

    def words(self) -> str:
        """Return the point in one line, with its source and the day it was read."""
        from finetuning.estimate.architecture import read_tables

        url, day = read_tables()["sources"][self.source][:2]
        rank = f" r={self.r}" if self.r else ""
        kept = "" if self.gradient_checkpointing else ", no checkpointing"
        return (
            f"{self.base}, {self.tuning}{rank}, {self.rows} x {self.row_tokens} tokens{kept}, "
            f"{self.stack}, {self.hardware}: {self.memory_gb:g} GB measured ({url}, read {day})"
        )


@functools.cache
def measured_points() -> tuple[MeasuredPoint, ...]:
    """Return every published reading of the table."""
    from finetuning.estimate.architecture import read_tables

    rows: list[list[Any]] = read_tables()["points"]
    return tuple(MeasuredPoint(*row) for row in rows)


_LIMITS: Final = frozenset({"unsloth"})
"""Sources that say which rows fit a card instead of what a run took."""


def nearest_measured_point(
    arch: Architecture,
    *,
    tuning: Tuning,
    r: int,
    tokens_per_microbatch: int,
    gradient_checkpointing: bool = True,
    stack: Stack = "trl",
) -> MeasuredPoint | None:
    """Return the published reading of the same tuning that is nearest to a plan, or None.

    Distance is counted in doublings of parameters (twice), of tokens and of rank, plus one for
    another stack and two for checkpointing the other way; exact readings break ties.
    """
    from finetuning.estimate.architecture import read_architecture

    def distance(point: MeasuredPoint) -> tuple[float, bool]:
        size = read_architecture(point.base).parameters
        far = 2 * abs(math.log2(size / arch.parameters))
        tokens = max(1, tokens_per_microbatch)
        far += abs(math.log2(point.rows * point.row_tokens / tokens))
        far += 0.25 * abs(math.log2((point.r or 1) / max(1, r if point.r else 1)))
        far += point.stack != stack
        far += 2 * (point.gradient_checkpointing != gradient_checkpointing)
        return far, bool(point.excluded_because)

    readings = (p for p in measured_points() if p.tuning == tuning and p.source not in _LIMITS)
    return min(readings, key=distance, default=None)
