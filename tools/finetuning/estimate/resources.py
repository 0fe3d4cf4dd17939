"""What training takes: memory, arithmetic, time, and the devices that supply it."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from finetuning.errors import UnknownNameError
from finetuning.estimate.architecture import Architecture, lora_parameters

Stack = Literal["local_cpu", "trl", "plain"]
"""Who trains: our worker on a CPU, TRL >= 1 on a GPU (chunked loss), or a full-logits loss."""

Tuning = Literal["lora", "qlora", "full"]

MEMORY_ERROR_FRACTIONS: Final = (0.07, 0.17)
"""Median and 90th percentile of the formula's error on 57 published peaks (training.md#memory,
measured 2026-11; largest 0.92, on a stack with chunked loss taken for a plain one)."""

_ADAM_BYTES: Final = 16
"""fp32 weight, gradient and two Adam moments of each trained parameter."""
_NF4_BYTES: Final = 0.56
"""4-bit weight and its scale (NF4 with absmax)."""
_FIXED_BYTES: Final = {"local_cpu": 580_000_000, "trl": 1_000_000_000, "plain": 1_000_000_000}
"""Python, torch and TRL on a CPU (measured 2026-11: 0.58 GB); context and allocator on a GPU."""

_TILE: Final = (4096, 32_768)
"""Positions and vocabulary entries of one tile of TRL's fused loss (trl 1.16 kernels)."""


def memory_terms(
    shape: Architecture,
    *,
    tuning: Tuning,
    r: int,
    tokens_per_microbatch: int,
    gradient_checkpointing: bool,
    stack: Stack,
    labelled_fraction: float = 1.0,
) -> dict[str, float]:
    """Return the terms of the peak in bytes, by name.

    Args:
        shape: The base model.
        tuning: ``lora``, ``qlora`` or ``full``.
        r: Rank of the adapter (not used for ``full``).
        tokens_per_microbatch: Rows of a micro-batch times its longest row, in tokens.
        gradient_checkpointing: Whether layer activations are recomputed.
        stack: Who trains.
        labelled_fraction: Share of positions that carry a label, 0..1; counts only where the
            stack scores labelled positions alone (``local_cpu``).

    Source: the terms that eight public estimators use between them (checked 2026-11-20);
    knowledge: training.md#memory
    """
    t, h, f = tokens_per_microbatch, shape.hidden_size, shape.intermediate_size
    width = 4 if stack == "local_cpu" else 2  # fp32 on a CPU, 16-bit on a GPU
    f_active = f * max(1, shape.n_experts_per_token)
    layer = t * (18 * h + 8 * f_active) * width
    if gradient_checkpointing:
        activations = t * h * shape.n_layers * width + layer
    else:
        activations = t * shape.n_layers * (14 * h + 4 * f_active) * width
    return {
        "weights": _weights(shape, tuning, width),
        "trained": float(0 if tuning == "full" else _ADAM_BYTES * lora_parameters(shape, r)),
        "activations": float(activations),
        "logits": _logits(shape, t, stack, labelled_fraction),
        "fixed": float(_FIXED_BYTES[stack]),
    }


def _weights(shape: Architecture, tuning: Tuning, width: int) -> float:
    if tuning == "full":
        return float(_ADAM_BYTES * shape.parameters)
    if tuning == "lora":
        return float(width * shape.parameters)
    head = shape.embedding_parameters
    return _NF4_BYTES * (shape.parameters - head) + 2.0 * head


def _logits(shape: Architecture, tokens: int, stack: Stack, labelled_fraction: float) -> float:
    if stack == "trl":  # chunked: one tile and its gradient in fp32
        return float(min(tokens, _TILE[0]) * min(shape.vocab_size, _TILE[1]) * 8)
    if stack == "local_cpu":  # fp32 logits, their gradient and the softmax
        return tokens * labelled_fraction * shape.vocab_size * 12.0
    return float(tokens * shape.vocab_size * 10)


def training_memory_gb(
    arch: Architecture,
    *,
    tuning: Tuning,
    r: int,
    tokens_per_microbatch: int,
    gradient_checkpointing: bool,
    stack: Stack,
    labelled_fraction: float = 1.0,
) -> float:
    """Return the estimated peak memory of training, in GB (10⁹ bytes).

    Read it with :data:`MEMORY_ERROR_FRACTIONS`; the arguments are those of :func:`memory_terms`.
    """
    terms = memory_terms(
        arch,
        tuning=tuning,
        r=r,
        tokens_per_microbatch=tokens_per_microbatch,
        gradient_checkpointing=gradient_checkpointing,
        stack=stack,
        labelled_fraction=labelled_fraction,
    )
    return sum(terms.values()) / 1e9


MFU_RANGE: Final = (0.25, 0.35, 0.45)
"""Model-FLOPs utilisation on GPUs, low, middle and high: a prior (costs.md#gpu-hours)."""

_FLOPS_PER_PARAMETER: Final = {"full": 6.0, "lora": 4.0, "qlora": 4.5}
"""Per token: forward 2, gradient of the activations 2, of the weights 2; QLoRA also unpacks its
weights (the 0.5 is this project's allowance, not a measurement)."""


def training_flops(arch: Architecture, *, tokens: int, tuning: Tuning) -> float:
    """Return the floating-point operations of training on ``tokens``, padding included.

    Source: FLOPs = k · N · D, k = 6 for full tuning and 4 for LoRA, N the parameters active per
    token (costs.md#gpu-hours, checked 2026-11-20).
    """
    active = arch.active_parameters
    if not arch.tie_word_embeddings:
        active -= arch.vocab_size * arch.hidden_size  # looking up an embedding multiplies nothing
    return _FLOPS_PER_PARAMETER[tuning] * active * tokens


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
    """A GPU: dense 16-bit tensor throughput without sparsity, and memory."""

    name: str
    flops: float
    memory_gb: float


GPUS: Final[dict[str, Gpu]] = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 65e12, 16),
        Gpu("L4", 121e12, 24),
        Gpu("A10", 125e12, 24),
        Gpu("L40S", 362e12, 48),
        Gpu("RTX 3090", 71e12, 24),
        Gpu("RTX 4090", 165e12, 24),
        Gpu("A100 40GB", 312e12, 40),
        Gpu("A100 80GB", 312e12, 80),
        Gpu("H100", 989e12, 80),
        Gpu("H200", 989e12, 141),
        Gpu("B200", 2250e12, 180),
    )
}
"""Dense 16-bit peak (half of the figure printed with sparsity) and memory, from NVIDIA's product
data sheets (checked 2026-11-20)."""

CPU_THREAD_FLOPS: Final = 110e9
"""Peak fp32 matrix multiply of one thread, AMD EPYC with AVX-512 (measured 2026-11)."""


_PATTERNS: Final = (
    ("a100.*40", "A100 40GB"),
    ("a100", "A100 80GB"),
    ("l40s", "L40S"),
    ("h100", "H100"),
    ("h200", "H200"),
    ("b200", "B200"),
    ("4090", "RTX 4090"),
    ("3090", "RTX 3090"),
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
