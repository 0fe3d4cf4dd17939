"""The server as hosts start it: a process on stdio or HTTP, spoken to by the SDK's client."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters

from finetuning_skill import dispatch

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_stdio_server_lists_and_answers(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "fine-tuning-mcp")
    parameters = StdioServerParameters(command=program, args=[], env=dict(os.environ), cwd=tmp_path)
    async with Client(parameters) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == list(dispatch.TOOLS)
        answer = await client.call_tool("inspect_environment", {})
        assert answer.structured_content is not None
        assert answer.structured_content["home"] == os.environ["FINE_TUNING_HOME"]


@contextlib.asynccontextmanager
async def http_server(host: str = "127.0.0.1") -> AsyncGenerator[str]:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "finetuning_skill.server", "--http"]
    command += ["--host", host, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with httpx2.AsyncClient() as probe_client:
            for _ in range(300):
                with contextlib.suppress(httpx2.ConnectError):
                    await probe_client.get(f"http://{host}:{port}/mcp")
                    break
                await anyio.sleep(0.1)
        yield f"http://{host}:{port}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=20)


async def test_http_server_lists_tools_to_the_sdk_client() -> None:
    async with http_server() as url, Client(url) as client:
        assert len((await client.list_tools()).tools) == len(dispatch.TOOLS)


async def test_http_server_refuses_a_foreign_host_header() -> None:
    """Also at an address of this machine that the protocol's package does not guard by itself."""
    async with http_server("127.0.0.2") as url, httpx2.AsyncClient() as client:
        answer = await client.post(url, headers={"Host": "evil.example"}, json={})
        assert answer.status_code == 421
        page = {"Origin": "http://evil.example"}
        assert (await client.post(url, headers=page, json={})).status_code == 403
        mine = {"Origin": url.removesuffix("/mcp")}
        assert (await client.post(url, headers=mine, json={})).status_code not in {403, 421}


async def test_nothing_heavy_is_imported_by_listing_tools() -> None:
    code = (
        "import anyio, sys\n"
        "from finetuning_skill.server import build_server\n"
        "anyio.run(build_server().list_tools)\n"
        "heavy = {'torch','transformers','peft','trl','openai','anthropic','boto3','scrubadub',"
        "'polars','numpy','tiktoken'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = await anyio.run_process([sys.executable, "-c", code])
    assert done.stdout.decode().strip() == "[]"
