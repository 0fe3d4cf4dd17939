"""The tools that read a run and stop it; they read the store, never the process."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from finetuning import files, runs
from finetuning.errors import BadInputError
from finetuning.records import Model, NextCall, ToolResult, Usd
from finetuning.runs import RunProgress, RunRow, RunStatus

_GRACE_SECONDS: Final = 20.0
_KILL_SECONDS: Final = 5.0
_TELL_SECONDS, _HASHED_BYTES = 1.0, 64 << 20
_COMPARED: Final = ("train_loss", "eval_loss", "best_eval", "best_step")
_JUDGED_BY: Final = {"method", "validation_file", "max_validation_rows"}


class Checkpoint(Model, defer_build=True):
    """A checkpoint folder of a run; ``fault`` names what is wrong with it, if anything."""

    step: int
    path: str
    fault: str | None


class RunLine(Model, defer_build=True):
    """One run in a list."""

    run_id: str
    tool: str
    status: RunStatus
    created_at: str
    parent_run_id: str | None


class Comparison(Model, defer_build=True):
    """Another run beside this one: the settings that differ, and what they did.

    Pairs are [this run, the other]. ``eval_gain`` is how much lower the best loss on validation
    rows is here than there; None where the rows differ or one run has none.
    """

    run_id: str
    status: RunStatus
    changed: dict[str, list[Any]]
    train_loss: list[float | None]
    eval_loss: list[float | None]
    best_eval: list[float | None]
    best_step: list[int | None]
    eval_gain: float | None
    test_looks: list[int]


class RunState(ToolResult, defer_build=True):
    """The true state of a run, or without a run_id the newest runs."""

    run_id: str | None = None
    tool: str | None = None
    status: RunStatus | None = None
    parent_run_id: str | None = None
    created_at: str | None = None
    finished_at: str | None = None
    progress: RunProgress | None = None
    metrics: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    metrics_total: int = 0
    next_since_step: int | None = None
    alerts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    preflight: dict[str, Any] | None = None
    checkpoints: list[Checkpoint] = Field(default_factory=list[Checkpoint])
    adapter_dir: str | None = None
    test_looks: int = 0
    cost_so_far_usd: Usd | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    log_file: str | None = None
    comparison: list[Comparison] = Field(default_factory=list[Comparison])
    runs: list[RunLine] = Field(default_factory=list[RunLine])
    total: int = 0

    def exit_code(self) -> int:
        """Return 4 for a run that failed or was lost, else 0."""
        return 4 if self.status in {"failed", "lost"} else 0

    def summary(self) -> str:
        """Say in one line how far the run is."""
        if self.run_id is None:
            return f"{len(self.runs)} runs, newest first."
        line = f"Run {self.run_id} is {self.status}"
        if self.error is not None:
            return f"{line}: {self.error}"
        if self.progress is None or self.progress.step is None:
            return line + "."
        loss = "" if self.progress.loss is None else f", loss {self.progress.loss:.4g}"
        return f"{line} at step {self.progress.step} of {self.progress.total_steps}{loss}."


def get_run(
    run_id: str | None = None,
    since_step: int | None = None,
    wait_seconds: float = 0.0,
    compare: list[str] | None = None,
    limit: int | None = 20,
) -> RunState:
    """Read a run: status, progress, metrics, alerts, checkpoints and its result.

    A run whose process is gone reads as lost. Without run_id the newest runs are listed.

    Args:
        run_id: The run; absent lists runs.
        since_step: Only metrics after this step, oldest first; absent: the newest ones.
        wait_seconds: Wait up to this long for the run to end, 0 or more.
        compare: run_ids of other training runs to set beside this one.
        limit: Most metrics (or runs) to return, 1 or more; null returns all.

    Returns:
        The run's state; result holds what the tool of that run returned, once it has ended.

    Raises:
        UnknownNameError: No such run; the nearest are named.
        BadInputError: wait_seconds or limit is out of range.

    Knowledge: training.md#the-path-of-a-run
    """
    if wait_seconds < 0 or (limit is not None and limit < 1):
        raise BadInputError(
            "get_run",
            f"wait_seconds={wait_seconds:g}, limit={limit}",
            "wait_seconds of at least 0 and limit of at least 1",
            "Leave them out",
        )
    if run_id is None:
        return _listing(limit)
    run = _wait(run_id, wait_seconds) if wait_seconds else runs.read_run(run_id)
    return _state(run, since_step, limit, compare or [])


def cancel_run(run_id: str, grace_seconds: float = _GRACE_SECONDS) -> RunState:
    """Stop a run: gracefully with a checkpoint, and by force if it does not listen.

    Args:
        run_id: The run; one that has ended stays as it is.
        grace_seconds: How long it may take to save and stop, 0 to 600.

    Returns:
        The run's state after that; a training run can be resumed from its last checkpoint.

    Raises:
        UnknownNameError: No such run; the nearest are named.
        BadInputError: grace_seconds is out of range.

    Knowledge: training.md#the-path-of-a-run
    """
    if not 0 <= grace_seconds <= 600:
        raise BadInputError(
            "cancel_run", f"grace_seconds={grace_seconds:g}", "0 to 600", "Leave it out"
        )
    runs.request_cancel(run_id)
    run = runs.wait(run_id, grace_seconds)
    if not run.finished:
        runs.kill_run(run_id)
        run = runs.wait(run_id, _KILL_SECONDS)
    return _state(run, None, 1, [])


def _wait(run_id: str, seconds: float) -> RunRow:
    """Wait for the end, telling whoever listens how far the run is."""
    until = time.monotonic() + seconds
    run = runs.wait(run_id, min(seconds, _TELL_SECONDS))
    while not run.finished and (left := until - time.monotonic()) > 0:
        step = run.progress.step or 0
        runs.progress(step, run.progress.total_steps, run.progress.what or run.status)
        run = runs.wait(run_id, min(left, _TELL_SECONDS))
    return run


def _listing(limit: int | None) -> RunState:
    found = runs.list_runs(limit=limit or 1_000_000)
    lines = [
        RunLine(**{name: getattr(run, name) for name in RunLine.model_fields}) for run in found
    ]
    return RunState(runs=lines, total=runs.count_runs())


def _state(run: RunRow, since_step: int | None, limit: int | None, compare: list[str]) -> RunState:
    from finetuning.training.preflight import report_of

    metrics = runs.steps_of(run.run_id, since_step)
    shown = (
        metrics if limit is None else metrics[-limit:] if since_step is None else metrics[:limit]
    )
    more = since_step is not None and len(shown) < len(metrics)
    training = run.tool == "launch_lora"
    return RunState(
        run_id=run.run_id,
        tool=run.tool,
        status=run.status,
        parent_run_id=run.parent_run_id,
        created_at=run.created_at,
        finished_at=run.finished_at,
        progress=run.progress,
        metrics=[_short(row) for row in shown],
        metrics_total=len(metrics),
        next_since_step=int(shown[-1]["step"]) if more else None,
        alerts=runs.alerts_of(run.run_id),
        preflight=report_of(Path(run.folder), rows=run.result is None) if training else None,
        checkpoints=_checkpoints(run) if training else [],
        adapter_dir=(run.result or {}).get("adapter_dir"),
        test_looks=_test_looks(run) if training else 0,
        cost_so_far_usd=Decimal(0) if training else None,
        result=run.result,
        error=run.error,
        log_file=run.log_file,
        comparison=[_compare(run, runs.read_run(other)) for other in compare],
        next=_next(run),
    )


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Return a metrics row with six digits per number; the log file holds all of them."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
    }


def _checkpoints(run: RunRow) -> list[Checkpoint]:
    from finetuning.training.weights import fault_of, list_checkpoints, step_of

    return [
        Checkpoint(step=step_of(path), path=str(path), fault=fault_of(path, _HASHED_BYTES))
        for path in list_checkpoints(Path(run.folder) / "checkpoints")
    ]


def _test_looks(run: RunRow) -> int:
    config = _config(run)
    path = Path(str(config["test_file"])) if config.get("test_file") else None
    return runs.looks_of(files.sha256_file(path)) if path is not None and path.is_file() else 0


def _config(run: RunRow) -> dict[str, Any]:
    if run.tool != "launch_lora":
        return {}
    config: dict[str, Any] = runs.arguments_of(run.run_id)["config"]
    return config


def _compare(run: RunRow, other: RunRow) -> Comparison:
    mine, theirs = _config(run), _config(other)
    names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
    results = [each.result or {} for each in (run, other)]
    pair: dict[str, Any] = {name: [each.get(name) for each in results] for name in _COMPARED}
    best = pair["best_eval"]
    alike = None not in best and not _JUDGED_BY & set(names)
    return Comparison(
        run_id=other.run_id,
        status=other.status,
        changed={name: [mine.get(name), theirs.get(name)] for name in names},
        **pair,
        eval_gain=round(best[1] - best[0], 6) if alike else None,
        test_looks=[_test_looks(each) for each in (run, other)],
    )


def _next(run: RunRow) -> list[NextCall]:
    if not run.finished:
        args = {"run_id": run.run_id, "wait_seconds": 30}
        return [NextCall(tool="get_run", args=args, why="waits for more progress or the end")]
    if run.tool != "launch_lora":
        return []
    diagnose = NextCall(
        tool="diagnose_run", args={"run_id": run.run_id}, why="reads the loss curve"
    )
    config = _config(run)
    if run.status == "succeeded" and config.get("test_file"):
        compare = NextCall(
            tool="compare_eval",
            args={
                "data": config["test_file"],
                "base": f"local:{config['base_model']}",
                "tuned": f"run:{run.run_id}",
            },
            why="compares base and tuned on held-out rows",
        )
        return [compare, diagnose]
    if run.status == "succeeded":
        return [diagnose]
    resume = NextCall(
        tool="launch_lora",
        args={"config": config, "resume": run.run_id},
        why="goes on from the newest undamaged checkpoint",
    )
    return [resume, diagnose] if run.status != "failed" else [diagnose]
