"""The one tool table, and the one way to call a tool, for the server and the command line.

A call goes: look up → check arguments → check the log → run → audit. What may take long runs
over MCP as a detached child (``python -m finetuning_skill.dispatch RUN_ID``) that the run store
describes, so that a host that cuts the call, or dies, loses nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from finetuning import records, settings
from finetuning.errors import BadInputError, FineTuningError, RunFailedError
from finetuning.records import NextCall, ToolResult
from finetuning_skill.table import TOOLS, UNAUDITED, Tool, command_line, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from finetuning.runs import RunRow

MCP_WAIT_SECONDS: Final = 40.0
"""Longest wait inside one MCP call; hosts cut a call at 60 s (measured 2026-11, OpenClaw)."""

PAGE_OVER_MCP: Final = 20
"""Listed items of a page: 50 findings measured 2,385 tokens, above the limit of 2,000."""

Surface = Literal["library", "cli", "mcp"]

__all__ = [
    "MCP_WAIT_SECONDS",
    "PAGE_OVER_MCP",
    "TOOLS",
    "Pending",
    "Surface",
    "Tool",
    "arguments_of",
    "call",
    "check",
    "command_line",
    "function",
    "outcome",
    "pending",
    "result_of",
    "run_job",
    "start",
    "tool",
]


class Pending(ToolResult):
    """Work that goes on in a run of its own; ask get_run for the result."""

    run_id: str
    status: str

    def summary(self) -> str:
        """Say how to go on."""
        return f"Run {self.run_id} is {self.status}; get_run returns its result when it ends."


@functools.cache
def function(name: str) -> Callable[..., ToolResult]:
    """Import the tool's package and return its function."""
    return cast(
        "Callable[..., ToolResult]", getattr(importlib.import_module(tool(name).package), name)
    )


@functools.cache
def arguments_of(name: str) -> type[BaseModel]:
    """Return the argument model of a tool."""
    return records.argument_model(function(name), name)


@functools.cache
def result_of(name: str) -> type[ToolResult]:
    """Return the result model of a tool (its function's return annotation)."""
    annotation = typing.get_type_hints(function(name))["return"]
    return cast("type[ToolResult]", annotation)


