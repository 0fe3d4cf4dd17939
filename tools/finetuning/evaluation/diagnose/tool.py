"""diagnose_run: reads a training log and says what happened, why, and which knob to turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.labels import MIN_POINTS, Diagnosis, Label
from finetuning.records import NextCall, ToolResult

if TYPE_CHECKING:
    from finetuning.evaluation.diagnose.curve import Curve


class RunDiagnosis(ToolResult):
    """What a training curve says."""

    diagnosis: Diagnosis | None = Field(description="Top label; null with too few points.")
    labels: list[Label]
    best_checkpoint: int | None = Field(description="Step of the best model the log shows.")
    curve_file: str | None
    format: str
    n_points: int
    notes: list[str] = Field(default_factory=list[str])

    def exit_code(self) -> int:
        """Return 0 for a healthy run, 3 with too few points, else 1."""
        if self.diagnosis is None:
            return 3
        return 0 if self.diagnosis == "healthy" else 1

    def summary(self) -> str:
        """Name the top label and the knob."""
        if not self.labels:
            return f"Too few points to judge ({self.n_points}); expected at least {MIN_POINTS}."
        top = self.labels[0]
        return f"{top.label} (confidence {top.confidence:.2f}): {top.fix}."


def _curve_of_run(run_id: str) -> tuple[Curve, Path]:
    from finetuning import runs
    from finetuning.evaluation.diagnose.reading import to_curve

    row = runs.read_run(run_id)
    return to_curve(runs.steps_of(run_id), "run store"), Path(row.folder)


def _next(diagnosis: Diagnosis | None, run_id: str | None) -> list[NextCall]:
    if run_id is None:
        return []
    if diagnosis in {"healthy", "plateau_stop_early", "overfitting"}:
        return []
    why = "shows the alerts and the newest steps of the run"
    return [NextCall(tool="get_run", args={"run_id": run_id}, why=why)]


def diagnose_run(
    path: str | None = None,
    run_id: str | None = None,
    vocab_size: int | None = None,
    output_dir: str | None = None,
    language: Literal["en", "zh"] = "en",
) -> RunDiagnosis:
    """Read a training log and name what went wrong and which knob to turn.

    Reads trainer_state.json, LLaMA-Factory, OpenAI and Bedrock files, console output, or a run
    of this tool; draws the curve with the findings. Never imports a training library.

    Args:
        path: Training log, or a folder that holds trainer_state.json. Give this or run_id.
        run_id: Run of launch_lora. Give this or path.
        vocab_size: Tokens in the model's vocabulary; sharpens the check of the first loss.
        output_dir: Folder for the curve; default is a new folder under the reports.
        language: Language of the drawn page: en or zh.

    Returns:
        Ranked labels, each with evidence, cause, fix and what would refute it.

    Raises:
        BadInputError: Neither or both sources given, or no training log in the file.

    Source: classes of training-log practice (checked 2026-11-20);
    knowledge: evaluation.md#reading-a-loss-curve.
    """
    from finetuning import files
    from finetuning.evaluation.diagnose.judging import best_checkpoint, diagnose
    from finetuning.evaluation.diagnose.picture import curve_page
    from finetuning.evaluation.diagnose.reading import read_log

    if (path is None) == (run_id is None):
        raise BadInputError(
            "diagnose_run",
            "both path and run_id are given" if path else "neither path nor run_id is given",
            "exactly one of them",
            "Run: fine-tuning diagnose-run trainer_state.json",
        )
    if path is not None:
        file = files.resolve_read(path, where="diagnose_run", kind="any")
        curve = read_log(_inside(file), where=path)
    else:
        curve, _ = _curve_of_run(run_id or "")
    curve = curve.with_vocabulary(vocab_size)
    labels = diagnose(curve)
    folder = files.new_output_folder(output_dir, where="diagnose_run", name="diagnosis")
    best = best_checkpoint(curve)
    target = folder / "curve.html"
    files.write_text(target, curve_page(curve, labels, best, language))
    top = labels[0].label if labels else None
    return RunDiagnosis(
        diagnosis=top,
        labels=labels,
        best_checkpoint=best,
        curve_file=str(target),
        format=curve.format,
        n_points=len(curve.points),
        notes=curve.notes,
        next=_next(top, run_id),
    )


def _inside(path: Path) -> Path:
    """Return the log inside a trainer's output folder, the newest where there are several."""
    if not path.is_dir():
        return path
    found = sorted(path.rglob("trainer_state.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise BadInputError(
            str(path),
            "the folder holds no trainer_state.json",
            "a training log",
            "Pass the log file itself",
        )
    return found[-1]
