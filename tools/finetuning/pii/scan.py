"""The tool ``scan_pii``: search a file for personal data, or write a copy without them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from finetuning.pii.kinds import (
    HEALTH_TYPES,
    SECRET_TYPES,
    DetectorName,
    PersonalDataType,
    RedactMode,
    check_types,
)
from finetuning.pii.results import PiiScan
from finetuning.records import Json, NextCall, page

if TYPE_CHECKING:
    from finetuning.pii.search import Tally

_WHERE: Final = "scan_pii"


def scan_pii(
    path: str,
    mode: Literal["scan", "redact"] = "scan",
    redact: RedactMode = "mask",
    detector: DetectorName = "fast",
    types: list[PersonalDataType] | None = None,
    output: str | None = None,
    findings_file: str | None = None,
    limit: int | None = 20,
    offset: int = 0,
    overwrite: bool = False,
) -> PiiScan:
    """Find personal data and secrets in a file, or write a copy without them.

    Reads CSV, TSV, JSON, JSONL, Parquet, text and gz/zstd of these as a stream. Values are never
    returned or logged: type, place, confidence and a keyed digest only. Names and postal
    addresses are found through cues, so some are missed; no scan proves that a text names nobody.

    Args:
        path: Data file, folder that prepare_data wrote, or folder of text files.
        mode: scan reports; redact also writes a copy with every finding replaced (rows that
            cannot be decoded are left out of it and counted).
        redact: mask writes [EMAIL]; pseudonym writes [EMAIL_0123456789ab], the same for the same
            value in every file (HMAC with a key kept in FINE_TUNING_HOME).
        detector: fast (28 types with checksums), or the packages scrubadub or presidio.
        types: Types to look for; all when left out.
        output: Where the redacted copy goes: a .jsonl, .json, .csv or .tsv file (CSV and TSV for
            tables), a folder when path is a folder. Default: a new folder in the reports.
        findings_file: JSONL file that receives every finding.
        limit: Findings returned at once, 1 or more; all when null.
        offset: Findings to skip, 0 or more.
        overwrite: Replace an output or findings file that exists.

    Returns:
        Counts by type, one page of findings, and the HIPAA coverage matrix. Exit code 1 when a
        scan found something, 3 when nothing was found but a part could not be searched, else 0.

    Raises:
        BadInputError: The file is missing, empty or binary; an output exists or has a wrong ending.
        NotAllowedError: A path lies outside the allowed folders.
        MissingExtraError: The package of another detector is not installed.

    Source: 45 CFR 164.514(b)(2) (checked 2026-11-20); knowledge: compliance.md#personal-data
    """
    from finetuning.files import atomic_write
    from finetuning.pii.outputs import Sink, checked_file, refuse_same, targets
    from finetuning.pii.pieces import input_files
    from finetuning.pii.search import Search, Tally

    page([], limit, offset, where=_WHERE)
    wanted = check_types(types, where=_WHERE)
    inputs = input_files(path, where=_WHERE)
    goals, written = targets(inputs, path, mode, output, overwrite=overwrite, where=_WHERE)
    listing = checked_file(findings_file, overwrite=overwrite, where=_WHERE)
    refuse_same([*inputs.values(), *goals.values(), *([listing] if listing else [])], where=_WHERE)
    tally = Tally(limit, offset)
    search = Search(wanted, detector, redact, tally)
    with contextlib.ExitStack() as stack:
        if listing:
            tally.stream = stack.enter_context(atomic_write(listing))
        for name, source in inputs.items():
            label = name if len(inputs) > 1 else None
            goal = goals.get(name)
            search.file(source, label, stack.enter_context(Sink.open(goal)) if goal else None)
    return _result(path, mode, detector, tally, wanted, written, str(listing) if listing else None)


def _result(
    path: str,
    mode: Literal["scan", "redact"],
    detector: str,
    tally: Tally,
    wanted: frozenset[str],
    written: str | None,
    listing: str | None,
) -> PiiScan:
    from finetuning.pii.hipaa import coverage

    more = tally.offset + len(tally.page)
    next_offset = more if more < tally.total else None
    return PiiScan(
        n_rows=tally.rows + tally.unreadable.count,
        findings_total=tally.total,
        by_type=dict(tally.by_type.most_common()),
        findings=tally.page,
        total=tally.total,
        next_offset=next_offset,
        hipaa18=coverage(wanted, detector),
        output_file=written,
        findings_file=listing,
        n_unreadable=tally.unreadable.count,
        n_unsearched=tally.unreadable.unsearched,
        unreadable=tally.unreadable.sample,
        mode=mode,
        next=_next_calls(path, mode, tally, written),
        fit_facts=_fit_facts(tally.by_type) if mode == "scan" else {},
    )


def _next_calls(path: str, mode: str, tally: Tally, written: str | None) -> list[NextCall]:
    if mode == "redact":
        return [
            NextCall(
                tool="scan_pii",
                args={"path": written},
                why="confirms that the copy holds nothing this detector finds",
            )
        ]
    if not tally.total:
        return []
    return [
        NextCall(
            tool="scan_pii",
            args={"path": path, "mode": "redact"},
            why="writes a copy with every finding masked",
        )
    ]


def _fit_facts(by_type: Mapping[str, int]) -> dict[str, Json]:
    """Return what a scan measures; absence of findings proves nothing and states nothing."""
    if by_type.keys() & HEALTH_TYPES:
        return {"data_sensitivity": "health", "identified": True}
    if by_type.keys() - SECRET_TYPES:
        return {"data_sensitivity": "personal", "identified": True}
    return {}
