"""Start → first answer of our server against a minimal ``mcp`` server, in turn.

Run: ``python benchmarks/startup.py [--runs 12]``. Each run starts a fresh process over stdio,
sends ``initialize`` and takes the time until the answer's line arrives; then ``tools/list``.
Prints medians and the ratio; exits 1 when the ratio of the first answers exceeds 1.25, or when
a heavy package is loaded after ``tools/list``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

REACH = 1.25
HEAVY = (
    "torch", "transformers", "peft", "trl", "openai", "anthropic", "boto3", "scrubadub", "polars",
)  # fmt: skip
MINIMAL = """
from mcp.server import MCPServer
server = MCPServer("minimal")
@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
server.run("stdio")
"""
LOADED = f"""
import anyio, json, sys
from finetuning_skill.server import build_server
names = [tool.name for tool in anyio.run(build_server().list_tools)]
print(json.dumps([len(names), sorted(set(sys.modules) & set({HEAVY!r}))]))
"""
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1"},
    },
}  # fmt: skip
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Both servers run from compiled files, as an installed package does."""

INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


def _ask(process: subprocess.Popen[bytes], *messages: Mapping[str, object]) -> dict[str, object]:
    assert process.stdin is not None
    assert process.stdout is not None
    for message in messages:
        process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, object] = json.loads(process.stdout.readline())
    return answer


def measure(command: list[str]) -> tuple[float, float]:
    """Return seconds to the first answer and from there to the list of tools."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    try:
        assert "result" in _ask(process, INITIALIZE)
        first = time.perf_counter()
        assert "result" in _ask(process, INITIALIZED, LIST)
        return first - started, time.perf_counter() - first
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=20)


def main() -> int:
    """Measure both servers in turn and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12, help="runs of each server, at least 10")
    runs = max(10, parser.parse_args().runs)
    servers = {
        "minimal": [sys.executable, "-c", MINIMAL],
        "ours": [sys.executable, "-m", "finetuning_skill.server"],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for command in servers.values():
        measure(command)  # compiles the .pyc files of both
    for _ in range(runs):
        for name, command in servers.items():
            times[name].append(measure(command))
    medians: dict[str, float] = {}
    for name, values in times.items():
        first = statistics.median(value[0] for value in values)
        listed = statistics.median(value[1] for value in values)
        medians[name] = first
        total = statistics.median(sum(value) for value in values)
        print(
            f"{name:8} first answer {first * 1000:6.0f} ms   tools/list +{listed * 1000:5.0f} ms"
            f"   both {total * 1000:6.0f} ms   ({runs} runs)"
        )
    ratio = medians["ours"] / medians["minimal"]
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True)
    n_tools, heavy = json.loads(loaded.stdout)
    print(f"ratio of the first answers {ratio:.2f} (reach: {REACH} or less)")
    print(f"{n_tools} tools listed; heavy packages loaded after it: {heavy or 'none'}")
    return 0 if ratio <= REACH and not heavy else 1


if __name__ == "__main__":
    sys.exit(main())
