"""The command line: ``fine-tuning TOOL …``, the same functions under the same names."""

from __future__ import annotations

import os
import sys
import textwrap
import typing
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning import settings
from finetuning.errors import FineTuningError
from finetuning.records import ToolResult
from finetuning_skill import approve, dispatch, parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator, Sequence

INTERRUPTED = 130
BROKEN = 4
_SURFACE = frozenset({"json", "no_wait"})
WIDTH: Final = 100
"""Columns of a line; paths and commands are never broken."""

_ROWS: Final = 20
_HIDDEN: Final = frozenset({"next", "fit_facts"})


@contextmanager
def _progress() -> Generator[None]:
    """Show progress on stderr while a tool works, where stderr is a terminal."""
    from finetuning import runs

    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(done: int, total: int | None, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        with runs.listen(report):
            yield


def _tool_arguments(row: dispatch.Tool, values: argparse.Namespace) -> dict[str, Any]:
    hints = typing.get_type_hints(dispatch.function(row.name), include_extras=True)
    arguments: dict[str, Any] = {
        name: parser.read_value(raw, hints[name], f"fine-tuning {row.command}: --{name}")
        for name, raw in vars(values).items()
        if name not in _SURFACE
    }
    if row.page is not None:
        arguments.setdefault(row.page, None)
    return arguments


def _follow(result: ToolResult) -> ToolResult:
    """Follow a launched run to its end and return what get_run says of it."""
    run_id = getattr(result, "run_id", None)
    if not isinstance(run_id, str):
        return result
    try:
        with _progress():
            while True:
                state = dispatch.call("get_run", {"run_id": run_id, "wait_seconds": 2, "limit": 1})
                _report(state)
                if getattr(state, "status", "") not in {"queued", "running"}:
                    return state
    except KeyboardInterrupt:
        sys.stderr.write(f"{run_id} goes on; to stop it run: fine-tuning cancel-run {run_id}\n")
        raise


def _report(state: ToolResult) -> None:
    from finetuning import runs

    progress = getattr(state, "progress", None)
    if progress is not None:
        runs.progress(progress.step or 0, progress.total_steps, "training")


def _run_tool(row: dispatch.Tool, values: argparse.Namespace) -> ToolResult:
    arguments = _tool_arguments(row, values)
    no_wait = getattr(values, "no_wait", False)
    if no_wait and row.detached:
        return dispatch.pending(dispatch.start(row.name, arguments))
    with _progress():
        result = dispatch.call(row.name, arguments, surface="cli")
    if row.name == "launch_lora" and not no_wait:
        return _follow(result)
    return result


def _run_other(command: str, values: argparse.Namespace) -> ToolResult:
    if command == "demo":
        from finetuning_skill.demo import run_demo

        options = {name: v for name, v in vars(values).items() if name not in _SURFACE}
        return run_demo(**options)
    if command == "bundle":
        from finetuning_skill.bundle import bundle

        return bundle(**{name: v for name, v in vars(values).items() if name not in _SURFACE})
    if command == "catalogue":
        from finetuning import providers

        if values.action == "verify":
            return providers.verify_catalogue(as_of=values.as_of)
        return providers.refresh_catalogue(
            signals=values.signal, as_of=values.as_of, output_dir=values.output_dir
        )
    return approve(values.plan_id, values.max_usd)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(text: str, first: str, rest: str) -> str:
    """Return text in lines of at most WIDTH, words and paths whole."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _pairs(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name in _HIDDEN or value is None or value in ([], {}, ""):
            continue
        if isinstance(value, dict):
            yield from _pairs(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            if not any(isinstance(item, dict) for item in items):
                yield f"{prefix}{name}", ", ".join(_shown(item) for item in items)
        else:
            yield f"{prefix}{name}", _shown(value)


def _tables(values: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, value in values.items():
        if name not in _HIDDEN and isinstance(value, list):
            items = cast("list[Any]", value)
            rows = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
            if rows:
                yield name, rows


def as_text(result: ToolResult) -> str:
    """Return a result as plain text for the terminal (no colours, no box drawing)."""
    values = result.model_dump(mode="json")
    lines = [_wrapped(result.summary(), "", ""), ""]
    pairs = list(_pairs(values))
    width = max((len(name) for name, _ in pairs), default=0)
    lines.extend(_wrapped(text, f"  {name:<{width}}  ", " " * (width + 4)) for name, text in pairs)
    for name, rows in _tables(values):
        lines.extend(["", f"  {name} ({len(rows)}):"])
        for row in rows[:_ROWS]:
            cells = "  ".join(f"{key}: {text}" for key, text in _pairs(row))
            lines.append(_wrapped(cells, "    - ", "      "))
        if len(rows) > _ROWS:
            lines.append(f"    … {len(rows) - _ROWS} more; --json prints all")
    if result.next:
        lines.extend(["", "  next:"])
        for call in result.next:
            lines.extend(
                [f"    {dispatch.command_line(call)}", _wrapped(call.why, "      ", "      ")]
            )
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _print(result: ToolResult, as_json: bool) -> None:
    text = result.model_dump_json(indent=2) + "\n" if as_json else as_text(result)
    sys.stdout.write(text)
    sys.stdout.flush()


def _general(arguments: Sequence[str]) -> int:
    """Answer ``fine-tuning``, ``fine-tuning --help`` and ``fine-tuning --version``."""
    values = parser.build_parser(complete=False).parse_args(list(arguments))
    if values.version:
        from importlib.metadata import version

        sys.stdout.write(version("fine-tuning-skill") + "\n")
    else:
        sys.stdout.write(parser.build_parser(complete=False).format_help())
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: The words after ``fine-tuning``.
    """
    settings.enforce_offline()
    try:
        if not arguments or arguments[0].startswith("-"):
            return _general(arguments)
        command = arguments[0]
        values = parser.command_parser(command).parse_args(list(arguments[1:]))
        rows = {row.command: row for row in dispatch.TOOLS.values()}
        if command in rows:
            result = _run_tool(rows[command], values)
        else:
            result = _run_other(command, values)
        _print(result, values.json)
        return result.exit_code()
    except (FineTuningError, PermissionError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        sys.stderr.write("fine-tuning: interrupted; nothing half-written is left.\n")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        sys.stderr.write(_crash(error))
        return BROKEN


def _crash(error: Exception) -> str:
    """Describe a bug by kind and place; its text could hold row content, so it stays out."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "/".join(last.filename.split("/")[-3:])
    return (
        f"fine-tuning: {type(error).__name__} at {place}:{last.lineno} in {last.name}; expected no "
        "such error: this is a bug, nothing half-written is left. Report that line.\n"
    )


def main() -> None:
    """Entry point of the ``fine-tuning`` command."""
    try:
        code = run(sys.argv[1:])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
