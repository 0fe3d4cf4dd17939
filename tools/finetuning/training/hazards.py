"""What contradicts itself in the settings of a run, and what would fail without a word."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from finetuning import estimate
from finetuning.errors import BadInputError
from finetuning.records import Finding, Json
from finetuning.training.config import TrainingConfig, finding, refusal
from finetuning.training.environment import Device
from finetuning.training.profile import DataProfile

_RATE_FACTOR: Final = 5.0
"""A rate this far from the proposed one is refused: 10 × too low learns nothing (measured,
training.md#settings), 10 × too high diverged in 72 of 80 cases (Tinker's sweep, 2026-08)."""
_MANY_EPOCHS: Final = 10
_FEW_STEPS: Final = 100
_LARGE_BATCH: Final = 32
_CUT_SHARES: Final = (0.01, 0.20)
ATTENTION: Final = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_HEADS: Final = frozenset({"lm_head", "embed_tokens"})
_ONLY_FOR: Final[dict[str, str]] = {
    "beta": "dpo kto grpo",
    "desirable_weight": "kto",
    "undesirable_weight": "kto",
    "num_generations": "grpo",
    "max_completion_length": "grpo",
    "temperature": "grpo",
    "verifier": "grpo",
    "probe_learning_rates": "sft",
}
_ADAPTER: Final = ("r", "lora_alpha", "lora_dropout", "target_modules")
_NEEDS_VALIDATION: Final = ("eval_steps", "probe_learning_rates", "early_stopping_patience")
_RECURRENT: Final = ("qwen3_next", "qwen3_5", "nemotron_h", "mamba", "jamba", "falcon_h1", "bamba")
"""Families with layers that carry a state from token to token."""


def refuse_contradictions(
    config: TrainingConfig,
    shape: estimate.Architecture,
    overrides: Mapping[str, Json],
    device: Device,
    engine: str = "local",
) -> None:
    """Stop at settings that cannot both be meant.

    Raises:
        BadInputError: The first contradiction, with the mend.
    """
    for clash in (
        *_method_clashes(config, overrides),
        *_data_clashes(config, shape, overrides),
        *_adapter_clashes(config, overrides),
        *_device_clashes(config, device, engine),
        *_packing_clashes(config, shape, overrides),
    ):
        raise clash


def _clash(case: str, **facts: Any) -> BadInputError:
    return refusal("overrides", case, **facts)


def _method_clashes(
    config: TrainingConfig, overrides: Mapping[str, Json]
) -> Iterator[BadInputError]:
    for name, methods in _ONLY_FOR.items():
        if overrides.get(name) is not None and config.method not in methods.split():
            known = methods.replace(" ", " or ")
            yield _clash("setting_of_other_method", name=name, method=config.method, known=known)
    if config.method == "kto" and config.per_device_train_batch_size < 2:
        yield _clash("kto_batch_of_one")
    whole, groups = effective_batch(config), config.num_generations
    if config.method == "grpo" and whole % groups:
        yield _clash("grpo_groups_cut", batch=whole, groups=groups)


def _data_clashes(
    config: TrainingConfig, shape: estimate.Architecture, overrides: Mapping[str, Json]
) -> Iterator[BadInputError]:
    other = "completion_only_loss" if config.row_format == "trl_messages" else "assistant_only_loss"
    if other in overrides:
        yield _clash("loss_of_other_rows", name=other, form=config.row_format)
    for name in _NEEDS_VALIDATION:
        if overrides.get(name) is not None and config.validation_file is None:
            yield _clash("needs_validation", name=name, value=overrides[name])
    context = shape.max_position_embeddings
    if context is not None and config.max_length > context:
        yield _clash("beyond_context", length=config.max_length, context=context)


def _adapter_clashes(
    config: TrainingConfig, overrides: Mapping[str, Json]
) -> Iterator[BadInputError]:
    given = [name for name in _ADAPTER if name in overrides]
    if config.tuning == "full" and given:
        yield _clash("no_adapter", name=given[0])
    targets = config.target_modules
    heads = _HEADS & set([targets] if isinstance(targets, str) else targets)
    if heads:
        yield _clash("head_in_adapter", name=sorted(heads)[0])


def _device_clashes(config: TrainingConfig, device: Device, engine: str) -> Iterator[BadInputError]:
    if device.kind == "cpu" and (config.tuning == "qlora" or engine == "unsloth"):
        what = "qlora" if config.tuning == "qlora" else "unsloth"
        yield _clash("needs_cuda", what=what, device=device.name)
    if engine in {"unsloth", "local"} and config.num_processes > 1:
        yield _clash(f"{engine}_one_process", count=config.num_processes)


def _packing_clashes(
    config: TrainingConfig, shape: estimate.Architecture, overrides: Mapping[str, Json]
) -> Iterator[BadInputError]:
    if not config.packing:
        return
    if config.method not in {"sft", "cpt"}:
        yield _clash("packing_of_pairs", method=config.method)
    if overrides.get("length_buckets"):
        yield _clash("packing_and_buckets")
    if shape.family.startswith(_RECURRENT):
        yield _clash("packing_with_state", family=shape.family)


def refuse_engine(
    engine: str, spec: Mapping[str, Any], config: TrainingConfig, lists: Collection[str]
) -> None:
    """Stop where a run cannot be written for an engine, or its rows be read as something else.

    Args:
        engine: The other program.
        spec: What tables.toml holds of it.
        config: The settings.
        lists: Columns of the rows that hold lists of messages.

    Raises:
        BadInputError: It lacks the method, the tuning or the verifier; or its file names columns
            that these rows do not have, or texts that are lists.
    """
    for kind, value in (("method", config.method), ("tuning", config.tuning)):
        if value not in (known := spec[f"{kind}s"]):
            facts = {"engine": engine, "kind": kind, "value": value, "known": " or ".join(known)}
            raise refusal("configure_training", "not_written_for_engine", **facts)
    if config.method == "grpo" and config.verifier is None and engine != "torchrun":
        raise refusal("configure_training", "engine_needs_verifier", engine=engine)
    if config.row_format == "trl_messages":
        wrong, target = "messages" not in lists, "trl_messages"
    else:
        texts = {"prompt", "completion", "chosen", "rejected"}
        wrong, target = bool(texts & set(lists)), "trl_prompt_completion"
    if wrong and spec.get("plain_rows"):
        facts = {"columns": " and ".join(sorted(lists)), "file": config.train_file}
        raise refusal("data", "engine_misreads_rows", engine=engine, target=target, **facts)


def accepted(found: list[Finding], config: TrainingConfig) -> list[Finding]:
    """Return findings, those accepted on purpose as warnings."""
    return [
        each.model_copy(update={"severity": "warning"})
        if each.code in config.accept_risks
        else each
        for each in found
    ]


def effective_batch(config: TrainingConfig) -> int:
    """Return the rows (for grpo: the answers) behind one optimizer step."""
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return batch * config.num_processes


def total_steps(config: TrainingConfig, profile: DataProfile) -> int:
    """Return the optimizer steps of a whole run."""
    answers = config.num_generations if config.method == "grpo" else 1
    per_epoch = math.ceil(profile.rows * answers / effective_batch(config))
    return math.ceil(per_epoch * config.num_train_epochs)


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
    return accepted(found, config)


def _rate(config: TrainingConfig, proposed: float) -> Iterator[Finding]:
    rate = config.learning_rate
    if rate * _RATE_FACTOR < proposed:
        lora = config.tuning != "full" and config.method == "sft"
        code = "learning_rate_low_for_lora" if lora else "learning_rate_low"
        yield finding(code, rate=rate, proposed=proposed, times=proposed / rate)
    if rate > proposed * _RATE_FACTOR:
        yield finding("learning_rate_high", rate=rate, proposed=proposed, times=rate / proposed)
    if config.method == "sft" and not config.labels_on_answers_only:
        yield finding("loss_on_all_tokens")
    if config.method == "grpo" and config.verifier is None:
        yield finding("no_verifier")


def _data(config: TrainingConfig, profile: DataProfile) -> Iterator[Finding]:
    if profile.damaged_rows:
        named = finding("wrong_row_format", rows=profile.damaged_rows, form=profile.row_format)
        yield named.model_copy(update={"line": profile.first_damaged_line})
    cut = 0 if config.method == "cpt" else profile.longer_than(config.max_length)
    share = cut / profile.rows
    if share > _CUT_SHARES[0]:
        named = finding(
            "rows_truncated",
            length=config.max_length,
            cut=cut,
            rows=profile.rows,
            share=share,
            longest=profile.longest_tokens,
        )
        far = share > _CUT_SHARES[1]
        yield named.model_copy(update={"severity": "error"}) if far else named
    if config.method == "kto" and profile.desirable_rows in {0, profile.rows}:
        yield finding("one_kind_of_feedback", rows=profile.rows)
    if config.validation_file is None:
        yield finding("no_validation")


def _amounts(config: TrainingConfig, profile: DataProfile) -> Iterator[Finding]:
    batch = effective_batch(config)
    steps = total_steps(config, profile)
    if steps < _FEW_STEPS:
        yield finding("few_steps", steps=steps, few=_FEW_STEPS)
    if config.num_train_epochs > _MANY_EPOCHS:
        yield finding("many_epochs", epochs=config.num_train_epochs, rows=profile.rows)
    if batch > _LARGE_BATCH and config.tuning != "full" and config.method != "grpo":
        yield finding("batch_large_for_lora", batch=batch, most=_LARGE_BATCH)


def _adapter(
    config: TrainingConfig, shape: estimate.Architecture, profile: DataProfile
) -> Iterator[Finding]:
    if config.tuning == "full":
        return
    if not isinstance(config.target_modules, str) and set(config.target_modules) <= ATTENTION:
        yield finding("attention_only")
    size = estimate.lora_parameters(shape, config.r)
    if config.method == "sft" and size < profile.labelled_tokens:
        yield finding("rank_small_for_data", r=config.r, size=size, need=profile.labelled_tokens)
