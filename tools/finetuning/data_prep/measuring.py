"""Measures what ``inspect_data`` reports, and proposes the call that prepares the rows."""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finetuning.data_prep import DataInspection, DuplicateCounts
from finetuning.data_prep.duplicates import Rows, find_duplicates, measure_leakage
from finetuning.data_prep.preparation import Options
from finetuning.data_prep.preparation.sources import source_files
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.preparation.workers import gather
from finetuning.data_prep.quality import (
    class_sizes,
    contradictions,
    count_files,
    quality_finding,
    rows_finding,
)
from finetuning.data_prep.survey import Agreement, SourceSurvey, label_agreement, survey_source
from finetuning.data_prep.targets import TargetName
from finetuning.errors import FineTuningError
from finetuning.files import resolve_read, resolve_write
from finetuning.records import Finding, Json, NextCall
from finetuning.runs import progress
from finetuning.settings import settings
from finetuning.tokens import TokenStats, TokenTally, counter_for

_WHERE: Final = "inspect_data"

NEAR_THRESHOLD: Final = 0.5
TENTATIVE_ALPHA: Final = 0.667
"""Below this no conclusion should rest on the labels. Source: Krippendorff 2004, chapter 11."""

_EMPTY: Final = frozenset({"prompt_missing", "answer_missing", "empty_content", "no_turns"})
_MANY: Final = 0.1
_IMBALANCE: Final = 10
_LONG_TOKENS: Final = 1_000
_LONG_FACTOR: Final = 10
_ONE_ANSWER: Final = 0.3
_FEWEST_ROWS: Final = 20
_MOST_NAMES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts and shares; no text."""

    n_rows: int
    n_examples: int
    tokens: TokenStats
    exact: int
    near: int
    conflicts: float
    agreement: Agreement | None
    classes: list[int]
    languages: dict[str, int]
    language_confidence: float | None
    personal_data: dict[str, int]
    empty: int
    n_tools: int
    near_test_fraction: float | None
    findings: list[Finding]


def _options(path: str, survey: SourceSurvey) -> Options:
    """Return the options of the call that will be suggested; personal data masked."""
    return Options(
        sources=(path,), target=survey.target or "trl_prompt_completion", columns=survey.columns,
        examples="per_conversation", near_duplicates=True, semantic_duplicates=False,
        near_threshold=NEAR_THRESHOLD, redact="mask", split="auto", exclude=(),
        signatures_file=None, replay=None, canaries=0, review_sample=0, reviews_file=None,
        engine="local", force=True, seed=0,
    )  # fmt: skip


def _near_test_fraction(table: Table, names: Sequence[str]) -> float | None:
    """Return the share of test rows with a twin in train, for a prepared folder."""
    places = {name: place for place, name in enumerate(names)}
    files = {name.rpartition("/")[2]: place for name, place in places.items()}
    if not files.keys() >= {"train.jsonl", "test.jsonl"}:
        return None

    def rows_of(file: str) -> Rows:
        def place(row: int) -> int:
            return places[table.place(row).source]

        every = range(len(table))  # the files were read one after the other
        first = bisect.bisect_left(every, files[file], key=place)
        return table.rows.take(range(first, bisect.bisect_right(every, files[file], key=place)))

    train, test = rows_of("train.jsonl"), rows_of("test.jsonl")
    leakage = measure_leakage(train, test, NEAR_THRESHOLD)
    return round((leakage.exact + leakage.near) / len(test), 4) if len(test) else None


def _row_findings(table: Table) -> list[Finding]:
    """Return one finding per code, the commonest first; warnings after errors."""
    lines: dict[str, list[int | None]] = {}
    for rejection in table.rejections:
        lines.setdefault(rejection.reason, []).append(rejection.line)
    warned: dict[str, list[int | None]] = {}
    for row, codes in sorted(table.warnings.items()):
        for code in codes:
            warned.setdefault(code, []).append(table.place(row).line)
    commonest = sorted(lines.items(), key=lambda found: -len(found[1]))
    errors = [rows_finding(code, rows) for code, rows in commonest]
    return errors + [rows_finding(code, rows) for code, rows in sorted(warned.items())]


def _set_findings(survey: SourceSurvey, found: Measured, table: Table) -> list[Finding]:
    """Return what is wrong with the rows taken together."""
    n_rows = found.n_examples
    made: list[tuple[str, str]] = []
    if found.conflicts:
        rows = round(found.conflicts * n_rows)
        made.append(("contradictory_answers", f"{rows} of {n_rows} rows"))
    if found.agreement is not None:
        raw, alpha, prompts, people = found.agreement
        if alpha is not None and alpha < TENTATIVE_ALPHA:
            detail = f"{raw:.2f} of pairs are equal, by {people} annotators on {prompts} prompts"
            made.append(("annotators_differ", f"Krippendorff's alpha is {alpha:.2f}; {detail}"))
    if found.exact + found.near > _MANY * n_rows:
        message = f"{found.exact} exact and {found.near} near copies in {n_rows} rows"
        made.append(("copies", message))
    if found.near_test_fraction:
        made.append(("test_in_train", f"{found.near_test_fraction:.1%} of the test rows"))
    most, least = max(found.classes, default=0), min(found.classes, default=0)
    if most > _IMBALANCE * least:
        made.append(("class_imbalance", f"from {least} to {most} rows per answer"))
    share = _commonest_prose(table)
    if share > _ONE_ANSWER:
        made.append(("one_answer", f"{share:.0%} of the rows have the same words as answer"))
    known = {name: count for name, count in found.languages.items() if name != "unknown"}
    others = sum(known.values()) - max(known.values(), default=0)
    if others > _MANY * n_rows:
        sure = f"told with a confidence of {found.language_confidence}"
        made.append(("language_mix", f"{len(known)} languages, {others} rows; {sure}"))
    if found.tokens.max > max(_LONG_TOKENS, _LONG_FACTOR * found.tokens.p50):
        message = f"the longest has {found.tokens.max} tokens, the median {found.tokens.p50}"
        made.append(("long_outliers", message))
    if found.personal_data:
        total, types = sum(found.personal_data.values()), len(found.personal_data)
        made.append(("personal_data", f"{total} values of {types} types"))
    if len(survey.shapes) > 1:
        made.append(("several_shapes", ", ".join(survey.shapes)))
    return [quality_finding(code, message) for code, message in made]


def _commonest_prose(table: Table) -> float:
    """Return the share of rows whose answer, no label, is the commonest one; 0 in small files."""
    import numpy as np

    answers = table.rows.answered[table.rows.key == 0]
    if len(answers) < _FEWEST_ROWS or not table.lengths[:, 0].any():
        return 0.0
    return float(np.unique(answers, return_counts=True)[1].max() / len(table))


def measure(path: str, survey: SourceSurvey, files: dict[str, Path]) -> Measured:
    """Count everything that ``inspect_data`` reports, at flat memory."""
    home = settings().home
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspect-", dir=home) as folder:
        table = gather(files, _options(path, survey), Path(folder)).table
        progress(len(table), None, "counting tokens")
        texts = count_files(sorted(Path(folder).iterdir()))
    n_examples = len(table)
    progress(n_examples, n_examples, "looking for duplicates")
    copies = find_duplicates(table.rows, threshold=NEAR_THRESHOLD, rank=table.lengths.astype(float))
    flags = contradictions(table.rows.asked, table.rows.answered)
    sizes = class_sizes(table.rows.key, table.lengths[:, 0])
    people = table.cells.get("annotator") or []
    votes = zip(table.rows.asked.tolist(), people, table.rows.answered.tolist(), strict=False)
    counted = [(asked, who, answer) for asked, who, answer in votes if who is not None]
    tally = TokenTally(counter_for(None))
    tally.merge(texts.lengths)
    found = Measured(
        n_rows=survey.n_turns or n_examples + len(table.rejections),
        n_examples=n_examples,
        tokens=tally.stats(),
        exact=len(copies.exact),
        near=len(copies.near),
        conflicts=round(float(flags.mean()), 4) if n_examples else 0.0,
        agreement=label_agreement(counted),
        classes=[] if sizes is None else sizes.tolist(),
        languages=dict(texts.languages.most_common()),
        language_confidence=texts.mean_confidence(),
        personal_data=table.types,
        empty=sum(rejection.reason in _EMPTY for rejection in table.rejections),
        n_tools=len(texts.tools),
        near_test_fraction=_near_test_fraction(table, list(files)),
        findings=_row_findings(table),
    )
    found.findings.extend(_set_findings(survey, found, table))
    return found


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


def suggest(path: str, survey: SourceSurvey, found: Measured) -> dict[str, Json]:
    """Return the arguments of ``prepare_data``; {} where the target is not known."""
    if survey.target is None or not found.n_examples:
        return {}
    arguments: dict[str, Json] = {
        "sources": [path],
        "target": survey.target,
        "output_dir": _output_folder(path),
        **survey.columns.named(),
    }
    if found.agreement is None:
        arguments.pop("annotator_column", None)
    if found.classes and survey.columns.completion:
        arguments["label_column"] = survey.columns.completion
    if found.personal_data:
        arguments["redact"] = "mask"
    return arguments


def fit_facts(survey: SourceSurvey, found: Measured) -> dict[str, Json]:
    """Return what was measured in the names that ``assess_fit`` knows."""
    facts: dict[str, Json] = {"n_examples": found.n_examples}
    if survey.target == "trl_text":
        facts["corpus_tokens"] = found.tokens.total
    else:
        facts["label_conflict_fraction"] = found.conflicts
    if found.n_examples:
        facts["training_tokens"] = found.tokens.total
    counts = {"trl_preference": "n_preference_pairs", "trl_kto": "n_binary_feedback"}
    more = {
        "n_classes": len(found.classes) or None,
        "label_agreement": round(found.agreement.raw, 4) if found.agreement else None,
        "near_duplicate_test_fraction": found.near_test_fraction,
        "n_tools": found.n_tools or None,
        counts.get(survey.target or "", ""): found.n_examples,
    }
    return facts | {name: value for name, value in more.items() if name and value is not None}


def inspect(path: str) -> DataInspection:
    """Measure one source; the work behind ``inspect_data``."""
    files = source_files(path, where=_WHERE)
    survey = survey_source(path, files)
    found = measure(path, survey, files)
    arguments = suggest(path, survey, found)
    target: TargetName | None = survey.target if arguments else None
    follow = NextCall(
        tool="prepare_data", args=arguments, why="converts, cleans and splits these rows"
    )
    agreement = found.agreement
    return DataInspection(
        format=survey.format,
        shape=survey.shape,
        n_rows=found.n_rows,
        n_examples=found.n_examples,
        columns=survey.names,
        tokens=found.tokens,
        duplicates=DuplicateCounts(exact=found.exact, near=found.near),
        label_conflict_fraction=found.conflicts,
        label_agreement=round(agreement.raw, 4) if agreement else None,
        label_alpha=None if not agreement or agreement.alpha is None else round(agreement.alpha, 4),
        n_classes=len(found.classes) or None,
        languages=found.languages,
        language_confidence=found.language_confidence,
        pii=found.personal_data,
        empty=found.empty,
        quality_findings=found.findings,
        suggested_target=target,
        suggested_args=arguments,
        next=[follow] if target else [],
        fit_facts=fit_facts(survey, found),
    )
