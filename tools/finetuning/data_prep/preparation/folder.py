"""The folder of results: its files, its report, and whole or not there whatever happens."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from finetuning.data_prep.convert import NOTES, Rejection
from finetuning.data_prep.preparation.split import Split
from finetuning.data_prep.quality import Item, quality_finding
from finetuning.data_prep.results import PARTS, CheckedRows, PreparedData
from finetuning.data_prep.targets import TargetName
from finetuning.data_prep.validate import validate_jsonl
from finetuning.errors import BadInputError
from finetuning.files import atomic_write, sha256_file, write_jsonl
from finetuning.records import Finding, Json

NAMES: Final = (
    "train.jsonl",
    "validation.jsonl",
    "test.jsonl",
    "rejected.jsonl",
    "repairs.jsonl",
    "canaries.jsonl",
    "report.md",
)
"""Files of a result; beside them ``fold_1`` … where there are folds. Nothing else is replaced."""

_OF_FILES: Final = {"too_few_rows", "few_rows", "too_many_rows", "file_too_large", "service_closed"}
"""Codes of the validator that speak of a whole file."""

_BOM: Final = b"\xef\xbb\xbf"
_WITH_BOM: Final = frozenset({"azure_chat"})
"""Azure wants a byte-order mark; source: MicrosoftDocs/azure-ai-docs (checked 2026-02-17)."""


def write_rows(path: Path, items: Iterable[Item], target: str) -> None:
    """Write the rows of one part."""
    before = _BOM if target in _WITH_BOM else b""
    with atomic_write(path, binary=True) as stream:
        for item in items:
            stream.write(before + item.raw + b"\n")
            before = b""


def write_split(folder: Path, split: Split, added: Sequence[Item], target: str) -> dict[str, str]:
    """Write train (with what is added to it), validation and test; return name → SHA-256."""
    digests: dict[str, str] = {}
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        write_rows(path, [*split[part], *(added if part == "train" else ())], target)
        digests[part] = sha256_file(path)
    return digests


def _rejected_row(rejection: Rejection) -> Mapping[str, Json]:
    row: dict[str, Json] = {
        "source": rejection.source,
        "line": rejection.line,
        "reason": rejection.reason,
    }
    if rejection.of is not None:
        row["of"] = {"source": rejection.of.source, "line": rejection.of.line}
    if rejection.why is not None:
        row["why"] = rejection.why
    return row


def write_rejected(folder: Path, rejections: Sequence[Rejection]) -> None:
    """Write ``rejected.jsonl``, in the order of the sources."""
    order: dict[str, int] = {}
    for rejection in rejections:
        order.setdefault(rejection.source, len(order))
    ordered = sorted(rejections, key=lambda found: (order[found.source], found.line or 0))
    write_jsonl(folder / "rejected.jsonl", map(_rejected_row, ordered))


def write_repairs(folder: Path, items: Sequence[Item]) -> bool:
    """Write ``repairs.jsonl`` where any row was changed; say whether."""
    rows = [
        {
            "source": item.example.record.source,
            "line": item.example.record.line,
            "repairs": list(item.example.notes),
        }
        for item in items
        if item.example.notes
    ]
    if rows:
        write_jsonl(folder / "repairs.jsonl", rows)
    return bool(rows)


def write_signatures(path: Path, items: Sequence[Item]) -> None:
    """Write the MinHash signature and band keys of every row, so that any engine can cluster."""
    import polars as pl

    from finetuning.data_prep.duplicates.candidates import band_keys, sign
    from finetuning.data_prep.duplicates.words import read_words

    signatures = sign(read_words([item.content for item in items]))
    frame = pl.DataFrame(
        {
            "source": [item.example.record.source for item in items],
            "line": [item.example.record.line for item in items],
            "signature": pl.Series(signatures.tolist(), dtype=pl.List(pl.UInt32)),
            "bands": pl.Series(band_keys(signatures).tolist(), dtype=pl.List(pl.UInt64)),
        }
    )
    with atomic_write(path, binary=True) as stream:
        frame.write_parquet(stream)


def validate_parts(folder: Path, target: TargetName) -> tuple[CheckedRows, list[Finding]]:
    """Validate the written files; faults of a file as a whole count for train only."""
    counts: Counter[str] = Counter()
    errors = warnings = 0
    findings: list[Finding] = []
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        if not path.stat().st_size:
            continue
        checked = validate_jsonl(str(path), target=target, count_tokens=False, max_findings=1)
        counts.update(checked.counts)
        errors += checked.n_errors
        warnings += checked.n_warnings
        for code in _OF_FILES & checked.counts.keys():
            found = quality_finding(code, f"{checked.n_rows} rows for target {target}")
            if part == "train":
                findings.append(found)
                continue
            counts[code] -= checked.counts[code]
            errors -= found.severity == "error"
            warnings -= found.severity == "warning"
    return CheckedRows(n_errors=errors, n_warnings=warnings, counts=dict(+counts)), findings


def _table(headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _counts(title: str, word: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"## {title}", "", *_table((word, "rows"), counts.items())]


def markdown(result: PreparedData, sources: Iterable[str]) -> str:
    """Return the report of a result."""
    rows, split = result.rows, result.split
    lines = ["# Prepared data", "", f"Target: {result.target}", ""]
    lines += ["Sources:", "", *(f"- {source}" for source in sources), ""]
    lines += ["## Rows", "", *_table(("what", "rows"), rows.model_dump().items())]
    lines += [
        "read = train + validation + test - replay - canaries + rejected + both kinds of "
        "duplicates.",
        "",
    ]
    lines += _counts("Left out, by reason", "reason", result.reasons)
    if result.repairs:
        lines += ["## Changed to fit the target", ""]
        table = [(code, count, NOTES[code]) for code, count in result.repairs.items()]
        lines += _table(("what", "rows", "meaning"), table)
    lines += _counts("Personal data replaced, by type", "type", result.redacted_types)
    lines += ["## Split", "", f"Method: {split.method}. {split.why}.", ""]
    shares = ", ".join(f"{share:.3f}" for share in split.shares)
    lines += [f"Shares of train, validation, test: {shares}; folds: {split.folds or 'none'}.", ""]
    seen = result.smallest_detectable_difference
    if seen is not None:
        lines += [f"The test part can show a difference of {seen:.3f} or more.", ""]
    leakage = result.leakage
    lines += [
        f"Held-out rows with a twin in train: {leakage.exact} exact, {leakage.near} near.",
        "",
        f"Largest clusters of near copies: {result.largest_clusters or 'none'}.",
        "",
    ]
    lines += _counts("Findings of the target's validator", "code", result.validation.counts)
    lines += [f"- {finding.code}: {finding.message}. {finding.fix}." for finding in result.findings]
    return "\n".join([*lines, f"Digest of the data: {result.data_sha256}", ""])


def _old_results(folder: Path) -> list[Path]:
    """Return the files and fold folders of an earlier result."""
    named = [folder / name for name in NAMES]
    return [path for path in named if path.is_file()] + sorted(
        path for path in folder.glob("fold_*") if path.is_dir() and path.name[5:].isdigit()
    )


def _move_in(built: Path, folder: Path, aside: Path) -> None:
    """Replace an earlier result by renames; put everything back if one of them fails."""
    moved: list[tuple[Path, Path]] = []
    try:
        for source, into in ((folder, aside), (built, folder)):
            paths = _old_results(folder) if source == folder else sorted(built.iterdir())
            for path in paths:
                path.replace(into / path.name)
                moved.append((path, into / path.name))
    except BaseException:
        for before, after in reversed(moved):
            after.replace(before)
        raise


def _new_parents(folder: Path) -> list[Path]:
    """Create the missing parents of a folder and return them, innermost first."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return missing


@contextlib.contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Yield a hidden folder that becomes ``folder`` when the block ends well.

    On any exception, Ctrl-C included, everything is as before. A folder that exists keeps its
    other files; only the files of an earlier result are replaced.

    Args:
        folder: The output folder; it need not exist.

    Raises:
        BadInputError: The folder cannot be written, or the disk is full.
    """
    made: list[Path] = []
    exists = folder.is_dir()
    built = (folder if exists else folder.parent) / f".{folder.name}.{secrets.token_hex(4)}.partial"
    aside = built.with_suffix(".old")
    try:
        made = [] if exists else _new_parents(folder)
        built.mkdir()
        yield built
        if exists:
            aside.mkdir()
            _move_in(built, folder, aside)
        else:
            built.rename(folder)
    except BaseException as error:
        _remove([built, aside])
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, BadInputError):
            raise BadInputError(
                str(folder),
                f"the folder could not be written ({error.strerror or type(error).__name__})",
                "a folder that may be written, with room for the files",
                "Free some space or choose another folder; nothing was changed",
            ) from error
        raise
    _remove([built, aside])


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
