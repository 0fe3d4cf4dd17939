"""Every side is asked every question: local models in one child process, servers over HTTP.

The child imports torch once for all sides; a server gets a few requests at a time, retried when
it is busy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning import runs
from finetuning.errors import BadInputError, RunFailedError, require
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.targets import (
    Answer,
    HttpTarget,
    Job,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
    read_recorded,
)

if TYPE_CHECKING:
    from http.client import HTTPConnection

AT_ONCE: Final = 8
TIMEOUT_SECONDS: Final = 120.0
_TRIES, _BUSY, _LARGEST_BYTES = 3, frozenset({429, 500, 502, 503, 504}), 16 << 20
_LONGEST_WAIT_SECONDS = 30.0
_MOST_ERRORS = 0.05
_LAST_LINES: Final = 3
_ASKED: Final = ("id", "prompt", "messages", "reference")


def ask_all(sides: Sequence[Side], max_tokens: int) -> Outcome:
    """Return the answers of all sides to all their jobs.

    Local models share one child process; servers answer over HTTP (which gives no likelihood);
    recorded answers are read from their file (test rows only).

    Args:
        sides: The competitors.
        max_tokens: Most tokens to write per answer.

    Raises:
        RunFailedError: The local child process broke.
    """
    answers: dict[str, dict[str, dict[str, Answer]]] = {side.name: {} for side in sides}
    faults: list[str] = []
    notes: list[str] = []
    provenance: dict[str, Any] = {}
    for side in sides:
        if isinstance(side.target, RecordedTarget):
            job = side.jobs[0]
            rows, more_faults, more_notes = read_recorded(side.target, side.name, job)
            answers[side.name][job.name] = rows
            faults += more_faults
            notes += more_notes
        elif isinstance(side.target, HttpTarget):
            for job in (job for job in side.jobs if job.generate):
                rows = ask_server(side.target, side.name, job, max_tokens)
                answers[side.name][job.name] = rows
                faults += _broken(side.name, rows)
    local = [side for side in sides if isinstance(side.target, LocalTarget)]
    if local:
        found, provenance = ask_local(local, max_tokens)
        answers |= found
    return Outcome(answers, faults, notes, provenance)


def _broken(side: str, rows: dict[str, Answer]) -> list[str]:
    errors = sum(answer.finish_reason == "error" for answer in rows.values())
    if errors <= _MOST_ERRORS * len(rows):
        return []
    return [f"{side}: {errors} of {len(rows)} requests failed"]


def ask_local(
    sides: Sequence[Side], max_tokens: int
) -> tuple[dict[str, dict[str, dict[str, Answer]]], dict[str, Any]]:
    """Return what local models answer (side → job → id → answer) and what ran.

    Args:
        sides: Sides whose target is a :class:`LocalTarget`.
        max_tokens: Most tokens to write per answer.

    Raises:
        MissingExtraError: The extra ``local`` is not installed.
        BadInputError: The model cannot be loaded or cannot do what is asked.
        RunFailedError: The child process broke.
    """
    require("torch", feature="a local model as target", extra="local")
    require("transformers", feature="a local model as target", extra="local")
    reply = run_child(
        "finetuning.evaluation.local",
        _request(sides, max_tokens),
        where="compare_eval",
        step="Check the memory of this machine, or evaluate a smaller model",
    )
    answers = {
        side: {
            job: {key: Answer(*cast("list[Any]", row)) for key, row in rows.items()}
            for job, rows in cast("dict[str, dict[str, Any]]", jobs).items()
        }
        for side, jobs in cast("dict[str, Any]", reply["answers"]).items()
    }
    return answers, cast("dict[str, Any]", reply["provenance"])


def _request(sides: Sequence[Side], max_tokens: int) -> dict[str, Any]:
    """Return the request: models grouped by base, jobs once with the sides that share them."""
    models: dict[str, dict[str, Any]] = {}
    for side in sides:
        target = cast("LocalTarget", side.target)
        model = models.setdefault(target.base, {"base": target.base, "adapters": {}, "jobs": {}})
        model["adapters"][side.name] = target.adapter
        for job in side.jobs:
            entry = model["jobs"].setdefault(
                job.name,
                {
                    "sides": [],
                    "generate": job.generate,
                    "nll": job.nll,
                    "questions": [
                        {name: getattr(question, name) for name in _ASKED}
                        for question in job.questions
                    ],
                },
            )
            entry["sides"].append(side.name)
    return {"max_tokens": max_tokens, "models": list(models.values())}


def run_child(module: str, request: dict[str, Any], *, where: str, step: str) -> dict[str, Any]:
    """Hand a request to a child process that loads models, and return its reply.

    Args:
        module: What ``python -m`` runs; it ends with this process and reports progress.
        request: JSON values.
        where: Name of the tool, for the error text.
        step: What to do when the child breaks.

    Raises:
        BadInputError: The child says that it cannot do what is asked.
        RunFailedError: The child broke.
    """
    with tempfile.TemporaryDirectory(prefix="fine-tuning-") as folder:
        source, target = Path(folder) / "request.json", Path(folder) / "response.json"
        source.write_text(json.dumps(request), encoding="utf-8")
        errors = _run([sys.executable, "-m", module, str(source), str(target)])
        if not target.is_file():
            what = f"the process that runs the local model ended early ({errors})"
            raise RunFailedError(where, what, "a whole reply", step)
        reply = cast("dict[str, Any]", json.loads(target.read_text(encoding="utf-8")))
    if "error" in reply:
        raise BadInputError(where, *cast("list[str]", reply["error"]))
    return reply


def _run(command: list[str]) -> str:
    """Run the child to its end, pass its progress on, and return its last words."""
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        **{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"},
    }
    last: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # stays open: the child ends when this process is gone
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    ) as child:
        try:
            for line in child.stderr or ():
                if not _report(line):
                    last = [*last, line.strip()][-_LAST_LINES:]
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    # the kind of the error without its text, which could hold row content
    kind = f", {last[-1].split(':', 1)[0][:60]}" if code and last else ""
    return f"exit code {code}{kind}"


def _report(line: str) -> bool:
    """Pass one line of progress to the listener; say whether it was one."""
    if not line.startswith("progress "):
        return False
    done, total, what = line.removeprefix("progress ").rstrip("\n").split(" ", 2)
    runs.progress(int(done), int(total), what)
    return True


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
