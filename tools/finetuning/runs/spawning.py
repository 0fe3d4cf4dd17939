"""Start a run in a process of its own that outlives its starter."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from finetuning.errors import RunFailedError
from finetuning.runs import lifecycle, processes, store


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
            lifecycle.finish(run_id, "failed", error=str(failure))
            raise failure from error
    _record_child(run_id, child.pid)
    # a long-lived server must collect its ended children; a daemon thread holds no exit back
    threading.Thread(target=child.wait, name=f"reap {run_id}", daemon=True).start()
    return True


def _claim(run_id: str) -> bool:
    me = processes.owner()
    with store.connect() as connection:
        claimed = connection.execute(
            "UPDATE runs SET spawn_claimed = 1, owner_pid = ?, owner_started = ?,"
            " owner_machine = ?, heartbeat = ?"
            " WHERE run_id = ? AND spawn_claimed = 0 AND status = 'queued'",
            (me.pid, me.started, me.machine, time.time(), run_id),
        ).rowcount
    return bool(claimed)


def _record_child(run_id: str, pid: int) -> None:
    child = processes.owner(pid)
    with store.connect() as connection:
        # the child may have attached already, and said all this itself
        connection.execute(
            "UPDATE runs SET owner_pid = ?, owner_started = ?, owner_machine = ?,"
            " owner_is_run = 1, group_leader = 1, heartbeat = ?"
            " WHERE run_id = ? AND owner_is_run = 0",
            (child.pid, child.started, child.machine, time.time(), run_id),
        )
