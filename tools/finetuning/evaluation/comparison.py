"""The way of one comparison: read, plan, ask, judge, write."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from finetuning import runs
from finetuning.evaluation.assembly import assemble
from finetuning.evaluation.call import WHERE, Call
from finetuning.evaluation.competitors import TUNED, Competitors
from finetuning.evaluation.diagnose.curve import Curve
from finetuning.evaluation.diagnose.labels import best_checkpoint, diagnose
from finetuning.evaluation.diagnose.reading import read_log, to_curve
from finetuning.evaluation.general import PACK
from finetuning.evaluation.material import Answered, Material, describe_steps, gather
from finetuning.evaluation.output import write_all
from finetuning.evaluation.remote import Sending, plan_only, price_sides, require_approval
from finetuning.evaluation.results import EvalComparison, TrainingNote
from finetuning.evaluation.targets import RecordedTarget, Target, ask_all, refuse_offline
from finetuning.files import new_output_folder, resolve_read, sha256_file
from finetuning.pages import Series


def run_comparison(call: Call) -> EvalComparison:
    """Return the verdict of one call (see ``compare_eval``), or the plan of a dry run."""
    call.check()
    folder = new_output_folder(
        call.output_dir, where=WHERE, name="compare-eval", overwrite=call.overwrite
    )
    material = gather(call)
    training = read_training(call.log, material.competitors.targets.get(TUNED))
    sending = _sending(call, material)
    if call.dry_run or (call.dry_run is None and sending.hosts and call.plan_id is None):
        return plan_only(sending, call)
    refuse_offline(material.sides)
    require_approval(sending, call.plan_id)
    outcome = ask_all(material.sides, call.max_tokens)
    answered = Answered(call, material, outcome)
    result = assemble(answered).model_copy(
        update={
            "training": training.note,
            "test_looks": runs.count_look(material.test.sha256),
            "provenance": _provenance(answered),
        }
    )
    return write_all(result, answered, training.lines, folder)


def _sending(call: Call, material: Material) -> Sending:
    return Sending(
        arguments=call.bound(),
        files=list(material.files.values()),
        steps=describe_steps(material),
        cost_usd=price_sides(
            material.sides,
            call.max_tokens,
            call.price_in_usd_per_mtok,
            call.price_out_usd_per_mtok,
        ),
        hosts=material.competitors.remote,
    )


def _provenance(answered: Answered) -> dict[str, object]:
    call, material = answered.call, answered.material
    files = dict(material.files)
    if material.elsewhere is not None:
        builtin = call.general == "builtin"
        files["general"] = PACK if builtin else resolve_read(call.general, where=WHERE)
    settings = {
        "max_tokens": call.max_tokens,
        "decoding": "greedy",
        "seed": 0,
        "metrics": [metric.name for metric in material.metrics],
        "cluster_column": call.cluster_column,
    }
    return describe_making(material.competitors, files, settings, answered.outcome.provenance)


def describe_making(
    competitors: Competitors,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    ran: Mapping[str, object],
) -> dict[str, Any]:
    """Return what a reader needs to repeat the comparison.

    Args:
        competitors: Who competed.
        files: Name → file that was read.
        settings: Name → value of the arguments that shape the result.
        ran: What the targets say of themselves.
    """
    digests = {name: sha256_file(path) for name, path in files.items()}
    for name, target in competitors.targets.items():
        if isinstance(target, RecordedTarget):
            digests[f"recorded:{name}"] = sha256_file(Path(target.path))
    return {
        "targets": {name: target.spec for name, target in competitors.targets.items()},
        "sha256": digests,
        "settings": dict(settings),
        "python": platform.python_version(),
        **ran,
    }


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
