"""The learning rate of a LoRA run: a published formula, its range, and what lies outside."""

from __future__ import annotations

import math
from typing import Final

from finetuning.estimate import Architecture
from finetuning.training.choice import Choice

_EXPONENTS: Final = {"llama": 0.781, "qwen": 0.0775}
_CALIBRATED_HIDDEN: Final = {"llama": (2048, 8192), "qwen": (2048, 5120)}
"""Hidden sizes of the Llama 3 and Qwen3 models that the formula's service offered when it was
published (2025-09)."""
_FORMULA: Final = "5e-5 · 10 · (2000 / hidden size)^p"
_FORMULA_SOURCE: Final = "tinker_cookbook/hyperparam_utils.py at 9dfcc3a, checked 2026-11-20"

TINY_PARAMETERS: Final = 50_000_000
"""Below this no published rule exists."""
_TINY_CEILING: Final = 5e-3
"""Highest rate with a measured success at this size (hidden 128, training.md#settings)."""
_USUAL: Final = 2e-4
_SHORT_RUN_STEPS: Final = 100
_SHORT_RUN_FACTOR: Final = 1.5


def formula_rate(hidden_size: int, exponent: float) -> float:
    """Return the formula's LoRA rate (lora_alpha 32)."""
    return 5e-5 * 10 * math.pow(2000 / hidden_size, exponent)


def choose_learning_rate(shape: Architecture, steps: int) -> Choice:
    """Return the rate for a base model and a number of steps, with the reason.

    Args:
        shape: The base model.
        steps: Optimizer steps of the whole run.
    """
    family = next((name for name in _EXPONENTS if shape.family.startswith(name)), None)
    if shape.parameters < TINY_PARAMETERS:
        return _tiny(shape)
    if family is None:
        return Choice(
            _USUAL,
            f"no published formula covers {shape.family}; the usual LoRA start, inside the range "
            "1e-4 to 3e-4; watch the validation loss, and try a half and a double of it",
            "Unsloth LoRA guide; Axolotl docs/training_stability.qmd (2026-07)",
        )
    exponent, (low, high) = _EXPONENTS[family], _CALIBRATED_HIDDEN[family]
    rate = formula_rate(shape.hidden_size, exponent)
    reason = f"{_FORMULA}, p = {exponent:g} for {family}, hidden size {shape.hidden_size}"
    if low <= shape.hidden_size <= high:
        reason += f" (calibrated for {low} to {high})"
    else:
        reason += f"; outside its calibrated range of {low} to {high}, so an extrapolation"
    if steps < _SHORT_RUN_STEPS:
        rate *= _SHORT_RUN_FACTOR
        reason += f"; times {_SHORT_RUN_FACTOR:g} because the run has only {steps} steps"
    return Choice(_rounded(rate), reason, f"{_FORMULA_SOURCE}; LoRA Without Regret (2025-09)")


def _tiny(shape: Architecture) -> Choice:
    """Extrapolate the Llama formula: at hidden 128 it gives 4.3e-3, where 5e-3 was measured."""
    rate = min(_TINY_CEILING, formula_rate(shape.hidden_size, _EXPONENTS["llama"]))
    return Choice(
        _rounded(rate),
        f"{_FORMULA}, p = 0.781, hidden size {shape.hidden_size}: far outside the range it was "
        f"calibrated for (2048 to 8192), as this model has only {shape.parameters:,} parameters; "
        "it agrees with the one size measured here (hidden 128: 5e-3 takes the demo task from 0.00 "
        f"to 1.00, 2e-5 leaves it at 0.00) and is never above {_TINY_CEILING:g}. A rate for this "
        "model alone: it does not carry over to a larger one",
        "measured for this project 2026-11, training.md",
    )


def _rounded(rate: float) -> float:
    return float(f"{rate:.2e}")
