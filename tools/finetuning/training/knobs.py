"""Every setting of a run, chosen from the model, the data and the device, with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from finetuning import estimate
from finetuning.records import Json
from finetuning.training.config import TrainingConfig, parse_config
from finetuning.training.environment import Device, usable_cores
from finetuning.training.profile import DataProfile


class Choice(NamedTuple):
    """One setting with its reason and its source."""

    value: Any
    reason: str
    source: str

    def why(self) -> str:
        """Return reason and source as one line."""
        return f"{self.reason} [{self.source}]"


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


def choose_learning_rate(shape: estimate.Architecture, steps: int) -> Choice:
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


def _tiny(shape: estimate.Architecture) -> Choice:
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


_OURS: Final = "this project's rule"
_BATCH: Final = 16
_FEWEST_STEPS_PER_EPOCH: Final = 20
_TINY_STEPS: Final = 300
_MOST_STEPS: Final = 1000
_MOST_TINY_EPOCHS: Final = 10
_RANKS: Final = (16, 32, 64, 128)
_LONG_ROW: Final = 2048
_INEXACT: Final = 1.3


class Resolver:
    """Chooses settings one after the other; what the caller set is taken and marked."""

    def __init__(
        self,
        shape: estimate.Architecture,
        profile: DataProfile,
        device: Device,
        overrides: Mapping[str, Json],
    ) -> None:
        """Start with nothing chosen.

        Args:
            shape: The base model.
            profile: The training rows.
            device: Where the run is planned.
            overrides: Settings that the caller fixed.
        """
        self._shape, self._profile, self._device = shape, profile, device
        self._overrides = overrides
        self.values: dict[str, Any] = {}
        self.why: dict[str, str] = {}
        self.proposed: dict[str, Any] = {}

    def _put(self, knob: str, choice: Choice) -> Any:
        self.proposed[knob] = choice.value
        if knob in self._overrides:
            self.values[knob] = self._overrides[knob]
            self.why[knob] = f"set by the caller; proposed: {choice.value} because {choice.why()}"
        else:
            self.values[knob], self.why[knob] = choice.value, choice.why()
        return self.values[knob]

    def resolve(self, fixed: Mapping[str, Json]) -> TrainingConfig:
        """Choose every setting and return the checked configuration.

        Args:
            fixed: Settings that are not chosen here (files, base model, row format).

        Raises:
            BadInputError: An override has the wrong type or lies out of range.
        """
        probe = {"learning_rate": 1e-4, **fixed, **self._overrides}
        checked = parse_config(probe, where="overrides")  # types first: they are reckoned with
        self._overrides = {name: getattr(checked, name) for name in self._overrides}
        self._choose_length()
        self._choose_batch()
        self._choose_adapter()
        steps = self._choose_epochs()
        self._put("learning_rate", choose_learning_rate(self._shape, steps))
        self._choose_rest()
        for name, value in self._overrides.items():
            if name not in self.values:
                self.values[name], self.why[name] = value, "set by the caller"
        return parse_config({**fixed, **self.values}, where="overrides")

    def _choose_length(self) -> None:
        longest, p99 = self._profile.longest_tokens, self._profile.p99_tokens
        if longest > max(_LONG_ROW, 2 * p99):
            wanted, reason = p99, f"99th percentile; the longest row has {longest} tokens"
        else:
            wanted, reason = longest, "the longest row, so nothing is cut off"
        if not self._profile.exact:
            wanted = math.ceil(wanted * _INEXACT)
            reason += "; 30 % added because the count is approximate"
        length = max(16, -(-wanted // 8) * 8)
        context = self._shape.max_position_embeddings
        if context is not None and length > context:
            length, reason = context, f"the base's whole context; {reason}"
        self._put("max_length", Choice(length, reason, f"counted with {self._profile.tokenizer}"))

    def _choose_batch(self) -> None:
        rows = self._profile.rows
        most = max(1, rows // _FEWEST_STEPS_PER_EPOCH)
        batch = min(_BATCH, 2 ** int(math.log2(most)))
        reason = "LoRA tolerates large batches less than full tuning: stay below 32"
        if batch < _BATCH:
            reason += f"; smaller still, so that {rows} rows make at least 20 steps an epoch"
        self._put(
            "per_device_train_batch_size",
            Choice(batch, reason, "trl lora_without_regret.md; Tinker advises 128: they disagree"),
        )
        self._put(
            "gradient_accumulation_steps",
            Choice(1, "the whole batch fits into memory at once", "estimate of this run"),
        )

    def _choose_adapter(self) -> None:
        need = self._profile.labelled_tokens
        sizes = {rank: estimate.lora_parameters(self._shape, rank) for rank in _RANKS}
        rank = next((rank for rank, size in sizes.items() if size >= need), _RANKS[-1])
        self._put(
            "r",
            Choice(
                rank,
                f"smallest of {_RANKS} whose {sizes[rank]:,} parameters are "
                f"not fewer than the {need:,} answer tokens",
                "Tinker docs, trl lora_without_regret.md",
            ),
        )
        self._put(
            "lora_alpha",
            Choice(
                32,
                "fixed at the value the learning-rate formula was made with: the rate then does "
                "not depend on r",
                "LoRA Without Regret, 2025-09",
            ),
        )
        self._put("lora_dropout", Choice(0.0, "no gain reported at this scale", "Unsloth guide"))
        self._put(
            "target_modules",
            Choice(
                "all-linear",
                "attention alone loses even at the same number of parameters",
                "LoRA Without Regret, 2025-09",
            ),
        )

    def _choose_epochs(self) -> int:
        batch = int(self.values["per_device_train_batch_size"])
        batch *= int(self.values["gradient_accumulation_steps"])
        per_epoch = math.ceil(self._profile.rows / batch)
        if self._shape.parameters < TINY_PARAMETERS:
            epochs = min(_MOST_TINY_EPOCHS, max(2, -(-_TINY_STEPS // per_epoch)))
            choice = Choice(
                float(epochs),
                f"about {_TINY_STEPS} steps of {per_epoch} an epoch: a tiny model needs them, and "
                f"only there more than 3 epochs are proposed (at most {_MOST_TINY_EPOCHS})",
                "measured for this project 2026-11, training.md",
            )
        else:
            epochs = min(3, max(1, _MOST_STEPS // per_epoch))
            choice = Choice(
                float(epochs),
                f"as many of 1 to 3 epochs as stay within {_MOST_STEPS} steps ({per_epoch} each)",
                "Unsloth LoRA guide (1 to 3 epochs); Tinker (100 steps at least)",
            )
        chosen = float(self._put("num_train_epochs", choice))
        return math.ceil(per_epoch * chosen)

    def _choose_rest(self) -> None:
        tiny = self._shape.parameters < TINY_PARAMETERS
        on_cpu = self._device.kind == "cpu"
        loss = (
            "assistant_only_loss"
            if self._profile.row_format == "trl_messages"
            else "completion_only_loss"
        )
        rest = {
            loss: Choice(
                True,
                "with the loss on all tokens the demo stayed at exact match 0.02, on answers 1.00",
                "measured for this project 2026-11, training.md",
            ),
            "warmup_ratio": Choice(0.05, "5 to 10 % warm-up", "Axolotl training_stability.qmd"),
            "lr_scheduler_type": Choice("linear", "the Trainer's default", "transformers 5.23"),
            "weight_decay": Choice(0.0, "an adapter of small rank is its own regulariser", _OURS),
            "max_grad_norm": Choice(1.0, "the Trainer's default", "transformers 5.23"),
            "precision": Choice(
                *(("fp32", "a CPU trains in 32 bits") if on_cpu else ("bf16", "16-bit weights")),
                "training.md#time",
            ),
            "gradient_checkpointing": Choice(
                False, "off while memory allows: it costs a fifth of the speed", "training.md"
            ),
            "num_threads": Choice(
                *(
                    (1, "tiny matrices: more threads wait for each other")
                    if tiny
                    else (usable_cores(), "all cores this process may use")
                ),
                "measured 2026-11, training.md#time",
            ),
            "seed": Choice(42, "fixed, so that the run repeats", _OURS),
        }
        for knob, choice in rest.items():
            self._put(knob, choice)
