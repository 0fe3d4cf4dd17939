"""How many tokens a job trains on, and how often: counted in the files, or as the caller says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finetuning.costs.request import Job, Ledger, Request
from finetuning.errors import BadInputError
from finetuning.providers.catalogue import ModelEntry, Provider
from finetuning.providers.terms import TrainingAmounts, openai_auto_epochs
from finetuning.records import Json, Model

_ANSWERS: Final = (
    "completions",
    "completion",
    "chosen",
    "rejected",
    "preferred_output",
    "non_preferred_output",
)
"""Keys of preference rows that hold answers; what is left is the prompt."""

_MOST_BYTES_PER_TOKEN: Final = 30
"""A file with more bytes per token than this was probably read as something it is not."""


class Counted(Model):
    """Tokens of one pass over the data; ``low`` and ``high`` are factors around the total."""

    train_tokens: int
    prompt_tokens: int | None = None
    validation_tokens: int = 0
    n_rows: int | None = None
    low: float = 1.0
    high: float = 1.0


def count_data(data: str, model: str, max_length: int | None, ledger: Ledger) -> Counted:
    """Count the tokens of a file or a prepared folder, each row cut at ``max_length``.

    Args:
        data: File, or the folder that ``prepare_data`` wrote (train and validation are read).
        model: Base model: decides the tokenizer.
        max_length: Longest row in tokens; longer ones are cut, as trainers do.
        ledger: Takes the assumptions and warnings.

    Raises:
        BadInputError: No such file, or not one row could be read.
    """
    from finetuning.files import data_files

    files = data_files(data, where="data")
    train = files.get("train") or files.get("data")
    if train is None:
        raise BadInputError(
            "data",
            f"{data!r} holds no train.jsonl",
            "a data file, or a folder that prepare_data wrote",
            "Run prepare_data first",
        )
    counted = _count_file(train, data, model, max_length, ledger)
    if (validation := files.get("validation")) is None:
        return counted
    other = _count_file(validation, data, model, max_length, ledger)
    return counted.model_copy(update={"validation_tokens": other.train_tokens})


def _count_file(
    path: Path, given: str, model: str, max_length: int | None, ledger: Ledger
) -> Counted:
    from finetuning.files import read_records
    from finetuning.records import Record
    from finetuning.tokens import TokenTally, counter_for

    folder = Path(model)
    own = folder if (folder / "tokenizer.json").is_file() else None
    tally = TokenTally(counter_for(model, tokenizer_dir=own))
    prompts = TokenTally(counter_for(model, tokenizer_dir=own))
    total = prompt_total = rows = cut = bad = 0
    for item in read_records(path, source=given):
        if not isinstance(item, Record):
            bad += 1
            continue
        tokens = tally.add(item.data)
        rows += 1
        if max_length is not None and tokens > max_length:
            cut, tokens = cut + 1, max_length
        total += tokens
        prompt_total += prompts.add(_prompt_of(item.data))
    if not rows:
        raise BadInputError(
            "data",
            f"not one of the rows of {given!r} could be read",
            "a file with training rows",
            f"Run: fine-tuning validate-jsonl {given}",
        )
    stats = tally.stats()
    _warn_about(path, stats.total, rows, bad, cut, ledger)
    ledger.assume(
        f"tokenizer of {path.name}",
        stats.tokenizer,
        "exact" if stats.exact else "another model's tokenizer or an estimate, ±30 %",
        "counted on the file, chat overhead included",
        "measured" if stats.exact else "assumed",
    )
    scale = max(stats.total, 1)
    return Counted(
        train_tokens=total,
        prompt_tokens=prompt_total,
        n_rows=rows,
        low=stats.low / scale,
        high=stats.high / scale,
    )


def _prompt_of(row: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in row.items() if key not in _ANSWERS}


def _warn_about(path: Path, tokens: int, rows: int, bad: int, cut: int, ledger: Ledger) -> None:
    if bad:
        ledger.warn(f"{path.name}: {bad} rows could not be read and are not in the estimate")
    if cut:
        ledger.warn(f"{path.name}: {cut} of {rows} rows are cut at the maximum length")
    size = path.stat().st_size
    if path.suffix not in {".gz", ".zst", ".parquet"} and size > _MOST_BYTES_PER_TOKEN * tokens:
        ledger.warn(
            f"{path.name}: {size} bytes hold only {tokens} tokens: check that the columns that "
            "hold the text were read"
        )


def decide_epochs(
    n_epochs: int | None,
    n_rows: int | None,
    provider: Provider,
    model: ModelEntry,
    ledger: Ledger,
) -> int:
    """Return the epochs of the job: as given, as the provider would choose, or 3.

    Raises:
        BadInputError: More or fewer epochs than the model takes.
    """
    low, high = model.epochs_range or (1, 1_000)
    if n_epochs is not None:
        if not low <= n_epochs <= high:
            raise BadInputError(
                "n_epochs",
                f"{n_epochs} epochs for {model.id}",
                f"{low} to {high}",
                f"Pass n_epochs={min(max(n_epochs, low), high)}",
            )
        ledger.assume("n_epochs", n_epochs, "epochs", "as given", "given")
        return n_epochs
    rule = provider.default_epochs
    if rule == "openai_auto":
        chosen = openai_auto_epochs(n_rows) if n_rows else 3
        source = "openai/openai-cookbook, Chat_finetuning_data_prep (checked 2026-11-20)"
        ledger.assume("n_epochs", chosen, "epochs", f"automatic epochs: {source}", "read")
        return chosen
    chosen = min(max(int(rule or 3), low), high)
    if rule is not None:
        ledger.assume("n_epochs", chosen, "epochs", f"default of {provider.name}", "read")
    else:
        ledger.assume("n_epochs", chosen, "epochs", "pass n_epochs to choose", "assumed")
    return chosen


def amounts_of(
    request: Request, job: Job, ledger: Ledger
) -> tuple[TrainingAmounts | None, Counted | None]:
    """Count what is trained on; (None, None) where the rule counts something else.

    Raises:
        BadInputError: Packing is off at a provider that bills padding, and the maximum length or
            the number of rows is not known.
    """
    if job.formula in {"hours_grader", "job"}:
        return None, None
    if request.data is not None:
        counted = count_data(request.data, request.model, request.max_length, ledger)
    elif request.training_tokens is not None:
        counted = Counted(train_tokens=request.training_tokens)
        ledger.assume("training_tokens", request.training_tokens, "tokens", "as given", "given")
    else:
        return None, None
    if request.validation_tokens is not None:
        counted = counted.model_copy(update={"validation_tokens": request.validation_tokens})
    epochs = decide_epochs(request.n_epochs, counted.n_rows, job.provider, job.model, ledger)
    padded = None
    if not request.packing and job.formula == "tokens_epochs_validation":
        padded = _padded(counted.n_rows, request.max_length)
    amounts = TrainingAmounts(
        train_tokens=counted.train_tokens,
        prompt_tokens=counted.prompt_tokens,
        n_epochs=epochs,
        validation_tokens=counted.validation_tokens,
        n_evals=request.n_evals,
        padded_tokens=padded,
    )
    return amounts, counted


def _padded(n_rows: int | None, max_length: int | None) -> int:
    if n_rows is None or max_length is None:
        raise BadInputError(
            "packing",
            "without packing this provider bills rows × maximum length",
            "data and max_length",
            "Pass data=<file> and max_length=<tokens>, or packing=true",
        )
    return n_rows * max_length
