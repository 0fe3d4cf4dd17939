"""Every side is asked every question: local models in one child process, servers over HTTP.

The child imports torch once for all sides. Answers that were recorded before are paired with the
rows that they belong to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning import runs
from finetuning.errors import BadInputError, RunFailedError, UnknownNameError, require
from finetuning.evaluation.inputs import Question, Recording, read_recording
from finetuning.evaluation.logs import Row
from finetuning.evaluation.network import ask_server
from finetuning.evaluation.targets import (
    Answer,
    Job,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
)

_MOST_ERRORS = 0.05
_LAST_LINES: Final = 3
_ASKED: Final = ("id", "prompt", "messages", "reference")


def ask_all(sides: Sequence[Side], max_tokens: int, *, score: bool = False) -> Outcome:
    """Return the answers of all sides to all their jobs.

    Local models share one child process; servers answer over HTTP;
    recorded answers are read from their file (test rows only).

    Args:
        sides: The competitors.
        max_tokens: Most tokens to write per answer.
        score: Ask servers on this machine for likelihoods, too, where they can tell.

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
        elif not isinstance(side.target, LocalTarget):
            for job in (job for job in side.jobs if job.generate):
                rows, more_notes = ask_server(side.target, side.name, job, max_tokens, score=score)
                answers[side.name][job.name] = rows
                faults += _broken(side.name, rows)
                notes += more_notes
    local = [side for side in sides if isinstance(side.target, LocalTarget)]
    if local:
        found, provenance = ask_local(local, max_tokens)
        answers |= found
    return Outcome(answers, faults, notes, provenance)


def _broken(side: str, rows: dict[str, Answer]) -> list[str]:
    failed = Counter(a.status for a in rows.values() if a.finish_reason == "error")
    if failed.total() <= _MOST_ERRORS * len(rows):
        return []
    kinds = ", ".join(
        f"{count} x {f'status {status}' if status else 'no reply'}"
        for status, count in failed.most_common(3)
    )
    return [f"{side}: {failed.total()} of {len(rows)} requests failed ({kinds})"]


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


def read_recorded(
    target: RecordedTarget, side: str, job: Job
) -> tuple[dict[str, Answer], list[str], list[str]]:
    """Return the recorded answers to a job's questions, the faults and the notes.

    Rows are paired by id. Rows of another tool that only counts them belong to the row with the
    same number where the data have no ids; the right answers of both must then agree.

    Args:
        target: Where the answers are.
        side: Name of the side, for the texts.
        job: The questions asked.

    Raises:
        BadInputError: The file holds several models and the target names none of them.
    """
    recording = read_recording(Path(target.path))
    rows = [row for row in _rows_of(recording, target, side) if row.sample == 0]
    questions = {question.id: question for question in job.questions}
    places = _places(recording, rows, job.questions)
    found: dict[str, Answer] = {}
    repeated = others = strays = 0
    for row in rows:
        key = row.id if places is None else places.get(row.line, "")
        question = questions.get(key)
        if question is None:
            strays += 1
            continue
        repeated += key in found
        others += row.reference is not None and not _agree(row.reference, question.reference)
        found[key] = _answer(row)
    faults: list[str] = []
    notes: list[str] = []
    if repeated:
        faults.append(f"{side}: {repeated} recorded answers repeat an id")
    if not found:
        faults.append(f"{side}: no recorded answer belongs to a row of the data")
    if others:
        faults.append(f"{side}: {others} recorded rows have another right answer than the data")
    if recording.broken:
        notes.append(
            f"{side}: {recording.broken} lines of the recorded file hold no answer that can be read"
        )
    if strays and found:
        notes.append(f"{side}: {strays} recorded answers belong to no row")
    return found, faults, notes


def _rows_of(recording: Recording, target: RecordedTarget, side: str) -> list[Row]:
    parts = recording.parts
    if target.part is None and len(parts) < 2:
        return recording.rows
    if target.part in parts:
        return [row for row in recording.rows if row.part == target.part]
    if target.part is None:
        raise BadInputError(
            f"compare_eval: {side}",
            f"the recorded file holds {len(parts)} models: {', '.join(parts)}",
            "the name of one after '#'",
            f"Write for example {target.spec}#{parts[0]}",
        )
    raise UnknownNameError(f"compare_eval: {side}", "model of the file", target.part, parts)


def _places(
    recording: Recording, rows: Sequence[Row], order: Sequence[Question]
) -> dict[int, str] | None:
    """Return line → question id where rows are only counted and the data have no ids, else None."""
    counted = recording.tool != "own" and all(row.position is not None for row in rows)
    nameless = all(question.id == str(question.line) for question in order)
    if not (counted and nameless):
        return None
    return {
        row.line: order[row.position].id
        for row in rows
        if row.position is not None and row.position < len(order)
    }


def _agree(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(other.split())


def _answer(row: Row) -> Answer:
    if row.output is None or not row.output.strip():
        return Answer(nll=row.nll)
    return Answer(row.output, "length" if row.cut else "stop", row.seconds, nll=row.nll)
