"""Runs a preparation from the sources to the folder of results, and says what comes next."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finetuning.data_prep.convert import Rejection
from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.duplicates import measure_leakage
from finetuning.data_prep.examples import answer_conflicts
from finetuning.data_prep.preparation.cleaning import (
    Cleaned,
    General,
    clean,
    make_canaries,
    read_general,
    replay_rows,
)
from finetuning.data_prep.preparation.folder import (
    markdown,
    validate_parts,
    whole_folder,
    write_rejected,
    write_repairs,
    write_signatures,
    write_split,
)
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.preparation.sources import gather
from finetuning.data_prep.preparation.split import Assigned, Split, assign
from finetuning.data_prep.quality import Item, replay_finding
from finetuning.data_prep.results import (
    PARTS,
    Fold,
    Leakage,
    PreparedData,
    RowCounts,
    SplitChoice,
)
from finetuning.files import digest, resolve_write, write_jsonl, write_text
from finetuning.records import Json, NextCall
from finetuning.runs import progress
from finetuning.settings import settings
from finetuning.statistics import smallest_detectable_difference

_LISTED_CLUSTERS: Final = 10

_TRAINED_HERE: Final = {"trl_messages", "trl_prompt_completion"}
"""Targets whose rows the training on this machine reads."""

_SMALL_BASE: Final = "Qwen/Qwen3-0.6B"
"""A base model whose shape ``estimate`` knows, so that a plan can be made before a download."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Everything that is known before anything is written."""

    options: Options
    cleaned: Cleaned
    assigned: Assigned
    rejections: list[Rejection]
    general: General
    canaries: list[Item]
    canary_records: list[dict[str, Json]]

    def replay(self, split: Split) -> list[Item]:
        """Return the general rows for the train part of a split."""
        replay = self.options.replay
        return replay_rows(self.general, len(split["train"]), replay.fraction) if replay else []

    def leakage(self, split: Split) -> Leakage:
        """Count held-out rows with a twin in train, general rows included."""
        train = [*split["train"], *self.replay(split)]
        held_out = [*split["validation"], *split["test"]]
        return measure_leakage(
            [item.content for item in train],
            [item.content for item in held_out],
            self.options.near_threshold,
        )


def _prepare(options: Options) -> _Work:
    converted, turn_table = gather(options)
    options = dataclasses.replace(options, turn_table=turn_table)
    cleaned = clean(converted.examples, options)
    assigned = assign(cleaned.items, cleaned.cluster, options)
    general = read_general(options, cleaned.items, cleaned.writer)
    known = [f"{item.content.exact:x}" for item in cleaned.items]
    canaries, records = make_canaries(options, digest(known), cleaned.writer)
    rejections = converted.rejections + cleaned.rejections
    return _Work(options, cleaned, assigned, rejections, general, canaries, records)


def _counts(work: _Work, split: Split, n_replay: int) -> RowCounts:
    reasons = Counter(rejection.reason for rejection in work.rejections)
    exact, near = reasons.pop("exact_duplicate", 0), reasons.pop("near_duplicate", 0)
    return RowCounts(
        read=len(work.cleaned.items) + len(work.rejections),
        rejected=reasons.total(),
        exact_duplicates=exact,
        near_duplicates=near,
        redacted=work.cleaned.redacted,
        replay=n_replay,
        canaries=len(work.canaries),
        train=len(split["train"]) + n_replay + len(work.canaries),
        validation=len(split["validation"]),
        test=len(split["test"]),
    )


