"""From what was measured to the call that prepares it, and to facts for ``assess_fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from finetuning.data_prep.measuring import Measured
from finetuning.data_prep.survey import SourceSurvey
from finetuning.data_prep.targets import TargetName
from finetuning.errors import FineTuningError
from finetuning.files import resolve_read, resolve_write
from finetuning.records import Json
from finetuning.settings import settings

_WHERE: Final = "inspect_data"
_MOST_NAMES: Final = 1_000


def _output_folder(path: str) -> str:
    """Return a folder that does not exist yet, beside the source where that may be written."""
    source = resolve_read(path, where=_WHERE, kind="any")
    stem = source.name.split(".")[0] or "data"
    beside = source.parent / f"{stem}-prepared"
    try:
        resolve_write(beside / "train.jsonl", where=_WHERE)
    except FineTuningError:
        beside = settings().reports / f"{stem}-prepared"
    names = (Path(f"{beside}-{number}") for number in range(2, _MOST_NAMES))
    free = beside if not beside.exists() else next(name for name in names if not name.exists())
    return str(free)


def suggest(
    path: str, survey: SourceSurvey, measured: Measured
) -> tuple[TargetName | None, dict[str, Json]]:
    """Return the target and the arguments of ``prepare_data``; None and {} where unknown."""
    if survey.target is None or not measured.items:
        return None, {}
    arguments: dict[str, Json] = {
        "sources": [path],
        "target": survey.target,
        "output_dir": _output_folder(path),
        **survey.columns.named(),
    }
    if measured.agreement is None:
        arguments.pop("annotator_column", None)
    if measured.n_classes and survey.columns.completion:
        arguments["label_column"] = survey.columns.completion
    if measured.personal_data:
        arguments["redact"] = "mask"
    return survey.target, arguments


def fit_facts(survey: SourceSurvey, measured: Measured) -> dict[str, Json]:
    """Return what was measured in the names that ``assess_fit`` knows."""
    facts: dict[str, Json] = {"n_examples": len(measured.items)}
    if survey.target == "trl_text":
        facts["corpus_tokens"] = measured.tokens.total
    else:
        facts["label_conflict_fraction"] = measured.conflicts
    if measured.items:
        facts["training_tokens"] = measured.tokens.total
    found = {
        "n_classes": measured.n_classes,
        "label_agreement": measured.agreement,
        "near_duplicate_test_fraction": measured.near_test_fraction,
        "n_tools": measured.n_tools or None,
        "n_preference_pairs": _count(survey, measured, "trl_preference"),
        "n_binary_feedback": _count(survey, measured, "trl_kto"),
    }
    return facts | {name: value for name, value in found.items() if value is not None}


def _count(survey: SourceSurvey, measured: Measured, target: TargetName) -> int | None:
    return len(measured.items) if survey.target == target else None
