"""The tool ``scan_pii``: search a file for personal data, or write a copy without them.

What goes in and where copies go is decided here, before anything is read or written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from finetuning.errors import BadInputError
from finetuning.pii import (
    HEALTH_TYPES,
    SECRET_TYPES,
    Coverage,
    DetectorName,
    PersonalDataType,
    PiiScan,
    RedactMode,
    check_types,
)
from finetuning.records import Json, NextCall, page

if TYPE_CHECKING:
    from finetuning.pii.lines import Tally

_WHERE: Final = "scan_pii"
_TABLES: Final = {"csv", "tsv"}
_TEXT_ENDINGS: Final = (".txt", ".md", ".markdown")


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
    page([], limit, offset, where=_WHERE)
    wanted = check_types(types, where=_WHERE)
    inputs = input_files(path, where=_WHERE)
    goals, written = targets(inputs, path, mode, output, overwrite=overwrite, where=_WHERE)
    listing = checked_file(findings_file, overwrite=overwrite, where=_WHERE)
    refuse_same([*inputs.values(), *goals.values(), *([listing] if listing else [])], where=_WHERE)

    from finetuning.files import atomic_write
    from finetuning.pii.lines import Tally
    from finetuning.pii.search import Search, Sink

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
    more = tally.offset + len(tally.page)
    next_offset = more if more < tally.total else None
    return PiiScan(
        n_rows=tally.rows + tally.n_unreadable,
        findings_total=tally.total,
        by_type=dict(tally.by_type.most_common()),
        findings=tally.page,
        total=tally.total,
        next_offset=next_offset,
        hipaa18=coverage(wanted, detector),
        output_file=written,
        findings_file=listing,
        n_unreadable=tally.n_unreadable,
        n_unsearched=tally.n_unsearched,
        unreadable=tally.unreadable,
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


# The 18 identifiers of HIPAA Safe Harbor. "Covered" means: every common written form of it is
# looked for. It never means that a text is de-identified: Safe Harbor also asks that nobody knows
# the rest to identify a person, names and places in free text have no complete list, and images
# and voices are not text.
# Source: 45 CFR 164.514(b)(2)(i)(A)-(R) (checked 2026-11-20); knowledge: compliance.md
_IDENTIFIERS: Final[dict[str, tuple[Coverage, tuple[str, ...]]]] = {
    "names": ("partly", ("person_name",)),
    "geographic_subdivisions": ("partly", ("postal_address",)),
    "dates": ("partly", ("date_of_birth",)), "telephone_numbers": ("covered", ("phone",)),
    "fax_numbers": ("covered", ("phone",)), "email_addresses": ("covered", ("email",)),
    "social_security_numbers": ("covered", ("us_ssn",)),
    "medical_record_numbers": ("partly", ("medical_record",)),
    "health_plan_numbers": ("partly", ("health_plan",)),
    "account_numbers": ("partly", ("bank_account", "iban", "credit_card")),
    "certificate_and_licence_numbers": ("partly", ("driving_licence", "passport")),
    "vehicle_identifiers": ("no", ()), "device_identifiers": ("partly", ("mac",)),
    "web_urls": ("partly", ("url_credentials",)), "ip_addresses": ("covered", ("ip_v4", "ip_v6")),
    "biometric_identifiers": ("no", ()), "full_face_photographs": ("no", ()),
    "any_other_unique_identifier": ("partly", ("us_itin", "crypto_address")),
}  # fmt: skip


def coverage(wanted: frozenset[str], detector: str) -> dict[str, Coverage]:
    """Return how far a scan covers each of the 18 identifiers; only ``fast`` covers one fully."""
    matrix: dict[str, Coverage] = {}
    for name, (best, types) in _IDENTIFIERS.items():
        looked_for = [type_ for type_ in types if type_ in wanted]
        if not looked_for:
            matrix[name] = "no"
        elif len(looked_for) < len(types) or detector != "fast":
            matrix[name] = "partly"
        else:
            matrix[name] = best
    return matrix


def _fit_facts(by_type: Mapping[str, int]) -> dict[str, Json]:
    """Return what a scan measures; absence of findings proves nothing and states nothing."""
    if by_type.keys() & HEALTH_TYPES:
        return {"data_sensitivity": "health", "identified": True}
    if by_type.keys() - SECRET_TYPES:
        return {"data_sensitivity": "personal", "identified": True}
    return {}


def input_files(path: str, *, where: str) -> dict[str, Path]:
    """Return the files to search by name: one file, a prepared folder's splits, a text folder."""
    from finetuning.files import data_files, resolve_read, sniff_format
    from finetuning.files.paths import SPLITS
    from finetuning.files.text_rows import text_files

    found = resolve_read(path, where=where, kind="any")
    if found.is_dir() and any((found / f"{split}.jsonl").exists() for split in SPLITS):
        return {file.name: file for file in data_files(path, where=where).values()}
    if found.is_dir():
        sniff_format(found)  # says so if the folder holds no text
        return {file.relative_to(found).as_posix(): file for file in text_files(found)}
    return {found.name: found}


