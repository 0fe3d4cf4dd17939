"""Runs: a store of long work that several processes share and that outlives each of them.

A row per run in ``<home>/runs.sqlite`` (WAL), a folder per run in ``<home>/runs/<run_id>/``.
A run whose process is gone reads as ``lost``: readers never wait for a dead process.
Here: what a run tells while it works (progress, steps, alerts, looks at a test set); the other
names are imported when they are used first.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from finetuning.errors import lazy
from finetuning.records import Json
from finetuning.runs import store
from finetuning.runs.store import run_folder

if TYPE_CHECKING:
    from finetuning.runs.lifecycle import (
        attach,
        cancel_requested,
        finish,
        kill_run,
        request_cancel,
        spawn,
        stop_like_ctrl_c,
        unstoppable,
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
        wait_until_gone,
    )
else:
    __getattr__ = lazy(
        __name__,
        lifecycle="attach cancel_requested finish kill_run request_cancel spawn stop_like_ctrl_c "
        "unstoppable",
        rows="TERMINAL RunProgress RunRow RunStatus arguments_of count_runs create_run list_runs "
        "read_run wait wait_until_gone",
    )

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
    "mute",
    "progress",
    "read_run",
    "record_alert",
    "record_progress",
    "record_steps",
    "request_cancel",
    "run_folder",
    "spawn",
    "steps_of",
    "stop_like_ctrl_c",
    "unstoppable",
    "wait",
    "wait_until_gone",
]

Listener = Callable[[int, "int | None", str], None]

_muted = False
_listener: ContextVar[Listener | None] = ContextVar("finetuning_progress", default=None)


@contextlib.contextmanager
def listen(callback: Listener) -> Generator[None]:
    """Pass the progress of everything called inside the block to ``callback``.

    Args:
        callback: Gets units done, units in all (None when not known) and what is being done.
    """
    token = _listener.set(callback)
    try:
        yield
    finally:
        _listener.reset(token)


def progress(done: int, total: int | None, what: str) -> None:
    """Report progress to the listener of this context; without one, do nothing.

    Args:
        done: Units done so far, from 0.
        total: Units in all, or None when not known.
        what: A few words without row content.
    """
    callback = _listener.get()
    if callback is not None:
        callback(done, total, what)


def mute() -> None:
    """Let this process write nothing more about runs: another one of the same run does."""
    global _muted
    _muted = True


def plain(value: Json) -> Json:
    """Write non-finite numbers as words, since JSON has no sign for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def record_progress(run_id: str, progress: RunProgress) -> None:
    """Store how far a run has come (it also counts as a sign of life)."""
    if _muted:
        return
    values = {name: plain(value) for name, value in progress.model_dump().items()}
    finite = {name: value for name, value in values.items() if value not in ("nan", "inf", "-inf")}
    with store.connect() as connection:
        connection.execute(
            "UPDATE runs SET progress = ?, updated_at = ?, heartbeat = ? WHERE run_id = ?",
            (json.dumps(finite), store.now(), time.time(), run_id),
        )


def record_steps(
    run_id: str, rows: Sequence[Mapping[str, Json]], *, unless_any: bool = False
) -> None:
    """Append measured rows such as ``{"step": 3, "loss": 0.7}`` (all of them, or none).

    Non-finite numbers are kept as ``"nan"``, ``"inf"`` and ``"-inf"``.

    Args:
        run_id: The run.
        rows: What was measured, each with its step.
        unless_any: Record nothing if the run has steps already.
    """
    if _muted:
        return
    values = [
        (run_id, int(row["step"]), json.dumps({name: plain(row[name]) for name in row}))
        for row in rows
    ]
    with store.transaction() as connection:
        known = connection.execute("SELECT 1 FROM steps WHERE run_id = ? LIMIT 1", (run_id,))
        if unless_any and known.fetchone() is not None:
            return
        connection.executemany("INSERT INTO steps (run_id, step, row) VALUES (?, ?, ?)", values)
        connection.execute(
            "UPDATE runs SET updated_at = ?, heartbeat = ? WHERE run_id = ?",
            (store.now(), time.time(), run_id),
        )


def steps_of(run_id: str, since_step: int | None = None) -> list[dict[str, Any]]:
    """Return the recorded rows in the order they came; only those after ``since_step``."""
    with store.connect() as connection:
        found = connection.execute(
            "SELECT row FROM steps WHERE run_id = ? AND step > ? ORDER BY id",
            (run_id, -1 if since_step is None else since_step),
        ).fetchall()
    return [json.loads(row["row"]) for row in found]


def record_alert(run_id: str, *, code: str, message: str, step: int | None = None) -> None:
    """Append one alert: a code of a closed list and a sentence without row content."""
    if _muted:
        return
    with store.connect() as connection:
        connection.execute(
            "INSERT INTO alerts (run_id, step, code, message, created_at) VALUES (?, ?, ?, ?, ?)",
            (run_id, step, code, message, store.now()),
        )


def alerts_of(run_id: str) -> list[dict[str, Any]]:
    """Return the alerts of a run, oldest first: ``{code, message, step, created_at}``."""
    with store.connect() as connection:
        found = connection.execute(
            "SELECT code, message, step, created_at FROM alerts WHERE run_id = ? ORDER BY id",
            (run_id,),
        ).fetchall()
    return [dict(row) for row in found]


def count_look(data_sha256: str) -> int:
    """Count one more look at the test file with this digest and return the new count."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO looks VALUES (?, 1) ON CONFLICT (data_sha256) DO UPDATE"
            " SET looks = looks + 1",
            (data_sha256,),
        )
    return looks_of(data_sha256)


def looks_of(data_sha256: str) -> int:
    """Return how often the test file with this digest was looked at so far."""
    if not store.store_path().exists():
        return 0
    with store.connect() as connection:
        found = connection.execute(
            "SELECT looks FROM looks WHERE data_sha256 = ?", (data_sha256,)
        ).fetchone()
    return 0 if found is None else int(found["looks"])
