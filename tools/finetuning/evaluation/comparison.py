"""The way of one comparison: read, plan, ask, judge, write."""

from __future__ import annotations

from finetuning import runs
from finetuning.evaluation.answered import Answered
from finetuning.evaluation.assembly import assemble
from finetuning.evaluation.call import WHERE, Call
from finetuning.evaluation.competitors import TUNED
from finetuning.evaluation.general import PACK
from finetuning.evaluation.material import Material, describe_steps, gather
from finetuning.evaluation.output import write_all
from finetuning.evaluation.provenance import describe_making
from finetuning.evaluation.remote import Sending, plan_only, price_sides, require_approval
from finetuning.evaluation.results import EvalComparison
from finetuning.evaluation.targets import ask_all, refuse_offline
from finetuning.evaluation.training_curve import read_training
from finetuning.files import new_output_folder, resolve_read


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
    return write_all(result, answered, training, folder)


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
