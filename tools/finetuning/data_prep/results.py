"""What the tools take and return: counts, digests and places, never the text of a row.

Kept apart from the code that does the work, so that a server starts fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from pydantic import Field

from finetuning.data_prep.targets import TargetName
from finetuning.records import Finding, Json, Model, ToolResult
from finetuning.tokens import TokenStats

ExamplesMode = Literal["per_conversation", "per_reply"]

RedactChoice = Literal["none", "mask", "pseudonym"]

Engine = Literal["local", "daft"]

SplitMethod = Literal["by_cluster", "by_group", "by_time"]

Part = Literal["train", "validation", "test"]

PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")


class Replay(Model, defer_build=True):
    """General rows mixed into train, against forgetting."""

    path: str = Field(description="Data file of general rows, in any input shape.")
    fraction: float = Field(
        ge=0, lt=1, description="Their share of the written train file, 0..1 (0.25: one in four)."
    )


class Leakage(Model, defer_build=True):
    """Held-out rows with a twin in train."""

    exact: int = Field(description="Held-out rows that are in train, too, but for white space.")
    near: int = Field(description="Held-out rows with a near copy in train (exact ones excluded).")


class RowCounts(Model, defer_build=True):
    """What became of the rows.

    ``read = train + validation + test - replay - canaries + rejected + exact_duplicates
    + near_duplicates``.
    """

    read: int = Field(description="Examples read, after rows of a conversation were joined.")
    rejected: int = Field(description="Faulty, outvoted or excluded; see rejected_file.")
    exact_duplicates: int
    near_duplicates: int
    redacted: int = Field(description="Examples in which personal data were replaced.")
    replay: int = Field(description="General rows added to train.")
    canaries: int = Field(description="Marker rows added to train.")
    train: int
    validation: int
    test: int


class SplitChoice(Model, defer_build=True):
    """How the rows were split, and why so."""

    method: SplitMethod
    shares: tuple[float, float, float] = Field(description="Train, validation, test, 0..1.")
    folds: int | None
    why: str


class Fold(Model, defer_build=True):
    """One of K splits; every row is tested in just one of them."""

    fold: int
    files: dict[str, str]
    train: int
    validation: int
    test: int
    leakage: Leakage


class CheckedRows(Model, defer_build=True):
    """What the target's validator says of the written files."""

    n_errors: int
    n_warnings: int
    counts: dict[str, int] = Field(description="Findings by code.")


class PartTokens(Model, defer_build=True):
    """Tokens of the written files, chat overhead included."""

    train: TokenStats | None = Field(description="General rows and canaries included.")
    validation: TokenStats | None
    test: TokenStats | None
    billed_per_epoch: int | None = Field(
        description="What one epoch over train costs; None where nothing is billed."
    )


class PreparedData(ToolResult, defer_build=True):
    """Where the rows went, and what was done to them."""

    target: str
    files: dict[str, str] = Field(description="Paths of train, validation and test.")
    rows: RowCounts
    reasons: dict[str, int] = Field(description="Rejected rows and copies by reason.")
    repairs: dict[str, int] = Field(description="Rows changed or cut to fit, by what was done.")
    redacted_types: dict[str, int] = Field(description="Personal data replaced, by type.")
    rejected_file: str = Field(description="JSON Lines {source, line, reason, of?, why?}.")
    repairs_file: str | None = Field(description="JSON Lines {source, line, repairs}.")
    canaries_file: str | None = Field(description="JSON Lines of what was planted.")
    review_file: str | None = Field(description="Page for a person to approve, edit, reject.")
    reviewed: dict[str, int] = Field(description="Rows by decision, with reviews_file.")
    signatures_file: str | None = Field(description="Parquet of MinHash signatures and bands.")
    leakage: Leakage
    largest_clusters: list[int] = Field(description="Sizes of the ten largest, near copies.")
    split: SplitChoice
    folds: list[Fold] = Field(description="Empty without folds; files and rows are of fold 0.")
    smallest_detectable_difference: float | None = Field(
        description="Smallest difference of two paired scores the test part sees, 0..1."
    )
    all_folds_detectable_difference: float | None = Field(
        description="The same for all folds together, where there are folds."
    )
    tokens: PartTokens
    validation: CheckedRows
    findings: list[Finding] = Field(description="What the person should know, at most a few.")
    report_file: str
    data_sha256: str = Field(description="Digest of the three files' SHA-256.")

    def exit_code(self) -> int:
        """Return 1 where no row could be used."""
        return 0 if self.rows.train else 1

    def summary(self) -> str:
        """Say how many rows went where."""
        rows = self.rows
        return (
            f"{rows.read} rows read: {rows.train} train, {rows.validation} validation, "
            f"{rows.test} test; {rows.rejected} rejected, {rows.exact_duplicates} exact and "
            f"{rows.near_duplicates} near duplicates left out, {rows.redacted} redacted"
        )


