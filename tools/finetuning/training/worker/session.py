"""One training run in its own process, from the claim on the run to its true end.

``python -m finetuning.training.worker.session RUN_ID``
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning import runs, settings
from finetuning.errors import FineTuningError, RunFailedError
from finetuning.training.config import TrainingConfig, parse_config
from finetuning.training.worker import (
    EXIT_FAILED,
    EXIT_NOT_FINITE,
    EXIT_STOPPED,
    NotFiniteError,
    StoppedEarly,
)

if TYPE_CHECKING:
    from finetuning.training.worker.job import Job


class StopSignal:
    """SIGTERM and Ctrl-C: before training they end the process, during it they end a step."""

    def __init__(self) -> None:
        """Install the handlers."""
        self.reporter: Any = None
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.reporter is None:
            raise StoppedEarly
        self.reporter.stop_requested = True


def main(run_id: str) -> int:
    """Train the run ``run_id`` and return the exit code of the process."""
    settings.enforce_offline()
    stop = StopSignal()
    try:
        runs.attach(run_id)
        runs.record_progress(run_id, runs.RunProgress(what="loading libraries"))
        job = job_of(run_id)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        get_ready(job)
        return follow_through(job, stop)
    except StoppedEarly:
        return end_early(run_id)
    except FineTuningError as error:
        runs.finish(run_id, "failed", error=str(error))
    except Exception as error:
        log_failure(error)
        runs.finish(run_id, "failed", error=str(unexpected(run_id, error)))
    return EXIT_FAILED


def job_of(run_id: str) -> Job:
    """Return the work of a run as its arguments describe it (imports torch and TRL: seconds)."""
    from finetuning.training.worker.job import Job

    arguments = runs.arguments_of(run_id)
    config = parse_config(arguments["config"], where="config")
    return Job(run_id, config, Path(runs.read_run(run_id).folder), arguments.get("resume_from"))


def get_ready(job: Job) -> None:
    """Load everything and do what comes before the first step."""
    from finetuning.training.worker import ahead

    ahead.add_replay(job)
    job.prepare()
    job.look_ahead()
    ahead.probe_rates(job)


def follow_through(job: Job, stop: StopSignal) -> int:
    """Train a prepared job, record its end and return the exit code."""
    stop.reporter = job.reporter
    try:
        job.train()
    except NotFiniteError as error:
        result = job.rescue()
        text = str(not_finite(job.config, error, result))
        runs.finish(job.run_id, "failed", result=result, error=text)
        return EXIT_NOT_FINITE
    if job.reporter.stop_requested:
        where = f"after step {job.trainer.state.global_step}, with a checkpoint"
        text = _stopped(job.run_id, where)
        runs.finish(job.run_id, "cancelled", result=job.result(), error=text)
        return EXIT_STOPPED
    runs.finish(job.run_id, "succeeded", result=job.save())
    return 0


def end_early(run_id: str) -> int:
    """Record that the run was stopped before its first step and return the exit code."""
    runs.finish(run_id, "cancelled", error=_stopped(run_id, "before the first step"))
    return EXIT_STOPPED


def _stopped(run_id: str, where: str) -> str:
    return (
        f"{run_id}: the process was asked to stop {where}; expected to run to its end. "
        f"Go on with launch_lora(config, resume={run_id!r})."
    )


def not_finite(
    config: TrainingConfig, error: NotFiniteError, result: dict[str, Any]
) -> RunFailedError:
    """Say what was not finite, what is kept and what to change."""
    kept = result["adapter_dir"]
    step = "Configure again with a lower learning_rate"
    if error.step == 1:
        step = "Check the weights of the base model: the very first step was not finite"
    elif kept:
        step += f"; the adapter of step {result['steps']} is kept in {kept}"
    return RunFailedError(
        "training", f"{error} (learning_rate {config.learning_rate:g})", "finite numbers", step
    )


def unexpected(run_id: str, error: Exception) -> RunFailedError:
    """Say of which kind a fault was, and where; its text may quote data."""
    from finetuning.training.worker.checkpoints import disk_is_full

    if disk_is_full(error):
        return RunFailedError(
            "training",
            "the disk is full; older checkpoints are as they were",
            "room for the adapter",
            f"Free some space; launch_lora(config, resume={run_id!r}) goes on from the newest one",
        )
    return RunFailedError(
        "training",
        f"{type(error).__name__} in {_place(error)}",
        "a run without errors",
        f"Read the log of {run_id}; launch_lora(config, resume={run_id!r}) goes on from its last "
        "checkpoint",
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def log_failure(error: Exception) -> None:
    """Write the way to the fault; its message may quote data, so it needs a person's leave."""
    lines = traceback.format_tb(error.__traceback__)
    message = str(error) if settings.settings().show_content else f"({len(str(error))} characters)"
    sys.stderr.write("".join(lines) + f"{type(error).__name__}: {message}\n")
    sys.stderr.flush()
    os.fsync(sys.stderr.fileno())


if __name__ == "__main__":
    # the libraries warn about their own future at import; faults come as exceptions
    warnings.simplefilter("ignore")
    gc.disable()  # what is imported stays: looking for garbage in it costs a second
    sys.exit(main(sys.argv[1]))
