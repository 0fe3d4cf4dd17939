"""Reads training logs: which class of fault a curve shows, and which knob to turn.

Here: the tool diagnose_run, which says what happened and draws it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.labels import Diagnosis, Label
from finetuning.records import NextCall, ToolResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning.evaluation.diagnose.curve import Curve, Series
    from finetuning.evaluation.diagnose.labels import Language

__all__ = ["Diagnosis", "Label", "RunDiagnosis", "diagnose_run"]


class RunDiagnosis(ToolResult, defer_build=True):
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
            from finetuning.evaluation.diagnose.curve import MIN_POINTS

            return f"Too few points to judge ({self.n_points}); expected at least {MIN_POINTS}."
        top = self.labels[0]
        beside = ", ".join(label.label for label in self.labels[1:])
        also = f" Beside it: {beside}." if beside else ""
        return f"{top.label} (confidence {top.confidence:.2f}): {top.fix}.{also}"


def diagnose_run(
    path: str | None = None,
    run_id: str | None = None,
    vocab_size: int | None = None,
    output_dir: str | None = None,
    language: Literal["en", "zh"] = "en",
) -> RunDiagnosis:
    """Read a training log and name what went wrong and which knob to turn.

    Reads trainer_state.json, LLaMA-Factory, OpenAI, Bedrock, Vertex, TensorBoard, W&B and Trackio
    files, console output, or a run of this tool; draws the curve. Imports no training library.

    Args:
        path: Training log, or a folder that holds one. Give this or run_id.
        run_id: Run of launch_lora. Give this or path.
        vocab_size: Tokens in the model's vocabulary, from 2; sharpens the check of the first
            loss. Default: read from a config.json beside the log, where there is one.
        output_dir: Folder for the curve; default is a new folder under the reports.
        language: Language of causes, fixes and the drawn page: en or zh.

    Returns:
        Ranked labels, each with evidence, cause, fix and what would refute it.

    Raises:
        BadInputError: Neither or both sources given, or no training log in the file.

    Source: classes of training-log practice (checked 2026-11-20);
    knowledge: evaluation.md#reading-a-loss-curve.
    """
    from finetuning import files
    from finetuning.evaluation.diagnose.labels import best_checkpoint, diagnose
    from finetuning.evaluation.diagnose.readers import read_log

    if (path is None) == (run_id is None):
        raise BadInputError(
            "diagnose_run",
            "both path and run_id are given" if path else "neither path nor run_id is given",
            "exactly one of them",
            "Run: fine-tuning diagnose-run trainer_state.json",
        )
    if vocab_size is not None and vocab_size < 2:
        raise BadInputError(
            "diagnose_run: vocab_size", f"{vocab_size}", "2 or more", "Leave it out if unknown"
        )
    if path is not None:
        curve = read_log(files.resolve_read(path, where="diagnose_run", kind="any"), where=path)
    else:
        curve = _curve_of_run(run_id or "")
    curve = curve.known(vocab_size, {})
    labels = diagnose(curve, language)
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
        n_points=curve.n_points,
        notes=curve.notes,
        next=_next(top, run_id),
    )


def _curve_of_run(run_id: str) -> Curve:
    """Return the steps of a run of this tool, with the knobs it was started with."""
    from pathlib import Path

    from finetuning import runs
    from finetuning.evaluation.diagnose.curve import to_curve
    from finetuning.evaluation.diagnose.names import knobs_in, settings_beside

    run = runs.read_run(run_id)
    arguments = runs.arguments_of(run_id)
    settings = knobs_in(arguments)
    config: Any = arguments.get("config")
    base = config.get("base_model") if hasattr(config, "get") else None
    if isinstance(base, str) and Path(base).is_dir():
        settings = {**settings_beside(Path(base) / "config.json"), **settings}
    vocabulary = int(settings.pop("vocab_size", 0)) or None
    steps = runs.steps_of(run_id)
    return to_curve(steps, "run store", source=run.run_id).known(vocabulary, settings)


def _next(diagnosis: Diagnosis | None, run_id: str | None) -> list[NextCall]:
    if run_id is None:
        return []
    if diagnosis in {"healthy", "plateau_stop_early", "overfitting"}:
        return []
    why = "shows the alerts and the newest steps of the run"
    return [NextCall(tool="get_run", args={"run_id": run_id}, why=why)]


def curve_page(curve: Curve, labels: Sequence[Label], best: int | None, language: Language) -> str:
    """Return the page: banner with the top label, annotated curves, every finding with its mend.

    Args:
        curve: The run.
        labels: What holds for it, the most serious first.
        best: Step of the best checkpoint.
        language: Language of the headings.
    """
    from finetuning import pages
    from finetuning.evaluation.diagnose.labels import name_of, texts

    words: dict[str, str] = texts()["page"][language]
    if labels:
        top = labels[0]
        mild = {"plateau_stop_early", "undertrained", "train_loss_scaled"}
        kind: Literal["good", "bad", "warning"] = (
            "good" if top.label == "healthy" else "warning" if top.label in mild else "bad"
        )
        first = pages.banner(kind, name_of(top.label, language), top.fix)
    else:
        first = pages.banner("neutral", words["few"], words["few_fix"])
    sections = [first, *_charts(curve, labels, best, words, language)]
    for label in labels:
        sections += [pages.heading(name_of(label.label, language)), _finding(label, words)]
    if curve.notes:
        sections += [pages.heading(words["notes"]), pages.bullet_list(curve.notes)]
    return pages.page(words["title"], sections, language=language, subtitle=curve.source)


def _charts(
    curve: Curve,
    labels: Sequence[Label],
    best: int | None,
    words: dict[str, str],
    language: Language,
) -> list[str]:
    """Return the losses with the findings' steps marked, then norm, rate and reward."""
    from finetuning.evaluation.diagnose.labels import name_of

    marks = [] if best is None else [(float(best), words["best"])]
    for label in labels[:2]:
        steps = label.evidence.steps
        if steps and label.label != "healthy" and steps[0] != best:
            marks.append((float(steps[0]), name_of(label.label, language)))
    losses, evals = curve.all("loss"), curve.all("eval_loss")
    shown = [(words["train"], losses), (words["eval"], evals)]
    if len(losses) >= 40:
        shown.append((words["smooth"], curve.get("loss").smooth(len(losses) // 20 | 1)))
    charts = [_chart(words["title"], shown, words["loss"], words, marks)]
    for name, key, log_y in (
        ("grad_norm", "norm", True), ("learning_rate", "rate", False), ("reward", "reward", False),
    ):  # fmt: skip
        charts.append(
            _chart(words[key], [(words[key], curve.all(name))], words[key], words, [], log_y)
        )
    return [chart for chart in charts if chart]


def _chart(
    title: str,
    shown: Sequence[tuple[str, Series]],
    y_label: str,
    words: dict[str, str],
    marks: Sequence[tuple[float, str]],
    log_y: bool = False,
) -> str:
    """Return a chart of some series over the steps; '' where none has a finite value."""
    from finetuning import pages

    series = [
        pages.Series(name, list(zip(one.steps.tolist(), one.values.tolist(), strict=True)))
        for name, one in shown
        if len(one.finite())
    ]
    if not series:
        return ""
    return pages.line_chart(
        series, title=title, x_label=words["step"], y_label=y_label, marks=marks, log_y=log_y
    )


def _finding(label: Label, words: dict[str, str]) -> str:
    from finetuning import pages

    numbers = [
        f"{name} {pages.format_number(value)}" for name, value in label.evidence.numbers.items()
    ]
    steps = label.evidence.steps
    more = ", …" if len(steps) > 6 else ""
    where = [f"{words['step']} {', '.join(map(str, steps[:6]))}{more}"] if steps else []
    where += [f"{words['where']} {', '.join(label.evidence.places)}"] * bool(label.evidence.places)
    shown = "; ".join([*where, *numbers]) or "–"
    return pages.key_values(
        [
            (words["label"], f"{label.label} ({label.confidence:.2f})"),
            (words["evidence"], shown),
            (words["cause"], label.cause),
            (words["fix"], label.fix),
            (words["refute"], label.falsified_by),
        ]
    )
