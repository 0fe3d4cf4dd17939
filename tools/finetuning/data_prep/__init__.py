"""Data preparation: inspect raw files, convert, clean, split and validate them.

Here: the tools ``inspect_data`` and ``prepare_data``; what does the work is imported when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning.data_prep.results import (
    DataInspection,
    Engine,
    ExamplesMode,
    PreparedData,
    RedactChoice,
    Replay,
    RowCounts,
)
from finetuning.data_prep.targets import TargetName
from finetuning.errors import lazy

if TYPE_CHECKING:
    from finetuning.data_prep.validate import ValidationResult, validate_jsonl
else:  # type checkers see the import above, and so every wrong name
    __getattr__ = lazy(__name__, validate="ValidationResult validate_jsonl")

__all__ = [
    "DataInspection",
    "PreparedData",
    "Replay",
    "RowCounts",
    "ValidationResult",
    "inspect_data",
    "prepare_data",
    "validate_jsonl",
]


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