def check(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check arguments and return them as keyword arguments of the function.

    Raises:
        UnknownNameError: The tool, an argument or a listed value is not known.
        BadInputError: A value has the wrong type or lies out of range.
    """
    return records.check_arguments(name, arguments_of(tool(name).name), arguments)


def call(name: str, arguments: Mapping[str, Any], *, surface: Surface = "library") -> ToolResult:
    """Call a tool in this process: check, run, audit.

    Args:
        name: Name of the tool.
        arguments: Its arguments, as JSON values.
        surface: Who calls; the audit log says so.

    Returns:
        The tool's result.

    Raises:
        FineTuningError: Bad input, something forbidden, or a broken run.
    """
    settings.enforce_offline()
    checked = check(name, arguments)
    if surface == "mcp":
        _refuse_code(name, arguments)
    if name not in UNAUDITED:
        from finetuning import audit

        audit.check_log()
    try:
        result = function(name)(**checked)
    except BaseException as error:  # also a crash or Ctrl-C: what was read was read
        if name not in UNAUDITED:
            _audit(name, arguments, surface, {"error": type(error).__name__})
        raise
    if name not in UNAUDITED or getattr(result, "checkpoint_file", None):
        _audit(name, arguments, surface, {"exit_code": result.exit_code(), **_traces(result)})
    return result


def _refuse_code(name: str, arguments: Mapping[str, Any]) -> None:
    """Stop a call of an assistant that names a function to run, such as a verifier.

    Raises:
        BadInputError: Only a person at a terminal names code.
    """
    for given in arguments.values():
        if isinstance(given, dict) and cast("dict[str, Any]", given).get("verifier"):
            raise BadInputError(
                name,
                "a verifier is named, and an assistant may not say which code runs",
                "a call without it",
                "A person runs: fine-tuning configure-training … --overrides with the verifier",
            )
    metrics = arguments.get("metrics")
    named = cast("list[Any]", metrics) if isinstance(metrics, list) else [metrics]
    if any(":" in str(entry) for entry in named):
        raise BadInputError(
            name,
            "metrics names a function, and an assistant may not say which code runs",
            "metrics by their names, or auto",
            "A person runs: fine-tuning compare-eval … --metrics module:function",
        )


def start(name: str, arguments: Mapping[str, Any]) -> RunRow:
    """Start a tool in a detached child and return its run.

    Raises:
        UnknownNameError: The tool, an argument or a listed value is not known.
        BadInputError: A value has the wrong type or lies out of range.
    """
    from finetuning import runs

    check(name, arguments)
    run = runs.create_run(name, arguments=arguments)
    runs.spawn(run.run_id, [sys.executable, "-m", "finetuning_skill.dispatch", run.run_id])
    return runs.read_run(run.run_id)


def pending(run: RunRow) -> Pending:
    """Return the handle of a run that goes on."""
    follow = NextCall(
        tool="get_run",
        args={"run_id": run.run_id, "wait_seconds": 30},
        why="returns progress, and the result when the run has ended",
    )
    return Pending(run_id=run.run_id, status=run.status, next=[follow])


def outcome(run: RunRow) -> ToolResult:
    """Return what a run has come to: its result, or the handle while it goes on.

    Raises:
        RunFailedError: The run failed, was cancelled or was lost.
    """
    if run.status in {"queued", "running"}:
        return pending(run)
    if run.status == "succeeded" and run.result is not None:
        return result_of(run.tool).model_validate(run.result)
    raise RunFailedError(
        run.tool,
        f"run {run.run_id} ended as {run.status}: {run.error or 'no reason was recorded'}",
        "a run that succeeds",
        f"Read its log: {run.log_file}",
    )


def _audit(
    name: str, arguments: Mapping[str, Any], surface: Surface, facts: dict[str, Any]
) -> None:
    from finetuning import audit, files

    audit.append(
        f"tool.{name}",
        {
            "surface": surface,
            "arguments_sha256": files.digest(dict(arguments)),
            "inputs": _digests(tool(name), arguments),
            **facts,
        },
    )


def _digests(row: Tool, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return name → sha256 of the files that the arguments name (those that can be read).

    A further file of the same name is told by its number.
    """
    from finetuning import files

    found: dict[str, str] = {}
    for argument in row.inputs:
        value = arguments.get(argument)
        for path in cast("list[Any]", value) if isinstance(value, list) else [value]:
            if not isinstance(path, str):
                continue
            try:
                named = files.data_files(path.removeprefix("recorded:"), where=row.name)
                digests = {file: files.sha256_file(file) for file in named.values()}
            except (FineTuningError, OSError):
                continue
            for file, digest in digests.items():
                if found.get(file.name, digest) == digest:
                    found[file.name] = digest
                else:
                    found[f"{file.name}#{len(found) + 1}"] = digest
    return found


def _traces(result: ToolResult) -> dict[str, Any]:
    """Return the ids and digests of a result that the audit log keeps."""
    kept = ("run_id", "plan_id", "data_sha256", "verdict", "status", "valid", "head_digest")
    values = {key: getattr(result, key, None) for key in kept}
    return {key: value for key, value in values.items() if isinstance(value, str | bool)}


def run_job(run_id: str) -> int:
    """Run the tool of a queued run to its end and return the exit code of its answer.

    Reads the arguments from the run's folder and leaves the result in the run store.
    """
    import json

    from finetuning import runs

    runs.attach(run_id)
    row = runs.read_run(run_id)
    text = (Path(row.folder) / "args.json").read_text(encoding="utf-8")
    arguments = cast("dict[str, Any]", json.loads(text))

    def report(done: int, total: int | None, what: str) -> None:
        runs.record_progress(run_id, runs.RunProgress(step=done, total_steps=total, what=what))

    try:
        with runs.listen(report):
            result = call(row.tool, arguments, surface="mcp")
    except FineTuningError as error:
        runs.finish(run_id, "failed", error=str(error))
        return error.exit_code
    except Exception as error:
        runs.finish(run_id, "failed", error=f"{row.tool}: {type(error).__name__}; see the log.")
        raise
    runs.finish(run_id, "succeeded", result=result.model_dump(mode="json"))
    return result.exit_code()


def main() -> int:
    """Entry point of the child process."""
    settings.enforce_offline()
    return run_job(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
