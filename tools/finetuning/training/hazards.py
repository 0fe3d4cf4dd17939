"""Settings that contradict each other, and settings that fail without a word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from finetuning.errors import BadInputError
from finetuning.estimate import Architecture, lora_parameters
from finetuning.records import Finding, Json, Severity
from finetuning.training.config import TrainingConfig
from finetuning.training.profile import DataProfile

_RATE_FACTOR: Final = 5.0
"""A rate this far from the proposed one is refused: 10 × too low learns nothing (measured,
training.md#settings), 10 × too high diverged in 72 of 80 cases (Tinker's sweep, 2026-08)."""
_MANY_EPOCHS: Final = 10
_FEW_STEPS: Final = 100
_LARGE_BATCH: Final = 32
_CUT_SHARES: Final = (0.01, 0.20)
_ATTENTION: Final = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_HEADS: Final = frozenset({"lm_head", "embed_tokens"})


def refuse_contradictions(
    config: TrainingConfig, shape: Architecture, overrides: Mapping[str, Json]
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
    config: TrainingConfig, shape: Architecture, profile: DataProfile, proposed_rate: float
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
    config: TrainingConfig, shape: Architecture, profile: DataProfile
) -> Iterator[Finding]:
    if not isinstance(config.target_modules, str) and set(config.target_modules) <= _ATTENTION:
        yield _finding(
            "attention_only",
            "warning",
            "the adapter leaves the feed-forward layers out and will learn less",
            "Use target_modules='all-linear'",
        )
    if lora_parameters(shape, config.r) < profile.labelled_tokens:
        yield _finding(
            "rank_small_for_data",
            "warning",
            f"r={config.r} gives {lora_parameters(shape, config.r):,} parameters for "
            f"{profile.labelled_tokens:,} answer tokens",
            "Raise r, if the answers hold that much information",
        )
