"""What is looked at and made ready before the first step of a run.

Here: what a resumed run takes over from the one before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.training.weights import newest_valid

CURVE: Final = ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_reward", "reward", "epoch")
"""Measured numbers of a step that the run store keeps; a row has at least one of ``JUDGED``."""
JUDGED: Final = frozenset({"loss", "eval_loss", "eval_reward"})


def measured(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the run store keeps of a row of the trainer's log; None: nothing."""
    if JUDGED.isdisjoint(row):
        return None
    return {"step": row["step"], **{name: row[name] for name in CURVE if name in row}}


def checkpoints_of(run_id: str) -> str:
    """Return the folder of checkpoints that a run which ended is gone on with from.

    Raises:
        BadInputError: It is no training run, goes on, or succeeded.
    """
    run = runs.read_run(run_id)
    if run.tool != "launch_lora":
        raise BadInputError(
            "resume", f"{run_id} is a run of {run.tool}", "a training run", "Name another run"
        )
    if not run.finished or run.status == "succeeded":
        raise BadInputError(
            "resume",
            f"{run_id} is {run.status}",
            "a run that was lost, cancelled or failed",
            f"Read it with: fine-tuning get-run {run_id}",
        )
    folder = Path(run.folder) / "checkpoints"
    earlier = runs.arguments_of(run_id).get("resume_from")
    if newest_valid(folder)[0] is None and earlier:
        return str(earlier)  # it ended before its own first checkpoint
    return str(folder)


def carry_over(run_id: str) -> None:
    """Give a resumed run the measured steps up to its checkpoint, so that its curve is whole.

    They come from the checkpoint itself: a killed process may have told the store less.
    """
    folder = runs.arguments_of(run_id).get("resume_from")
    found = newest_valid(Path(str(folder)))[0] if folder else None
    if found is None:
        return
    state = json.loads((found / "trainer_state.json").read_text(encoding="utf-8"))
    rows = [kept for row in state["log_history"] if (kept := measured(row)) is not None]
    runs.record_steps(run_id, rows, unless_any=True)
