"""Which process owns a run, and whether that very process is still there."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