class DuplicateCounts(Model, defer_build=True):
    """Copies in the file (rows that could go)."""

    exact: int = Field(description="Rows that repeat another but for white space.")
    near: int = Field(description="Further rows whose words repeat another's, Jaccard .5 or more.")


class DataInspection(ToolResult, defer_build=True):
    """What was measured; no text of any row."""

    format: str = Field(
        description="csv, tsv, json, jsonl, parquet, text_folder, prepared, folder or zip."
    )
    shape: str = Field(
        description="Program of an export, else commonest shape of the rows, table, turns, unknown."
    )
    n_rows: int = Field(description="Rows in the file, faulty ones included.")
    n_examples: int = Field(description="Rows or conversations that could be read as examples.")
    columns: list[str]
    tokens: TokenStats = Field(description="Per example of the suggested target.")
    duplicates: DuplicateCounts
    label_conflict_fraction: float = Field(
        description="Share of examples whose prompt has another answer elsewhere, 0..1."
    )
    label_agreement: float | None = Field(
        description="How often two annotators agree, 0..1; None without several annotators."
    )
    label_alpha: float | None = Field(
        default=None,
        description="Krippendorff's alpha (nominal): agreement beyond chance, at most 1.",
    )
    n_classes: int | None = Field(description="Different answers, where they look like classes.")
    languages: dict[str, int] = Field(description="Examples by language (a rough guess).")
    language_confidence: float | None = Field(
        default=None, description="Mean confidence of the languages told, 0..1."
    )
    pii: dict[str, int] = Field(description="Personal data and secrets by type.")
    empty: int = Field(description="Rows without a prompt or without an answer.")
    quality_findings: list[Finding]
    suggested_target: TargetName | None = Field(description="None: the columns must be named.")
    suggested_args: dict[str, Json] = Field(description="Arguments of prepare_data, as they are.")

    def exit_code(self) -> int:
        """Return 0: a measurement has no wrong answer."""
        return 0

    def summary(self) -> str:
        """Say how much there is and what is wrong with it."""
        found = ", ".join(f"{item.code}" for item in self.quality_findings[:5]) or "none"
        return (
            f"{self.format}: {self.n_rows} rows, {self.n_examples} examples, "
            f"{self.tokens.total} tokens; duplicates {self.duplicates.exact} exact and "
            f"{self.duplicates.near} near; findings: {found}; "
            f"suggested target: {self.suggested_target or 'none'}"
        )


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


def _table(headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _counts(title: str, word: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"## {title}", "", *_table((word, "rows"), counts.items())]


def markdown(result: PreparedData, sources: Iterable[str], notes: Mapping[str, str]) -> str:
    """Return the report of a result, for a person.

    Args:
        result: What was done.
        sources: Files as the person named them.
        notes: Meaning of each repair.
    """
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
        table = [(code, count, notes[code]) for code, count in result.repairs.items()]
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
