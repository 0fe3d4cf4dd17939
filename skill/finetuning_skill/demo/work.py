"""How the demo works: each call is shown; two arms, with general rows and without, are trained."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from finetuning import runs
from finetuning.errors import RunFailedError
from finetuning.records import Model
from finetuning_skill import dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from finetuning.records import ToolResult
    from finetuning.training import Launch, RunState, TrainingPlan

WITH: Final = "with replay"
WITHOUT: Final = "without replay"
MOST_SECONDS: Final = 60.0
"""An arm that would train longer than this, by the estimate, gets fewer epochs."""

_FIXED: Final = tuple(
    "seed learning_rate num_train_epochs per_device_train_batch_size max_length r".split()
)
_LAST_TENTHS: Final = 10
_START: Final[dict[str, Any]] = {"seed": 0, "probe_learning_rates": None}
"""No rates are tried: both arms are to train at one rate, and this size's was measured."""

GRACE_SECONDS: Final = 2.0
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
        """Start with nothing done of ``total`` steps."""
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


class Settings(NamedTuple):
    """The plan of the arm with replay; ``shortened`` says that it got fewer epochs for time."""

    plan: TrainingPlan
    shortened: bool

    @property
    def epochs(self) -> float:
        """Return how often the rows are passed: what is priced, and what is trained."""
        return float(self.plan.config["num_train_epochs"])


def choose_settings(base: Path, data: Path, folder: Path) -> Settings:
    """Choose the settings of the arm with replay, so that it trains for about a minute.

    Raises:
        RunFailedError: The run was refused or does not fit this machine.
    """
    first = plan_run(base, data, folder / "training-with-replay", dict(_START))
    estimate = (first.time_seconds or {}).get("p50", 0.0)
    if estimate <= MOST_SECONDS:
        return Settings(first, shortened=False)
    epochs = float(first.config["num_train_epochs"]) * MOST_SECONDS / estimate
    epochs = max(1, int(epochs * _LAST_TENTHS)) / _LAST_TENTHS
    shorter = {**_START, "num_train_epochs": epochs}
    return Settings(plan_run(base, data, folder / "training-shortened", shorter), shortened=True)


def configure(
    screen: Screen, settings: Settings, base: Path, data: Path, folder: Path
) -> dict[str, TrainingPlan]:
    """Give the arm without replay the very settings of the arm with it.

    Raises:
        RunFailedError: The run was refused or does not fit this machine.
    """
    with screen.step("configure_training", "settings, each with its reason") as note:
        first = settings.plan
        if settings.shortened:
            screen.note(
                f"{settings.epochs:g} epochs instead of more, so that an arm takes about a minute"
            )
        same = {name: first.config[name] for name in _FIXED}
        second = plan_run(base, data, folder / "training-without-replay", same)
        note(first.summary(), first.exit_code())
    return {WITH: first, WITHOUT: second}


def plan_run(base: Path, data: Path, folder: Path, overrides: dict[str, Any]) -> TrainingPlan:
    """Choose the settings of one run and write them down.

    Raises:
        RunFailedError: The run was refused or does not fit this machine.
    """
    arguments = {
        "base_model": str(base),
        "data": str(data),
        "method": "sft",
        "overrides": overrides,
        "output_dir": str(folder),
        "goal": "show what training gains, what it forgets, and that replay keeps it",
    }
    plan = cast("TrainingPlan", dispatch.call("configure_training", arguments, surface="cli"))
    if not plan.files:
        raise RunFailedError(
            "configure_training", plan.summary(), "a run that fits", "Use a smaller base or file"
        )
    return plan


def train(screen: Screen, plans: dict[str, TrainingPlan]) -> dict[str, RunState]:
    """Train both arms in background processes and follow them to their end.

    Whatever stops this call stops the runs, too.

    Raises:
        RunFailedError: A run did not succeed; its log is named.
    """
    started: dict[str, str] = {}
    try:
        with screen.step("launch_lora", "both arms, side by side") as note:
            for name, plan in plans.items():
                with runs.unstoppable():
                    arguments = {"config": plan.files[0]}
                    launch = cast("Launch", dispatch.call("launch_lora", arguments, surface="cli"))
                    started[name] = _run_id(launch)
            states = _follow(screen, started)
            said = [f"{name}: {_last(state)}" for name, state in states.items()]
            note("; ".join(said), 0)
    except BaseException:
        end_runs(started.values())
        raise
    return states


def _run_id(launch: Launch) -> str:
    if launch.run_id is None:
        raise RunFailedError(
            "launch_lora", launch.summary(), "a run that starts", "Read what it says"
        )
    return launch.run_id


def _follow(screen: Screen, started: dict[str, str]) -> dict[str, RunState]:
    states: dict[str, RunState] = {}
    while len(states) < len(started) or any(not _ended(state) for state in states.values()):
        for name, run_id in started.items():
            if name not in states or not _ended(states[name]):
                arguments = {"run_id": run_id, "wait_seconds": 1, "limit": None}
                state = dispatch.call("get_run", arguments, surface="cli")
                states[name] = cast("RunState", state)
                _check(name, states[name])
        _show(screen, states)
    return states


def _check(name: str, state: RunState) -> None:
    if _ended(state) and state.status != "succeeded":
        raise RunFailedError(
            "launch_lora",
            f"the arm {name} ended as {state.status} ({state.error or 'no reason recorded'})",
            "a run that succeeds",
            f"Read its log: {state.log_file}",
        )


def _ended(state: RunState) -> bool:
    return state.status not in {"queued", "running"}


def _show(screen: Screen, states: dict[str, RunState]) -> None:
    known = [state.progress for state in states.values() if state.progress is not None]
    done = sum(progress.step or 0 for progress in known)
    totals = [progress.total_steps for progress in known]
    total = sum(n for n in totals if n) if all(totals) and len(totals) == len(states) else None
    losses = [f"{progress.loss:.3g}" for progress in known if progress.loss is not None]
    screen.progress(done, total, f"training (loss {' and '.join(losses) or 'not known yet'}), step")


def _last(state: RunState) -> str:
    result = state.result or {}
    loss = result.get("train_loss")
    held_out = result.get("eval_loss")
    text = f"{result.get('steps')} steps"
    text += "" if loss is None else f", loss {loss:.2g}"
    return text + ("" if held_out is None else f" (held out {held_out:.2g})")


def end_runs(run_ids: Iterable[str]) -> None:
    """Stop the runs that still work, and wait until their processes are gone."""
    for run_id in run_ids:
        with runs.unstoppable():
            process = runs.read_run(run_id).pid
            arguments = {"run_id": run_id, "grace_seconds": GRACE_SECONDS}
            dispatch.call("cancel_run", arguments, surface="cli")
            if process is not None:
                runs.wait_until_gone(process)
