"""The MCP server: the tool table, the knowledge files and the checklist, over stdio or HTTP.

Nothing of a topic is imported before a client lists or calls tools, so the first answer is
as quick as that of an empty server (benchmarks/startup.py).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any, Final, cast

import anyio.from_thread
import anyio.to_thread
from mcp.server import MCPServer
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from mcp.types import Tool as WireTool

from finetuning import records, settings
from finetuning.errors import BadInputError, FineTuningError
from finetuning_skill import TOPICS, ask, checklist, compact, dispatch, read_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.mcpserver import Context
    from mcp.server.transport_security import TransportSecuritySettings
    from pydantic import BaseModel

    from finetuning.records import ToolResult
    from finetuning.runs import RunRow

INSTRUCTIONS: Final = (
    "Measures before it advises. Start with assess_fit (what is unknown comes back as questions); "
    "inspect_data and compare_eval return fit_facts that assess_fit takes as they are. Long work "
    "returns run_id: follow it with get_run. Nothing is spent or sent before a person approves a "
    "plan. Row text stays in local files whose paths are returned. Knowledge: knowledge://skill."
)


@functools.cache
def wire_tool(name: str) -> WireTool:
    """Return a tool as the protocol lists it: schemas from the function, hints from the table."""
    row = dispatch.tool(name)
    text, _ = records.describe(dispatch.function(name))
    inputs = compact(dispatch.arguments_of(name).model_json_schema())
    return WireTool(
        name=name,
        title=row.title,
        description=text,
        input_schema=inputs,
        output_schema=_output_schema(row),
        annotations=ToolAnnotations(
            title=row.title,
            read_only_hint=row.read_only,
            destructive_hint=False,
            idempotent_hint=row.idempotent,
            open_world_hint=row.open_world,
        ),
    )


def _output_schema(row: dispatch.Tool) -> dict[str, Any]:
    """Return the result's schema; for detached work, that of the run handle beside it."""
    from pydantic.json_schema import models_json_schema

    models: list[type[BaseModel]] = [dispatch.result_of(row.name)]
    if row.detached:
        models.append(dispatch.Pending)
    refs, rest = models_json_schema([(model, "serialization") for model in models])
    schema = {"type": "object", "anyOf": list(refs.values()), **rest}
    return cast("dict[str, Any]", compact(schema))


def _answer(result: ToolResult) -> CallToolResult:
    lines = [result.summary(), *(f"Next: {dispatch.command_line(n)}" for n in result.next)]
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(lines))],
        structured_content=result.model_dump(mode="json"),
    )


