"""What a run needs, what in its settings contradicts, and what fails without a word."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from finetuning import estimate
from finetuning.errors import BadInputError
from finetuning.records import Finding, Json, Severity
from finetuning.training.config import TrainingConfig
from finetuning.training.environment import Device
from finetuning.training.profile import DataProfile

_ROOM: Final = 1.0 + estimate.MEMORY_ERROR_FRACTIONS[1]
"""The estimate is taken with the 90th percentile of its error before it is said to fit."""
_CPU_MFU: Final = (0.12, 0.25, 0.55)
"""Share of a thread's fp32 peak that our loss reaches: tiny models and a busy machine, the demo,
and the best loop measured (training.md#time, 2026-11)."""
_CPU_START_SECONDS: Final = 7.0
_GPU_START_SECONDS: Final = 30.0
"""From launch to the first step: CPU measured 2026-11; GPU an allowance, not measured."""
_STEP_SECONDS: Final = 0.008
"""Overhead of one step beyond its arithmetic (measured 2026-11 on the demo)."""
_RATE_FACTOR: Final = 5.0
"""A rate this far from the proposed one is refused: 10 × too low learns nothing (measured,
training.md#settings), 10 × too high diverged in 72 of 80 cases (Tinker's sweep, 2026-08)."""
_MANY_EPOCHS: Final = 10
_FEW_STEPS: Final = 100
_LARGE_BATCH: Final = 32
_CUT_SHARES: Final = (0.01, 0.20)
_ATTENTION: Final = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_HEADS: Final = frozenset({"lm_head", "embed_tokens"})


def memory_gb(
    shape: estimate.Architecture, profile: DataProfile, config: TrainingConfig, device: Device
) -> float:
    """Return the estimated peak memory of a configuration on a device, in GB."""
    longest = min(profile.longest_tokens, config.max_length)
    return estimate.training_memory_gb(
        shape,
        tuning="lora",
        r=config.r,
        tokens_per_microbatch=config.per_device_train_batch_size * longest,
        gradient_checkpointing=config.gradient_checkpointing,
        stack=device.stack,
        labelled_fraction=profile.labelled_fraction if config.labels_on_answers_only else 1.0,
    )


def fits(need_gb: float, device: Device) -> bool:
    """Tell whether a need, with the error of its estimate, stays below the device's memory."""
    return need_gb * _ROOM <= device.memory_gb


def time_seconds(
    shape: estimate.Architecture, profile: DataProfile, config: TrainingConfig, device: Device
) -> dict[str, float] | None:
    """Return the estimated time as p10, p50, p90; None when the device's speed is not known."""
    if device.flops is None:
        return None
    batch = config.per_device_train_batch_size
    row = profile.mean_tokens if batch == 1 else profile.p95_tokens  # padded to the longest
    tokens = round(profile.rows * min(row, config.max_length) * config.num_train_epochs)
    steps = profile.rows * config.num_train_epochs / batch
    on_cpu = device.kind == "cpu"
    start = _CPU_START_SECONDS if on_cpu else _GPU_START_SECONDS
    found = estimate.training_time_seconds(
        shape,
        tokens=tokens,
        tuning="lora",
        device_flops=device.flops,
        n_devices=config.num_threads if on_cpu else device.count,
        mfu=_CPU_MFU if on_cpu else (0.25, 0.35, 0.45),
        fixed_seconds=start + steps * _STEP_SECONDS,
    )
    return {name: round(seconds, 1) for name, seconds in found.items()}


def shrink_to_fit(
    config: TrainingConfig,
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    fixed: Collection[str],
) -> tuple[TrainingConfig, dict[str, str]]:
    """Trade micro-batch for accumulation, then switch checkpointing on, until a run fits.

    Returns the settings, which may still not fit, and the reasons for those that changed; those
    named in ``fixed`` stay as they are.
    """
    why: dict[str, str] = {}

    def too_large() -> bool:
        return not fits(memory_gb(shape, profile, config, device), device)

    for checkpointing in (False, True):
        if checkpointing and too_large() and "gradient_checkpointing" not in fixed:
            config = config.model_copy(update={"gradient_checkpointing": True})
            why["gradient_checkpointing"] = (
                "on: without it the run does not fit [estimate of this run]"
            )
        while (
            "per_device_train_batch_size" not in fixed
            and too_large()
            and config.per_device_train_batch_size > 1
        ):
            config = config.model_copy(
                update={
                    "per_device_train_batch_size": config.per_device_train_batch_size // 2,
                    "gradient_accumulation_steps": config.gradient_accumulation_steps * 2,
                }
            )
            why["gradient_accumulation_steps"] = (
                "smaller micro-batches with the same effective batch, to fit into "
                f"{device.memory_gb:g} GB [estimate of this run]"
            )
    return config, why


def refuse_contradictions(
    config: TrainingConfig, shape: estimate.Architecture, overrides: Mapping[str, Json]
) -> None:
    """Stop at settings that cannot both be meant.

    Raises:
        BadInputError: The first contradiction, with the mend.
    """
    other = "completion_only_loss" if config.row_format == "trl_messages" else "assistant_only_loss"
    if other in overrides:
        raise _contradiction(
            f"{other} is set, but the rows are {config.row_format}",
            "a setting that these rows have",
            f"Leave {other} out",
        )
    if config.eval_steps is not None and config.validation_file is None:
        raise _contradiction(
            f"eval_steps={config.eval_steps} is set, but there is no validation file",
            "validation.jsonl next to train.jsonl",
            "Prepare the data with a validation split, or leave eval_steps out",
        )
    context = shape.max_position_embeddings
    if context is not None and config.max_length > context:
        raise _contradiction(
            f"max_length={config.max_length} is beyond the base's context",
            f"at most {context}",
            f"Set max_length to {context} or leave it out",
        )
    targets = config.target_modules
    heads = _HEADS & set([targets] if isinstance(targets, str) else targets)
    if heads:
        raise _contradiction(
            f"target_modules names {sorted(heads)[0]}, which an adapter does not train here",
            "linear layers inside the blocks",
            "Use target_modules='all-linear'",
        )


def _contradiction(what: str, expected: str, step: str) -> BadInputError:
    return BadInputError("overrides", what, expected, step)


def find_risks(
    config: TrainingConfig, shape: estimate.Architecture, profile: DataProfile, proposed_rate: float
) -> list[Finding]:
    """Return what would fail or disappoint in silence; those accepted on purpose as warnings."""
    found = [
        *_rate(config, proposed_rate),
        *_data(config, profile),
        *_amounts(config, profile),
        *_adapter(config, shape, profile),
    ]
    return [
        finding.model_copy(update={"severity": "warning"})
        if finding.code in config.accept_risks
        else finding
        for finding in found
    ]


def _finding(code: str, severity: Severity, message: str, fix: str) -> Finding:
    return Finding(code=code, severity=severity, message=message, fix=fix)


def _rate(config: TrainingConfig, proposed: float) -> Iterator[Finding]:
    rate = config.learning_rate
    if rate * _RATE_FACTOR < proposed:
        yield _finding(
            "learning_rate_low_for_lora",
            "error",
            f"learning_rate {rate:g} is {proposed / rate:.0f} times below the proposed "
            f"{proposed:g}: with LoRA the run ends without having learned (2e-5 is a rate for "
            "full tuning)",
            "Leave learning_rate out, or add overrides={'accept_risks': "
            "['learning_rate_low_for_lora']} to run it on purpose",
        )
    if rate > proposed * _RATE_FACTOR:
        yield _finding(
            "learning_rate_high",
            "error",
            f"learning_rate {rate:g} is {rate / proposed:.0f} times above the proposed "
            f"{proposed:g}: such runs diverge",
            "Leave learning_rate out, or add overrides={'accept_risks': ['learning_rate_high']}",
        )
    if not config.labels_on_answers_only:
        yield _finding(
            "loss_on_all_tokens",
            "warning",
            "the loss covers the prompts too, which takes about twice the epochs",
            "Leave completion_only_loss and assistant_only_loss out",
        )


def _data(config: TrainingConfig, profile: DataProfile) -> Iterator[Finding]:
    if profile.damaged_rows:
        yield Finding(
            line=profile.first_damaged_line,
            code="wrong_row_format",
            severity="error",
            message=f"{profile.damaged_rows} rows are not {profile.row_format}",
            fix=f"Run validate_jsonl with target {profile.row_format} and mend them",
        )
    cut = profile.longer_than(config.max_length)
    share = cut / profile.rows
    if share > _CUT_SHARES[0]:
        yield _finding(
            "rows_truncated",
            "error" if share > _CUT_SHARES[1] else "warning",
            f"max_length={config.max_length} cuts {cut} of {profile.rows} rows ({share:.1%}); what "
            "is cut is their end: the answer",
            f"Raise max_length (longest row: {profile.longest_tokens} tokens) or split long rows",
        )
    if config.validation_file is None:
        yield _finding(
            "no_validation",
            "warning",
            "there is no validation file, so memorising cannot be told from learning",
            "Prepare the data with prepare_data, which splits off validation.jsonl",
        )


def _amounts(config: TrainingConfig, profile: DataProfile) -> Iterator[Finding]:
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    steps = math.ceil(profile.rows / batch) * config.num_train_epochs
    if steps < _FEW_STEPS:
        yield _finding(
            "few_steps",
            "warning",
            f"only {steps:.0f} steps; {_FEW_STEPS} are the least that is advised",
            "Collect more rows, or use a smaller batch",
        )
    if config.num_train_epochs > _MANY_EPOCHS:
        yield _finding(
            "many_epochs",
            "warning",
            f"{config.num_train_epochs:g} epochs over {profile.rows} rows invite memorising",
            "Use 1 to 3 epochs and watch the validation loss",
        )
    if batch > _LARGE_BATCH:
        yield _finding(
            "batch_large_for_lora",
            "warning",
            f"an effective batch of {batch} is more than LoRA tolerates well",
            f"Stay at or below {_LARGE_BATCH}",
        )


def _adapter(
    config: TrainingConfig, shape: estimate.Architecture, profile: DataProfile
) -> Iterator[Finding]:
    if not isinstance(config.target_modules, str) and set(config.target_modules) <= _ATTENTION:
        yield _finding(
            "attention_only",
            "warning",
            "the adapter leaves the feed-forward layers out and will learn less",
            "Use target_modules='all-linear'",
        )
    if estimate.lora_parameters(shape, config.r) < profile.labelled_tokens:
        yield _finding(
            "rank_small_for_data",
            "warning",
            f"r={config.r} gives {estimate.lora_parameters(shape, config.r):,} parameters for "
            f"{profile.labelled_tokens:,} answer tokens",
            "Raise r, if the answers hold that much information",
        )
