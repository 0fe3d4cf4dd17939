"""Every setting of a run, chosen from the method, the model, the data and the device, with why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from finetuning import estimate
from finetuning.records import Json
from finetuning.training.config import Choice, TrainingConfig, explain, parse_config
from finetuning.training.environment import Device, cpu_info, usable_cores
from finetuning.training.profile import DataProfile
from finetuning.training.rules import (
    TINY_CEILING,
    TINY_PARAMETERS,
    choose_learning_rate,
    outside_calibration,
    rounded,
)

_BATCH: Final = 16
_FEWEST_STEPS_PER_EPOCH: Final = 20
_TINY_STEPS: Final = 300
_MOST_STEPS: Final = 1000
_MOST_TINY_EPOCHS: Final = 10
_RANKS: Final = (16, 32, 64, 128)
_LONG_ROW: Final = 2048
_INEXACT: Final = 1.3
_LEAST_BF16_PARAMETERS: Final = 5_000_000
"""bf16 weights on a CPU were measured at 8.9 million parameters (training.md#time)."""
_NO_BF16: Final = ("T4", "V100")
_PACKING_SHARE: Final = 0.5
_REPLAY: Final = {"tiny": 0.2, "given": 0.05}
_PAIRS: Final = frozenset({"dpo", "kto", "grpo"})
_SEEN_ONCE: Final = {"dpo": "preferences", "kto": "preferences", "grpo": "prompts", "cpt": "texts"}


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
        self._tiny = shape.parameters < TINY_PARAMETERS
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

    def _say(self, knob: str, value: Any, case: str | None = None, **facts: Any) -> Any:
        return self._put(knob, explain(value, case or knob, **facts))

    def resolve(self, fixed: Mapping[str, Json], *, emitted: bool = False) -> TrainingConfig:
        """Choose every setting and return the checked configuration.

        Args:
            fixed: Settings that are not chosen here (files, base model, method, row format).
            emitted: The run is written down for another program, which has no length buckets.

        Raises:
            BadInputError: An override has the wrong type or lies out of range.
        """
        probe = {"learning_rate": 1e-4, **fixed, **self._overrides}
        self._run = parse_config(probe, where="overrides")  # types first: they are reckoned with
        self._overrides = {name: getattr(self._run, name) for name in self._overrides}
        self._choose_method()
        self._choose_length()
        self._choose_batch(emitted)
        if self._run.tuning != "full":
            self._choose_adapter()
        steps = self._choose_epochs()
        self._choose_rate(steps, emitted)
        self._choose_order(emitted)
        self._choose_precision()
        self._choose_rest()
        for name, value in self._overrides.items():
            if name not in self.values:
                self.values[name], self.why[name] = value, "set by the caller"
        return parse_config({**fixed, **self.values}, where="overrides")

    def _choose_method(self) -> None:
        method, found = self._run.method, self._profile
        if method in {"dpo", "kto", "grpo"}:
            self._say("beta", 0.0 if method == "grpo" else 0.1, f"beta_{method}")
        if method == "kto":
            good, bad = found.desirable_rows, found.rows - found.desirable_rows
            light = "desirable_weight" if good <= bad else "undesirable_weight"
            ratio = max(good, bad) / max(1, min(good, bad))
            self._say(light, round(ratio, 2), "desirable_weight", good=good, bad=bad)
        if method == "grpo":
            self._say("num_generations", 8)
            self._say("max_completion_length", 256)
            self._say("temperature", 1.0)

    def _choose_length(self) -> None:
        found, method = self._profile, self._run.method
        longest, p99 = found.longest_tokens, found.p99_tokens
        case, wanted, more = "length_longest", longest, 0
        if method == "grpo":
            case, more = "length_grpo", int(self.values["max_completion_length"])
        elif longest > max(_LONG_ROW, 2 * p99):
            case, wanted = "length_p99", p99
        if method == "cpt" and longest > _LONG_ROW:
            case, wanted = "length_text", _LONG_ROW
        note = ""
        if not found.exact:
            wanted = math.ceil(wanted * _INEXACT)
            note = "; 30 % added because the count is approximate"
        length = max(16, -(-(wanted + more) // 8) * 8)
        cut = found.longer_than(length) / found.rows
        choice = explain(
            length, case, longest=longest, cut=cut, completion=more, tokenizer=found.tokenizer
        )
        choice = choice._replace(reason=choice.reason + note)
        context = self._shape.max_position_embeddings
        if context is not None and length > context:
            choice = Choice(context, f"the base's whole context; {choice.reason}", choice.source)
        self._put("max_length", choice)

    def _choose_batch(self, emitted: bool) -> None:
        rows, count = self._profile.rows, 1
        if emitted or self._run.engine != "local":
            asked = "num_processes" in self._overrides
            count = self._run.num_processes if asked else self._device.count
        if self._run.method == "grpo":
            each = int(self.values["num_generations"])
            groups = max(1, _BATCH // each)
            self._say(
                "per_device_train_batch_size",
                each * max(1, groups // count),
                "batch_grpo",
                groups=groups,
                generations=each,
            )
        else:
            most = max(1, rows // _FEWEST_STEPS_PER_EPOCH)
            batch = min(_BATCH, 2 ** int(math.log2(most)))
            smaller = ""
            if batch < _BATCH:
                smaller = f"; smaller still, so that {rows} rows make at least 20 steps an epoch"
            case = "batch_full" if self._run.tuning == "full" else "batch_lora"
            least = 2 if self._run.method == "kto" else 1
            self._say(
                "per_device_train_batch_size", max(least, batch // count), case, smaller=smaller
            )
        self._say("gradient_accumulation_steps", 1, "accumulation")
        if count > 1:
            batch = int(self.values["per_device_train_batch_size"]) * count
            self._say("num_processes", count, "processes", count=count, batch=batch)

    def _choose_adapter(self) -> None:
        method, found = self._run.method, self._profile
        if method in {"dpo", "kto"}:
            self._say("r", 16, "r_preference")
        elif method == "grpo":
            self._say("r", 16, "r_grpo")
        else:
            need = found.labelled_tokens
            sizes = {rank: estimate.lora_parameters(self._shape, rank) for rank in _RANKS}
            rank = next((rank for rank, size in sizes.items() if size >= need), _RANKS[-1])
            self._say(
                "r",
                rank,
                "r_tokens",
                ranks=_RANKS,
                size=sizes[rank],
                need=need,
                tokens="training" if method == "cpt" else "answer",
                short="" if sizes[rank] >= need else "; none is, so the largest",
            )
        self._say("lora_alpha", 32)
        self._say("lora_dropout", 0.0)
        self._say("target_modules", "all-linear")

    def _choose_epochs(self) -> int:
        batch = int(self.values["per_device_train_batch_size"])
        batch *= int(self.values["gradient_accumulation_steps"])
        batch *= int(self.values.get("num_processes", 1))
        answers = int(self.values["num_generations"]) if self._run.method == "grpo" else 1
        per_epoch = math.ceil(self._profile.rows * answers / batch)
        if self._tiny:
            epochs = min(_MOST_TINY_EPOCHS, max(2, -(-_TINY_STEPS // per_epoch)))
            choice = explain(
                float(epochs),
                "epochs_tiny",
                steps=_TINY_STEPS,
                per_epoch=per_epoch,
                most=_MOST_TINY_EPOCHS,
            )
        elif self._run.method in _SEEN_ONCE:
            choice = explain(1.0, "epochs_once", what=_SEEN_ONCE[self._run.method])
        else:
            epochs = min(3, max(1, _MOST_STEPS // per_epoch))
            choice = explain(float(epochs), "epochs", most=_MOST_STEPS, per_epoch=per_epoch)
        chosen = float(self._put("num_train_epochs", choice))
        return math.ceil(per_epoch * chosen)

    def _choose_rate(self, steps: int, emitted: bool) -> None:
        """Choose the rate; have three tried where no formula holds and rows are there to judge."""
        run, why = self._run, outside_calibration(self._shape)
        rate = choose_learning_rate(self._shape, steps, run.method, run.tuning)
        tried = run.method == "sft" and run.engine == "local" and not emitted
        tried = tried and run.validation_file is not None
        if why and not tried:
            rate = rate._replace(reason=f"{rate.reason}; try a half and a double of it, too")
        chosen = float(self._put("learning_rate", rate))
        if why and tried and "learning_rate" not in self._overrides:
            ceiling = TINY_CEILING if self._tiny and run.tuning != "full" else 1.0
            rates = sorted({rounded(chosen / 2), chosen, rounded(min(ceiling, chosen * 2))})
            self._say("probe_learning_rates", rates, "probes", why=why)

    def _choose_order(self, emitted: bool) -> None:
        found, method = self._profile, self._run.method
        share = min(1.0, found.mean_tokens / float(self.values["max_length"]))
        if method in _PAIRS:
            self._say("packing", False, "packing_pairs", method=method)
        elif not emitted:
            self._say("packing", False, "packing_off")
            self._say("length_buckets", not self.values["packing"], "buckets")
        elif share < _PACKING_SHARE and self._device.kind == "gpu":
            self._say("packing", True, "packing_on", share=share)
        else:
            self._say("packing", False, "packing_even")
        self._choose_replay(emitted)
        if self._run.validation_file is None:
            self._say("early_stopping_patience", None, "patience_none")
        else:
            self._say("early_stopping_patience", 3, "patience")

    def _choose_replay(self, emitted: bool) -> None:
        """Mix general rows in: given ones, or what the base itself answers to shipped prompts."""
        if self._overrides.get("replay_file") is not None:
            case = "tiny" if self._tiny else "given"
            self._say("replay_fraction", _REPLAY[case], f"replay_{case}")
        elif emitted or self._tiny or self._run.method != "sft":
            self._say("replay_fraction", 0.0, "replay_none")
        else:
            self._say("replay_fraction", _REPLAY["given"], "replay_own")

    def _choose_precision(self) -> None:
        full, device = self._run.tuning == "full", self._device
        if device.kind == "gpu":
            if any(word in device.name.upper().replace("-", " ").split() for word in _NO_BF16):
                self._say("precision", "fp32", "precision_gpu_old", name=device.name)
            else:
                self._say("precision", "bf16", "precision_gpu_full" if full else "precision_gpu")
        elif not cpu_info().bf16:
            self._say("precision", "fp32", "precision_cpu")
        elif full:
            self._say("precision", "fp32", "precision_full")
        elif self._shape.parameters < _LEAST_BF16_PARAMETERS:
            least = _LEAST_BF16_PARAMETERS
            self._say("precision", "fp32", "precision_cpu_small", least=least)
        else:
            self._say("precision", "bf16", "precision_cpu_bf16")

    def _choose_rest(self) -> None:
        full = self._run.tuning == "full"
        if self._run.method == "sft":
            chats = self._profile.row_format == "trl_messages"
            loss = "assistant_only_loss" if chats else "completion_only_loss"
            self._say(loss, True, "loss_answers")
        self._say("warmup_ratio", 0.05)
        self._say("lr_scheduler_type", "linear")
        self._say(
            "weight_decay", 0.01 if full else 0.0, "weight_decay_full" if full else "weight_decay"
        )
        self._say("max_grad_norm", 1.0)
        self._say("gradient_checkpointing", False)
        threads = 1 if self._tiny else usable_cores()
        self._say("num_threads", threads, "threads_tiny" if self._tiny else "threads")
        self._say("seed", 42)
