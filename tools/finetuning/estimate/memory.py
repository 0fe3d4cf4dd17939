"""Peak training memory, from an analytic formula with every term apart."""

from __future__ import annotations

from typing import Final, Literal

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
