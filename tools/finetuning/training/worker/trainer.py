"""TRL as we use it: its settings, a cheaper loss on CPUs, guards, whole checkpoints.

The libraries carry few or partial types: here they are cast once, so a type checker sees the
shapes below and nothing else; at run time the names are the real ones.
"""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.errors import UnknownNameError
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, Example
from finetuning.training.worker.checkpoints import Guarded

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")
peft: Any = importlib.import_module("peft")
datasets: Any = importlib.import_module("datasets")
trl: Any = importlib.import_module("trl")

if TYPE_CHECKING:

    class TrainerCallback:
        """The methods of transformers.TrainerCallback are looked up by name."""

    class SFTTrainer:
        """The parts of trl.SFTTrainer (1.16, on transformers 5.23) that ours touches."""

        model: Any
        args: Any
        state: Any
        processing_class: Any
        aux_loss_enabled: bool

        def __init__(self, **named: Any) -> None:
            """Build the trainer."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the loss of a batch."""

        def train(self, resume_from_checkpoint: str | None = None) -> Any:
            """Train to the end."""

        def add_callback(self, callback: Any) -> None:
            """Add a callback."""

        def remove_callback(self, callback: Any) -> None:
            """Remove a callback by its class."""
else:
    TrainerCallback = transformers.TrainerCallback
    SFTTrainer = trl.SFTTrainer


_OWN_LOGITS: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Settings of models whose logits are more than the LM head's product (trl 1.16 utils)."""


def calm(threads: int) -> None:
    """Keep the libraries to this many threads and to errors; progress goes to the run store."""
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


def sft_settings(config: TrainingConfig, folder: Path, rows: int, *, has_validation: bool) -> Any:
    """Return TRL's settings of a run.

    Args:
        config: The run's settings.
        folder: Where checkpoints go.
        rows: Rows to train on.
        has_validation: Whether rows to evaluate on are given.
    """
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    per_epoch = -(-rows // batch)
    total = max(1, round(per_epoch * config.num_train_epochs))
    on_gpu = torch.cuda.is_available()
    return trl.SFTConfig(
        output_dir=str(folder),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=round(config.warmup_ratio * total),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        num_train_epochs=config.num_train_epochs,
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=not on_gpu,
        bf16=on_gpu and config.precision == "bf16",
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=config.eval_steps or per_epoch,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=config.save_steps or per_epoch,
        save_total_limit=config.save_total_limit,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        data_seed=config.seed,
    )


def dataset_of(examples: list[Example]) -> Any:
    """Return examples as the data set that TRL takes."""
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return datasets.Dataset.from_dict(columns)


def peak_memory_bytes() -> int:
    """Return the most memory this process held so far, on the GPU if there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


class LoraTrainer(Guarded, SFTTrainer):
    """SFT of a LoRA adapter that stops at the first number that is not finite.

    On a CPU the loss scores the labelled positions only and leaves out TRL's entropy and accuracy
    (70 % of the operator time at TRL's defaults, measured 2026-11; training.md#time). It is
    the same mean cross-entropy; elsewhere TRL's own fused loss runs.
    """

    def __init__(self, **named: Any) -> None:
        """Build TRL's trainer from its own arguments and look up the trained weights."""
        super().__init__(**named)
        self.trained: list[Any] = [w for w in self.model.parameters() if w.requires_grad]
        self._base = self.model.get_base_model()
        text_config = self._base.config.get_text_config()
        plain = all(getattr(text_config, name, None) is None for name in _OWN_LOGITS)
        self._on_cpu = all(weight.device.type in {"cpu", "mps"} for weight in self.trained)
        self._labelled_only = plain and self._on_cpu and not self.aux_loss_enabled
        if self._on_cpu:
            self._walk_modules_less()

    def _walk_modules_less(self) -> None:
        """Spare tiny models two walks over all modules per step (a fifth of the demo's time)."""
        model, switch = self.model, self.model.train

        def train(mode: bool = True) -> Any:
            return model if model.training == mode else switch(mode)

        def zero_grad(set_to_none: bool = True) -> None:
            for weight in self.trained:
                weight.grad = None

        model.train, model.zero_grad = train, zero_grad

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean cross-entropy of the labelled positions."""
        if not self._labelled_only or return_outputs:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        hidden = self._base.base_model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).last_hidden_state
        labels = inputs["labels"][:, 1:]
        marked = labels != IGNORED
        logits = self._base.get_output_embeddings()(hidden[:, :-1][marked]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[marked], reduction="sum")
        count = marked.sum() if num_items_in_batch is None else num_items_in_batch
        return loss / torch.as_tensor(count).clamp(min=1)
