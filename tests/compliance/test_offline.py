"""Offline mode: whatever can send is stopped before a connection opens, also through a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.servers import Params
from finetuning.evaluation.targets import AskedTarget, parse_target
from finetuning.evaluation.vendors import open_asker
from finetuning.settings import SECRET_VARIABLES, enforce_offline

CHILD = r"""
import asyncio, json, os, socket, sys, threading
from pathlib import Path

folder = Path(sys.argv[1])
reached = []          # what came to the proxy on this machine
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(50)
def serve():
    while True:
        other, _ = listener.accept()
        reached.append(other.recv(200).decode("latin-1"))
        other.close()
threading.Thread(target=serve, daemon=True).start()
address = "http://127.0.0.1:%d" % listener.getsockname()[1]
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ[name] = address
os.environ.pop("NO_PROXY", None); os.environ.pop("no_proxy", None)

from finetuning import settings
settings.enforce_offline()
opened = []           # this hook comes after the guard: it sees only what the guard let through
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg",
          "socket.gethostbyname", "socket.gethostbyaddr"}
def watch(event, given):
    if event in EVENTS:
        where = given[1] if event.endswith(("connect", "to", "msg")) else given
        host = where[0] if isinstance(where, tuple) else None
        if host not in ("127.0.0.1", "localhost", "::1", None, "", b""):
            opened.append([event, str(host)])
sys.addaudithook(watch)
outcomes = {}
def note(name, work):
    try:
        outcomes[name] = ["answered", repr(work())]
    except BaseException as error:
        chain, link = [], error
        while link is not None:
            chain.append(type(link).__name__)
            link = link.__cause__ or link.__context__
        outcomes[name] = [chain, str(error)[:300]]

from finetuning_skill import dispatch
from finetuning.evaluation.servers import Params
from finetuning.evaluation.targets import parse_target
from finetuning.evaluation.vendors import open_asker
data = str(folder / "rows.jsonl")
TARGETS = ["openai:gpt-5-mini", "azure:mine", "anthropic:claude-x", "bedrock:m.n-v1:0",
           "vertex:gemini-x", "http://models.example/v1#m", "https://api.together.xyz/v1#m"]
price = {"price_in_usd_per_mtok": "0.1", "price_out_usd_per_mtok": "0.1", "dry_run": False}
recorded = "recorded:" + str(folder / "recorded.jsonl")
async def ask(target):
    async with open_asker(target, 1) as asker:
        return await asker.generate([{"role": "user", "content": "hello"}], Params(5))
for spec in TARGETS:
    call = {"data": data, "base": recorded, "tuned": spec, **price}
    note("compare_eval " + spec, lambda: dispatch.call("compare_eval", call))
    capture = {"prompts": data, "model": spec, "output": str(folder / "got.jsonl"), **price}
    note("capture_outputs " + spec, lambda: dispatch.call("capture_outputs", capture))
    target = parse_target(spec, where="test")
    note("client " + spec, lambda: asyncio.run(asyncio.wait_for(ask(target), 60)))
judged = {"data": data, "base": recorded, "tuned": recorded, "judge": "openai:gpt-5-mini", **price}
note("judge", lambda: dispatch.call("compare_eval", judged))
for provider in ("openai", "together", "bedrock"):
    config = {"provider": provider, "base_model": "x", "train_file": data}
    note("launch " + provider, lambda: dispatch.call("launch_lora", {"config": config}))
os.environ["HF_ENDPOINT"] = "https://hub.example"
configure = {"base_model": "Qwen/Qwen3-8B", "data": data, "method": "sft"}
note("configure_training", lambda: dispatch.call("configure_training", configure).model_dump_json())
from finetuning import providers
note("refresh", lambda: [(s.status, s.why) for s in providers.refresh_catalogue(
    output_dir=str(folder / "refreshed")).signals])
from finetuning_skill import bundle
note("bundle", lambda: bundle.bundle(str(folder / "bundle")))
import huggingface_hub
note("hub", lambda: huggingface_hub.hf_hub_download("someone/some-model", "config.json"))
import urllib.request
note("urllib", lambda: urllib.request.urlopen("https://hub.example/x", timeout=5))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
note("sendto", lambda: udp.sendto(b"x", ("192.0.2.1", 53)))
note("sendmsg", lambda: udp.sendmsg([b"x"], [], 0, ("192.0.2.1", 53)))
note("lookup", lambda: socket.gethostbyaddr("192.0.2.1"))
note("grandchild", lambda: __import__("subprocess").run(
    [sys.executable, "-c", "import os; e = os.environ; print(e['HF_HUB_OFFLINE'], e['NO_PROXY'])"],
    capture_output=True, text=True).stdout.strip())
