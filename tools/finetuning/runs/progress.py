"""Progress of library code: it reports, whoever listens shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar

Listener = Callable[[int, "int | None", str], None]

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
