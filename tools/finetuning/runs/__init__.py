"""Runs: a store of long work that several processes share and that outlives each of them.

A row per run in ``<home>/runs.sqlite`` (WAL), a folder per run in ``<home>/runs/<run_id>/``.
A run whose process is gone reads as ``lost``: readers never wait for a dead process.
"""

from __future__ import annotations

from finetuning.runs.cancel import cancel_requested, kill_run, request_cancel
from finetuning.runs.creation import create_run
from finetuning.runs.lifecycle import attach, finish
from finetuning.runs.models import TERMINAL, RunProgress, RunRow, RunStatus
from finetuning.runs.progress import listen, progress
from finetuning.runs.rows import arguments_of, count_runs, list_runs, read_run, wait
from finetuning.runs.spawning import spawn
from finetuning.runs.steps import (
    alerts_of,
    count_look,
    looks_of,
    record_alert,
    record_progress,
    record_steps,
    steps_of,
)
from finetuning.runs.store import run_folder

__all__ = [
    "TERMINAL",
    "RunProgress",
    "RunRow",
    "RunStatus",
    "alerts_of",
    "arguments_of",
    "attach",
    "cancel_requested",
    "count_look",
    "count_runs",
    "create_run",
    "finish",
    "kill_run",
    "list_runs",
    "listen",
    "looks_of",
    "progress",
    "read_run",
    "record_alert",
    "record_progress",
    "record_steps",
    "request_cancel",
    "run_folder",
    "spawn",
    "steps_of",
    "wait",
]
