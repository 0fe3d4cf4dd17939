"""TRL as we use it: its settings, a cheaper loss on CPUs, guards, whole checkpoints.

The libraries carry few or partial types: here they are cast once, so a type checker sees the
shapes below and nothing else; at run time the names are the real ones.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.errors import UnknownNameError
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, BucketSampler, light, token_budget_batches
from finetuning.training.worker.checkpoints import Guarded

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")
peft: Any = importlib.import_module("peft")
datasets: Any = importlib.import_module("datasets")
trl: Any = importlib.import_module("trl")

if TYPE_CHECKING:

    class TrainerCallback:
        """The methods of transformers.TrainerCallback are looked up by name."""

    class _Stock(Guarded):
        """The parts of TRL's trainers (1.16, on transformers 5.23) that ours touch."""

        control: Any
        accelerator: Any
        callback_handler: Any
        data_collator: Any
        processing_class: Any
        train_dataset: Any
        eval_dataset: Any
        _metrics: Any

        def __init__(self, **named: Any) -> None: ...
        def compute_loss(self, *arguments: Any, **named: Any) -> Any: ...
        def compute_loss_context_manager(self) -> Any: ...
        def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]: ...
        def get_train_dataloader(self) -> Any: ...
        def train(self, resume_from_checkpoint: str | None = None) -> Any: ...
        def add_callback(self, callback: Any) -> None: ...
        def remove_callback(self, callback: Any) -> None: ...
        def log(self, logs: dict[str, float], start_time: float | None = None) -> None: ...
        def _prepare_inputs(self, inputs: Any) -> Any: ...
        def _remove_unused_columns(self, dataset: Any, description: str) -> Any: ...

    SFTTrainer = object
else:
    TrainerCallback = transformers.TrainerCallback
    SFTTrainer, _Stock = trl.SFTTrainer, Guarded


_UNMEASURED: Final = ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected")
"""Metrics of TRL that need all logits; they are left out, not logged as zeros."""


