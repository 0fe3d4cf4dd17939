"""Reads training logs: which class of fault a curve shows, and which knob to turn.

Here: the tool diagnose_run, which says what happened and draws it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose.labels import MEANINGS, Diagnosis, Label
from finetuning.files import files_below
from finetuning.records import NextCall, ToolResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning.evaluation.diagnose.curve import Curve

__all__ = ["MEANINGS", "Diagnosis", "Label", "RunDiagnosis", "diagnose_run"]


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
        return f"{top.label} (confidence {top.confidence:.2f}): {top.fix}."


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
    from finetuning.evaluation.diagnose.curve import read_log
    from finetuning.evaluation.diagnose.labels import best_checkpoint, diagnose

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
    found = sorted(files_below(path, "trainer_state.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise BadInputError(
            str(path),
            "the folder holds no trainer_state.json",
            "a training log",
            "Pass the log file itself",
        )
    return found[-1]


def _curve_of_run(run_id: str) -> tuple[Curve, Path]:
    from finetuning import runs
    from finetuning.evaluation.diagnose.curve import to_curve

    row = runs.read_run(run_id)
    return to_curve(runs.steps_of(run_id), "run store"), Path(row.folder)


def _next(diagnosis: Diagnosis | None, run_id: str | None) -> list[NextCall]:
    if run_id is None:
        return []
    if diagnosis in {"healthy", "plateau_stop_early", "overfitting"}:
        return []
    why = "shows the alerts and the newest steps of the run"
    return [NextCall(tool="get_run", args={"run_id": run_id}, why=why)]


WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "title": "Training curve",
        "loss": "loss (nats per token)",
        "train": "training loss",
        "eval": "held-out loss",
        "best": "best checkpoint",
        "norm": "gradient norm",
        "few": "Too few points to judge",
        "cause": "Cause",
        "fix": "What to change",
        "refute": "What would refute it",
        "evidence": "Evidence",
        "label": "Finding",
        "step": "optimiser step",
    },
    "zh": {
        "title": "训练曲线",
        "loss": "损失（nat/词元）",
        "train": "训练损失",
        "eval": "留出集损失",
        "best": "最佳检查点",
        "norm": "梯度范数",
        "few": "数据点太少，无法判断",
        "cause": "原因",
        "fix": "应调整",
        "refute": "什么能推翻它",
        "evidence": "证据",
        "label": "结论",
        "step": "优化步数",
    },
}


def curve_page(
    curve: Curve, labels: Sequence[Label], best: int | None, language: Literal["en", "zh"]
) -> str:
    """Return the page: banner with the top label, curves, and every finding with its mend.

    Args:
        curve: The run.
        labels: What holds for it, the most serious first.
        best: Step of the best checkpoint.
        language: Language of the headings.
    """
    from finetuning import pages

    words = WORDS[language]
    if labels:
        top = labels[0]
        kind: Literal["good", "bad"] = "good" if top.label == "healthy" else "bad"
        first = pages.banner(kind, top.label, top.fix)
    else:
        first = pages.banner("neutral", words["few"], "")
    sections = [first, *_charts(curve, best, words)]
    sections += [_finding(label, words) for label in labels]
    if curve.notes:
        sections.append(pages.bullet_list(curve.notes))
    return pages.page(words["title"], sections, language=language)


def _charts(curve: Curve, best: int | None, words: dict[str, str]) -> list[str]:
    from finetuning import pages

    named = [("loss", words["train"]), ("eval_loss", words["eval"])]
    series = [
        pages.Series(text, [(float(step), value) for step, value in curve.series(name)])
        for name, text in named
        if curve.series(name)
    ]
    marks = [] if best is None else [(float(best), words["best"])]
    charts: list[str] = []
    if series:
        charts.append(
            pages.line_chart(
                series,
                title=words["title"],
                x_label=words["step"],
                y_label=words["loss"],
                marks=marks,
            )
        )
    norms = curve.finite("grad_norm")
    if norms:
        charts.append(
            pages.line_chart(
                [pages.Series(words["norm"], [(float(step), value) for step, value in norms])],
                title=words["norm"],
                x_label=words["step"],
                y_label=words["norm"],
                log_y=True,
            )
        )
    return charts


def _finding(label: Label, words: dict[str, str]) -> str:
    from finetuning import pages

    numbers = [
        f"{name} {pages.format_number(value)}" for name, value in label.evidence.numbers.items()
    ]
    steps = [f"{words['step']} {', '.join(map(str, label.evidence.steps))}"]
    shown = "; ".join([*(steps if label.evidence.steps else []), *numbers]) or "–"
    return pages.key_values(
        [
            (words["label"], f"{label.label} ({label.confidence:.2f})"),
            (words["evidence"], shown),
            (words["cause"], label.cause),
            (words["fix"], label.fix),
            (words["refute"], label.falsified_by),
        ]
    )
