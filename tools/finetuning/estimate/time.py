"""Training time from FLOPs, a device's peak and a range of utilisation."""

from __future__ import annotations

from typing import Final

from finetuning.estimate.architecture import Architecture
from finetuning.estimate.memory import Tuning

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