def calm(threads: int) -> None:
    """Keep the libraries to this many threads and to errors; progress goes to the run store."""
    os.environ["TQDM_DISABLE"] = "1"
    logging.getLogger("trl").setLevel(logging.ERROR)  # its warnings quote rows
    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a result."""
    return {each.__name__: str(each.__version__) for each in (torch, transformers, trl, peft)}


def adapter_settings(config: TrainingConfig, model: Any) -> Any:
    """Return PEFT's settings of the adapter.

    Raises:
        UnknownNameError: A target layer that the model does not have.
    """
    targets = config.target_modules
    if targets != "all-linear":
        targets = [targets] if isinstance(targets, str) else targets
        layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
        known = {name.rpartition(".")[2] for name in layers}
        for name in targets:
            if name not in known:
                raise UnknownNameError("target_modules", "layer", name, known)
    return peft.LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def shared_settings(
    config: TrainingConfig, folder: Path, rows: int, validation: int
) -> dict[str, Any]:
    """Return the settings that every method takes."""
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    per_epoch = -(-rows // (batch * config.num_processes))
    if config.method == "grpo":  # a step sees batch / num_generations prompts
        per_epoch = max(1, rows * config.num_generations // (batch * config.num_processes))
    total = max(1, round(per_epoch * config.num_train_epochs))
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": round(config.warmup_ratio * total),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.num_train_epochs,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "per_device_eval_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_cpu": not on_gpu,
        "bf16": config.precision == "bf16" and (on_gpu or config.tuning == "full"),
        "use_liger_kernel": on_gpu and transformers.utils.is_liger_kernel_available(),
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if validation else "no",
        "eval_steps": config.eval_steps or per_epoch,
        "save_strategy": "steps",
        "save_steps": config.save_steps or per_epoch,
        "save_total_limit": config.save_total_limit,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": config.seed,
        "data_seed": config.seed,
    }


def peak_memory_bytes() -> int:
    """Return the most memory this process held so far, on the GPU if there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def _lengths(dataset: Any) -> list[int]:
    """Return the tokens of each row, by which rows of similar length are found."""
    if "input_ids" in dataset.column_names:
        return [len(ids) for ids in dataset["input_ids"]]
    parts = (dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return [len(start) + max(len(one), len(two)) for start, one, two in zip(*parts, strict=True)]


class Light(_Stock):
    """What every trainer here shares: guards, whole checkpoints, and less work on a CPU.

    Attributes:
        fast_paths: What is done otherwise than by stock TRL, for the run's result.
    """

    same_size: bool = False
    fast_paths: list[str] | None = None
    _own_head: bool = False

    def __init__(self, *, bucket_seed: int | None = None, **named: Any) -> None:
        """Build TRL's trainer from its own arguments and make it light.

        Args:
            bucket_seed: Seed of batches of rows of similar length; None: TRL's own order.
            named: TRL's own arguments.
        """
        self._bucket_seed = bucket_seed
        super().__init__(**named)
        self._lighten()
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._on_cpu = all(weight.device.type == "cpu" for weight in self.trained)
        if self._on_cpu:
            self._walk_modules_less()

    def _lighten(self) -> None:
        """Put light parts into the model, once (TRL may score rows while it is being built)."""
        if self.fast_paths is not None:
            return
        adapted = hasattr(self.model, "peft_config")
        base = self.model.get_base_model() if adapted else self.model
        self.fast_paths = [] if self._bucket_seed is None else ["length buckets"]
        if self.args.device.type == "cpu":
            self._own_head = light.light_head(base, temperature=getattr(self, "temperature", 1.0))
            found = {
                "labelled positions only": self._own_head,
                "joined adapters": adapted and light.join_adapters(self.model) > 0,
                "short attention": light.short_attention(base),
                "bf16 weights": base.dtype == torch.bfloat16,
            }
        else:
            found = {
                "fused head (Triton)": True,
                f"attention: {base.config.get_text_config()._attn_implementation}": True,
                "Liger kernels": bool(self.args.use_liger_kernel),
                "4-bit weights": bool(getattr(base, "is_loaded_in_4bit", False)),
            }
        self.fast_paths += [name for name, active in found.items() if active]

    def _walk_modules_less(self) -> None:
        """Spare tiny models three walks over all modules per step (a fifth of the demo's time)."""
        model, switch = self.model, self.model.train
        per_token = 6 * model.num_parameters(exclude_embeddings=True)

        def train(mode: bool = True) -> Any:
            return model if model.training == mode else switch(mode)

        def zero_grad(set_to_none: bool = True) -> None:
            for weight in self.trained:
                weight.grad = None

        def floating_point_ops(inputs: dict[str, Any], exclude_embeddings: bool = True) -> int:
            return per_token * int(inputs["input_ids"].numel()) if "input_ids" in inputs else 0

        model.train, model.zero_grad = train, zero_grad
        model.floating_point_ops = floating_point_ops

    def get_train_dataloader(self) -> Any:
        """Return batches of rows of similar length, or TRL's own."""
        if self._bucket_seed is None:
            return super().get_train_dataloader()
        sampler = BucketSampler(
            _lengths(self.train_dataset),
            self.args.per_device_train_batch_size,
            seed=self._bucket_seed,
            processes=self.args.world_size,
            process=self.args.process_index,
            same_size=self.same_size,
        )
        rows = self._remove_unused_columns(self.train_dataset, description="Training")
        pinned = self.args.dataloader_pin_memory
        return light.BucketLoader(rows, sampler, self.data_collator, pinned=pinned)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the metrics that are measured."""
        if self._own_head:
            for metrics in self._metrics.values():
                for name in _UNMEASURED:
                    metrics.pop(name, None)
        super().log(logs, start_time)


class LoraTrainer(Light, SFTTrainer):
    """Supervised training on labelled tokens; its evaluation is the exact mean over tokens."""

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the mean loss over all labelled tokens, whatever the batches."""
        if eval_dataset is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        started = time.monotonic()
        metrics = {
            f"{metric_key_prefix}_loss": self._token_mean(self.eval_dataset),
            f"{metric_key_prefix}_runtime": round(time.monotonic() - started, 4),
        }
        self.log(metrics)
        handler = self.callback_handler
        self.control = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _token_mean(self, dataset: Any) -> float:
        rows = self._remove_unused_columns(dataset, description="Evaluation")
        lengths = _lengths(rows)
        processes, process = self.args.world_size, self.args.process_index
        count = processes * -(-len(lengths) // (self.args.per_device_eval_batch_size * processes))
        batches = token_budget_batches(lengths, count, seed=0, epoch=0)
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        self.model.eval()
        for batch in batches[process::processes]:
            inputs = self._prepare_inputs(self.data_collator(rows.__getitems__(batch)))
            with torch.no_grad(), self.compute_loss_context_manager():
                labelled = (inputs["labels"][:, 1:] != IGNORED).sum()
                total[0] += self.compute_loss(self.model, inputs) * labelled
                total[1] += labelled
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        loss, tokens = self.accelerator.reduce(total, reduction="sum").tolist()
        self._metrics["eval"].clear()
        return float(loss / max(tokens, 1.0))
