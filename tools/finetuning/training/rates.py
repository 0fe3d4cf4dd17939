"""The learning rate to start from, by method, tuning, family and size, with its reason."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from finetuning import estimate
from finetuning.training.config import Tuning, read_tables


class Choice(NamedTuple):
    """One setting with its reason and its source."""

    value: Any
    reason: str
    source: str

    def why(self) -> str:
        """Return reason and source as one line."""
        return f"{self.reason} [{self.source}]"


def explain(value: Any, case: str, **facts: Any) -> Choice:
    """Return a choice with the reason that tables.toml gives for its case."""
    reason, source = read_tables()["reasons"][case]
    return Choice(value, reason.format(**facts), source.format(**facts))


_EXPONENTS: Final = {"llama": 0.781, "qwen": 0.0775}
_CALIBRATED_HIDDEN: Final = {"llama": (2048, 8192), "qwen": (2048, 5120)}
"""Hidden sizes of the Llama 3 and Qwen3 models that the formula's service offered when it was
published (2025-09)."""

TINY_PARAMETERS: Final = 50_000_000
"""Below this no published rule exists."""
TINY_CEILING: Final = 5e-3
"""Highest rate with a measured success at this size (hidden 128, training.md#settings)."""
_USUAL: Final = 2e-4
_FULL_RATES: Final = (1e-5, 5e-5)
_LORA_OVER_FULL: Final = 10.0
_FIXED_RATES: Final[dict[str, dict[str, float]]] = {
    "dpo": {"lora": 5e-6, "full": 1e-6},
    "kto": {"lora": 5e-6, "full": 1e-6},
    "grpo": {"lora": 5e-6, "full": 1e-6},
    "cpt": {"lora": 5e-5},
}
"""Method → rate with LoRA and of full tuning; sources in tables.toml."""
_SHORT_RUN_STEPS: Final = 100
_SHORT_RUN_FACTOR: Final = 1.5


def formula_rate(hidden_size: int, exponent: float) -> float:
    """Return the formula's LoRA rate (lora_alpha 32)."""
    return 5e-5 * 10 * math.pow(2000 / hidden_size, exponent)


def outside_calibration(shape: estimate.Architecture) -> str | None:
    """Say why the published formula does not hold for a base; None where it does."""
    family = _family(shape)
    if family is None:
        return f"no published formula covers {shape.family}"
    low, high = _CALIBRATED_HIDDEN[family]
    if low <= shape.hidden_size <= high and shape.parameters >= TINY_PARAMETERS:
        return None
    return f"hidden size {shape.hidden_size} is outside the formula's range of {low} to {high}"


def _family(shape: estimate.Architecture) -> str | None:
    return next((name for name in _EXPONENTS if shape.family.startswith(name)), None)


def choose_learning_rate(
    shape: estimate.Architecture, steps: int, method: str = "sft", tuning: Tuning = "lora"
) -> Choice:
    """Return the rate for a base model and a number of steps, with the reason.

    Args:
        shape: The base model.
        steps: Optimizer steps of the whole run.
        method: sft, dpo, kto, grpo or cpt.
        tuning: lora, qlora (as lora) or full.
    """
    kind = "full" if tuning == "full" else "lora"
    fixed = _FIXED_RATES.get(method, {}).get(kind)
    lora = _lora_rate(shape, steps)
    if fixed is not None:
        choice = explain(fixed, f"rate_{method}_{kind}")
        return _scaled(choice, lora.value) if shape.parameters < TINY_PARAMETERS else choice
    if kind == "lora":
        return lora
    lora = _lora_rate(shape, _SHORT_RUN_STEPS)  # the factor of short runs is LoRA's alone
    case = "rate_full" if shape.parameters >= TINY_PARAMETERS else "rate_full_tiny"
    rate = lora.value / _LORA_OVER_FULL
    if case == "rate_full":
        rate = min(max(rate, _FULL_RATES[0]), _FULL_RATES[1])
    return explain(rounded(rate), case, lora=lora.value, why=lora.reason)


def _lora_rate(shape: estimate.Architecture, steps: int) -> Choice:
    family = _family(shape)
    if shape.parameters < TINY_PARAMETERS:
        rate = min(TINY_CEILING, formula_rate(shape.hidden_size, _EXPONENTS["llama"]))
        return explain(
            rounded(rate), "rate_tiny", hidden=shape.hidden_size, parameters=shape.parameters
        )
    if family is None:
        return explain(_USUAL, "rate_usual", family=shape.family)
    exponent, (low, high) = _EXPONENTS[family], _CALIBRATED_HIDDEN[family]
    rate = formula_rate(shape.hidden_size, exponent)
    choice = explain(
        rate, "rate_formula", exponent=exponent, family=family, hidden=shape.hidden_size
    )
    reason = choice.reason
    if low <= shape.hidden_size <= high:
        reason += f" (calibrated for {low} to {high})"
    else:
        reason += f"; outside its calibrated range of {low} to {high}, so an extrapolation"
    if steps < _SHORT_RUN_STEPS:
        rate *= _SHORT_RUN_FACTOR
        short = explain(rate, "rate_short", factor=_SHORT_RUN_FACTOR, steps=steps)
        reason += f"; {short.reason}"
    return Choice(rounded(rate), reason, choice.source)


def _scaled(choice: Choice, lora: float) -> Choice:
    factor = lora / _USUAL
    more = explain(None, "rate_scaled", factor=factor, lora=lora)
    return Choice(rounded(choice.value * factor), choice.reason + more.reason, choice.source)


def rounded(rate: float) -> float:
    """Return a rate with three digits."""
    return float(f"{rate:.2e}")
