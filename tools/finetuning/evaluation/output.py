"""Writes what a comparison found: page, result and the answers of every side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning.evaluation.competitors import BASE, TUNED
from finetuning.evaluation.material import Answered
from finetuning.evaluation.questions import Question
from finetuning.evaluation.report import draw_report
from finetuning.evaluation.results import EvalComparison
from finetuning.evaluation.scoring import Answers
from finetuning.evaluation.targets import MISSING, RecordedTarget
from finetuning.files import write_json, write_jsonl, write_text
from finetuning.pages import Series
from finetuning.records import NextCall, page
from finetuning.settings import settings

_DIGEST: Final = re.compile("[0-9a-f]{64}")


def write_all(
    result: EvalComparison, answered: Answered, curve: Sequence[Series], folder: Path
) -> EvalComparison:
    """Write the report, the result and the answers; return the result with their paths.

    The answers hold row content and stay in these files; the result holds ids only.

    Args:
        result: What was found, with all flips.
        answered: The answers.
        curve: Loss curves of the training, or none.
        folder: Where to write.
    """
    outputs: dict[str, str] = {}
    for side in answered.material.sides:
        if not isinstance(side.target, RecordedTarget):
            path = folder / f"answers_{_file_name(side.name)}.jsonl"
            rows = _recorded(answered.material.test.questions, answered.test(side.name))
            write_jsonl(path, rows)
            outputs[side.name] = str(path)
    report, data = folder / "report.html", folder / "result.json"
    whole = result.model_copy(
        update={
            "outputs": outputs,
            "report_file": str(report),
            "result_file": str(data),
            "next": _next(result, answered),
        }
    )
    call = answered.call
    whole = EvalComparison.model_validate(_rounded(whole.model_dump(mode="json")))
    write_text(report, draw_report(whole, curve, call.language, _texts(answered)))
    write_json(data, whole.model_dump(mode="json"))
    shown, following = page(whole.flips, call.limit, call.offset, where="compare_eval")
    changes = {"flips": shown, "next_offset": following, "provenance": _short(whole.provenance)}
    return whole.model_copy(update=changes)


def _short(value: Any) -> Any:
    """Return provenance with digests of 12 characters; the result file keeps them whole."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_short(item) for item in cast("list[Any]", value)]
    return value[:12] if isinstance(value, str) and _DIGEST.fullmatch(value) else value


def _rounded(value: Any) -> Any:
    """Return JSON with floats of six digits (p-values eight): what a reader and a host can use."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            name: float(f"{item:.8g}")
            if name.startswith("p") and isinstance(item, float)
            else _rounded(item)
            for name, item in fields.items()
        }
    if isinstance(value, list):
        return [_rounded(item) for item in cast("list[Any]", value)]
    return value


def _recorded(questions: list[Question], answers: Answers) -> Iterator[dict[str, Any]]:
    for question in questions:
        answer = answers.get(question.id, MISSING)
        yield {
            "id": question.id,
            "output": answer.text or "",
            "finish_reason": answer.finish_reason,
            "nll": answer.nll,
        }


def _file_name(side: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in side)


def _texts(answered: Answered) -> dict[str, tuple[str, str, str]]:
    """Return reference and both answers by id, where a person allowed content to be shown."""
    if not settings().show_content or TUNED not in answered.material.competitors.targets:
        return {}
    base, tuned = answered.test(BASE), answered.test(TUNED)
    return {
        q.id: (
            q.reference,
            base.get(q.id, MISSING).text or "",
            tuned.get(q.id, MISSING).text or "",
        )
        for q in answered.material.test.questions
    }


def _next(result: EvalComparison, answered: Answered) -> list[NextCall]:
    """Return the calls that make sense after this verdict."""
    calls: list[NextCall] = []
    target = answered.material.competitors.targets.get(TUNED)
    if target is not None and target.spec.startswith("run:"):
        run_id = target.spec.removeprefix("run:")
        why = "reads the training curve: what to change, and the best checkpoint"
        calls.append(NextCall(tool="diagnose_run", args={"run_id": run_id}, why=why))
    if result.fit_facts:
        why = "decides with these measured scores whether training is worth it"
        calls.append(NextCall(tool="assess_fit", args={"facts": result.fit_facts}, why=why))
    return calls
