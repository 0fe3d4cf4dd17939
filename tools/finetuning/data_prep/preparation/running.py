"""Runs a preparation from the sources to the folder of results, and says what comes next."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep import (
    PARTS,
    Fold,
    Leakage,
    PreparedData,
    RowCounts,
    SplitChoice,
)
from finetuning.data_prep.convert.codes import HOLDS, NOTES
from finetuning.data_prep.duplicates import write_signatures
from finetuning.data_prep.preparation import WHERE, Options, markdown
from finetuning.data_prep.preparation.cleaning import (
    Cleaned,
    General,
    clean,
    read_general,
)
from finetuning.data_prep.preparation.sources import Canaries, make_canaries, source_files
from finetuning.data_prep.preparation.split import Assigned, assign
from finetuning.data_prep.preparation.table import SplitColumns, Table
from finetuning.data_prep.preparation.workers import Gathered, check_columns, gather
from finetuning.data_prep.preparation.writing import (
    next_calls,
    old_results,
    validate_parts,
    write_rejected,
    write_repairs,
    write_review,
    write_split,
)
from finetuning.data_prep.quality import contradictions, replay_finding
from finetuning.files import digest, resolve_write, whole_folder, write_jsonl, write_text
from finetuning.records import Finding, Json
from finetuning.runs import progress
from finetuning.statistics import smallest_detectable_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LISTED_CLUSTERS: Final = 10

_SPOOLS: Final = ".spools"


@dataclass(frozen=True, slots=True)
class _Work:
    """Everything that is known before anything is written."""

    options: Options
    table: Table
    cleaned: Cleaned
    assigned: Assigned
    general: General
    canaries: Canaries

    def sizes(self, parts: NDArray[Any]) -> list[int]:
        """Return how many own rows each part of a split has."""
        return [int((parts == number).sum()) for number in range(len(PARTS))]

    def n_replay(self, parts: NDArray[Any]) -> int:
        """Return how many general rows the train part gets: the share asked for, or all."""
        replay = self.options.replay
        if replay is None:
            return 0
        wanted = round(replay.fraction / (1 - replay.fraction) * self.sizes(parts)[0])
        return min(wanted, len(self.general.raws))

    def added(self, parts: NDArray[Any]) -> list[bytes]:
        """Return the rows that are added to the train part."""
        return [*self.general.raws[: self.n_replay(parts)], *self.canaries.raws]

    def costs(self, parts: NDArray[Any]) -> list[NDArray[Any]]:
        """Return tokens and billed tokens of the rows of each part, added ones included."""
        import numpy as np

        own = self.table.costs[self.cleaned.kept]
        planted = np.array(self.canaries.costs, dtype=np.int64).reshape(-1, 2)
        train = [own[parts == 0], self.general.costs[: self.n_replay(parts)], planted]
        return [np.concatenate(train), own[parts == 1], own[parts == 2]]

    def leakage(self, parts: NDArray[Any]) -> Leakage:
        """Count held-out rows with a twin in train, general rows included."""
        general = self.general.rows.take(range(self.n_replay(parts)))
        return self.cleaned.leakage(parts, general, self.options.near_threshold)


def _read(options: Options, folder: Path) -> Gathered:
    files: dict[str, Path] = {}
    for path in options.sources:
        files |= source_files(path, where=f"{WHERE}: sources")
    folder.mkdir()
    found = gather(files, options, folder)
    check_columns(options, found)
    return found


def _prepare(options: Options, spools: Path) -> _Work:
    found = _read(options, spools / "own")
    table = found.table
    options = dataclasses.replace(options, turn_table=bool(found.turn_tables))
    cleaned = clean(table, options, spools)
    kept: list[int] = cleaned.kept.tolist()
    cells = {name: [values[row] for row in kept] for name, values in table.cells.items()}
    columns = SplitColumns(
        cluster=cleaned.cluster,
        family=cleaned.compared.family[cleaned.stay],
        groups=cells.get("group"),
        labels=cells.get("label"),
        times=table.times[cleaned.kept],
        place=lambda row: table.place(kept[row]),
    )
    assigned = assign(columns, options)
    general = read_general(options, cleaned, spools, plain=found.plain)
    known: list[Json] = []
    if options.canaries:
        known += [f"{name:x}" for name in cleaned.rows().names()]
    canaries = make_canaries(options, digest(known), plain=found.plain)
    return _Work(options, table, cleaned, assigned, general, canaries)


def _counts(work: _Work, parts: NDArray[Any]) -> RowCounts:
    reasons = Counter(rejection.reason for rejection in work.table.rejections)
    exact, near = reasons.pop("exact_duplicate", 0), reasons.pop("near_duplicate", 0)
    train, validation, test = work.sizes(parts)
    return RowCounts(
        read=len(work.cleaned.kept) + len(work.table.rejections),
        rejected=reasons.total(),
        exact_duplicates=exact,
        near_duplicates=near,
        redacted=work.table.redacted,
        replay=work.n_replay(parts),
        canaries=len(work.canaries.raws),
        train=train + work.n_replay(parts) + len(work.canaries.raws),
        validation=validation,
        test=test,
    )


def _write_folds(work: _Work, built: Path, folder: Path, leakage: Leakage) -> list[Fold]:
    """Write the folds after the first (with its ``leakage``) below the folder; return all."""
    if work.assigned.sizes.folds is None:
        return []
    folds: list[Fold] = []
    for number, parts in enumerate(work.assigned.parts):
        progress(number, len(work.assigned.parts), "writing folds")
        added = work.added(parts)
        place = folder if number == 0 else folder / f"fold_{number}"
        if number:
            below = built / f"fold_{number}"
            below.mkdir()
            write_split(below, work.table, work.cleaned.kept, parts, added, work.options.target)
        train, validation, test = work.sizes(parts)
        folds.append(
            Fold(
                fold=number,
                files={part: str(place / f"{part}.jsonl") for part in PARTS},
                train=train + len(added),
                validation=validation,
                test=test,
                leakage=work.leakage(parts) if number else leakage,
            )
        )
    return folds


def run(options: Options, folder: Path) -> PreparedData:
    """Prepare the data and put the results in place, all at once.

    Args:
        options: Checked options.
        folder: Where the results go, from ``files.new_output_folder``.

    Raises:
        NotAllowedError: A file lies outside the readable or writable folders.
        BadInputError: A file or column cannot be used, or the folder cannot be written.
        RunFailedError: A worker process died.
    """
    signatures: Path | None = None
    if options.signatures_file is not None:
        signatures = resolve_write(options.signatures_file, where=f"{WHERE}: signatures_file")
    with whole_folder(folder, old_results, leave_out=_SPOOLS) as built:
        spools = built / _SPOOLS
        spools.mkdir()
        work = _prepare(options, spools)
        progress(0, None, "writing")
        result = _write(work, built, folder)
        if signatures is not None:
            places = [work.table.place(row) for row in work.cleaned.kept.tolist()]
            write_signatures(signatures, work.cleaned.rows(), places)
    return result.model_copy(update={"signatures_file": signatures and str(signatures)})


def _findings(work: _Work, parts: NDArray[Any]) -> list[Finding]:
    """Return what the person should know beside the validator's findings."""
    found = list(work.cleaned.findings)
    if work.options.replay is not None:
        short = replay_finding(
            work.options.replay.fraction,
            work.n_replay(parts),
            work.sizes(parts)[0],
            work.general.left_out,
        )
        found += [short] if short else []
    return found


