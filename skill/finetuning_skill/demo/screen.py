"""What the person sees while the demo works, and how it stops: whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from finetuning import runs
from finetuning.errors import MissingExtraError
from finetuning.records import Model
from finetuning_skill import dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from finetuning.records import ToolResult

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS: Final = 2.0
LEAVING_SECONDS: Final = 10.0
NEEDED: Final = ("torch", "transformers", "trl", "peft", "tokenizers")
PLAIN_SECONDS: Final = 5.0
"""Without a terminal, progress is written at most this often."""


class DemoStep(Model):
    """One call of a tool: what it took, and what it said in one line."""

    tool: str
    seconds: float
    exit_code: int
    summary: str


class Screen:
    """Calls tools one after the other, shows each, and keeps what each took and said."""

    def __init__(self, total: int) -> None:
        """Start with nothing done.

        Args:
            total: Steps in all.
        """
        self.steps: list[DemoStep] = []
        self._total = total
        self._number = 0
        self._last = 0.0
        self._rich = _Rich() if sys.stderr.isatty() else None

    def call(self, name: str, why: str, arguments: dict[str, Any]) -> ToolResult:
        """Call a tool as one step and return its result."""
        with self.step(name, why) as note:
            result = dispatch.call(name, arguments, surface="cli")
            note(result.summary(), result.exit_code())
        return result

    @contextlib.contextmanager
    def step(self, name: str, why: str) -> Generator[Callable[[str, int], None]]:
        """Show one step; the block gets a function that takes its summary and exit code."""
        self._number += 1
        self._say(f"[{self._number}/{self._total}] {name}: {why}", style="bold")
        started, self._last = time.monotonic(), time.monotonic()
        said = [("", 0)]

        def note(summary: str, code: int) -> None:
            said.append((summary, code))

        try:
            with runs.listen(self.progress):
                yield note
        finally:
            if self._rich is not None:
                self._rich.clear()
        seconds = round(time.monotonic() - started, 2)
        summary, code = said[-1]
        self.steps.append(DemoStep(tool=name, seconds=seconds, exit_code=code, summary=summary))
        self._say(f"      {summary} ({seconds:.1f} s)")

    def progress(self, done: int, total: int | None, what: str) -> None:
        """Show how far the step is: a bar on a terminal, else a line now and then."""
        if self._rich is not None:
            self._rich.show(done, total, what)
            return
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS:
            self._last = now
            of = "" if total is None else f" of {total}"
            self._say(f"      {what}: {done}{of}")

    def note(self, text: str) -> None:
        """Show a remark."""
        self._say(f"      {text}")

    def _say(self, line: str, style: str = "") -> None:
        if self._rich is not None:
            self._rich.say(line, style)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class _Rich:
    """The terminal's side: styled lines, and one bar that goes away when the step ends."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None

    def say(self, line: str, style: str) -> None:
        self._console.print(line, style=style or None, markup=False)

    def show(self, done: int, total: int | None, what: str) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (TextColumn("      {task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(what, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=what)

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def need_training_packages() -> None:
    """Check, without importing them, that the packages that train are installed.

    Raises:
        MissingExtraError: One is missing; the pip line that mends it is named.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                "demo",
                f"the package {name!r} is not installed",
                "the extra 'local'",
                "Run: pip install 'fine-tuning-skill[local]'",
            )


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


@contextlib.contextmanager
def whole_or_nothing(folder: Path) -> Generator[None]:
    """Remove the folder again unless the block ends well."""
    try:
        yield
    except BaseException:
        with unstoppable():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def end_runs(run_ids: Iterable[str]) -> None:
    """Stop the runs that still work, and wait until their processes are gone."""
    for run_id in run_ids:
        with unstoppable():
            process = runs.read_run(run_id).pid
            arguments = {"run_id": run_id, "grace_seconds": GRACE_SECONDS}
            dispatch.call("cancel_run", arguments, surface="cli")
            if process is not None:
                wait_until_gone(process)


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


@contextlib.contextmanager
def one_thread(wanted: bool) -> Generator[None]:
    """Start the children of the block with one compute thread, if ``wanted``.

    For a tiny model a second thread costs more than it brings, most of all on busy cores.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    if not wanted or before is not None:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
