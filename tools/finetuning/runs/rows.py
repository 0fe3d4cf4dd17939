"""Read runs; a run whose process is gone is found out here."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from finetuning.errors import UnknownNameError
from finetuning.records import Json
from finetuning.runs import processes, store
from finetuning.runs.models import TERMINAL, RunRow

if TYPE_CHECKING:
    import sqlite3

_POLL_SECONDS: Final = (0.05, 0.25)


def find_row(connection: sqlite3.Connection, run_id: str) -> sqlite3.Row:
    """Return the stored row of one run.

    Raises:
        UnknownNameError: No such run; the nearest ids are named.
    """
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    if row is None:
        newest = connection.execute("SELECT run_id FROM runs ORDER BY rowid DESC LIMIT 50")
        known = [found["run_id"] for found in newest]
        raise UnknownNameError("run_id", "run", run_id, known)
    return row


def read_run(run_id: str) -> RunRow:
    """Return one run; if its process is gone it is stored, and reads, as ``lost``.

    A process that went away after somebody asked to cancel counts as ``cancelled``.

    Raises:
        UnknownNameError: No such run; the nearest ids are named.
    """
    if not store.store_path().exists():
        raise UnknownNameError("run_id", "run", run_id, ())
    with store.connect() as connection:
        row = find_row(connection, run_id)
        if _settle(connection, row):
            row = find_row(connection, run_id)
    return _to_row(row)


def _settle(connection: sqlite3.Connection, row: sqlite3.Row) -> bool:
    """Store the end of a run whose process is gone; tell whether there was one to store."""
    if row["status"] in TERMINAL:
        return False
    who = processes.Owner(row["owner_pid"], row["owner_started"], row["owner_machine"])
    if processes.is_alive(who, row["heartbeat"]):
        return False
    error = None
    if not row["cancel_requested"]:
        error = (
            f"{row['run_id']}: process {who.pid} ended without a word; expected it to report its "
            f"end. Read {store.run_folder(row['run_id']) / 'log.txt'}."
        )
    # owner and status are compared again: the process may have handed over or finished meanwhile
    connection.execute(
        "UPDATE runs SET status = :status, error = :error, finished_at = :now, updated_at = :now"
        " WHERE run_id = :run_id AND status = :seen AND owner_pid = :pid",
        {
            "status": "cancelled" if row["cancel_requested"] else "lost",
            "error": error,
            "now": store.now(),
            "run_id": row["run_id"],
            "seen": row["status"],
            "pid": who.pid,
        },
    )
    return True


def _to_row(row: sqlite3.Row) -> RunRow:
    folder = store.run_folder(row["run_id"])
    values: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    fields = {name: value for name, value in values.items() if name in RunRow.model_fields}
    fields["progress"] = json.loads(row["progress"])
    fields["result"] = None if row["result"] is None else json.loads(row["result"])
    fields["pid"] = row["owner_pid"] if row["owner_is_run"] else None
    return RunRow(**fields, folder=str(folder), log_file=str(folder / "log.txt"))


def arguments_of(run_id: str) -> dict[str, Json]:
    """Return the arguments a run was created with."""
    text = (store.run_folder(run_id) / "args.json").read_text(encoding="utf-8")
    arguments: dict[str, Json] = json.loads(text)
    return arguments


def list_runs(limit: int = 20, tool: str | None = None) -> list[RunRow]:
    """Return the newest runs first (at most ``limit``), of one tool or of all."""
    if not store.store_path().exists():
        return []
    with store.connect() as connection:
        found = connection.execute(
            "SELECT run_id FROM runs WHERE tool = coalesce(?, tool) ORDER BY rowid DESC LIMIT ?",
            (tool, limit),
        ).fetchall()
    return [read_run(row["run_id"]) for row in found]


def count_runs() -> int:
    """Return how many runs the store holds."""
    if not store.store_path().exists():
        return 0
    with store.connect() as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def wait(run_id: str, seconds: float) -> RunRow:
    """Return the run as soon as it is finished, or as it is after ``seconds``."""
    until = time.monotonic() + seconds
    pause, longest = _POLL_SECONDS
    while not (row := read_run(run_id)).finished and (left := until - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)
    return row
