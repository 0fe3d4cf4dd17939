"""Runs: a store of long work that several processes share and that outlives each of them.

A row per run in ``<home>/runs.sqlite`` (WAL), a folder per run in ``<home>/runs/<run_id>/``.
A run whose process is gone reads as ``lost``: readers never wait for a dead process.
Names are imported when they are used first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.runs.lifecycle import (
        attach,
        cancel_requested,
        finish,
        kill_run,
        request_cancel,
        spawn,
    )
    from finetuning.runs.reports import (
        alerts_of,
        count_look,
        listen,
        looks_of,
        progress,
        record_alert,
        record_progress,
        record_steps,
        steps_of,
    )
    from finetuning.runs.rows import (
        TERMINAL,
        RunProgress,
        RunRow,
        RunStatus,
        arguments_of,
        count_runs,
        create_run,
        list_runs,
        read_run,
        wait,
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

_HOMES: Final = {
    "lifecycle": "attach cancel_requested finish kill_run request_cancel spawn".split(),
    "reports": "alerts_of count_look listen looks_of progress record_alert record_progress "
    "record_steps steps_of".split(),
    "rows": "TERMINAL RunProgress RunRow RunStatus arguments_of count_runs create_run list_runs "
    "read_run wait".split(),
    "store": ["run_folder"],
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
