"""Claim a run for a process, show that it lives, and record how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from finetuning.errors import BadInputError, RunFailedError
from finetuning.records import Json
from finetuning.runs import processes, store
from finetuning.runs.models import TERMINAL, RunStatus
from finetuning.runs.rows import find_row

if TYPE_CHECKING:
    import sqlite3

_heartbeats: dict[str, threading.Event] = {}


def attach(run_id: str) -> None:
    """Claim a run for this process: it is ``running`` until :func:`finish`, or this process ends.

    Raises:
        UnknownNameError: No such run.
        RunFailedError: The run is finished, cancelled, or runs in another process.
    """
    me = processes.owner()
    with store.transaction() as connection:
        row = find_row(connection, run_id)
        claimed = connection.execute(
            "UPDATE runs SET status = 'running', updated_at = :now, owner_pid = :pid,"
            " owner_started = :started, owner_machine = :machine, owner_is_run = 1,"
            " heartbeat = :heartbeat, group_leader = :leader, finished_at = NULL, error = NULL"
            " WHERE run_id = :run_id AND cancel_requested = 0 AND status IN ('queued', 'lost')",
            {
                "now": store.now(),
                "pid": me.pid,
                "started": me.started,
                "machine": me.machine,
                "heartbeat": time.time(),
                "leader": int(os.getpgid(0) == me.pid),
                "run_id": run_id,
            },
        ).rowcount
    if not claimed:
        raise RunFailedError(
            run_id,
            f"this process cannot take the run, which is {row['status']}",
            "a queued run that nobody asked to cancel",
            f"Read it with: fine-tuning get-run {run_id}",
        )
    _start_heartbeat(run_id, me.pid)


def _start_heartbeat(run_id: str, pid: int) -> None:
    stop = _heartbeats[run_id] = threading.Event()
    path = store.store_path()  # the home of now, whatever the environment says later

    def beat() -> None:
        # an open connection also spares the others: SQLite tidies up when the last one closes
        with store.connect(path) as connection:
            while not stop.wait(processes.HEARTBEAT_SECONDS):
                beat_once(connection, run_id, pid)

    threading.Thread(target=beat, name=f"heartbeat {run_id}", daemon=True).start()


def beat_once(connection: sqlite3.Connection, run_id: str, pid: int) -> None:
    """Say once that the process ``pid`` of a run lives; a store that is gone or busy is let be."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error):
        connection.execute(
            "UPDATE runs SET heartbeat = ? WHERE run_id = ? AND owner_pid = ?",
            (time.time(), run_id, pid),
        )


def finish(
    run_id: str,
    status: RunStatus,
    *,
    result: dict[str, Json] | None = None,
    error: str | None = None,
) -> None:
    """Record how a run ended; the first ending stays, later ones change nothing.

    ``lost`` is a conclusion of others: the run's own process may still correct it.

    Args:
        run_id: The run.
        status: ``succeeded``, ``failed``, ``cancelled`` or ``lost``.
        result: The tool's result, JSON-able.
        error: One line of the house template; no row content.

    Raises:
        BadInputError: ``status`` is not an ending.
    """
    if status not in TERMINAL:
        raise BadInputError(
            run_id,
            f"status {status!r} is not an ending",
            f"one of {', '.join(sorted(TERMINAL))}",
            "Leave the run as it is, or name its ending",
        )
    with store.connect() as connection:
        connection.execute(
            "UPDATE runs SET status = :status, result = :result, error = :error,"
            " finished_at = :now, updated_at = :now"
            " WHERE run_id = :run_id AND (status IN ('queued', 'running')"
            " OR (status = 'lost' AND owner_is_run = 1 AND owner_pid = :pid))",
            {
                "status": status,
                "result": None if result is None else json.dumps(result),
                "error": error,
                "now": store.now(),
                "run_id": run_id,
                "pid": os.getpid(),
            },
        )
    if stop := _heartbeats.pop(run_id, None):
        stop.set()
