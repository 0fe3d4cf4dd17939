"""Ask every side every question, each kind of target in its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetuning.errors import NotAllowedError
from finetuning.evaluation.targets.child import ask_local
from finetuning.evaluation.targets.protocol import (
    Answer,
    HttpTarget,
    Job,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
)
from finetuning.evaluation.targets.server import ask_server
from finetuning.files import read_records
from finetuning.records import Finding, Record
from finetuning.settings import settings

_MOST_ERRORS = 0.05


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


def refuse_offline(sides: Sequence[Side]) -> None:
    """Refuse servers elsewhere while offline mode is set.

    Raises:
        NotAllowedError: A server is not on this machine and offline mode is set.
    """
    for target in (side.target for side in sides):
        if isinstance(target, HttpTarget) and not target.loopback and settings().offline:
            raise NotAllowedError(
                "compare_eval",
                f"{target.host!r} is another machine and FINE_TUNING_OFFLINE=1",
                "a target on this machine",
                "Use local:, run: or recorded:, or unset FINE_TUNING_OFFLINE",
            )


def _broken(side: str, rows: dict[str, Answer]) -> list[str]:
    errors = sum(answer.finish_reason == "error" for answer in rows.values())
    if errors <= _MOST_ERRORS * len(rows):
        return []
    return [f"{side}: {errors} of {len(rows)} requests failed"]


def read_recorded(
    target: RecordedTarget, side: str, job: Job
) -> tuple[dict[str, Answer], list[str], list[str]]:
    """Return the recorded answers to a job's questions, the faults and the notes.

    Rows without ``id`` are matched by line number; ``sample`` 0 is compared. A row may carry
    ``nll``, the likelihood that an earlier evaluation measured.

    Args:
        target: Where the answers are.
        side: Name of the side, for the texts.
        job: The questions asked.
    """
    found: dict[str, Answer] = {}
    repeated = broken = 0
    for record in read_records(Path(target.path)):
        if isinstance(record, Finding):
            broken += 1
            continue
        if record.data.get("sample", 0) != 0:
            continue
        key = _key(record)
        repeated += key in found
        found[key] = _answer(record)
    asked = {question.id for question in job.questions}
    matched = asked & found.keys()
    faults: list[str] = []
    notes: list[str] = []
    if repeated:
        faults.append(f"{side}: {repeated} recorded answers repeat an id")
    if not matched:
        faults.append(f"{side}: no recorded answer belongs to a row of the data")
    if broken:
        notes.append(f"{side}: {broken} lines of the recorded file cannot be read")
    if len(found) > len(matched) and matched:
        notes.append(f"{side}: {len(found) - len(matched)} recorded answers belong to no row")
    return {key: found[key] for key in matched}, faults, notes


def _key(record: Record) -> str:
    name = record.data.get("id")
    return str(name) if isinstance(name, str | int) and name != "" else str(record.line)


def _answer(record: Record) -> Answer:
    output, nll = record.data.get("output"), record.data.get("nll")
    likelihood = float(nll) if isinstance(nll, int | float) and math.isfinite(nll) else None
    if not isinstance(output, str) or not output.strip():
        return Answer(nll=likelihood)
    reason = record.data.get("finish_reason")
    return Answer(output, "length" if reason == "length" else "stop", nll=likelihood)
