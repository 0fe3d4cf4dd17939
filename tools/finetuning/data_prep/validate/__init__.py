"""Validation of training files: every fault with line, place, code and fix.

Here: the tool ``validate_jsonl`` (one pass, every fault, one page of them), the limits and the
count of findings. What does the work is imported when called: this package is imported at every
start.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from pydantic import Field

from finetuning.data_prep.targets import (
    TARGETS,
    Method,
    Target,
    TargetName,
    find_target,
    method_for,
)
from finetuning.errors import lazy
from finetuning.records import Finding, Json, NextCall, ToolResult, page
from finetuning.tokens import TokenStats

if TYPE_CHECKING:
    from finetuning.data_prep.validate.reports import CODES
    from finetuning.data_prep.validate.scan import BillTally
    from finetuning.data_prep.validate.whole import FileScan
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(__name__, reports="CODES")

__all__ = ["CODES", "TARGETS", "ValidationResult", "validate_jsonl", "validate_row"]

_WHERE = "validate_jsonl"

_OPENAI_TARGETS: Final = frozenset({"openai_chat", "openai_preference", "azure_chat"})
_ROW_TOKENS_4O: Final = 65_536
"""Training context of gpt-4o and gpt-4o-mini: OpenAI's model pages (checked 2026-08-21)."""


class ValidationResult(ToolResult):
    """What is wrong with a training file, and how many tokens it has."""

    valid: bool = Field(description="True where no finding is an error.")
    target: str
    method: str
    n_rows: int = Field(description="Lines that are not blank.")
    n_errors: int
    n_warnings: int
    findings: list[Finding] = Field(description="One page, in the order of the file.")
    counts: dict[str, int] = Field(description="Findings by code, of the whole file.")
    total: int = Field(description="Findings of the whole file.")
    next_offset: int | None = Field(default=None, description="Offset of the next page.")
    tokens: TokenStats | None = Field(default=None, description="None: not counted.")
    billed_tokens_per_epoch: int | None = Field(
        default=None,
        description="Tokens that one epoch costs; nothing is billed for local targets.",
    )
    findings_file: str | None = Field(default=None, description="JSON Lines of all findings.")
    source: str = Field(description="Where the target's rules come from, and when checked.")

    def exit_code(self) -> int:
        """Return 1 where the file is not valid."""
        return 0 if self.valid else 1

    def summary(self) -> str:
        """Say valid or not, with the counts."""
        verdict = "valid" if self.valid else "NOT valid"
        worst = ", ".join(f"{code} {count}" for code, count in list(self.counts.items())[:5])
        return (
            f"{verdict} for {self.target}: {self.n_rows} rows, {self.n_errors} errors, "
            f"{self.n_warnings} warnings{f' ({worst})' if worst else ''}"
        )


def validate_jsonl(
    path: str,
    target: TargetName,
    method: Method | None = None,
    model: str | None = None,
    count_tokens: bool = True,
    max_findings: int | None = 50,
    offset: int = 0,
    findings_file: str | None = None,
) -> ValidationResult:
    """Check a training file against one provider's rules; list every fault.

    Nothing leaves the machine, and no text of a row is shown: findings name line, JSON pointer,
    code, types and lengths. An error is what the provider would reject, a warning what harms
    the model. Any readable file gives a result; an empty, binary or UTF-16 file is a finding.

    Args:
        path: The file, JSON Lines.
        target: Format to check against, for example openai_chat or trl_messages.
        method: sft, dpo, kto, rft, grpo or cpt; by default the target's own.
        model: Model id, or the folder of a model on disk; decides tokenizer and token limits.
        count_tokens: Count the tokens of every row (false is several times faster).
        max_findings: Most findings to return, at least 1; null returns all.
        offset: Findings to skip, at least 0.
        findings_file: Write all findings to this file as JSON Lines, too.

    Returns:
        The verdict with findings, counts per code, and tokens.

    Raises:
        BadInputError: The file is missing or a folder, changes while it is read, or an argument
            cannot be used.
        UnknownNameError: There is no such target.
        NotAllowedError: A path is outside the folders that may be used.

    Source: formats and limits in ``targets.TARGETS`` (checked 2026-11-20);
    knowledge: data-prep.md#finding-codes
    """
    from finetuning.data_prep.validate.scan import BillTally
    from finetuning.data_prep.validate.whole import FileScan
    from finetuning.files import atomic_write, resolve_read, resolve_write

    file = resolve_read(path, where=_WHERE)
    known = find_target(target, where=_WHERE)
    chosen = method_for(known, method, where=_WHERE)
    page([], max_findings, offset, where=_WHERE)
    output = None if findings_file is None else resolve_write(findings_file, where=_WHERE)
    limits = limits_for(known, model)
    bill = BillTally(known, model, limits) if count_tokens else None
    with contextlib.ExitStack() as stack:
        stream: IO[bytes] | None = None
        if output is not None:
            stream = stack.enter_context(atomic_write(output, binary=True))
        tally = FindingTally(max_findings, offset, stream)
        scan = FileScan(known, chosen, limits, tally, bill)
        scan.run(file, model)
    return _result(path, known, chosen, scan, tally, bill, output)


