"""A real MCP client that nobody here wrote (mcporter, from npm) speaks to the server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning_skill import dispatch

pytestmark = pytest.mark.clients
PACKAGES = ("node@24", "mcporter@0.12.3")
FOLDER = Path(sys.prefix) / "clients"


@pytest.fixture(scope="module")
def binaries() -> Path:
    """Install the client once per virtual environment and return its folder of programs."""
    if not (FOLDER / "node_modules" / ".bin" / "mcporter").exists():
        FOLDER.mkdir(exist_ok=True)
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", *PACKAGES]
        subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, timeout=300)
    return FOLDER / "node_modules" / ".bin"


def mcporter(binaries: Path, *words: str) -> Any:
    server = shlex.quote(str(Path(sys.executable).parent / "fine-tuning-mcp"))
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    command = [str(binaries / "mcporter"), words[0], "--stdio", server, *words[1:]]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_the_client_lists_every_tool_with_its_arguments(binaries: Path) -> None:
    listed = mcporter(binaries, "list", "--json")
    assert listed["status"] == "ok"
    assert [tool["name"] for tool in listed["tools"]] == list(dispatch.TOOLS)
    assert all("properties" in tool["inputSchema"] for tool in listed["tools"])


def test_the_client_calls_a_tool_and_gets_its_result(
    binaries: Path, write_lines: Callable[..., Path]
) -> None:
    path = write_lines("rows.jsonl", *['{"prompt": "p", "completion": "c"}'] * 12)
    words = ["call", "validate_jsonl", f"path={path}", "target=trl_prompt_completion"]
    result = mcporter(binaries, *words, "--output", "json")
    assert result["n_rows"] == 12
