"""Draws the annotated training curve as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from finetuning import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning.evaluation.diagnose.curve import Curve
    from finetuning.evaluation.diagnose.labels import Label

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


def _charts(curve: Curve, best: int | None, words: dict[str, str]) -> list[str]:
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
