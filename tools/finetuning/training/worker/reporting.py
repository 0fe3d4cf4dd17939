"""What a training process tells while it works: steps, progress, and its log file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, Final

from finetuning import runs
from finetuning.files import atomic_write
from finetuning.training.worker.libraries import TrainerCallback

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