def _write(work: _Work, built: Path, folder: Path) -> PreparedData:
    from concurrent.futures import ThreadPoolExecutor

    options, parts, table = work.options, work.assigned.parts[0], work.table
    kept, sizes = work.cleaned.kept, work.assigned.sizes
    with ThreadPoolExecutor(1) as beside:
        leakage = beside.submit(work.leakage, parts)
        digests = write_split(built, table, kept, parts, work.added(parts), options.target)
    write_rejected(built, table.rejections)
    repairs = write_repairs(built, table, kept)
    if work.canaries.raws:
        write_jsonl(built / "canaries.jsonl", work.canaries.records)
    if options.review_sample:
        write_review(built, table, kept, parts, options)
    checks, tokens, findings = validate_parts(
        built, options.target, work.costs(parts), table.tokenizer
    )
    folds = _write_folds(work, built, folder, leakage.result())

    def place(name: str) -> str | None:
        return str(folder / name) if (built / name).exists() else None

    result = PreparedData(
        target=options.target,
        files={part: str(folder / f"{part}.jsonl") for part in PARTS},
        rows=_counts(work, parts),
        reasons=dict(Counter(rejection.reason for rejection in table.rejections)),
        repairs=repairs,
        redacted_types=table.types,
        rejected_file=str(folder / "rejected.jsonl"),
        repairs_file=place("repairs.jsonl"),
        canaries_file=place("canaries.jsonl"),
        review_file=place("review.html"),
        reviewed=work.cleaned.reviewed,
        signatures_file=None,
        leakage=leakage.result(),
        largest_clusters=work.cleaned.sizes[:_LISTED_CLUSTERS],
        split=SplitChoice(
            method=work.assigned.method, shares=sizes.shares, folds=sizes.folds, why=sizes.why
        ),
        folds=folds,
        smallest_detectable_difference=_detectable(work.sizes(parts)[2]),
        all_folds_detectable_difference=_detectable(sum(fold.test for fold in folds)),
        tokens=tokens,
        validation=checks,
        findings=findings + _findings(work, parts),
        report_file=str(folder / "report.md"),
        data_sha256=digest(dict(digests)),
    )
    write_text(built / "report.md", markdown(result, options.sources, NOTES))
    facts = _fit_facts(result, table, work.cleaned)
    return result.model_copy(
        update={"fit_facts": facts, "next": next_calls(result, options, facts)}
    )


def _fit_facts(result: PreparedData, table: Table, cleaned: Cleaned) -> dict[str, Json]:
    """Return the facts of the rows that stay (general rows and canaries not counted)."""
    n_rows = len(cleaned.kept)
    held_out = result.rows.validation + result.rows.test
    facts: dict[str, Json] = {"n_examples": n_rows, "split_method": result.split.method}
    if held_out:
        twins = result.leakage.exact + result.leakage.near
        facts["near_duplicate_test_fraction"] = round(twins / held_out, 4)
    if n_rows:
        rows, stay = cleaned.compared, cleaned.stay
        clashing = contradictions(rows.asked[stay], rows.answered[stay])
        facts["label_conflict_fraction"] = round(float(clashing.mean()), 4)
    form = HOLDS[result.target].form
    if form == "preference":
        facts["n_preference_pairs"] = n_rows
    if form == "binary":
        facts["n_binary_feedback"] = n_rows
    cells = table.cells.get("label")
    kept: list[int] = cleaned.kept.tolist()
    labels = {cells[row] for row in kept} - {None} if cells else set[str | None]()
    if labels:
        facts["n_classes"] = len(labels)
    return facts


def _detectable(n_rows: int) -> float | None:
    return round(smallest_detectable_difference(n_rows), 4) if n_rows else None
