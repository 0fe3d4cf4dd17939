"""The files of a result: rows by part, rows left out, repairs, the sheet; and what is next."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep import PARTS, CheckedRows, Part, PartTokens, PreparedData
from finetuning.data_prep.convert import Rejection
from finetuning.data_prep.preparation import Options
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.quality import quality_finding
from finetuning.data_prep.targets import TARGETS, TargetName
from finetuning.data_prep.validate import Limits, limits_for, validate_jsonl
from finetuning.data_prep.validate.reports import check_length
from finetuning.files import write_jsonl
from finetuning.records import Finding, Json, NextCall
from finetuning.settings import settings
from finetuning.tokens import TokenCounter, TokenStats, TokenTally

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES: Final = (
    "train.jsonl", "validation.jsonl", "test.jsonl", "rejected.jsonl", "repairs.jsonl",
    "canaries.jsonl", "review.html", "report.md",
)  # fmt: skip
"""Files of a result; beside them ``fold_1`` … where there are folds. Nothing else is replaced."""

_OF_FILES: Final = {"too_few_rows", "few_rows", "too_many_rows", "file_too_large", "service_closed"}
"""Codes of the validator that speak of a whole file."""

_TRAINED_HERE: Final = {"trl_messages", "trl_prompt_completion"}
"""Targets whose rows the training on this machine reads."""

_SMALL_BASE: Final = "Qwen/Qwen3-0.6B"
"""A base model whose shape ``estimate`` knows, so that a plan can be made before a download."""

_HELD_BYTES: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_WITH_BOM: Final = frozenset({"azure_chat"})
"""Azure wants a byte-order mark; source: MicrosoftDocs/azure-ai-docs (checked 2026-02-17)."""


def old_results(folder: Path) -> list[Path]:
    """Return the files and fold folders of an earlier result."""
    named = [folder / name for name in NAMES]
    return [path for path in named if path.is_file()] + sorted(
        path for path in folder.glob("fold_*") if path.is_dir() and path.name[5:].isdigit()
    )


class _PartFile:
    """One file of a split, written and digested row by row."""

    def __init__(self, path: Path, target: str) -> None:
        self._stream = path.open("xb")
        self._state = hashlib.sha256()
        self._held: list[bytes | memoryview] = [_BOM] if target in _WITH_BOM else []
        self._size = 0

    def add(self, rows: bytes | memoryview) -> None:
        """Take rows with their line ends."""
        self._held.append(rows)
        self._size += len(rows)
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
        for part, rows in table.runs(chosen):
            files[part].add(rows)
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


def _count_part(
    costs: NDArray[Any], tokenizer: tuple[str, bool], limits: Limits
) -> tuple[TokenStats, list[tuple[Finding, int]]]:
    """Return the tokens of a part, and what is wrong with how many rows that are too long."""
    name, exact = tokenizer
    tally = TokenTally(TokenCounter(name, exact=exact, counts=lambda _: []))
    tally.merge(Counter(costs[:, 0].tolist()))
    checked = (
        (check_length(0, size, limits, exact=exact), tally.lengths[size]) for size in tally.lengths
    )
    return tally.stats(), [(found, rows) for found, rows in checked if found is not None]


def validate_parts(
    folder: Path, target: TargetName, costs: Sequence[NDArray[Any]], tokenizer: tuple[str, bool]
) -> tuple[CheckedRows, PartTokens, list[Finding]]:
    """Validate the written files and add up their tokens.

    Faults of a file as a whole count for train only.

    Args:
        folder: Where the files are.
        target: Target of the rows.
        costs: Tokens and billed tokens of the rows of each part.
        tokenizer: Who counted them, and whether that is exact.
    """
    counts: Counter[str] = Counter()
    errors = warnings = 0
    findings: list[Finding] = []
    tokens: dict[Part, TokenStats | None] = {}
    billed: int | None = None
    limits = limits_for(TARGETS[target], None)
    for part, rows in zip(PARTS, costs, strict=True):
        if not len(rows):
            continue
        file = folder / f"{part}.jsonl"
        checked = validate_jsonl(str(file), target=target, count_tokens=False, max_findings=1)
        tokens[part], long = _count_part(rows, tokenizer, limits)
        billed = int(rows[:, 1].sum()) if part == "train" else billed
        counts.update(checked.counts)
        errors += checked.n_errors
        warnings += checked.n_warnings
        for fault, times in long:
            counts[fault.code] += times
            errors += times * (fault.severity == "error")
            warnings += times * (fault.severity == "warning")
        for code in _OF_FILES & checked.counts.keys():
            found = quality_finding(code, f"{checked.n_rows} rows for target {target}")
            if part == "train":
                findings.append(found)
            else:
                counts[code] -= checked.counts[code]
                errors -= found.severity == "error"
                warnings -= found.severity == "warning"
    checks = CheckedRows(n_errors=errors, n_warnings=warnings, counts=dict(+counts))
    every = [tokens.get(part) for part in PARTS]
    totals = PartTokens(train=every[0], validation=every[1], test=every[2], billed_per_epoch=billed)
    return checks, totals, findings


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
    bases = settings().bases.glob("*/config.json")
    return min((path.parent.name for path in bases), default=_SMALL_BASE)


def write_review(
    folder: Path, table: Table, kept: NDArray[Any], parts: NDArray[Any], options: Options
) -> None:
    """Write ``review.html``, a sample of the rows for a person to look at."""
    import numpy as np

    from finetuning.data_prep.review import ReviewSampler

    sampler = ReviewSampler(options.review_sample, seed=options.seed)
    numbers: list[int] = parts.tolist()
    part_of: dict[int, int] = dict(zip(kept.tolist(), numbers, strict=True))
    labels = table.cells.get("label")
    chosen = np.zeros(len(table), dtype=bool)
    chosen[kept] = True
    for row, raw in table.raws(chosen):
        source, line = table.place(row)
        sampler.add(
            raw[:-1],
            source=source,
            line=line,
            part=PARTS[part_of[row]],
            notes=(*table.notes.get(row, ()), *table.warnings.get(row, ())),
            label=labels[row] if labels else None,
        )
    sampler.write(folder / "review.html", target=options.target)
