"""The work itself (load, audit, train, save) and what it tells while it works."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any, Final

from finetuning import runs
from finetuning.files import atomic_write, sha256_file
from finetuning.training import weights
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import MaskAudit, load_data
from finetuning.training.worker.trainer import (
    GuardWeights,
    LoraTrainer,
    TrainerCallback,
    adapter_settings,
    calm,
    dataset_of,
    peak_memory_bytes,
    sft_settings,
    torch,
    transformers,
    versions,
)

FLUSH_SECONDS: Final = 0.5
"""Longest time that measured steps wait before they reach the store."""
_KEPT: Final = ("loss", "grad_norm", "learning_rate", "eval_loss", "epoch")
_SURE_OF_THE_WRONG: Final = 1.5
"""First loss, as a multiple of that of guessing, from which an alert is raised: a base that is
only sure of its old habits starts a little above 1 (the demo's base at 1.15, measured 2026-11)."""


class Reporter(TrainerCallback):
    """Sends steps to the run store, keeps ``trainer_state.json``, listens for a stop."""

    def __init__(self, run_id: str, log_file: Path, *, vocabulary: int) -> None:
        """Report for one run.

        Args:
            run_id: The run in the store.
            log_file: Where the log in Hugging Face's format goes.
            vocabulary: Size of the vocabulary: a loss above its logarithm is worse than chance.
        """
        self.run_id, self.log_file = run_id, log_file
        self.stop_requested = False
        self.flush_seconds = FLUSH_SECONDS
        self.first_step_at: float | None = None
        self._chance = math.log(vocabulary)
        self._rows: list[dict[str, Any]] = []
        self._flushed_at = 0.0
        self._began_at, self._began_step = time.monotonic(), 0
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the clock starts."""
        self._began_at, self._began_step = time.monotonic(), state.global_step
        self._tell(state, "training")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end of training when somebody wants to stop."""
        if self.stop_requested:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep the numbers of one log row and pass them on now and then."""
        values: dict[str, Any] = {name: logs[name] for name in _KEPT if logs and name in logs}
        if "loss" not in values and "eval_loss" not in values:
            return
        if "loss" in values:
            self._watch(state.global_step, float(values["loss"]), float(values["grad_norm"]))
        self._rows.append({"step": state.global_step, **values})
        first = self.first_step_at is None
        if first:
            self.first_step_at = time.time()
        if first or time.monotonic() - self._flushed_at >= self.flush_seconds:
            self._tell(state, "training")
            self.stop_requested = self.stop_requested or runs.cancel_requested(self.run_id)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Bring the log file up to the checkpoint."""
        self._tell(state, "training")
        self.write_log(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Pass on what is left."""
        self._tell(state, "saving")
        self.write_log(state)

    def flush(self) -> None:
        """Send the rows that are still waiting."""
        if self._rows:
            runs.record_steps(self.run_id, self._rows)
            self._rows = []

    def write_log(self, state: Any) -> None:
        """Write ``trainer_state.json`` as the Hugging Face Trainer does."""
        with atomic_write(self.log_file) as file:
            file.write(json.dumps(_log_of(state), indent=1))

    def _tell(self, state: Any, what: str) -> None:
        self.flush()
        self._flushed_at = time.monotonic()
        done = state.global_step - self._began_step
        left = state.max_steps - state.global_step
        per_step = (self._flushed_at - self._began_at) / done if done else None
        runs.record_progress(
            self.run_id,
            runs.RunProgress(
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=None if state.epoch is None else round(state.epoch, 4),
                loss=self._loss,
                eta_seconds=None if per_step is None else round(per_step * left, 1),
                what=what,
            ),
        )

    def _watch(self, step: int, loss: float, grad_norm: float) -> None:
        first = self._loss is None
        self._loss = loss
        if first and loss > _SURE_OF_THE_WRONG * self._chance:
            self._alert(
                "worse_than_random_start",
                f"the first loss {loss:.2f} is far above that of guessing ({self._chance:.2f}); "
                "check the template and the tokenizer",
                step,
            )
        if loss == 0.0 and grad_norm == 0.0:
            self._alert("zero_loss", "loss and gradient are exactly 0: nothing is learned", step)

    def _alert(self, code: str, message: str, step: int) -> None:
        if all(alert["code"] != code for alert in runs.alerts_of(self.run_id)):
            runs.record_alert(self.run_id, code=code, message=message, step=step)


def _log_of(state: Any) -> dict[str, Any]:
    names = ("global_step", "max_steps", "num_train_epochs", "epoch", "logging_steps")
    return {**{name: getattr(state, name) for name in names}, "log_history": state.log_history}


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
        calm(self.config.num_threads)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            self.config.base_model, local_files_only=True
        )
        train, validation, self.audit = load_data(self.run_id, self.config, tokenizer)
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
            args=sft_settings(
                self.config, self.checkpoint_folder, len(train), has_validation=bool(validation)
            ),
            train_dataset=dataset_of(train),
            eval_dataset=dataset_of(validation) if validation else None,
            processing_class=tokenizer,
            peft_config=adapter_settings(self.config, model),
        )
        self.trainer.remove_callback(transformers.PrinterCallback)
        self.trainer.add_callback(self.reporter)
        self.trainer.add_callback(GuardWeights(self.trainer))

    def train(self) -> None:
        """Train from the newest undamaged checkpoint, or from the start."""
        checkpoint = self._checkpoint_to_resume()
        if checkpoint is not None:
            self._resumed_step = weights.step_of(checkpoint)
        self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _checkpoint_to_resume(self) -> Path | None:
        if self._resume_folder is None:
            return None
        found, skipped = weights.newest_valid(self._resume_folder)
        for name, fault in skipped.items():
            runs.record_alert(
                self.run_id,
                code="checkpoint_skipped",
                message=f"{name}: {fault}; the one before it is used",
                step=weights.step_of(Path(name)),
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
        with weights.whole_folder(self.folder / "adapter") as folder:
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
        found, _ = weights.newest_valid(self.checkpoint_folder)
        if found is not None:
            with weights.whole_folder(self.folder / "adapter") as folder:
                for path in found.glob("*"):
                    if path.name.startswith(("adapter_", "tokenizer", "chat_template")):
                        shutil.copy2(path, folder)
        return {**self.result(), "steps": weights.step_of(found) if found else 0}

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
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 3),
            "log_file": str(self.reporter.log_file),
            "data_sha256": sha256_file(Path(self.config.train_file)),
            "labels": self.audit.as_dict(),
            "versions": versions(),
        }

    def _since_launch(self, moment: float | None) -> float | None:
        created = datetime.datetime.fromisoformat(runs.read_run(self.run_id).created_at)
        return None if moment is None else round(moment - created.timestamp(), 2)


def _last(history: list[dict[str, Any]], name: str) -> float | None:
    return next((float(row[name]) for row in reversed(history) if name in row), None)
