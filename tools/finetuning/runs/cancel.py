"""Ask a run to stop, and stop one that does not listen."""

from __future__ import annotations

import contextlib
import os
import signal

from finetuning.runs import processes, rows, store
from finetuning.runs.models import TERMINAL


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
    who = processes.Owner(row["owner_pid"], row["owner_started"], row["owner_machine"])
    same_machine = who.machine == processes.this_machine()
    if same_machine and processes.is_alive(who, row["heartbeat"]):
        # between the check and the signal the process may end: its group is then gone
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(who.pid, number)
