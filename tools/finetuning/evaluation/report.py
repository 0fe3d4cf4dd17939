"""What a comparison leaves behind: page, result, answers of every side, how it was made."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning import pages, runs
from finetuning.evaluation import sections
from finetuning.evaluation.diagnose.curve import Curve, to_curve
from finetuning.evaluation.diagnose.labels import best_checkpoint, diagnose
from finetuning.evaluation.diagnose.readers import read_log
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.judging import draw_opinions
from finetuning.evaluation.material import BASE, PACK, TUNED, Answered
from finetuning.evaluation.metrics import Answers
from finetuning.evaluation.results import WHERE, EvalComparison, TrainingNote
from finetuning.evaluation.sections import Language, Say
from finetuning.evaluation.targets import MISSING, RecordedTarget, Target
from finetuning.files import resolve_read, sha256_file, write_json, write_jsonl, write_text
from finetuning.pages import Series
from finetuning.records import NextCall, page
from finetuning.settings import settings

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_DECADES = 100  # a loss that falls by more than this is drawn on a logarithmic axis


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
    drawn = draw_report(whole, curve, call.language, _texts(answered))
    write_text(report, drawn)
    write_text(report.with_suffix(".md"), pages.to_markdown(drawn))
    write_json(data, whole.model_dump(mode="json"))
    shown, following = page(whole.flips, call.limit, call.offset, where="compare_eval")
    changes = {"flips": shown, "next_offset": following, "provenance": _short(whole.provenance)}
    return whole.model_copy(update=changes)


def draw_report(
    result: EvalComparison,
    curve: Sequence[Series],
    language: Language,
    texts: dict[str, tuple[str, str, str]] | None = None,
) -> str:
    """Return the page of a comparison.

    Args:
        result: What was found.
        curve: Loss curves of the training, or none.
        language: ``en`` or ``zh``.
        texts: id → reference and both answers, where a person allowed content to be shown.
    """
    say = sections.speaker(language)
    title = say("baseline_title" if result.verdict == "baseline" else "title")
    parts = [
        *sections.verdict(result, say),
        *sections.task(result, say),
        *sections.general(result, say),
        *sections.arms(result, say),
        *draw_opinions(result, language),
        *sections.overlap(result, say),
        *_curve(result, curve, say),
        *sections.flips(result, say, texts or {}),
        *_sides(result, say),
        *_making(result, say),
    ]
    targets = result.provenance.get("targets", {})
    subtitle = " · ".join(
        f"{say(name) if name in ('base', 'tuned') else name}: {spec}"
        for name, spec in targets.items()
    )
    return pages.page(title, parts, language=language, subtitle=subtitle)


def _curve(result: EvalComparison, curve: Sequence[Series], say: Say) -> list[str]:
    if not curve:
        return []
    training = result.training
    best = training.best_checkpoint if training else None
    marks = [] if best is None else [(float(best), say("best"))]
    parts = [pages.heading(say("curve"))]
    if training and training.diagnosis:
        parts.append(pages.paragraph(f"{training.diagnosis}: {training.fix}"))
    values = [y for line in curve for _, y in line.points if y > 0]
    chart = pages.line_chart(
        curve,
        title=say("curve"),
        x_label=say("step_axis"),
        y_label=say("loss_axis"),
        marks=marks,
        log_y=bool(values) and max(values) > _DECADES * min(values),
    )
    return [*parts, chart]


def _sides(result: EvalComparison, say: Say) -> list[str]:
    """Return the table of how the answers look and how long they took."""
    if not result.format:
        return []
    speeds = result.latency.sides if result.latency else {}
    keys = ("arm", "missing", "truncated", "refusals", "circles", "script", "characters", "speed")
    rows = [
        (
            name,
            look.missing_fraction,
            look.truncated_fraction,
            look.refusal_fraction,
            look.repetition_fraction,
            look.language_switch_fraction,
            look.mean_characters,
            f"{speeds[name].p50_ms:g} / {speeds[name].p95_ms:g}" if name in speeds else None,
        )
        for name, look in result.format.items()
    ]
    parts = [pages.heading(say("answers")), pages.table([say(key) for key in keys], rows)]
    return [*parts, pages.paragraph(result.latency.how)] if result.latency else parts


def _making(result: EvalComparison, say: Say) -> list[str]:
    pairs: list[tuple[str, str]] = [(say("looks"), str(result.test_looks))]
    for name, value in result.provenance.items():
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            pairs += [(f"{name}: {key}", str(item)) for key, item in fields.items()]
        elif isinstance(value, list):
            pairs += [(name, str(item)) for item in cast("list[object]", value)]
        else:
            pairs.append((name, str(value)))
    return [pages.heading(say("made_from")), pages.key_values(pairs)]


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
        n_points=curve.n_points,
    )
    found = [(name, curve.series(name)) for name in ("loss", "eval_loss")]
    lines = [
        Series(name, [(float(step), value) for step, value in points])
        for name, points in found
        if points
    ]
    return Training(note, tuple(lines))


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


def provenance_of(answered: Answered) -> dict[str, object]:
    """Return what a reader needs to repeat the comparison: targets, digests, settings."""
    call, material = answered.call, answered.material
    files = dict(material.files)
    if material.elsewhere is not None:
        builtin = call.general == "builtin"
        files["general"] = PACK if builtin else resolve_read(call.general, where=WHERE)
    targets = material.competitors.targets
    for name, target in targets.items():
        if isinstance(target, RecordedTarget):
            files[f"recorded:{name}"] = Path(target.path)
    return {
        "targets": {name: target.spec for name, target in targets.items()},
        "sha256": {name: sha256_file(path) for name, path in files.items()},
        "settings": {
            "max_tokens": call.max_tokens,
            "decoding": "greedy",
            "seed": 0,
            "metrics": [metric.name for metric in material.metrics],
            "cluster_column": call.cluster_column,
        },
        "python": platform.python_version(),
        **answered.outcome.provenance,
    }
