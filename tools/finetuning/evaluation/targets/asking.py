"""Ask every side every question, each kind of target in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetuning.errors import NotAllowedError
from finetuning.evaluation.targets.child import ask_local
from finetuning.evaluation.targets.protocol import (
    Answer,
    HttpTarget,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
)
from finetuning.evaluation.targets.recorded import read_recorded
from finetuning.evaluation.targets.server import ask_server
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