def _refusal(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


def _over_mcp(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Apply what holds over MCP only: short pages, no waiting beyond the hosts' patience."""
    checked = dict(given)
    row = dispatch.TOOLS.get(name)
    if row is not None and row.page is not None:
        checked.setdefault(row.page, row.page_size or dispatch.PAGE_OVER_MCP)
    wait = checked.get("wait_seconds")
    if name == "get_run" and isinstance(wait, int | float):
        checked["wait_seconds"] = min(wait, dispatch.MCP_WAIT_SECONDS)
    return checked


def _telling(
    work: Callable[[], ToolResult], context: Context[Any, Any]
) -> Callable[[], ToolResult]:
    """Return the work so that its progress reaches the caller who waits for it."""

    def report(done: int, total: int | None, what: str) -> None:
        with contextlib.suppress(RuntimeError):  # the caller does not wait any more
            anyio.from_thread.run(context.report_progress, done, total, what)

    def told() -> ToolResult:
        from finetuning import runs

        with runs.listen(report):
            return work()

    return told


class FineTuningServer(MCPServer[Any]):
    """An MCP server whose tools are the rows of the dispatch table."""

    async def list_tools(self) -> list[WireTool]:
        """Return all tools, always in the order of the table."""
        return [wire_tool(name) for name in dispatch.TOOLS]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call one tool; what goes wrong is an error result that the model can read.

        Args:
            name: Name of the tool.
            arguments: Its arguments.
            context: The request, absent when called directly.
        """
        given = _over_mcp(name, arguments)
        try:
            if context is not None:
                question = await ask(name, given, context)
                if question is not None:
                    return question
            if dispatch.tool(name).detached:
                return await self._detached(name, given, context)
            work = functools.partial(dispatch.call, name, given, surface="mcp")
            told = work if context is None else _telling(work, context)
            return _answer(await anyio.to_thread.run_sync(told, abandon_on_cancel=True))
        except (FineTuningError, PermissionError) as error:
            return _refusal(str(error))

    async def _detached(
        self, name: str, given: dict[str, Any], context: Context[Any, Any] | None
    ) -> CallToolResult:
        run = await anyio.to_thread.run_sync(functools.partial(dispatch.start, name, given))
        run = await _wait(run, context)
        if run.status == "failed" and run.error:
            return _refusal(run.error)
        return _answer(dispatch.outcome(run))


async def _wait(run: RunRow, context: Context[Any, Any] | None) -> RunRow:
    """Wait for a run as long as one MCP call may take, reporting progress on the way."""
    from finetuning import runs

    deadline = anyio.current_time() + dispatch.MCP_WAIT_SECONDS
    while run.status in {"queued", "running"} and anyio.current_time() < deadline:
        run = await anyio.to_thread.run_sync(runs.wait, run.run_id, 1.0)
        if context is not None and run.progress.step is not None:
            total = run.progress.total_steps
            await context.report_progress(run.progress.step, total, run.progress.what)
    return run


def build_server() -> FineTuningServer:
    """Return the server with its tools, the knowledge resources and the checklist prompt."""
    from importlib.metadata import version

    server = FineTuningServer(
        "fine-tuning",
        title="Fine-tuning",
        instructions=INSTRUCTIONS,
        version=version("fine-tuning-skill"),
    )
    for topic, file in TOPICS.items():
        server.resource(
            f"knowledge://{topic}",
            name=topic,
            description=f"{file} of the fine-tuning skill",
            mime_type="text/markdown",
        )(functools.partial(read_topic, topic))
    server.prompt(name="checklist", description="The decision checklist: should I fine-tune?")(
        checklist
    )
    return server


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fine-tuning-mcp", description=__doc__)
    parser.add_argument("--http", action="store_true", help="Serve streamable HTTP, not stdio.")
    parser.add_argument("--host", default="127.0.0.1", help="Loopback address to listen on.")
    parser.add_argument("--port", type=int, default=8765, help="Port to listen on (8765).")
    return parser.parse_args(words)


def _own_names_only(host: str) -> TransportSecuritySettings:
    """Return what a request must name; the package guards three spellings of loopback only.

    Without it a web page could reach the server by rebinding a name of its own to this machine.
    """
    from mcp.server.transport_security import TransportSecuritySettings

    own = f"[{host}]" if ":" in host else host
    names = list(dict.fromkeys([own, "127.0.0.1", "localhost", "[::1]"]))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:*" for name in names],
        allowed_origins=[f"http://{name}:*" for name in names],
    )


def serve(words: list[str]) -> None:
    """Serve until the client leaves.

    Args:
        words: Command-line words after ``fine-tuning-mcp``.

    Raises:
        BadInputError: ``--host`` is not this machine.
    """
    options = _options(words)
    settings.enforce_offline()
    if options.http and not settings.is_loopback(options.host):
        raise BadInputError(
            "fine-tuning-mcp",
            f"--host is {options.host!r}",
            "a loopback address, because this server has no login",
            "Run: fine-tuning-mcp --http --host 127.0.0.1",
        )
    server = build_server()
    if options.http:
        guard = _own_names_only(options.host)
        server.run(
            "streamable-http", host=options.host, port=options.port, transport_security=guard
        )
    else:
        server.run("stdio")


def main() -> None:
    """Entry point of the ``fine-tuning-mcp`` command."""
    try:
        serve(sys.argv[1:])
    except FineTuningError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
