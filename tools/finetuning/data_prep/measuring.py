"""Measures what ``inspect_data`` reports, and proposes the call that prepares the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from finetuning.data_prep.convert import Converted, Converter, Rejection, shape_of
from finetuning.data_prep.duplicates import find_duplicates, measure_leakage
from finetuning.data_prep.examples import annotator_agreement, answer_conflicts, tool_calls_of
from finetuning.data_prep.preparation.sources import SourceSurvey
from finetuning.data_prep.quality import (
    Item,
    RowWriter,
    class_counts,
    languages,
    make_writer,
    quality_finding,
    rank_of,
    rows_finding,
)
from finetuning.data_prep.targets import TargetName
from finetuning.errors import FineTuningError
from finetuning.files import resolve_read, resolve_write
from finetuning.records import Finding, Json
from finetuning.runs import progress
from finetuning.tokens import TokenStats

_WHERE: Final = "inspect_data"

NEAR_THRESHOLD: Final = 0.5
_EMPTY: Final = frozenset({"prompt_missing", "answer_missing", "empty_content"})
_MANY: Final = 0.1
_IMBALANCE: Final = 10
_LONG_TOKENS: Final = 1_000
_LONG_FACTOR: Final = 10
_MOST_NAMES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts and shares; no text."""

    items: list[Item]
    tokens: TokenStats
    exact: int
    near: int
    conflicts: float
    agreement: float | None
    n_classes: int | None
    languages: dict[str, int]
    personal_data: dict[str, int]
    empty: int
    n_tools: int
    near_test_fraction: float | None
    findings: list[Finding]


def _convert(survey: SourceSurvey) -> Converted:
    converter = Converter(
        survey.target or "trl_prompt_completion", survey.columns, "per_conversation"
    )
    parts = [converter.convert(source.rows, source.name) for source in survey.sources]
    return Converted(
        [example for part in parts for example in part.examples],
        [rejection for part in parts for rejection in part.rejections],
    )


def _tokens(items: Sequence[Item]) -> TokenStats:
    import orjson

    from finetuning.tokens import count_examples, counter_for

    progress(0, len(items), "counting tokens")
    rows = (cast("Mapping[str, Json]", orjson.loads(item.raw)) for item in items)
    return count_examples(rows, counter_for(None))


def _personal_data(survey: SourceSurvey) -> dict[str, int]:
    from finetuning.pii import redact_rows

    progress(0, len(survey.records), "looking for personal data")
    _, found = redact_rows([record.data for record in survey.records], "mask")
    return dict(found.most_common())


def _tool_names(items: Sequence[Item]) -> set[str]:
    names: set[str] = set()
    for item in items:
        for turn in item.example.messages:
            for call in tool_calls_of(turn):
                names.add(str(call["function"]["name"]))
    return names


def _fault_findings(rejections: Sequence[Rejection], writer: RowWriter) -> list[Finding]:
    """Return one finding per code, the commonest first; warnings after errors."""
    lines: dict[str, list[int | None]] = {}
    for rejection in rejections:
        lines.setdefault(rejection.reason, []).append(rejection.line)
    commonest = sorted(lines.items(), key=lambda found: -len(found[1]))
    errors = [rows_finding(code, rows) for code, rows in commonest]
    return errors + [rows_finding(code, rows) for code, rows in sorted(writer.warnings.items())]


def _set_findings(survey: SourceSurvey, measured: Measured) -> list[Finding]:
    """Return what is wrong with the rows taken together."""
    n_rows = len(measured.items)
    found: list[Finding] = []
    if measured.conflicts:
        rows = round(measured.conflicts * n_rows)
        found.append(quality_finding("contradictory_answers", f"{rows} of {n_rows} rows"))
    copies = measured.exact + measured.near
    if copies > _MANY * n_rows:
        message = f"{measured.exact} exact and {measured.near} near copies in {n_rows} rows"
        found.append(quality_finding("copies", message))
    classes = class_counts([item.content for item in measured.items])
    if classes and max(classes.values()) > _IMBALANCE * min(classes.values()):
        message = f"from {min(classes.values())} to {max(classes.values())} rows per answer"
        found.append(quality_finding("class_imbalance", message))
    known = {name: count for name, count in measured.languages.items() if name != "unknown"}
    others = sum(known.values()) - max(known.values(), default=0)
    if others > _MANY * n_rows:
        found.append(quality_finding("language_mix", f"{len(known)} languages, {others} rows"))
    if measured.tokens.max > max(_LONG_TOKENS, _LONG_FACTOR * measured.tokens.p50):
        message = f"the longest has {measured.tokens.max} tokens, the median {measured.tokens.p50}"
        found.append(quality_finding("long_outliers", message))
    if measured.personal_data:
        total, types = sum(measured.personal_data.values()), len(measured.personal_data)
        found.append(quality_finding("personal_data", f"{total} values of {types} types"))
    shapes = {shape.name for record in survey.records if (shape := shape_of(record.data))}
    if len(shapes) > 1:
        found.append(quality_finding("several_shapes", ", ".join(sorted(shapes))))
    return found


def _near_test_fraction(survey: SourceSurvey, items: Sequence[Item]) -> float | None:
    """Return the share of test rows with a twin in train, for a prepared folder."""
    named = {source.name.rpartition("/")[2]: source.name for source in survey.sources}
    if not named.keys() >= {"train.jsonl", "test.jsonl"}:
        return None
    train, test = (
        [item.content for item in items if item.example.record.source == named[f"{part}.jsonl"]]
        for part in ("train", "test")
    )
    leakage = measure_leakage(train, test, NEAR_THRESHOLD)
    return round((leakage.exact + leakage.near) / len(test), 4) if test else None


def measure(survey: SourceSurvey) -> Measured:
    """Count everything that ``inspect_data`` reports."""
    converted = _convert(survey)
    writer = make_writer(survey.target or "trl_prompt_completion", converted.examples)
    items, refused = writer.check(converted.examples)
    rejections = converted.rejections + refused
    contents = [item.content for item in items]
    copies = find_duplicates(
        contents, threshold=NEAR_THRESHOLD, rank=[rank_of(item) for item in items]
    )
    classes = class_counts(contents)
    agreement = annotator_agreement([item.example for item in items], contents)
    measured = Measured(
        items=items,
        tokens=_tokens(items),
        exact=len(copies.exact),
        near=len(copies.near),
        conflicts=round(answer_conflicts(contents), 4),
        agreement=None if agreement is None else round(agreement, 4),
        n_classes=len(classes) if classes else None,
        languages=languages(f"{content.prompt}\n{content.answer}" for content in contents),
        personal_data=_personal_data(survey),
        empty=Counter(rejection.reason in _EMPTY for rejection in rejections)[True],
        n_tools=len(_tool_names(items)),
        near_test_fraction=_near_test_fraction(survey, items),
        findings=_fault_findings(rejections, writer),
    )
    measured.findings.extend(_set_findings(survey, measured))
    return measured


def _output_folder(path: str) -> str:
    """Return a folder that does not exist yet, beside the source where that may be written.

    Else it lies in the working directory, which always may.
    """
    source = resolve_read(path, where=_WHERE, kind="any")
    stem = source.name.split(".")[0] or "data"
    beside = source.parent / f"{stem}-prepared"
    try:
        resolve_write(beside / "train.jsonl", where=_WHERE)
    except FineTuningError:
        beside = Path.cwd() / f"{stem}-prepared"
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
