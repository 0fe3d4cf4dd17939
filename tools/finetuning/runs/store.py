"""The SQLite file behind the runs: opened per call, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetuning.errors import RunFailedError
from finetuning.settings import settings

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    finished_at TEXT,
    parent_run_id TEXT,
    config_digest TEXT,
    idempotency_key TEXT UNIQUE,
    owner_pid INTEGER NOT NULL,
    owner_started TEXT,
    owner_machine TEXT NOT NULL,
    owner_is_run INTEGER NOT NULL DEFAULT 0,
    heartbeat REAL NOT NULL,
    spawn_claimed INTEGER NOT NULL DEFAULT 0,
    group_leader INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    progress TEXT NOT NULL DEFAULT '{}',
    result TEXT,
    error TEXT
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, step INTEGER NOT NULL, row TEXT NOT NULL
);
CREATE INDEX steps_of_run ON steps (run_id, step);
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, step INTEGER, code TEXT NOT NULL,
    message TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE INDEX alerts_of_run ON alerts (run_id);
CREATE TABLE looks (data_sha256 TEXT PRIMARY KEY, looks INTEGER NOT NULL);
"""


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def store_path() -> Path:
    """Return where the store of this home lies (it need not exist yet)."""
    return settings().home / "runs.sqlite"


def run_folder(run_id: str) -> Path:
    """Return the folder of one run (it need not exist)."""
    return settings().runs / run_id


def private_folder(path: Path) -> None:
    """Create a folder, and missing ones above it, that only its owner can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create(path: Path) -> None:
    """Create the store once, even when several processes arrive together."""
    import fcntl

    private_folder(path.parent)
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # -wal and -shm take the mode of the database file: set it before SQLite sees it
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with contextlib.closing(_open(path)) as connection:
            if _version(connection) == 0:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
    finally:
        os.close(lock)


def _open(path: Path) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    # WAL with NORMAL survives the death of any process; a power cut can only lose the last rows
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def connect(path: Path | None = None) -> Generator[sqlite3.Connection]:
    """Give a connection in autocommit mode to the store, which is created when missing.

    Args:
        path: The store; None means the one of this home.

    Raises:
        RunFailedError: The store was written by a newer version.
    """
    path = path or store_path()
    if not path.exists():
        _create(path)
    with contextlib.closing(_open(path)) as connection:
        if _version(connection) == 0:  # another process is between the file and its tables
            _create(path)
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise RunFailedError(
                "runs.sqlite",
                f"the store has version {version}",
                f"version {SCHEMA_VERSION}",
                "Upgrade this package, or set FINE_TUNING_HOME to another folder",
            )
        yield connection


@contextlib.contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """Give a connection inside one write transaction: all of it happens, or nothing."""
    with connect() as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
