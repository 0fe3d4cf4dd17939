"""One SQLite file behind all runs, and the processes that own its rows.

It is opened per call and readable by its owner only. A process is told apart from a later one
with the same number, so a run whose process is gone is found out.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
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


# --- processes ----------------------------------------------------------------------------------

PROC: Final = Path("/proc")
HEARTBEAT_SECONDS: Final = 15.0
"""How often a run's own process says that it lives."""
STALE_SECONDS: Final = 120.0
"""Silence after which a process that cannot be looked up counts as gone (8 heartbeats)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from a later one with the same number.

    Attributes:
        pid: Process number.
        started: Start time in clock ticks since boot (None where /proc is missing).
        machine: Boot and process namespace in which ``pid`` means something.
    """

    pid: int
    started: str | None
    machine: str


def this_machine(proc: Path = PROC) -> str:
    """Name the boot and the pid namespace of this process (host name without /proc)."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(proc / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return os.uname().nodename


def start_time(pid: int, proc: Path = PROC) -> str | None:
    """Return when a process started, in clock ticks since boot; None when it is gone.

    A zombie counts as gone: it holds a number but will never do anything again.
    """
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold spaces
    return None if fields[0] in {"Z", "X"} else fields[19]


def owner(pid: int | None = None, proc: Path = PROC) -> Owner:
    """Describe a process of this machine; without ``pid``, this one."""
    number = os.getpid() if pid is None else pid
    return Owner(number, start_time(number, proc), this_machine(proc))


def is_alive(who: Owner, heartbeat: float, proc: Path = PROC) -> bool:
    """Tell whether the owner of a run still exists.

    Args:
        who: The process as it was recorded.
        heartbeat: When it was last heard of, in seconds since the epoch.
        proc: The process file system; a folder that does not exist stands for a system without.

    Returns:
        By start time where /proc tells it; else by number and heartbeat; for a process of another
        machine that shares this home, by heartbeat alone.
    """
    fresh = time.time() - heartbeat < STALE_SECONDS
    if who.machine != this_machine(proc):
        return fresh
    if proc.exists():
        started = start_time(who.pid, proc)
        return started is not None and started == who.started
    try:
        os.kill(who.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return fresh
    return fresh
