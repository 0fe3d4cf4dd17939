"""What a job takes: tokens counted in its files, epochs, machine hours, memory, storage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetuning.costs.request import Job, Ledger, Request
from finetuning.costs.schema import GpuNeed, Sureness
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers.catalogue import ModelEntry, Provider
from finetuning.providers.terms import TrainingAmounts, openai_auto_epochs
from finetuning.records import Model

if TYPE_CHECKING:
    from finetuning.estimate import Architecture

_ANSWERS: Final = frozenset(
    "completions completion chosen rejected preferred_output non_preferred_output".split()
)
"""Keys of preference rows that hold answers; what is left is the prompt."""

_BYTES_PER_TOKEN: Final = (0.8, 30)
"""Outside of this a file was probably read as something it is not: prose holds 3 to 6 bytes per
token, base64 1.3; the frame of JSON adds to it (measured here with o200k_base, 2026-11)."""

_RANK: Final = 16
_ROW_TOKENS: Final = 2048
"""Adapter rank and tokens per micro-batch of the memory estimate when nothing is said."""

_CPU_MFU: Final = (0.05, 0.17, 0.55)
_CPU_START_SECONDS: Final = 8.0
"""Share of a thread's peak: small shapes, stock TRL (0.17), the best loop (0.55); and the time to
the first step with TRL on a CPU (both measured here, 2026-11; training.md#time)."""

_MOST_TIMES_ROOFLINE: Final = 50
_AUTOMATIC: Final = "openai/openai-cookbook, Chat_finetuning_data_prep (checked 2026-11-20)"


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
        prompt = prompts.add({k: v for k, v in item.data.items() if k not in _ANSWERS})
        prompt_total += prompt if max_length is None else min(prompt, max_length)
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


def _warn_about(path: Path, tokens: int, rows: int, bad: int, cut: int, ledger: Ledger) -> None:
    if bad:
        ledger.warn(f"{path.name}: {bad} rows could not be read and are not in the estimate")
    if cut:
        ledger.warn(f"{path.name}: {cut} of {rows} rows are cut at the maximum length")
    if path.suffix in {".gz", ".zst", ".parquet"}:
        return
    size, (low, high) = path.stat().st_size, _BYTES_PER_TOKEN
    ledger.check(
        "tokens against bytes",
        low * tokens <= size <= high * tokens,
        f"{path.name}: {size} bytes hold {tokens} tokens, expected {low} to {high} bytes each",
        "check that the columns that hold the text were read",
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
    if n_epochs is not None and not low <= n_epochs <= high:
        raise BadInputError(
            "n_epochs",
            f"{n_epochs} epochs for {model.id}",
            f"{low} to {high}",
            f"Pass n_epochs={min(max(n_epochs, low), high)}",
        )
    sure: Sureness = "read"
    rule = provider.default_epochs
    if n_epochs is not None:
        chosen, source, sure = n_epochs, "as given", "given"
    elif rule == "openai_auto":
        chosen, source = openai_auto_epochs(n_rows) if n_rows else 3, _AUTOMATIC
    elif rule is not None:
        chosen, source = min(max(int(rule), low), high), f"default of {provider.name}"
    else:
        chosen, source, sure = min(max(3, low), high), "pass n_epochs to choose", "assumed"
    ledger.assume("n_epochs", chosen, "epochs", source, sure)
    return chosen


def amounts_of(
    request: Request, job: Job, ledger: Ledger
) -> tuple[TrainingAmounts | None, Counted | None]:
    """Count what is trained on; (None, None) where the rule counts something else.

    Raises:
        BadInputError: Packing is off at a provider that bills padding, and the maximum length or
            the number of rows is not known.
    """
    if job.formula in {"hours_grader", "three_rates", "job"}:
        return None, None
    if request.data is not None:
        longest = request.max_length or job.model.training_context_tokens
        counted = count_data(request.data, request.model, longest, ledger)
    elif request.training_tokens is not None:
        counted = Counted(train_tokens=request.training_tokens)
        ledger.assume("training_tokens", request.training_tokens, "tokens", "as given", "given")
    else:
        return None, None
    if request.validation_tokens is not None:
        counted = counted.model_copy(update={"validation_tokens": request.validation_tokens})
    epochs = decide_epochs(request.n_epochs, counted.n_rows, job.provider, job.model, ledger)
    padded, in_full = None, job.formula == "tokens_epochs_validation"
    if in_full and request.n_evals and not counted.validation_tokens:
        ledger.warn(f"{job.provider.name} bills evaluations: pass validation_tokens")
    if in_full and not request.packing:
        if counted.n_rows is None or request.max_length is None:
            raise BadInputError(
                "packing",
                "without packing this provider bills rows × maximum length",
                "data and max_length",
                "Pass data=<file> and max_length=<tokens>, or packing=true",
            )
        padded = counted.n_rows * request.max_length
    amounts = TrainingAmounts(
        train_tokens=counted.train_tokens,
        prompt_tokens=counted.prompt_tokens,
        n_epochs=epochs,
        validation_tokens=counted.validation_tokens,
        n_evals=request.n_evals,
        padded_tokens=padded,
    )
    return amounts, counted


def machine_need(job: Job, tokens: int, ledger: Ledger) -> GpuNeed | None:
    """Return hours (p10, p50, p90) and memory of training on ``tokens``; None where not known.

    Raises:
        UnknownNameError: Rented hours are to be paid and nobody knows the model or the GPU.
    """
    from finetuning import estimate

    sure: Sureness
    try:
        shape = estimate.read_architecture(job.given_model)
        gpu = None if job.gpu is None else estimate.find_gpu(job.gpu)
    except UnknownNameError:
        if job.formula == "gpu_hours":
            raise
        name = repr(Path(job.given_model).name)
        ledger.warn(f"the shape of {name} is not known, so no hours: name the folder of the base")
        return None
    if gpu is None:
        device, flops, mfu = "CPU", estimate.CPU_THREAD_FLOPS * (os.cpu_count() or 1), _CPU_MFU
        start, n_devices, source, sure = _CPU_START_SECONDS, 1, "training.md#time", "measured"
    else:
        device, flops, mfu = gpu.name, gpu.flops, gpu.mfu
        start, n_devices, source = 0.0, job.n_gpus, "costs.md#gpu-hours"
        sure = "measured" if gpu.measured else "assumed"
    seconds = estimate.training_time_seconds(
        shape,
        tokens=tokens,
        tuning=job.tuning,
        device_flops=flops,
        n_devices=n_devices,
        mfu=mfu,
        fixed_seconds=start,
    )
    ledger.assume("share of the peak", f"{mfu[0]} to {mfu[2]}", f"of a {device}", source, sure)
    work = estimate.training_flops(shape, tokens=tokens, tuning=job.tuning)
    least = work / (flops * n_devices)
    held = least <= seconds["p10"] <= seconds["p90"] <= start + least * _MOST_TIMES_ROOFLINE
    ledger.check(
        "hours against the roofline",
        held,
        f"{work:.3g} FLOPs take at least {least / 3600:.3g} h at full peak",
        "the hours cannot be right",
    )
    memory = estimate.training_memory_gb(
        shape,
        tuning=job.tuning,
        r=_RANK,
        tokens_per_microbatch=job.max_length or _ROW_TOKENS,
        gradient_checkpointing=gpu is not None,
        stack="local_cpu" if gpu is None else "trl",
    )
    return GpuNeed(
        hours={name: value / 3600 for name, value in seconds.items()},
        memory_gb=round(memory, 3),
        device=device,
        n_gpus=job.n_gpus,
        nearest_measured_point=None if gpu is None else _reading(shape, job),
    )


def _reading(shape: Architecture, job: Job) -> str | None:
    """Return the nearest published reading of a base within a factor of four in size."""
    from finetuning import estimate

    rows = job.max_length or _ROW_TOKENS
    near = estimate.nearest_measured_point(
        shape, tuning=job.tuning, r=_RANK, tokens_per_microbatch=rows
    )
    if near is None:
        return None
    times = shape.parameters / estimate.read_architecture(near.base).parameters
    return near.words() if 1 / 4 <= times <= 4 else None