def _write_folds(work: _Work, built: Path, folder: Path) -> list[Fold]:
    """Write the folds after the first below the folder; return all of them."""
    if work.assigned.sizes.folds is None:
        return []
    folds: list[Fold] = []
    for number, split in enumerate(work.assigned.splits):
        progress(number, len(work.assigned.splits), "writing folds")
        added = [*work.replay(split), *work.canaries]
        place = folder if number == 0 else folder / f"fold_{number}"
        if number:
            write_split(built / f"fold_{number}", split, added, work.options.target)
        folds.append(
            Fold(
                fold=number,
                files={part: str(place / f"{part}.jsonl") for part in PARTS},
                train=len(split["train"]) + len(added),
                validation=len(split["validation"]),
                test=len(split["test"]),
                leakage=work.leakage(split),
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
    """
    signatures: Path | None = None
    if options.signatures_file is not None:
        signatures = resolve_write(options.signatures_file, where=f"{WHERE}: signatures_file")
    work = _prepare(options)
    progress(0, None, "writing")
    with whole_folder(folder) as built:
        result = _write(work, built, folder)
        if signatures is not None:
            write_signatures(signatures, work.cleaned.items)
    return result.model_copy(update={"signatures_file": signatures and str(signatures)})


def _write(work: _Work, built: Path, folder: Path) -> PreparedData:
    options, split = work.options, work.assigned.splits[0]
    replay = work.replay(split)
    digests = write_split(built, split, [*replay, *work.canaries], options.target)
    write_rejected(built, work.rejections)
    repaired = write_repairs(built, work.cleaned.items)
    if work.canaries:
        write_jsonl(built / "canaries.jsonl", work.canary_records)
    checks, findings = validate_parts(built, options.target)
    if options.replay is not None:
        short = replay_finding(
            options.replay.fraction, len(replay), len(split["train"]), work.general.left_out
        )
        findings += [short] if short else []
    folds = _write_folds(work, built, folder)
    n_test, sizes = len(split["test"]), work.assigned.sizes
    result = PreparedData(
        target=options.target,
        files={part: str(folder / f"{part}.jsonl") for part in PARTS},
        rows=_counts(work, split, len(replay)),
        reasons=dict(Counter(rejection.reason for rejection in work.rejections)),
        repairs=_repairs(work.cleaned.items),
        redacted_types=work.cleaned.redacted_types,
        rejected_file=str(folder / "rejected.jsonl"),
        repairs_file=str(folder / "repairs.jsonl") if repaired else None,
        canaries_file=str(folder / "canaries.jsonl") if work.canaries else None,
        signatures_file=None,
        leakage=folds[0].leakage if folds else work.leakage(split),
        largest_clusters=work.cleaned.sizes[:_LISTED_CLUSTERS],
        split=SplitChoice(
            method=work.assigned.method, shares=sizes.shares, folds=sizes.folds, why=sizes.why
        ),
        folds=folds,
        smallest_detectable_difference=_detectable(n_test),
        all_folds_detectable_difference=_detectable(sum(fold.test for fold in folds)),
        validation=checks,
        findings=findings,
        report_file=str(folder / "report.md"),
        data_sha256=digest(digests),
    )
    write_text(built / "report.md", markdown(result, options.sources))
    facts = fit_facts(result, work.cleaned.items)
    return result.model_copy(
        update={"fit_facts": facts, "next": next_calls(result, options, facts)}
    )


def _repairs(items: Sequence[Item]) -> dict[str, int]:
    return dict(Counter(note for item in items for note in item.example.notes))


def _detectable(n_rows: int) -> float | None:
    return round(smallest_detectable_difference(n_rows), 4) if n_rows else None


def fit_facts(result: PreparedData, items: Sequence[Item]) -> dict[str, Json]:
    """Return the facts of the rows that stay (general rows and canaries not counted)."""
    held_out = result.rows.validation + result.rows.test
    facts: dict[str, Json] = {"n_examples": len(items), "split_method": result.split.method}
    if held_out:
        twins = result.leakage.exact + result.leakage.near
        facts["near_duplicate_test_fraction"] = round(twins / held_out, 4)
    if items:
        conflicts = answer_conflicts([item.content for item in items])
        facts["label_conflict_fraction"] = round(conflicts, 4)
    form = HOLDS[result.target].form
    if form == "preference":
        facts["n_preference_pairs"] = len(items)
    if form == "binary":
        facts["n_binary_feedback"] = len(items)
    labels = {item.example.label for item in items if item.example.label is not None}
    if labels:
        facts["n_classes"] = len(labels)
    return facts


def next_calls(result: PreparedData, options: Options, facts: dict[str, Json]) -> list[NextCall]:
    """Return the calls that make sense after a preparation."""
    if not result.rows.train:
        return [
            NextCall(
                tool="inspect_data",
                args={"path": options.sources[0]},
                why="no row could be used; it says what the file holds and which columns to name",
            )
        ]
    train = result.files["train"]
    calls = [
        NextCall(
            tool="validate_jsonl",
            args={"path": train, "target": result.target},
            why="checks the rows against the provider's rules and counts their tokens",
        ),
        NextCall(
            tool="assess_fit",
            args={"facts": facts},
            why="says whether these rows speak for fine-tuning",
        ),
    ]
    if result.target in _TRAINED_HERE:
        base, folder = _base_model(), str(Path(train).parent)
        calls.append(
            NextCall(
                tool="configure_training",
                args={"base_model": base, "data": folder},
                why="plans the training here; name the base model that you want to train",
            )
        )
    elif options.redact == "none":
        calls.append(
            NextCall(
                tool="scan_pii",
                args={"path": train},
                why="nothing was redacted; look for personal data before the rows leave",
            )
        )
    return calls


def _base_model() -> str:
    """Return the name of a base model on this machine, else of a small public one."""
    bases = (settings().home / "bases").glob("*/config.json")
    return min((path.parent.name for path in bases), default=_SMALL_BASE)
