"""The work itself: load, audit, train, save."""

from __future__ import annotations

import datetime
import random
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from finetuning import runs
from finetuning.errors import UnknownNameError
from finetuning.files import sha256_file
from finetuning.training import checkpoints
from finetuning.training.config import TrainingConfig
from finetuning.training.worker.libraries import datasets, peft, torch, transformers, trl
from finetuning.training.worker.reporting import Reporter
from finetuning.training.worker.rows import Example, MaskAudit, load_examples
from finetuning.training.worker.trainer import GuardWeights, LoraTrainer


class Job:
    """One LoRA training from its configuration to its adapter."""

    def __init__(
        self, run_id: str, config: TrainingConfig, folder: Path, resume_from: str | None
    ) -> None:
        """Plan the run; nothing is loaded yet.

        Args:
            run_id: The run in the store.
            config: Its settings.
            folder: Where checkpoints, adapter and log go.
            resume_from: Folder of checkpoints of the run that this one continues.
        """
        self.run_id, self.config, self.folder = run_id, config, folder
        self.checkpoint_folder = folder / "checkpoints"
        self._resume_folder = Path(resume_from) if resume_from else None
        self._resumed_step: int | None = None
        self.trainer: LoraTrainer
        self.reporter: Reporter
        self.audit: MaskAudit

    def prepare(self) -> None:
        """Load the base model and the data, audit the labels and build the trainer."""
        torch.set_num_threads(self.config.num_threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            self.config.base_model, local_files_only=True
        )
        train, validation = self._load_data(tokenizer)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self.config.base_model,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.bfloat16 if self.config.precision == "bf16" else torch.float32,
        )
        self.reporter = Reporter(
            self.run_id, self.folder / "trainer_state.json", vocabulary=model.config.vocab_size
        )
        self.trainer = LoraTrainer(
            model=model,
            args=self._arguments(len(train), has_validation=bool(validation)),
            train_dataset=_dataset(train),
            eval_dataset=_dataset(validation) if validation else None,
            processing_class=tokenizer,
            peft_config=self._adapter(model),
        )
        self.trainer.remove_callback(transformers.PrinterCallback)
        self.trainer.add_callback(self.reporter)
        self.trainer.add_callback(GuardWeights(self.trainer))

    def _load_data(self, tokenizer: Any) -> tuple[list[Example], list[Example]]:
        train, self.audit = load_examples(Path(self.config.train_file), self.config, tokenizer)
        if self.audit.rows_without_labels:
            runs.record_alert(
                self.run_id,
                code="rows_without_labels",
                message=f"{self.audit.rows_without_labels} of {self.audit.rows} rows have no label "
                f"within max_length={self.config.max_length} and were left out",
            )
        validation: list[Example] = []
        if self.config.validation_file:
            validation, _ = load_examples(Path(self.config.validation_file), self.config, tokenizer)
        if len(validation) > self.config.max_validation_rows:
            chosen = random.Random(self.config.seed)
            validation = chosen.sample(validation, self.config.max_validation_rows)
        return train, validation

    def _adapter(self, model: Any) -> Any:
        targets = self.config.target_modules
        if targets != "all-linear":
            targets = [targets] if isinstance(targets, str) else targets
            layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
            known = {name.rpartition(".")[2] for name in layers}
            for name in targets:
                if name not in known:
                    raise UnknownNameError("target_modules", "layer", name, known)
        return peft.LoraConfig(
            r=self.config.r,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def _arguments(self, rows: int, *, has_validation: bool) -> Any:
        config = self.config
        batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
        per_epoch = -(-rows // batch)
        total = max(1, round(per_epoch * config.num_train_epochs))
        on_gpu = torch.cuda.is_available()
        return trl.SFTConfig(
            output_dir=str(self.checkpoint_folder),
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

    def train(self) -> None:
        """Train from the newest undamaged checkpoint, or from the start."""
        checkpoint = self._checkpoint_to_resume()
        if checkpoint is not None:
            self._resumed_step = checkpoints.step_of(checkpoint)
        self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _checkpoint_to_resume(self) -> Path | None:
        if self._resume_folder is None:
            return None
        found, skipped = checkpoints.newest_valid(self._resume_folder)
        for name, fault in skipped.items():
            runs.record_alert(
                self.run_id,
                code="checkpoint_skipped",
                message=f"{name}: {fault}; the one before it is used",
                step=checkpoints.step_of(Path(name)),
            )
        if found is None:
            runs.record_alert(
                self.run_id,
                code="no_checkpoint",
                message="the run to resume has no undamaged checkpoint; training starts anew",
            )
        return found

    def save(self) -> dict[str, Any]:
        """Write the adapter with its tokenizer and return the run's result."""
        self._write_adapter()
        return self.result()

    def _write_adapter(self) -> None:
        with checkpoints.whole_folder(self.folder / "adapter") as folder:
            self.trainer.model.save_pretrained(str(folder))
            self.trainer.processing_class.save_pretrained(str(folder))

    def rescue(self) -> dict[str, Any]:
        """Keep the last good adapter after a number was not finite, and return the result.

        The weights in memory are good when the fault was found before they were updated; else the
        newest undamaged checkpoint is.
        """
        self.reporter.flush()
        self.reporter.write_log(self.trainer.state)
        if self.trainer.state.global_step and self.trainer.weights_are_finite():
            self._write_adapter()
            return self.result()
        found, _ = checkpoints.newest_valid(self.checkpoint_folder)
        if found is not None:
            with checkpoints.whole_folder(self.folder / "adapter") as folder:
                for path in found.glob("*"):
                    if path.name.startswith(("adapter_", "tokenizer", "chat_template")):
                        shutil.copy2(path, folder)
        return {**self.result(), "steps": checkpoints.step_of(found) if found else 0}

    def result(self) -> dict[str, Any]:
        """Return what the run has come to, ready for the run store."""
        history: list[dict[str, Any]] = self.trainer.state.log_history
        adapter = self.folder / "adapter"
        trained = sum(w.numel() for w in self.trainer.model.parameters() if w.requires_grad)
        return {
            "base_model": self.config.base_model,
            "adapter_dir": str(adapter) if adapter.is_dir() else None,
            "train_loss": _last(history, "loss"),
            "eval_loss": _last(history, "eval_loss"),
            "steps": self.trainer.state.global_step,
            "resumed_from_step": self._resumed_step,
            "seconds": self._since_launch(time.time()),
            "seconds_to_first_step": self._since_launch(self.reporter.first_step_at),
            "trained_parameters": trained,
            "peak_memory_gb": round(_peak_memory_bytes() / 1e9, 3),
            "log_file": str(self.reporter.log_file),
            "data_sha256": sha256_file(Path(self.config.train_file)),
            "labels": self.audit.as_dict(),
            "versions": {
                package.__name__: package.__version__
                for package in (torch, transformers, trl, peft)
            },
        }

    def _since_launch(self, moment: float | None) -> float | None:
        created = datetime.datetime.fromisoformat(runs.read_run(self.run_id).created_at)
        return None if moment is None else round(moment - created.timestamp(), 2)


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def _last(history: list[dict[str, Any]], name: str) -> float | None:
    return next((float(row[name]) for row in reversed(history) if name in row), None)


def _dataset(examples: list[Example]) -> Any:
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    return datasets.Dataset.from_dict(columns)
