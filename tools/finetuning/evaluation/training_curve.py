"""The training behind a tuned model: its loss curve and what the curve says."""

from __future__ import annotations

from typing import NamedTuple

from finetuning import runs
from finetuning.evaluation.diagnose.curve import Curve
from finetuning.evaluation.diagnose.judging import best_checkpoint, diagnose
from finetuning.evaluation.diagnose.reading import read_log, to_curve
from finetuning.evaluation.results import TrainingNote
from finetuning.evaluation.targets import Target
from finetuning.files import resolve_read
from finetuning.pages import Series


class Training(NamedTuple):
    """What is known of a training: a note for the result and lines for the report."""

    note: TrainingNote | None = None
    lines: tuple[Series, ...] = ()


def read_training(log: str | None, tuned: Target | None) -> Training:
    """Return the training of the tuned model, from its log or from the run store.

    Args:
        log: A training log, or None to look up the run of a ``run:`` target.
        tuned: The tuned model, if any.

    Raises:
        BadInputError: The log cannot be read.
    """
    curve: Curve | None = None
    if log is not None:
        curve = read_log(resolve_read(log, where="compare_eval: log"), where=log)
    elif tuned is not None and tuned.spec.startswith("run:"):
        steps = runs.steps_of(tuned.spec.removeprefix("run:"))
        curve = to_curve(steps, "run store") if steps else None
    if curve is None:
        return Training()
    labels = diagnose(curve)
    note = TrainingNote(
        diagnosis=labels[0].label if labels else None,
        fix=labels[0].fix if labels else "",
        best_checkpoint=best_checkpoint(curve),
        n_points=len(curve.points),
    )
    found = [(name, curve.series(name)) for name in ("loss", "eval_loss")]
    lines = [
        Series(name, [(float(step), value) for step, value in points])
        for name, points in found
        if points
    ]
    return Training(note, tuple(lines))
