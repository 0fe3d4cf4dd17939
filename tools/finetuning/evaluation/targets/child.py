"""Local models, asked in one child process so that torch is imported once for all sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning import runs
from finetuning.errors import BadInputError, RunFailedError, require
from finetuning.evaluation.questions import Question
from finetuning.evaluation.targets.protocol import Answer, LocalTarget, Side

_LAST_LINES: Final = 3


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
    with tempfile.TemporaryDirectory(prefix="fine-tuning-") as folder:
        request, response = Path(folder) / "request.json", Path(folder) / "response.json"
        request.write_text(json.dumps(_request(sides, max_tokens)), encoding="utf-8")
        errors = _run(request, response)
        if not response.is_file():
            raise RunFailedError(
                "compare_eval",
                f"the process that runs the local model ended early ({errors})",
                "an answer for every row",
                "Check the memory of this machine, or evaluate a smaller model",
            )
        reply = cast("dict[str, Any]", json.loads(response.read_text(encoding="utf-8")))
    if "error" in reply:
        raise BadInputError("compare_eval", *cast("list[str]", reply["error"]))
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
                    "questions": [_row(question) for question in job.questions],
                },
            )
            entry["sides"].append(side.name)
    return {"max_tokens": max_tokens, "models": list(models.values())}


def _row(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "prompt": question.prompt,
        "messages": question.messages,
        "reference": question.reference,
    }


def _run(request: Path, response: Path) -> str:
    """Run the child to its end, pass its progress on, and return its last words."""
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        **{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"},
    }
    command = [sys.executable, "-m", "finetuning.evaluation.local", str(request), str(response)]
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
    return f"exit code {code}" + (f", {_kind(last[-1])}" if code and last else "")


def _report(line: str) -> bool:
    """Pass one line of progress to the listener; say whether it was one."""
    if not line.startswith("progress "):
        return False
    done, total, what = line.removeprefix("progress ").rstrip("\n").split(" ", 2)
    runs.progress(int(done), int(total), what)
    return True


def _kind(line: str) -> str:
    """Return the kind of an error without its text, which could hold row content."""
    return line.split(":", 1)[0][:60]
