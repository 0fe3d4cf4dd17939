"""What watches a training while it runs: alerts, the best evaluation, early stopping, the store.

Everything is derived from the log that a checkpoint carries (``log_history``), so a run that is
resumed judges just as the one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from finetuning import runs
from finetuning.files import atomic_write
from finetuning.training.config import TrainingConfig
from finetuning.training.preflight import measured
from finetuning.training.worker.checkpoints import Guarded, disk_is_full
from finetuning.training.worker.trainer import TrainerCallback

FLUSH_SECONDS: Final = 0.5
"""Longest time that measured steps wait before they reach the store."""
_SURE_OF_THE_WRONG: Final = 1.5
"""First loss, as a multiple of that of guessing, from which an alert is raised: a base that is
only sure of its old habits starts a little above 1 (the demo's base at 1.15, measured 2026-11)."""
_DIVERGED: Final = (2.0, 0.5, 3)
"""Three steps in a row above twice the first loss, and by half a nat (Axolotl's watchdog: about
2 × the first loss for 3 steps, docs/training_stability.qmd, 2026-07)."""
_EXPLODED: Final = (10.0, 10, 50)
"""Gradient norm as a multiple of the median of the last 50, once 10 were seen (a spike is 2 to
10 ×, same source); norms below the clipping threshold are never worth an alert."""
_TOLD_AGAIN: Final = 5
_RISING: Final = (1.01, 2)
"""Evaluations in a row that lie this far above the best one."""


class Best(NamedTuple):
    """The best evaluation so far, and how many came after it."""

    step: int
    value: float
    since: int


class StoppedInEvaluation(BaseException):
    """Somebody asked the process to stop while it evaluated; the step before it is complete."""


def metric_of(config: TrainingConfig) -> tuple[str, float]:
    """Return the metric that checkpoints are judged by, and 1 or -1 to make it a loss."""
    return ("eval_reward", -1.0) if config.method == "grpo" else ("eval_loss", 1.0)


def best_of(history: list[dict[str, Any]], config: TrainingConfig) -> Best | None:
    """Return the best evaluation of a log (the earliest of equals), None without any."""
    name, sign = metric_of(config)
    found = [(int(row["step"]), float(row[name])) for row in history if name in row]
    finite = [(sign * value, step) for step, value in found if math.isfinite(value)]
    if not finite:
        return None
    value, step = min(finite)
    return Best(step, sign * value, sum(1 for other, _ in found if other > step))


def chance_of(config: TrainingConfig, vocabulary: int) -> float:
    """Return the loss of guessing: that of even odds, or over the whole vocabulary."""
    if config.method == "grpo":
        return math.inf
    return math.log(2 if config.method in {"dpo", "kto"} else vocabulary)


def judge(
    history: list[dict[str, Any]], chance: float, config: TrainingConfig
) -> Iterator[tuple[str, str]]:
    """Give code and message of what is wrong at the last row of a log."""
    row = history[-1]
    if metric_of(config)[0] in row:
        yield from _judge_evaluation(history, config)
    if "loss" in row and config.method != "grpo":
        losses = [float(each["loss"]) for each in history if "loss" in each]
        yield from _judge_loss(losses, chance)
    if "grad_norm" in row:
        yield from _judge_gradient(history, config.max_grad_norm)


def _judge_loss(losses: list[float], chance: float) -> Iterator[tuple[str, str]]:
    first, last = losses[0], losses[-1]
    times, nats, steps = _DIVERGED
    if len(losses) == 1 and first > _SURE_OF_THE_WRONG * chance:
        yield (
            "worse_than_random_start",
            f"the first loss {first:.2f} is far above that of guessing ({chance:.2f}); "
            "check the template and the tokenizer",
        )
    if len(losses) > steps and min(losses[-steps:]) > max(times * first, first + nats):
        yield (
            "loss_diverged",
            f"the loss was above twice its start ({first:.3g}) for {steps} steps, now {last:.3g}: "
            "lower the learning_rate",
        )
    if last == 0.0:
        yield "zero_loss", "the loss is exactly 0: nothing is learned; look at the labels"


def _judge_gradient(history: list[dict[str, Any]], clip: float) -> Iterator[tuple[str, str]]:
    times, few, many = _EXPLODED
    latest = history[-2 * many :]
    *before, last = [float(row["grad_norm"]) for row in latest if "grad_norm" in row][-many - 1 :]
    if len(before) < few:
        return
    median = statistics.median(before)
    if last > max(times * median, clip):
        yield (
            "exploding_gradient",
            f"the gradient norm {last:.3g} is {last / max(median, 1e-12):.0f} times the median of "
            f"the {len(before)} steps before ({median:.3g}): a damaged row, or too high a rate",
        )


def _judge_evaluation(
    history: list[dict[str, Any]], config: TrainingConfig
) -> Iterator[tuple[str, str]]:
    name, sign = metric_of(config)
    best = best_of(history, config)
    times, steps = _RISING
    values = [float(row[name]) for row in history if name in row]
    if best is None or best.since < steps or sign < 0:
        return
    if min(values[-steps:]) > times * best.value:
        rise = f"{name} rose from {best.value:.4g} at step {best.step} to {values[-1]:.4g}"
        yield "rising_eval_loss", f"{rise}: the run memorises"


class KeepBest(TrainerCallback):
    """Saves each best evaluation's checkpoint, keeps it at any age, and stops in time."""

    def __init__(self, trainer: Guarded, config: TrainingConfig) -> None:
        """Judge by the held-out rows of ``trainer``."""
        self._trainer, self._config = trainer, config
        self.stopped_early = False

    def _look(self, state: Any) -> Best | None:
        best = best_of(state.log_history, self._config)
        if self._config.keep_best and best is not None:
            self._trainer.kept_step = best.step
        return best

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember the best evaluation of the run that is gone on with."""
        self._look(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save the best so far; end a run that has stopped getting better."""
        best = self._look(state)
        if best is None:
            return
        if self._config.keep_best and best.step == state.global_step:
            control.should_save = True
        patience = self._config.early_stopping_patience
        if patience is not None and best.since >= patience:
            self.stopped_early = control.should_training_stop = True
            name, _sign = metric_of(self._config)
            self._trainer.alert(
                "stopped_early",
                f"{name} {best.value:.4g} of step {best.step} was not reached again in "
                f"{best.since} evaluations",
                state.global_step,
            )


class Reporter(TrainerCallback):
    """Sends steps to the run store, keeps ``trainer_state.json``, listens for a stop."""

    def __init__(
        self, run_id: str, log_file: Path, *, vocabulary: int, config: TrainingConfig
    ) -> None:
        """Report for one run.

        Args:
            run_id: The run in the store.
            log_file: Where the log in Hugging Face's format goes.
            vocabulary: Size of the vocabulary: a loss above its logarithm is worse than chance.
            config: The run's settings.
        """
        self.run_id, self.log_file, self._config = run_id, log_file, config
        self.stop_requested = False
        self.flush_seconds = FLUSH_SECONDS
        self.first_step_at: float | None = None
        self._chance = chance_of(config, vocabulary)
        self._rows: list[dict[str, Any]] = []
        self._told: list[str] = []
        self._flushed_at = 0.0
        self._began_at, self._began_step = time.monotonic(), 0
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the clock starts."""
        self._began_at, self._began_step = time.monotonic(), state.global_step
        self._tell(state, "training")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and the end of training when somebody wants to stop."""
        if self.first_step_at is None:
            self.first_step_at = time.time()
        if self.stop_requested:
            control.should_save = True
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave a long evaluation when somebody wants to stop."""
        if self.stop_requested:
            raise StoppedInEvaluation

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep the numbers of one log row and pass them on now and then."""
        row = measured({**(logs or {}), "step": state.global_step})
        if row is None:
            return
        self._loss = float(row.get("loss", self._loss or 0.0))
        for code, message in judge(state.log_history, self._chance, self._config):
            self.alert(code, message, state.global_step)
        first = not self._rows and not self._flushed_at
        self._rows.append(row)
        if first or time.monotonic() - self._flushed_at >= self.flush_seconds:
            self._tell(state, "training")
            self.stop_requested = self.stop_requested or _asked_to_stop(self.run_id)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Bring the log file up to the checkpoint."""
        self._tell(state, "training")
        self.write_log(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Pass on what is left."""
        self._tell(state, "saving")
        self.write_log(state)

    def alert(self, code: str, message: str, step: int | None = None) -> None:
        """Raise an alert, once per code (a checkpoint that is not written, a few times)."""
        if self._told.count(code) < (_TOLD_AGAIN if code == "checkpoint_not_saved" else 1):
            self._told.append(code)
            with _store_may_be_full():
                runs.record_alert(self.run_id, code=code, message=message, step=step)

    def flush(self) -> None:
        """Send the rows that are still waiting; on a full disk they wait on."""
        if self._rows:
            with _store_may_be_full():
                runs.record_steps(self.run_id, self._rows)
                self._rows = []

    def write_log(self, state: Any) -> None:
        """Write ``trainer_state.json`` as the Hugging Face Trainer does."""
        try:
            with atomic_write(self.log_file) as file:
                file.write(json.dumps(_log_of(state), indent=1))
        except Exception as error:
            if not disk_is_full(error):
                raise

    def _tell(self, state: Any, what: str) -> None:
        self.flush()
        self._flushed_at = time.monotonic()
        done = state.global_step - self._began_step
        left = state.max_steps - state.global_step
        per_step = (self._flushed_at - self._began_at) / done if done else None
        progress = runs.RunProgress(
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=None if state.epoch is None else round(state.epoch, 4),
            loss=self._loss,
            eta_seconds=None if per_step is None else round(per_step * left, 1),
            what=what,
        )
        with _store_may_be_full():
            runs.record_progress(self.run_id, progress)


def _asked_to_stop(run_id: str) -> bool:
    with _store_may_be_full():
        return runs.cancel_requested(run_id)
    return False


def _store_may_be_full() -> contextlib.AbstractContextManager[None]:
    """Let training go on when the disk of the run store has no room left."""
    return contextlib.suppress(sqlite3.OperationalError)


def _log_of(state: Any) -> dict[str, Any]:
    names = ("global_step", "max_steps", "num_train_epochs", "epoch", "logging_steps")
    return {**{name: getattr(state, name) for name in names}, "log_history": state.log_history}
