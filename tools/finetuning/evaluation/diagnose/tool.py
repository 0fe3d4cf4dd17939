"""diagnose_run: reads a training log and says what happened, why, and which knob to turn."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.curve import MIN_POINTS, Curve, lowest
from finetuning.evaluation.diagnose.labels import MEANINGS, Diagnosis, Evidence, Label
from finetuning.evaluation.diagnose.picture import curve_page
from finetuning.evaluation.diagnose.reading import read_log, to_curve
from finetuning.evaluation.diagnose.rules import Hit, judge
from finetuning.records import NextCall, ToolResult


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


def _amount(value: float) -> str:
    return f"{value:.3g}"


@functools.cache
def _fields(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", text))


def _knobs(curve: Curve, hit: Hit, best: int | None) -> dict[str, str]:
    """Return the run's own numbers for the texts; what is not known is named as such."""
    rates = [value for _, value in curve.finite("learning_rate")]
    epochs = curve.n_epochs
    known: dict[str, str] = {}
    if rates:
        rate = max(rates)
        factors = {"": 1.0, "_tenth": 0.1, "_third": 1 / 3, "_half": 0.5, "_ten": 10.0}
        known |= {f"learning_rate{name}": _amount(rate * by) for name, by in factors.items()}
    if epochs is not None:
        known |= {"epochs": _amount(epochs), "epochs_double": _amount(max(2.0, 2 * epochs))}
    step = best if hit.label in {"overfitting", "plateau_stop_early"} else None
    at = step if step is not None else (hit.steps[0] if hit.steps else None)
    if at is not None:
        known["step"] = str(at)
        reached = curve.epoch_at(at)
        if reached is not None:
            known["epochs_best"] = _amount(max(1.0, round(reached, 1)))
    if "ratio" in hit.numbers:
        known["ratio"] = _amount(hit.numbers["ratio"])
    return known


_UNKNOWN: Final = {
    "learning_rate": "its value",
    "learning_rate_tenth": "a tenth of it",
    "learning_rate_third": "a third of it",
    "learning_rate_half": "half of it",
    "learning_rate_ten": "ten times it",
    "epochs": "its value",
    "epochs_double": "twice as many",
    "epochs_best": "the epochs up to there",
    "step": "the first bad one",
}


def _label(curve: Curve, hit: Hit, best: int | None) -> Label:
    meaning = MEANINGS[hit.label]
    numbers = {**_UNKNOWN, **_knobs(curve, hit, best)}

    def fill(text: str) -> str:
        return text.format(**{name: numbers.get(name, "?") for name in _fields(text)})

    label: Any = hit.label
    return Label(
        label=label,
        confidence=_confidence(curve, hit),
        evidence=Evidence(steps=hit.steps, numbers=hit.numbers),
        cause=meaning.cause,
        fix=fill(meaning.fix),
        falsified_by=fill(meaning.falsified_by),
    )


def _confidence(curve: Curve, hit: Hit) -> float:
    """Lower a rule's confidence where the log is short."""
    n = len(curve.finite("loss")) or len(curve.finite("eval_loss"))
    short = 0.8 if n < 2 * MIN_POINTS and hit.label != "nan" else 1.0
    return round(hit.confidence * short, 3)


def best_checkpoint(curve: Curve) -> int | None:
    """Return the step of the lowest held-out loss, else of the last finite training loss."""
    evals = curve.finite("eval_loss")
    if evals:
        return lowest(evals)[0]
    losses = [(step, value) for step, value in curve.finite("loss") if value != 0.0]
    return losses[-1][0] if losses else None


def diagnose(curve: Curve) -> list[Label]:
    """Return the labels of a curve, the most serious first; none with too few points."""
    n = max(len(curve.series(name)) for name in ("loss", "eval_loss", "reward"))
    hits = judge(curve)
    if n < MIN_POINTS and hits[0].label != "nan":
        return []
    best = best_checkpoint(curve)
    hits.sort(key=lambda hit: MEANINGS[hit.label].rank)
    return [_label(curve, hit, best) for hit in hits]


def _curve_of_run(run_id: str) -> tuple[Curve, Path]:
    from finetuning import runs

    row = runs.read_run(run_id)
    return to_curve(runs.steps_of(run_id), "run store"), Path(row.folder)


def _with_vocabulary(curve: Curve, vocab_size: int | None) -> Curve:
    return Curve(curve.points, curve.format, curve.notes, vocab_size)


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
    curve = _with_vocabulary(curve, vocab_size)
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