def _result(
    path: str,
    target: Target,
    method: Method,
    scan: FileScan,
    tally: FindingTally,
    bill: BillTally | None,
    output: Path | None,
) -> ValidationResult:
    tokens = bill.stats() if bill else None
    counts = dict(sorted(tally.counts.items(), key=lambda item: (-item[1], item[0])))
    facts: dict[str, Json] = {_COUNT_FACTS.get(method, "n_examples"): scan.n_rows}
    if tokens is not None:
        facts["training_tokens"] = tokens.total
    return ValidationResult(
        valid=tally.n_errors == 0,
        target=target.name,
        method=method,
        n_rows=scan.n_rows,
        n_errors=tally.n_errors,
        n_warnings=tally.n_warnings,
        findings=tally.kept,
        counts=counts,
        total=tally.total,
        next_offset=tally.next_offset,
        tokens=tokens,
        billed_tokens_per_epoch=bill.billed if bill else None,
        findings_file=None if output is None else str(output),
        source=target.source,
        next=_next(path, target, tally),
        fit_facts=facts,
    )


_COUNT_FACTS = {"dpo": "n_preference_pairs", "kto": "n_binary_feedback"}


def _next(path: str, target: Target, tally: FindingTally) -> list[NextCall]:
    """Return the calls that make sense now."""
    calls: list[NextCall] = []
    if tally.next_offset is not None:
        args: dict[str, Json] = {
            "path": path,
            "target": target.name,
            "count_tokens": False,
            "offset": tally.next_offset,
        }
        calls.append(NextCall(tool=_WHERE, args=args, why="the next page of findings"))
    if tally.n_errors:
        folder = Path(path).with_name(f"{Path(path).stem}-prepared")
        args = {"sources": [path], "target": target.name, "output_dir": str(folder)}
        why = "keeps the good rows and lists the others with their reason"
        calls.append(NextCall(tool="prepare_data", args=args, why=why))
    else:
        why = "find personal data before the file leaves this machine"
        calls.append(NextCall(tool="scan_pii", args={"path": path}, why=why))
    return calls


def validate_row(target: str, row: dict[str, Json]) -> list[Finding]:
    """Return the findings of one decoded row (``line`` is None).

    Args:
        target: Name of the target, for example ``openai_chat``; its default method counts.
        row: The row as decoded.

    Raises:
        UnknownNameError: There is no such target.
    """
    from finetuning.data_prep.validate.reports import RowReport
    from finetuning.data_prep.validate.rows import check_row

    known = find_target(target, where="target")
    report = RowReport()
    check_row(known.name, known.method, row, report)
    return report.findings


class Limits(NamedTuple):
    """Limits that hold for one call, after the model has had its say."""

    min_rows: int | None
    advised_rows: int | None
    max_rows: int | None
    max_bytes: int | None
    row_tokens: int | None
    long_row_fails: bool


def limits_for(target: Target, model: str | None) -> Limits:
    """Return the limits of a target, changed where the model is known to differ.

    Llama 3.x on Bedrock: 100 to 10,000 rows of 16,000 tokens (90B: 10,000); OpenAI's 4o family:
    65,536 tokens. Sources: ``targets.TARGETS`` (checked 2026-11-20).
    """
    name = (model or "").lower()
    limits = Limits(
        target.min_rows,
        target.advised_rows,
        target.max_rows,
        target.max_bytes,
        target.max_row_tokens,
        target.long_row == "fails",
    )
    if target.name == "bedrock_converse" and "llama" in name:
        tokens = 10_000 if "90b" in name else 16_000
        return limits._replace(min_rows=100, max_rows=10_000, row_tokens=tokens)
    if target.name in _OPENAI_TARGETS and "gpt-4o" in name:
        return limits._replace(row_tokens=_ROW_TOKENS_4O)
    return limits


class FindingTally:
    """All findings of a file pass through here, in order."""

    def __init__(self, limit: int | None, offset: int, stream: IO[bytes] | None) -> None:
        """Start at nothing.

        Args:
            limit: Most findings to keep; None keeps all.
            offset: Findings to skip before keeping.
            stream: Takes every finding as a JSON line, if given.
        """
        self._first = offset
        self._end = None if limit is None else offset + limit
        self._stream = stream
        self.counts: Counter[str] = Counter()
        self.n_errors = 0
        self.n_warnings = 0
        self.kept: list[Finding] = []

    @property
    def total(self) -> int:
        """Findings so far."""
        return self.n_errors + self.n_warnings

    @property
    def next_offset(self) -> int | None:
        """Offset of the next page, None where there is none."""
        return self._end if self._end is not None and self._end < self.total else None

    def add(self, found: Iterable[Finding]) -> None:
        """Count findings, keep those of the page, write all."""
        for item in found:
            if self._first <= self.total and (self._end is None or self.total < self._end):
                self.kept.append(item)
            self.counts[item.code] += 1
            if item.severity == "error":
                self.n_errors += 1
            else:
                self.n_warnings += 1
            if self._stream is not None:
                self._stream.write(item.model_dump_json().encode() + b"\n")
