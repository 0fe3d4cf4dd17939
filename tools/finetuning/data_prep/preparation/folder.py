"""The folder of results: its files, its report, and whole or not there whatever happens."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep.convert import Rejection
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.quality import quality_finding
from finetuning.data_prep.results import PARTS, CheckedRows, Part, PartTokens
from finetuning.data_prep.targets import TargetName
from finetuning.data_prep.validate import validate_jsonl
from finetuning.errors import BadInputError
from finetuning.files import write_jsonl
from finetuning.records import Finding, Json
from finetuning.tokens import TokenStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Final = (
    "train.jsonl", "validation.jsonl", "test.jsonl", "rejected.jsonl", "repairs.jsonl",
    "canaries.jsonl", "review.html", "report.md",
)  # fmt: skip
"""Files of a result; beside them ``fold_1`` … where there are folds. Nothing else is replaced."""

_OF_FILES: Final = {"too_few_rows", "few_rows", "too_many_rows", "file_too_large", "service_closed"}
"""Codes of the validator that speak of a whole file."""

_LOCKS: Final[Any] = importlib.import_module("fcntl") if os.name == "posix" else None
"""Without such locks, on Windows, what a killed process left stays."""

_OWNER: Final = ".owner"
_HELD_BYTES: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_WITH_BOM: Final = frozenset({"azure_chat"})
"""Azure wants a byte-order mark; source: MicrosoftDocs/azure-ai-docs (checked 2026-02-17)."""


class _PartFile:
    """One file of a split, written and digested row by row."""

    def __init__(self, path: Path, target: str) -> None:
        self._stream = path.open("xb")
        self._state = hashlib.sha256()
        self._held: list[bytes] = [_BOM] if target in _WITH_BOM else []
        self._size = 0

    def add(self, row: bytes) -> None:
        """Take one row with its line end."""
        self._held.append(row)
        self._size += len(row)
        if self._size > _HELD_BYTES:
            self._pass()

    def _pass(self) -> None:
        data = b"".join(self._held)
        self._held, self._size = [], 0
        self._state.update(data)
        self._stream.write(data)

    def close(self) -> None:
        """Write what is held, and make it last."""
        try:
            if self._size:  # a file without rows has no byte-order mark either
                self._pass()
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()

    def digest(self) -> str:
        """Return the SHA-256 of what was written."""
        return self._state.hexdigest()


def write_split(
    folder: Path,
    table: Table,
    kept: NDArray[Any],
    parts: NDArray[Any],
    added: Iterable[bytes],
    target: str,
) -> dict[str, str]:
    """Write train (with what is added to it), validation and test; return name → SHA-256.

    Args:
        folder: Where to.
        table: All rows.
        kept: Numbers of those that stay.
        parts: Their parts: 0 train, 1 validation, 2 test.
        added: Further rows of train, without line end.
        target: Target of the rows.
    """
    import numpy as np

    chosen = np.full(len(table), -1, dtype=np.int8)
    chosen[kept] = parts
    files = [_PartFile(folder / f"{part}.jsonl", target) for part in PARTS]
    with contextlib.ExitStack() as stack:
        for file in files:
            stack.callback(file.close)
        part_of = chosen.tolist()
        for row, raw in table.raws(chosen >= 0):
            files[part_of[row]].add(raw)
        for raw in added:
            files[0].add(raw + b"\n")
    return {part: file.digest() for part, file in zip(PARTS, files, strict=True)}


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


def write_repairs(folder: Path, table: Table, kept: NDArray[Any]) -> dict[str, int]:
    """Write ``repairs.jsonl`` where any row was changed; return how often each repair was made."""
    stays = set(kept.tolist()) if table.notes else set[int]()
    counts: Counter[str] = Counter()
    rows: list[dict[str, Json]] = []
    for row, codes in sorted(table.notes.items()):
        if row in stays:
            source, line = table.place(row)
            rows.append({"source": source, "line": line, "repairs": list(codes)})
            counts.update(codes)
    if rows:
        write_jsonl(folder / "repairs.jsonl", rows)
    return dict(counts)


def validate_parts(
    folder: Path, target: TargetName
) -> tuple[CheckedRows, PartTokens, list[Finding]]:
    """Validate the written files and count their tokens.

    Faults of a file as a whole count for train only.
    """
    counts: Counter[str] = Counter()
    errors = warnings = 0
    findings: list[Finding] = []
    tokens: dict[Part, TokenStats | None] = {}
    billed: int | None = None
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        if not path.stat().st_size:
            continue
        checked = validate_jsonl(str(path), target=target, max_findings=1)
        tokens[part] = checked.tokens
        billed = checked.billed_tokens_per_epoch if part == "train" else billed
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
    checks = CheckedRows(n_errors=errors, n_warnings=warnings, counts=dict(+counts))
    totals = PartTokens(
        train=tokens.get("train"),
        validation=tokens.get("validation"),
        test=tokens.get("test"),
        billed_per_epoch=billed,
    )
    return checks, totals, findings


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
def whole_folder(folder: Path, *, leave_out: str = "") -> Generator[Path]:
    """Yield a hidden folder that becomes ``folder`` when the block ends well.

    On any exception, Ctrl-C included, everything is as before. A folder that exists keeps its
    other files; only the files of an earlier result are replaced.

    Args:
        folder: The output folder; it need not exist.
        leave_out: Name of a folder inside that does not become part of it.

    Raises:
        BadInputError: The folder cannot be written, or the disk is full.
    """
    made: list[Path] = []
    exists = folder.is_dir()
    _sweep(folder if exists else folder.parent, folder.name)
    built = (folder if exists else folder.parent) / f".{folder.name}.{secrets.token_hex(4)}.partial"
    aside = built.with_suffix(".old")
    try:
        made = [] if exists else _new_parents(folder)
        built.mkdir()
        with _owned(built):
            yield built
        if leave_out:
            _remove([built / leave_out])
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


@contextlib.contextmanager
def _owned(built: Path) -> Generator[None]:
    """Hold a lock in a folder while it is built; it is gone with the process, however it ends."""
    if _LOCKS is None:
        yield
        return
    with (built / _OWNER).open("xb") as stream:
        _LOCKS.flock(stream, _LOCKS.LOCK_EX)
        yield
    (built / _OWNER).unlink()


def _sweep(place: Path, name: str) -> None:
    """Remove what a killed process left half built for the same folder."""
    if _LOCKS is None:
        return
    for left in place.glob(f".{glob.escape(name)}.*.partial"):
        with contextlib.suppress(OSError), (left / _OWNER).open("rb") as stream:
            _LOCKS.flock(stream, _LOCKS.LOCK_EX | _LOCKS.LOCK_NB)
            _remove([left])
