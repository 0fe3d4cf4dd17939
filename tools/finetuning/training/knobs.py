"""Every setting of a run, chosen from the model, the data and the device, with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from finetuning.estimate import Architecture, lora_parameters
from finetuning.records import Json
from finetuning.training.choice import Choice
from finetuning.training.config import TrainingConfig, parse_config
from finetuning.training.device import Device, fits, memory_gb
from finetuning.training.hardware import usable_cores
from finetuning.training.learning_rate import TINY_PARAMETERS, choose_learning_rate
from finetuning.training.profile import DataProfile

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
        shape: Architecture,
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
        return self._fit(parse_config({**fixed, **self.values}, where="overrides"))

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
        rank = next((r for r in _RANKS if lora_parameters(self._shape, r) >= need), _RANKS[-1])
        self._put(
            "r",
            Choice(
                rank,
                f"smallest of {_RANKS} whose {lora_parameters(self._shape, rank):,} parameters are "
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

    def _fit(self, config: TrainingConfig) -> TrainingConfig:
        """Trade micro-batch for accumulation, then switch checkpointing on, until it fits."""
        config = self._halve_until_it_fits(config)
        if not self._fits(config) and "gradient_checkpointing" not in self._overrides:
            config = self._halve_until_it_fits(
                config.model_copy(update={"gradient_checkpointing": True})
            )
            self.why["gradient_checkpointing"] = (
                "on: without it the run does not fit [estimate of this run]"
            )
        return config

    def _halve_until_it_fits(self, config: TrainingConfig) -> TrainingConfig:
        if "per_device_train_batch_size" in self._overrides:
            return config
        while not self._fits(config) and config.per_device_train_batch_size > 1:
            config = config.model_copy(
                update={
                    "per_device_train_batch_size": config.per_device_train_batch_size // 2,
                    "gradient_accumulation_steps": config.gradient_accumulation_steps * 2,
                }
            )
            self.why["gradient_accumulation_steps"] = (
                "smaller micro-batches with the same effective batch, to fit into "
                f"{self._device.memory_gb:g} GB [estimate of this run]"
            )
        return config

    def _fits(self, config: TrainingConfig) -> bool:
        need = memory_gb(self._shape, self._profile, config, self._device)
        return fits(need, self._device)
