"""OpenAI-compatible servers: asked on this machine at once, elsewhere only with approval."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from finetuning import approval, runs
from finetuning.errors import NotAllowedError
from finetuning.evaluation import Arm, compare_eval
from finetuning.settings import is_loopback


class Handler(BaseHTTPRequestHandler):
    """Answers with the last word of the prompt; the model's name says how it behaves."""

    @property
    def asked(self) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        """What the server was asked so far."""
        return cast("Server", self.server).requests

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, dict(self.headers), body))
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        model = body["model"]
        if model == "busy" and len(self.asked) == 1:
            self._send(503, b"later", ("Retry-After", "0"))
        elif model == "broken":
            self._send(400, b"{}")
        elif model == "moved":
            self._send(302, b"", ("Location", "http://example.invalid/"))
        elif model == "garbage":
            self._send(200, b"[1, 2")
        elif model == "odd":
            self._send(200, json.dumps({"choices": [{"text": 5}], "usage": None}).encode())
        else:
            text = prompt.split()[-1] if model != "silent" else ""
            choice: dict[str, Any] = {"finish_reason": "length" if model == "long" else "stop"}
            if "messages" in body:
                choice["message"] = {"role": "assistant", "content": text}
            else:
                choice["text"] = text
            usage = {"completion_tokens": 1}
            self._send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


