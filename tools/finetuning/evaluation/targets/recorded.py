"""Answers that were written down before: ``{id, output}`` per line, any model, no cost."""

from __future__ import annotations

import math
from pathlib import Path

from finetuning.evaluation.targets.protocol import Answer, Job, RecordedTarget
from finetuning.files import read_records
from finetuning.records import Finding, Record


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