print(json.dumps({"outcomes": outcomes, "opened": opened, "reached": reached}))
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Try everything that can send, in a process in offline mode with a proxy on this machine."""
    folder = tmp_path_factory.mktemp("offline")
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{"id": str(n + 1), "output": f"answer {n}"} for n in range(12)]
    (folder / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    environment = {
        **os.environ,
        **dict.fromkeys(SECRET_VARIABLES, "k" * 24),
        "FINE_TUNING_OFFLINE": "1", "FINE_TUNING_MAX_USD": "100",
        "FINE_TUNING_HOME": str(folder / "home"), "FINE_TUNING_ROOTS": str(folder),
        "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com", "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "k" * 16, "AWS_SECRET_ACCESS_KEY": "k" * 24,
        "HF_HOME": str(folder / "hub"),
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder)],
        capture_output=True, text=True, env=environment, timeout=240, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_that_can_send_opens_a_connection_or_reaches_a_proxy(
    offline: dict[str, Any],
) -> None:
    assert offline["opened"] == []
    assert offline["reached"] == []
    assert len(offline["outcomes"]) >= 30


def test_every_tool_refuses_another_machine_before_anything_else(offline: dict[str, Any]) -> None:
    tools = ("compare_eval", "capture_outputs", "judge")
    refused = {k: v for k, v in offline["outcomes"].items() if k.startswith(tools)}
    assert len(refused) == 15
    for name, (kinds, text) in refused.items():
        assert kinds[0] == "NotAllowedError", (name, kinds, text)
        assert "FINE_TUNING_OFFLINE=1" in text


def test_each_vendors_own_client_is_stopped_by_the_guard(offline: dict[str, Any]) -> None:
    clients = {k: v for k, v in offline["outcomes"].items() if k.startswith("client ")}
    assert len(clients) == 7
    for name, (kinds, text) in clients.items():
        assert kinds != "answered", (name, text)
        assert {"RequestFailedError", "PermissionError", "BadInputError"} & set(kinds), (
            name,
            kinds,
        )


def test_the_rest_says_that_offline_mode_is_on(offline: dict[str, Any]) -> None:
    said = offline["outcomes"]
    for provider in ("openai", "together", "bedrock"):
        assert said[f"launch {provider}"][0] != "answered"
    assert "offline" in json.dumps(said["configure_training"]).casefold()
    assert said["refresh"][1].count("skipped") == 6
    assert said["refresh"][1].count("FINE_TUNING_OFFLINE is set") >= 5
    assert "FINE_TUNING_OFFLINE" in said["bundle"][1]
    assert "OfflineModeIsEnabled" in str(said["hub"]) or "LocalEntryNotFound" in str(said["hub"])
    for name in ("urllib", "sendto", "sendmsg", "lookup"):
        assert said[name][0][0] == "PermissionError", said[name]
    assert said["grandchild"] == ["answered", "'1 *'"]


class _Heard(BaseHTTPRequestHandler):
    """Answers as a model and remembers that it was asked."""

    heard: list[tuple[int, str]]

    def do_POST(self) -> None:
        """Answer one chat."""
        self.heard.append((cast("ThreadingHTTPServer", self.server).server_port, self.path))
        self.rfile.read(int(self.headers["content-length"]))
        reply = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def two_servers() -> Iterator[tuple[list[tuple[int, str]], list[int]]]:
    """Run a model and a proxy on this machine; return who was asked, and their ports."""
    heard: list[tuple[int, str]] = []
    handler = type("Heard", (_Heard,), {"heard": heard})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield heard, [server.server_port for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_question_to_this_machine_never_goes_through_a_proxy(
    two_servers: tuple[list[tuple[int, str]], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no approval because nothing leaves; a proxy would carry it away."""
    heard, (model, proxy) = two_servers
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    target = parse_target(f"http://127.0.0.1:{model}/v1#m", where="test")
    assert isinstance(target, AskedTarget)

    async def ask() -> str | None:
        async with open_asker(target, 1) as asker:
            question = Question("1", 1, None, ({"role": "user", "content": "hi"},), "")
            return (await asker.generate(question.messages or (), Params(5))).text

    assert asyncio.run(ask()) == "hello"
    assert heard == [(model, "/v1/chat/completions")]


def test_a_socket_of_this_machines_own_is_never_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    for name in ("NO_PROXY", "no_proxy", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "")  # restored after the test
    enforce_offline()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind("here")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"x", "here")
        assert one.recv(1) == b"x"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.sendto(b"y", udp.getsockname())
        assert udp.recv(1) == b"y"
