"""The runs of the store: their shape, how one is created, read and waited for."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from finetuning import files
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Json, Model
from finetuning.runs import store

if TYPE_CHECKING:
    import sqlite3

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "lost"})
_POLL_SECONDS: Final = (0.05, 0.25)

LEAVING_SECONDS: Final = 10.0
"""A process that has reported its end has this long to leave."""


class RunProgress(Model, defer_build=True):
    """How far a run has come; a field that is not known yet is None."""

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eta_seconds: float | None = None
    what: str = ""


class RunRow(Model, defer_build=True):
    """One run as the store knows it (times are ISO 8601 in UTC)."""

    run_id: str
    tool: str
    status: RunStatus
    created_at: str
    updated_at: str
    finished_at: str | None = None
    pid: int | None = None
    parent_run_id: str | None = None
    config_digest: str | None = None
    folder: str
    log_file: str
    progress: RunProgress = Field(default_factory=RunProgress)
    error: str | None = None
    result: dict[str, Any] | None = None
    idempotency_key: str | None = None

    @property
    def finished(self) -> bool:
        """True when no process will change this run any more."""
        return self.status in TERMINAL


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
    who = store.Owner(row["owner_pid"], row["owner_started"], row["owner_machine"])
    if store.is_alive(who, row["heartbeat"]):
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


def wait_until_gone(process: int) -> None:
    """Wait for a process that has reported its end to leave, and end it if it does not."""
    until = time.monotonic() + LEAVING_SECONDS
    while time.monotonic() < until:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def create_run(
    tool: str,
    *,
    arguments: Mapping[str, Json],
    parent_run_id: str | None = None,
    idempotency_key: str | None = None,
) -> RunRow:
    """Record a new run in state ``queued`` and make its folder.

    The arguments go to ``args.json`` in that folder (mode 0600), never into the store.

    Args:
        tool: Name of the tool the run belongs to.
        arguments: JSON-able arguments of the call.
        parent_run_id: Run this one continues or repeats.
        idempotency_key: A second call with the same key gets the first run back.

    Returns:
        The new run, or the one that already holds the key.

    Raises:
        BadInputError: The key belongs to a run of another tool or with other arguments.
        UnknownNameError: ``parent_run_id`` is not in the store.
    """
    digest = files.digest(dict(arguments))
    if parent_run_id is not None:
        read_run(parent_run_id)
    if idempotency_key is not None and (known := _by_key(tool, idempotency_key, digest)):
        return known
    run_id = f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    folder = store.run_folder(run_id)
    store.private_folder(folder)
    _write_private(folder / "args.json", json.dumps(dict(arguments), ensure_ascii=False))
    if not _insert(run_id, tool, digest, parent_run_id, idempotency_key):
        (folder / "args.json").unlink()  # another process took the key in between
        folder.rmdir()
    return (idempotency_key and _by_key(tool, idempotency_key, digest)) or read_run(run_id)


def _insert(
    run_id: str, tool: str, digest: str, parent_run_id: str | None, key: str | None
) -> bool:
    me = store.owner()
    with store.connect() as connection:
        added = connection.execute(
            "INSERT INTO runs (run_id, tool, status, created_at, updated_at, parent_run_id,"
            " config_digest, idempotency_key, owner_pid, owner_started, owner_machine, heartbeat)"
            " VALUES (:run_id, :tool, 'queued', :now, :now, :parent,"
            " :digest, :key, :pid, :started, :machine, :heartbeat)"
            " ON CONFLICT (idempotency_key) DO NOTHING",
            {
                "run_id": run_id,
                "tool": tool,
                "now": store.now(),
                "parent": parent_run_id,
                "digest": digest,
                "key": key,
                "pid": me.pid,
                "started": me.started,
                "machine": me.machine,
                "heartbeat": time.time(),
            },
        ).rowcount
    return bool(added)


def _write_private(path: os.PathLike[str], text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _by_key(tool: str, key: str, digest: str) -> RunRow | None:
    with store.connect() as connection:
        found = connection.execute(
            "SELECT run_id, tool, config_digest FROM runs WHERE idempotency_key = ?", (key,)
        ).fetchone()
    if found is None:
        return None
    if found["tool"] != tool or found["config_digest"] != digest:
        raise BadInputError(
            tool,
            f"idempotency_key of {len(key)} characters already names {found['run_id']}, "
            "which was started with other arguments",
            "the same arguments, or a new key",
            "Leave idempotency_key out, or use another one",
        )
    return read_run(found["run_id"])
