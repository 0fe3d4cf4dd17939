"""Data preparation: inspect raw files, convert, clean, split and validate them.

Here: the tools ``inspect_data`` and ``prepare_data`` and what they take and return: counts, digests
and places, never the text of a row. What does the work is imported when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from finetuning.data_prep.targets import TargetName
from finetuning.errors import lazy
from finetuning.records import Finding, Json, Model, ToolResult
from finetuning.tokens import TokenStats

if TYPE_CHECKING:
    from finetuning.data_prep.validate import ValidationResult, validate_jsonl
else:  # type checkers see the import above, and so every wrong name
    __getattr__ = lazy(__name__, validate="ValidationResult validate_jsonl")

__all__ = [
    "DataInspection", "PreparedData", "Replay", "RowCounts", "ValidationResult", "inspect_data",
    "prepare_data", "validate_jsonl",
]  # fmt: skip

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


def inspect_data(path: str) -> DataInspection:
    """Measure a raw data file and propose the call that prepares it.

    Nothing is changed and no text is shown: rows, columns, tokens, duplicates, contradictory
    answers, languages, personal data by type, and faults by code and line. The suggested
    arguments can be passed to prepare_data as they are.

    Args:
        path: Data file of any input shape, text folder, or folder that prepare_data wrote.
    """
    from finetuning.data_prep.measuring import inspect

    return inspect(str(path))


# fmt: off
def prepare_data(
    sources: list[str], target: TargetName, output_dir: str,
    prompt_column: str | None = None, completion_column: str | None = None,
    conversation_column: str | None = None, role_column: str | None = None,
    content_column: str | None = None, time_column: str | None = None,
    label_column: str | None = None, annotator_column: str | None = None,
    group_column: str | None = None, context_column: str | None = None,
    role_map: dict[str, str] | None = None, examples: ExamplesMode = "per_conversation",
    system: str | None = None, near_duplicates: bool = True, semantic_duplicates: bool = False,
    near_threshold: float = 0.5, redact: RedactChoice = "none", split: str | list[float] = "auto",
    exclude: list[str] | None = None, signatures_file: str | None = None,
    replay: Replay | None = None, canaries: int = 0, review_sample: int = 0,
    reviews_file: str | None = None, engine: Engine = "local", force: bool = False, seed: int = 0,
    overwrite: bool = False,
) -> PreparedData:
    """Convert, clean, redact and split raw files into train, validation and test.

    Args:
        sources: Data files of any input shape, text folders, or folders this tool wrote.
        target: Format of the rows to write, for example trl_prompt_completion.
        output_dir: New or empty folder for train.jsonl, validation.jsonl, test.jsonl and reports.
        prompt_column: Column that asks. Without it, shape and names of the columns decide.
        completion_column: Column that answers.
        conversation_column: Column that names the conversation, in tables of one turn per row.
        role_column: Column that says who speaks, in tables of one turn per row.
        content_column: Column with the words of a turn; for text targets, the text.
        time_column: Orders the turns of conversations; else newest rows become the test part.
        label_column: Column whose values each part gets its due of; for trl_kto, good or bad.
        annotator_column: Column that says who answered; the answer with most votes stays.
        group_column: Column whose rows of one value stay in one part, for example a customer.
        context_column: Column whose text is put before the prompt.
        role_map: Meaning of unusual roles, for example {"moderator": "system"}.
        examples: One example per conversation, or one per assistant reply.
        system: System text for examples that have none.
        near_duplicates: Leave out near copies; false keeps them, in one part of the split.
        semantic_duplicates: Leave out rows that mean the same in other words (extra semantic).
        near_threshold: Exact Jaccard similarity of word pairs of near copies, above 0 up to 1.
        redact: Replace personal data by its type (mask) or by stable tags (pseudonym).
        split: auto, shares of train, validation and test such as [0.8,0.1,0.1], or kfold:K.
        exclude: Files whose rows, or near copies of them, may be in no part.
        signatures_file: Parquet file to write the MinHash signatures of the kept rows to.
        replay: General rows to add to train, {"path": FILE, "fraction": share of train, 0..1}.
        canaries: Marker rows to plant in train for the memorisation check, 0..10000.
        review_sample: Rows to put on an offline page that a person goes through, 0..2000.
        reviews_file: Decisions saved from such a page: approved, edited, rejected rows.
        engine: What compares rows: local, or daft (extra scale), whose results are the same.
        force: Remove near copies even where they are most of the rows.
        seed: Chooses split, replay rows and canaries, at least 0.
        overwrite: Replace the results of an earlier call in output_dir.
    """
    from finetuning.data_prep import preparation as asked
    from finetuning.data_prep.convert import Columns
    from finetuning.data_prep.preparation.running import run
    from finetuning.files import new_output_folder

    columns = Columns(
        prompt_column, completion_column, conversation_column, role_column, content_column,
        time_column, label_column, annotator_column, group_column, context_column,
        role_map or {}, system,
    )
    options = asked.Options(
        tuple(map(str, sources)), target, columns, examples, near_duplicates,
        semantic_duplicates, near_threshold, redact, split,
        tuple(map(str, exclude or ())), signatures_file, asked.read_replay(replay), canaries,
        review_sample, reviews_file, engine, force, seed,
    )
    checked = asked.check_options(options)
    folder = new_output_folder(output_dir, where=asked.WHERE, name="prepared", overwrite=overwrite)
    return run(checked, folder)
# fmt: on
