"""A tiny language model and two adapters, made on the spot once for this folder."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import warnings
from collections.abc import Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = ("red", "blue", "green", "black", "white", "small", "large", "round", "flat", "soft")


class TinyModels(NamedTuple):
    """Folders of a base and two adapters, and rows the good adapter gets right."""

    base: Path
    good: Path
    bad: Path
    rows: list[dict[str, str]]
    train: list[dict[str, str]]


def colour_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Return distinct rows whose answer is the label the last word stands for."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        words = [generator.choice(WORDS) for _ in range(4)]
        last = generator.choice(("cat", "oak"))
        found[f"{' '.join(words)} {last}:"] = " animal" if last == "cat" else " plant"
    return [{"prompt": prompt, "completion": answer} for prompt, answer in found.items()]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> TinyModels:
    """Return the tiny models, in a folder that the tools may read."""
    roots = [os.environ["FINE_TUNING_ROOTS"], str(tiny_models.base.parent)]
    monkeypatch.setenv("FINE_TUNING_ROOTS", os.pathsep.join(roots))
    return tiny_models


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Build a byte-level tokenizer, a random base, a trained and an untrained adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    torch.set_num_threads(1)
    cast("Any", torch).manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1, **{c: k + 2 for k, c in enumerate(alphabet)}}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    untyped = cast("Any", raw)
    untyped.pre_tokenizer = cast("Any", pre_tokenizers.ByteLevel)(add_prefix_space=False)
    untyped.decoder = cast("Any", decoders.ByteLevel)()
    tokenizer: Any = cast("Any", PreTrainedTokenizerFast)(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>"
    )
    tokenizer.save_pretrained(folder / "base")
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.06,
    )
    model: Any = cast("Any", LlamaForCausalLM)(config)
    model.save_pretrained(folder / "base")
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    train = colour_rows(240, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft 0.21 calls what transformers 5.23 deprecates
        wrapped: Any = get_peft_model(model, lora)
        wrapped.save_pretrained(folder / "bad")
        _train(wrapped, tokenizer, train, torch)
        wrapped.save_pretrained(folder / "good")
    held_out = [row for row in colour_rows(400, seed=2) if row not in train][:40]
    return TinyModels(folder / "base", folder / "good", folder / "bad", held_out, train)


def _train(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]], torch: Any) -> None:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    encoded = [
        (tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"] + [1])
        for row in rows
    ]
    generator = random.Random(0)
    model.train()
    for _ in range(90):
        batch = generator.sample(encoded, 32)
        width = max(len(p) + len(c) for p, c in batch)
        ids = [p + c + [0] * (width - len(p) - len(c)) for p, c in batch]
        labels = [[-100] * len(p) + c + [-100] * (width - len(p) - len(c)) for p, c in batch]
        mask = [[1] * (len(p) + len(c)) + [0] * (width - len(p) - len(c)) for p, c in batch]
        loss = model(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            labels=torch.tensor(labels),
        ).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


KEY = "-".join(["key", "of", "a", "test"])


class Vendor(BaseHTTPRequestHandler):
    """Speaks the APIs of four vendors; answers with the last word it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = cast("VendorServer", self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with server.lock:
            server.requests.append((self.path, headers, body))
            number = len(server.requests)
        if server.hold_after is not None and number > server.hold_after:
            server.held.release()
            self.rfile.read()  # until the other side goes away
            return
        if server.refuse_temperature and "temperature" in json.dumps(body):
            message = "'temperature' is not supported"
            self._send(400, {"error": {"message": message}, "message": message})
            return
        status, extra = server.script.get(number, (200, {}))
        if status == 0:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if status != 200:
            self._send(status, {"error": {"message": "no", "type": "x"}}, **extra)
            return
        self._send(200, self._reply(body, server.moods[number % len(server.moods)]))

    def _reply(self, body: dict[str, Any], mood: str) -> dict[str, Any]:
        if self.path.endswith("/v1/completions") and body.get("echo"):
            text = body["prompt"]
            known: dict[str, Any] = {"text_offset": list(range(len(text) + 1))}
            known["token_logprobs"] = [None, *[-float(at % 2) for at in range(1, len(text) + 1)]]
            choice = {"text": text + "x", "logprobs": known if body["model"] != "blind" else None}
            return {"choices": [choice]}
        if self.path.endswith("/v1/completions"):
            choice = {"text": body["prompt"].split()[-1] + mood, "finish_reason": "stop"}
            return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        if "/chat/completions" in self.path:
            text = (
                cast("VendorServer", self.server).fixed
                or body["messages"][-1]["content"].split()[-1]
            )
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
            return {**whole, "choices": [choice], "usage": usage}
        if "/messages" in self.path:
            text = body["messages"][-1]["content"].split()[-1]
            whole = {"id": "1", "type": "message", "role": "assistant", "model": "m"}
            content = [{"type": "text", "text": text}]
            usage = {"input_tokens": 7, "output_tokens": 2}
            return {**whole, "content": content, "stop_reason": "end_turn", "usage": usage}
        if "/converse" in self.path:
            text = body["messages"][-1]["content"][0]["text"].split()[-1]
            message = {"role": "assistant", "content": [{"text": text}]}
            usage = {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9}
            stop = {"stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
            return {"output": {"message": message}, **stop}
        text = body["contents"][-1]["parts"][0]["text"].split()[-1]
        content = {"role": "model", "parts": [{"text": text}]}
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}
        candidate = {"content": content, "finishReason": "STOP"}
        return {"candidates": [candidate], "usageMetadata": usage}

    def _send(self, status: int, body: dict[str, Any], **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


class VendorServer(ThreadingHTTPServer):
    """A vendor of this test; ``script`` says how the n-th request ends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Vendor)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.script: dict[int, tuple[int, dict[str, str]]] = {}
        self.refuse_temperature = False
        self.hold_after: int | None = None
        self.held = threading.Semaphore(0)
        self.moods = [""]
        self.fixed = ""
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Generator[VendorServer]:
    monkeypatch.setattr("finetuning.evaluation.servers.PAUSE_SECONDS", (0.0, 0.0))
    with VendorServer() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", running.address + "/v1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.address)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", running.address)
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", running.address)
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", running.address)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        for name in ("OPENAI", "ANTHROPIC", "AZURE_OPENAI", "GOOGLE"):
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")  # a bearer key would need https
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        yield running
        running.shutdown()
        thread.join()