class Server(ThreadingHTTPServer):
    """A server of this test that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def target(self, model: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1#{model}"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.evaluation.servers.PAUSE_SECONDS", (0.0, 0.0))


@pytest.fixture
def server() -> Generator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"say word{k}", "completion": f"word{k}"} for k in range(12)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_raw_prompts_go_to_completions_with_greedy_decoding(server: Server, data: Path) -> None:
    result = compare_eval(str(data), server.target("good"), max_tokens=9)
    assert result.verdict == "baseline"
    assert result.task[0].base == 1.0
    assert [entry.metric for entry in result.task] == ["exact_match", "token_f1"]
    path, headers, body = server.requests[0]
    assert path == "/v1/completions"
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0, 9, "good")
    assert "Authorization" not in headers
    assert result.latency is not None
    assert "request" in result.latency.how
    assert result.general is None


def test_chat_rows_go_to_chat_completions_with_the_arms_own_prompt(
    server: Server, tmp_path: Path
) -> None:
    system = {"role": "system", "content": "old"}
    rows = [
        {
            "messages": [
                system,
                {"role": "user", "content": f"say w{k}"},
                {"role": "assistant", "content": f"w{k}"},
            ]
        }
        for k in range(4)
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arms = [
        Arm(name="shots", target=server.target("shots"), few_shot=1),
        Arm(name="brief", target=server.target("brief"), system="Be brief."),
    ]
    result = compare_eval(str(path), server.target("good"), arms=arms, train=str(path))
    assert [arm.score for arm in result.arms] == [1.0, 1.0]
    sent = {body["model"]: body["messages"] for _, _, body in server.requests}
    assert sent["good"][0] == system
    assert sent["brief"][0] == {"role": "system", "content": "Be brief."}
    assert len(sent["brief"]) == 2
    assert [turn["role"] for turn in sent["shots"]] == ["system", "user", "assistant", "user"]


def test_examples_and_instructions_stand_before_a_raw_prompt(server: Server, data: Path) -> None:
    arm = Arm(name="both", target=server.target("both"), system="Repeat.", few_shot=2)
    compare_eval(str(data), server.target("good"), arms=[arm], train=str(data))
    prompts = [body["prompt"] for _, _, body in server.requests if body["model"] == "both"]
    assert any(p == "Repeat.\n\nsay word0word0\n\nsay word1word1\n\nsay word5" for p in prompts)


def test_a_busy_server_is_asked_again(server: Server, data: Path) -> None:
    result = compare_eval(str(data), server.target("busy"))
    assert result.task[0].base == 1.0
    assert len(server.requests) == 13


@pytest.mark.parametrize("model", ["broken", "moved", "garbage"])
def test_requests_that_fail_make_the_comparison_invalid(
    server: Server, data: Path, model: str
) -> None:
    result = compare_eval(str(data), server.target("good"), server.target(model))
    assert (result.verdict, result.exit_code()) == ("invalid", 4)
    assert "12 of 12 requests failed" in result.reasons[0]


def test_a_server_that_is_not_there_makes_the_comparison_invalid(data: Path) -> None:
    gone = Server()
    target = gone.target("good")
    gone.server_close()
    result = compare_eval(str(data), target)
    assert result.verdict == "invalid"


def test_empty_and_cut_answers_are_counted(server: Server, data: Path) -> None:
    result = compare_eval(str(data), server.target("silent"), server.target("long"))
    assert result.format["base"].missing_fraction == 1.0
    assert result.format["tuned"].truncated_fraction == 1.0
    assert result.verdict == "improved"
    odd = compare_eval(str(data), server.target("odd"))
    assert odd.format["base"].missing_fraction == 1.0


def test_progress_is_reported_while_asking(server: Server, data: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    with runs.listen(lambda done, total, what: seen.append((done, total, what))):
        compare_eval(str(data), server.target("good"))
    assert (12, 12, "asking base") in seen


def test_the_answers_can_be_used_again_as_recorded(server: Server, data: Path) -> None:
    first = compare_eval(str(data), server.target("good"))
    again = compare_eval(str(data), f"recorded:{first.outputs['base']}")
    assert again.task[0].base == first.task[0].base == 1.0
    assert again.outputs == {}


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_only_this_machine_counts_as_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


REMOTE = "https://models.example.com/v1#m"


def test_another_machine_is_planned_first_and_sends_nothing(data: Path) -> None:
    plan = compare_eval(str(data), REMOTE)
    assert (plan.verdict, plan.needs_approval, plan.exit_code()) == (None, True, 0)
    assert plan.plan is not None
    assert plan.plan.data_leaves_machine
    assert plan.plan.cost_usd is None
    assert plan.plan.steps == ["base: send 12 prompts to models.example.com"]
    assert plan.next[0].args["plan_id"] == plan.plan_id


def test_a_stated_price_becomes_the_most_that_a_run_can_cost(data: Path) -> None:
    plan = compare_eval(
        str(data),
        REMOTE,
        price_in_usd_per_mtok=Decimal(1),
        price_out_usd_per_mtok=Decimal(10),
        max_tokens=100,
    )
    assert plan.plan is not None
    assert plan.plan.cost_usd is not None
    # 12 answers of at most 100 tokens at $10 per million, and a few tokens read, with allowance
    assert Decimal("0.0120") < plan.plan.cost_usd <= Decimal("0.0122")


def test_without_approval_nothing_is_sent_elsewhere(data: Path) -> None:
    plan = compare_eval(str(data), REMOTE)
    with pytest.raises(NotAllowedError):
        compare_eval(str(data), REMOTE, dry_run=False, plan_id=plan.plan_id)
    with pytest.raises(NotAllowedError):
        compare_eval(str(data), REMOTE, dry_run=False)


def test_an_approved_plan_is_void_for_other_settings(data: Path) -> None:
    prices: dict[str, Any] = {
        "price_in_usd_per_mtok": Decimal(0),
        "price_out_usd_per_mtok": Decimal(0),
    }
    plan = compare_eval(str(data), REMOTE, **prices)
    approval.approve_plan(str(plan.plan_id), Decimal(0))
    with pytest.raises(NotAllowedError):
        compare_eval(str(data), REMOTE, dry_run=False, plan_id=plan.plan_id, max_tokens=9, **prices)


def test_offline_mode_refuses_another_machine_even_with_a_plan(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    with pytest.raises(NotAllowedError, match="FINE_TUNING_OFFLINE"):
        compare_eval(str(data), REMOTE, dry_run=False, plan_id="plan_000000000000")


def test_an_approved_plan_goes_to_the_server_and_is_used_once(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices: dict[str, Any] = {
        "price_in_usd_per_mtok": Decimal(0),
        "price_out_usd_per_mtok": Decimal(0),
    }
    # 192.0.2.1 is reserved for documentation: no machine answers, so every request fails
    monkeypatch.setattr("finetuning.evaluation.vendors.TIMEOUT_SECONDS", 0.05)
    target = "http://192.0.2.1:9/v1#m"
    plan = compare_eval(str(data), target, **prices)
    approval.approve_plan(str(plan.plan_id), Decimal(0))
    result = compare_eval(str(data), target, dry_run=False, plan_id=plan.plan_id, **prices)
    assert result.verdict == "invalid"
    with pytest.raises(NotAllowedError):
        compare_eval(str(data), target, dry_run=False, plan_id=plan.plan_id, **prices)
