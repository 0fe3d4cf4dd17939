"""A run and its process: started, claimed, shown to live, stopped, ended.

And how a stop of this process takes effect: when a short block is done, or as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from finetuning.errors import BadInputError, RunFailedError
from finetuning.records import Json
from finetuning.runs import rows, store
from finetuning.runs.rows import TERMINAL, RunStatus, find_row

if TYPE_CHECKING:
    import sqlite3

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_heartbeats: dict[str, threading.Event] = {}


def attach(run_id: str) -> None:
    """Claim a run for this process: it is ``running`` until :func:`finish`, or this process ends.

    Raises:
        UnknownNameError: No such run.
        RunFailedError: The run is finished, cancelled, or runs in another process.
    """
    me = store.owner()
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
            while not stop.wait(store.HEARTBEAT_SECONDS):
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


def spawn(run_id: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> bool:
    """Start a detached child for a queued run; a second call for the same run starts nothing.

    The child gets a session of its own, no input, and ``log.txt`` (mode 0600) for its output.

    Args:
        run_id: A run in state ``queued``.
        argv: Program and arguments; the child is expected to call ``attach(run_id)``.
        env: Variables set on top of this process's own.

    Returns:
        True when this call started the child, False when another one had.

    Raises:
        RunFailedError: The program cannot be started; the run is then ``failed``.
    """
    if not _claim(run_id):
        return False
    log = store.run_folder(run_id) / "log.txt"
    with os.fdopen(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as output:
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        except OSError as error:
            failure = RunFailedError(
                run_id,
                f"the child process could not start ({type(error).__name__})",
                "a program that can be executed",
                "Check that the Python environment of this tool still exists",
            )
            finish(run_id, "failed", error=str(failure))
            raise failure from error
    _record_child(run_id, child.pid)
    # a long-lived server must collect its ended children; a daemon thread holds no exit back
    threading.Thread(target=child.wait, name=f"reap {run_id}", daemon=True).start()
    return True


def _claim(run_id: str) -> bool:
    me = store.owner()
    with store.connect() as connection:
        claimed = connection.execute(
            "UPDATE runs SET spawn_claimed = 1, owner_pid = ?, owner_started = ?,"
            " owner_machine = ?, heartbeat = ?"
            " WHERE run_id = ? AND spawn_claimed = 0 AND status = 'queued'",
            (me.pid, me.started, me.machine, time.time(), run_id),
        ).rowcount
    return bool(claimed)


def _record_child(run_id: str, pid: int) -> None:
    child = store.owner(pid)
    with store.connect() as connection:
        # the child may have attached already, and said all this itself
        connection.execute(
            "UPDATE runs SET owner_pid = ?, owner_started = ?, owner_machine = ?,"
            " owner_is_run = 1, group_leader = 1, heartbeat = ?"
            " WHERE run_id = ? AND owner_is_run = 0",
            (child.pid, child.started, child.machine, time.time(), run_id),
        )


def request_cancel(run_id: str) -> None:
    """Set the run's cancel flag and send SIGTERM to its own process group.

    A queued run that nobody started is ``cancelled`` at once; a finished one stays as it is.

    Raises:
        UnknownNameError: No such run.
    """
    rows.read_run(run_id)
    with store.connect() as connection:
        connection.execute(
            "UPDATE runs SET cancel_requested = 1, updated_at = ? WHERE run_id = ?"
            " AND status NOT IN ('succeeded', 'failed', 'cancelled', 'lost')",
            (store.now(), run_id),
        )
        connection.execute(
            "UPDATE runs SET status = 'cancelled', finished_at = ? WHERE run_id = ?"
            " AND status = 'queued' AND owner_is_run = 0 AND spawn_claimed = 0",
            (store.now(), run_id),
        )
    _signal_group(run_id, signal.SIGTERM)


def kill_run(run_id: str) -> None:
    """End the process group of a run at once; the run then reads as ``cancelled`` or ``lost``."""
    _signal_group(run_id, signal.SIGKILL)


def cancel_requested(run_id: str) -> bool:
    """Tell whether somebody asked this run to stop."""
    with store.connect() as connection:
        found = connection.execute(
            "SELECT cancel_requested FROM runs WHERE run_id = ?", (run_id,)
        ).fetchone()
    return found is not None and bool(found["cancel_requested"])


def _signal_group(run_id: str, number: signal.Signals) -> None:
    with store.connect() as connection:
        row = connection.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None or row["status"] in TERMINAL or not row["group_leader"]:
        return
    who = store.Owner(row["owner_pid"], row["owner_started"], row["owner_machine"])
    same_machine = who.machine == store.this_machine()
    if same_machine and store.is_alive(who, row["heartbeat"]):
        # between the check and the signal the process may end: its group is then gone
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(who.pid, number)


@contextlib.contextmanager
def _handlers(handler: Any, numbers: Iterable[signal.Signals]) -> Generator[None]:
    """Handle signals otherwise inside the block (only the main thread may)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def stop_like_ctrl_c() -> Generator[None]:
    """Make a kill or a closed terminal stop the block the way Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handlers(stop, (signal.SIGTERM, signal.SIGHUP)):
        yield


@contextlib.contextmanager
def unstoppable() -> Generator[None]:
    """Let the block finish before a stop takes effect (it must be short)."""
    asked: list[int] = []

    def remember(number: int, frame: object) -> None:
        asked.append(number)

    with _handlers(remember, STOPS):
        yield
    if asked:
        raise KeyboardInterrupt