def checked_file(path: str | None, *, overwrite: bool, where: str) -> Path | None:
    """Return the resolved path of a file to write, or None for None."""
    if path is None:
        return None
    from finetuning.files import resolve_write

    target = resolve_write(path, where=where)
    if target.exists() and not overwrite:
        raise BadInputError(
            where,
            f"{path!r} exists",
            "a new file",
            "Choose another name, or pass overwrite=true to replace it",
        )
    return target


def targets(
    inputs: Mapping[str, Path],
    path: str,
    mode: Literal["scan", "redact"],
    output: str | None,
    *,
    overwrite: bool,
    where: str,
) -> tuple[dict[str, Path], str | None]:
    """Return the target of each input, and the path to report (a file, or a folder for many)."""
    from finetuning.files import new_output_folder

    if mode == "scan":
        if output is not None:
            raise BadInputError(
                where, "output is given with mode='scan'", "mode='redact'", "Pass mode='redact'"
            )
        return {}, None
    if len(inputs) > 1 or Path(path).expanduser().is_dir():
        folder = new_output_folder(output, where=where, name="redacted", overwrite=overwrite)
        return {
            name: folder / Path(name).parent / _name(file) for name, file in inputs.items()
        }, str(folder)
    (name, source), *_ = inputs.items()
    if output is None:
        folder = new_output_folder(None, where=where, name="redacted")
        return {name: folder / _name(source)}, str(folder / _name(source))
    target = checked_file(output, overwrite=overwrite, where=where)
    allowed = _endings(source)
    if target is None or target.suffix.lower() not in allowed:
        raise BadInputError(
            where,
            f"output is {output!r}",
            f"a name that ends in {' or '.join(allowed)}",
            f"Name it {Path(output).stem + allowed[0]!r}",
        )
    return {name: target}, str(target)


def _endings(source: Path) -> tuple[str, ...]:
    from finetuning.files import sniff_format

    form = sniff_format(source)
    if form == "text_folder":
        return _TEXT_ENDINGS
    first = {"csv": ".csv", "tsv": ".tsv", "json": ".json"}.get(form, ".jsonl")
    others = [".jsonl", ".json", *([".csv", ".tsv"] if form in _TABLES else [])]
    return (first, *(ending for ending in others if ending != first))


def _name(source: Path) -> str:
    stem = source.name
    while Path(stem).suffix.lower() in {".gz", ".zst", ".zstd"}:
        stem = Path(stem).stem
    endings = _endings(source)
    ending = Path(stem).suffix.lower()
    return Path(stem).stem + (ending if ending in endings else endings[0])


def refuse_same(paths: Sequence[Path], *, where: str) -> None:
    """Refuse to write over a file that is read, or to write two things to one file."""
    for position, path in enumerate(paths):
        if path in paths[:position]:
            raise BadInputError(
                where, f"{str(path)!r} is used twice", "different files", "Choose another name"
            )
