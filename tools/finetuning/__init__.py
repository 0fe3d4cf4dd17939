"""Measure, price, train, evaluate and record: the library behind the fine-tuning skill.

One package per topic on a shared floor; see ``README.md`` for the annotated tree. Here, below all
of them: copies of this process, which do a part of the work on another core, and what is sent to
and from them. A copy is made in milliseconds and has everything in memory that the first process
has; it is made only where that is safe: on Linux, while no other thread of Python runs.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import IO, Any, NoReturn

Work = Callable[[IO[bytes], IO[bytes]], None]
"""What a copy does, given the pipe from the first process and the one to it."""


def copied(work: Work) -> tuple[int, IO[bytes], IO[bytes]] | None:
    """Copy this process, in milliseconds, for ``work`` with a pipe to it and one from it.

    Returns the copy's number and the pipes; None where other threads of Python run, or not Linux.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return None
    (read, sink), (source, write) = os.pipe(), os.pipe()
    with warnings.catch_warnings():  # numpy ends its own threads before the copy is made
        warnings.simplefilter("ignore", DeprecationWarning)
        number = os.fork()
    if not number:
        _work_apart(work, read, write)
    os.close(read)
    os.close(write)
    return number, os.fdopen(sink, "wb"), os.fdopen(source, "rb")


def _work_apart(work: Work, read: int, write: int) -> NoReturn:
    import signal

    try:
        os.setpgid(0, 0)  # an interrupt is for the first one, which closes the pipes
        signal.set_wakeup_fd(-1)
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        low, high = sorted((read, write))
        for first, end in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, end)
        work(os.fdopen(read, "rb"), os.fdopen(write, "wb"))
    finally:
        os._exit(0)


def write_frame(stream: IO[bytes], message: Any) -> None:
    """Write a message with its length before it."""
    import msgspec

    data = msgspec.msgpack.encode(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def read_frame(stream: IO[bytes], kind: Any) -> Any:
    """Return the next message, or None at the end of the stream."""
    import msgspec

    size = int.from_bytes(stream.read(8), "little")
    data = stream.read(size)
    return msgspec.msgpack.decode(data, type=kind) if size and len(data) == size else None
