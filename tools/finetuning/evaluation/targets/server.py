"""OpenAI-compatible servers: one request per question, a few at a time, retried when busy."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning import runs
from finetuning.evaluation.questions import Question
from finetuning.evaluation.targets.protocol import Answer, HttpTarget, Job

if TYPE_CHECKING:
    from http.client import HTTPConnection

AT_ONCE: Final = 8
TIMEOUT_SECONDS: Final = 120.0
_TRIES, _BUSY, _LARGEST_BYTES = 3, frozenset({429, 500, 502, 503, 504}), 16 << 20
_LONGEST_WAIT_SECONDS = 30.0


def ask_server(target: HttpTarget, side: str, job: Job, max_tokens: int) -> dict[str, Answer]:
    """Return the server's answers to a job's questions, with greedy decoding.

    Chat rows go to ``/chat/completions``, raw prompts to ``/completions``. No key is sent and
    no redirect is followed. A request that fails three times is an answer of kind ``error``.

    Args:
        target: The server and the model's name on it.
        side: Name of the side, for the progress text.
        job: The questions.
        max_tokens: Most tokens to write per answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    def ask(question: Question) -> Answer:
        return _ask(target, question, max_tokens)

    done: dict[str, Answer] = {}
    total = len(job.questions)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        waiting = pool.map(ask, job.questions)
        for number, (question, answer) in enumerate(zip(job.questions, waiting, strict=True), 1):
            done[question.id] = answer
            runs.progress(number, total, f"asking {side}")
    return done


def _ask(target: HttpTarget, question: Question, max_tokens: int) -> Answer:
    body: dict[str, Any] = {"model": target.model, "temperature": 0, "max_tokens": max_tokens}
    if question.messages is None:
        path, body["prompt"] = "/completions", question.prompt
    else:
        path, body["messages"] = "/chat/completions", list(question.messages)
    started = time.perf_counter()
    status, wait, data = _post(target, path, body)
    for _ in range(_TRIES - 1):
        if status not in _BUSY:
            break
        time.sleep(min(wait, _LONGEST_WAIT_SECONDS))
        status, wait, data = _post(target, path, body)
    if status != 200:
        return Answer(finish_reason="error")
    return _read(data, time.perf_counter() - started)


def _post(target: HttpTarget, path: str, body: dict[str, Any]) -> tuple[int, float, bytes]:
    """Return the status, the seconds to wait before a retry, and the body of a response.

    A connection that fails counts as a server that is busy.
    """
    from http.client import HTTPException

    connection = _connect(target)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", target.path + path, json.dumps(body), headers)
        response = connection.getresponse()
        wait = response.getheader("Retry-After", "")
        data = response.read(_LARGEST_BYTES)
        return response.status, float(wait) if wait.isdigit() else 0.5, data
    except (OSError, HTTPException):
        return 503, 0.2, b""
    finally:
        connection.close()


def _connect(target: HttpTarget) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    kind = HTTPSConnection if target.secure else HTTPConnection
    return kind(target.host, target.port, timeout=TIMEOUT_SECONDS)


def _read(data: bytes, seconds: float) -> Answer:
    try:
        payload = json.loads(data)
        choice = payload["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        usage = cast("dict[str, Any]", payload.get("usage") or {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Answer(finish_reason="error")
    written = usage.get("completion_tokens")
    cut = choice.get("finish_reason") == "length"
    return Answer(
        text if isinstance(text, str) and text.strip() else None,
        ("length" if cut else "stop") if isinstance(text, str) and text.strip() else "missing",
        seconds,
        written if isinstance(written, int) else None,
    )
