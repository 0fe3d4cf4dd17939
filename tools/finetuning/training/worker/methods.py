"""The methods: which trainer learns from which rows, and TRL's settings of each.

Supervised and continued training share one trainer; preferences, single judgements and rewards
have TRL's own, made light and guarded in the same way.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import BadInputError, require
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, Example, NotFiniteError, pack
from finetuning.training.worker.trainer import (
    Light,
    LoraTrainer,
    adapter_settings,
    datasets,
    shared_settings,
    torch,
    transformers,
    trl,
)

if TYPE_CHECKING:

    class DPOTrainer:
        """trl.DPOTrainer."""

    class KTOTrainer:
        """trl.KTOTrainer."""

    class GRPOTrainer:
        """trl.GRPOTrainer."""
else:
    DPOTrainer, KTOTrainer, GRPOTrainer = trl.DPOTrainer, trl.KTOTrainer, trl.GRPOTrainer

BETAS: Final = {"dpo": 0.1, "kto": 0.1, "grpo": 0.0}
"""Pull towards the base where none is set (TRL's own defaults, 1.16)."""


class _Scored(Light):
    """Answers to given prompts, scored against the base."""

    def _prepare_dataset(self, dataset: Any, *rest: Any) -> Any:
        prepared = cast("Any", super())._prepare_dataset(dataset, *rest)
        if not len(prepared):
            raise BadInputError(
                "max_length",
                f"{rest[1].max_length} tokens cut the answer off in all {len(dataset)} rows",
                "room for an answer",
                "Configure again with a longer max_length",
            )
        return prepared

    def _precompute_ref_logps(self, *arguments: Any, **named: Any) -> Any:
        self._lighten()
        return cast("Any", super())._precompute_ref_logps(*arguments, **named)


class PreferenceTrainer(_Scored, DPOTrainer):
    """DPO that scores the answers only, in batches of as many pairs of similar length."""

    same_size = True


class JudgementTrainer(_Scored, KTOTrainer):
    """TRL's KTO: single answers, each marked as wanted or not."""


class RewardTrainer(Light, GRPOTrainer):
    """TRL's GRPO: answers of the model itself, rewarded by a verifier."""


def load_verifier(name: str) -> Callable[..., Any]:
    """Return the function that ``path/to/file.py:function`` or ``module:function`` names.

    Raises:
        BadInputError: There is no such file, module or function.
    """
    place, _, function = name.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location("verifier", place)
            if spec is None or spec.loader is None or not Path(place).is_file():
                raise ImportError(place)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        found = getattr(module, function)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise BadInputError(
            "verifier",
            f"{name!r} cannot be loaded ({type(error).__name__})",
            "path/to/file.py:function or module:function",
            "Define function(prompt, completion, **columns) that returns a number, and name it",
        ) from error
    return cast("Callable[..., Any]", found)


def reward_of(verifier: Callable[..., Any]) -> Callable[..., list[float]]:
    """Return the verifier as TRL calls rewards: one number for each answer of a batch.

    Raises:
        BadInputError: The verifier returned something other than a number.
        NotFiniteError: It returned a number that is not finite.
    """

    def reward(prompts: list[Any], completions: list[Any], **named: Any) -> list[float]:
        state = named.pop("trainer_state", None)
        count = len(prompts)
        columns = {
            name: cast("list[Any]", values)
            for name, values in named.items()
            if isinstance(values, list) and len(cast("list[Any]", values)) == count
        }
        columns.pop("completion_ids", None)
        scores: list[float] = []
        for at, (prompt, answer) in enumerate(zip(prompts, completions, strict=True)):
            text = answer if isinstance(answer, str) else answer[-1]["content"]
            found = verifier(prompt, text, **{name: each[at] for name, each in columns.items()})
            scores.append(_number(found))
            if not math.isfinite(scores[-1]):
                raise NotFiniteError("reward", getattr(state, "global_step", 0) + 1)
        return scores

    reward.__name__ = "verifier"
    return reward


def _number(found: Any) -> float:
    if isinstance(found, bool | int | float):
        return float(found)
    raise BadInputError(
        "verifier",
        f"it returned {type(found).__name__}",
        "a number for each answer",
        "Let the function return a float, for example 1.0 for right and 0.0 for wrong",
    )


def load_model(config: TrainingConfig) -> Any:
    """Return the base model in the precision and with the attention that the machine is best at.

    Raises:
        BadInputError: 4-bit weights are asked for without an NVIDIA GPU.
        MissingExtraError: bitsandbytes, which makes them, is not installed.
    """
    on_gpu = torch.cuda.is_available()
    half = config.precision == "bf16" and config.tuning != "full"
    named: dict[str, Any] = {"dtype": torch.bfloat16 if half else torch.float32}
    if config.tuning == "qlora":
        if not on_gpu:
            raise BadInputError(
                "tuning",
                "qlora needs an NVIDIA GPU, and torch sees none here",
                "lora (any machine), or a GPU",
                "Configure again with tuning='lora'",
            )
        require("bitsandbytes", feature="tuning=qlora", extra="gpu")
        named["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        named["device_map"] = {"": torch.cuda.current_device()}
    if on_gpu and half and transformers.utils.is_flash_attn_2_available():
        named["attn_implementation"] = "flash_attention_2"
    return transformers.AutoModelForCausalLM.from_pretrained(
        config.base_model,
        revision=config.base_revision or "main",
        local_files_only=True,
        use_safetensors=True,
        **named,
    )


def settings_of(config: TrainingConfig, folder: Path, rows: int, validation: int) -> Any:
    """Return TRL's settings of a run.

    Args:
        config: The run's settings.
        folder: Where checkpoints go.
        rows: Rows to train on (packed ones, if they are packed).
        validation: Rows to evaluate on; 0: none.

    Raises:
        BadInputError: The groups of answers that GRPO compares do not fill its batches.
    """
    shared = shared_settings(config, folder, rows, validation)
    beta = BETAS.get(config.method, 0.0) if config.beta is None else config.beta
    if config.method == "dpo":
        often = config.num_train_epochs > 1 or config.tuning == "full"
        return trl.DPOConfig(
            **shared, beta=beta, max_length=config.max_length, precompute_ref_log_probs=often
        )
    if config.method == "kto":
        return trl.KTOConfig(
            **shared,
            beta=beta,
            max_length=config.max_length,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
    if config.method == "grpo":
        _check_groups(config)
        return trl.GRPOConfig(
            **{**shared, "per_device_eval_batch_size": config.num_generations},
            beta=beta,
            num_generations=config.num_generations,
            max_completion_length=config.max_completion_length,
            temperature=config.temperature,
        )
    return trl.SFTConfig(
        **shared,
        packing=config.packing,
        max_length=config.max_length if config.packing else None,
        dataset_kwargs={"skip_prepare_dataset": True},
        prediction_loss_only=True,
    )


def _check_groups(config: TrainingConfig) -> None:
    batch = config.per_device_train_batch_size * config.num_processes
    whole = batch * config.gradient_accumulation_steps
    if whole % config.num_generations:
        raise BadInputError(
            "per_device_train_batch_size",
            f"{whole} answers a step are no multiple of num_generations={config.num_generations}",
            "whole groups of answers to a prompt",
            f"Set per_device_train_batch_size to {config.num_generations} or a multiple of it",
        )


def dataset_of(rows: Sequence[Any], config: TrainingConfig) -> Any:
    """Return rows as the data set that TRL takes; examples are packed if that is asked for."""
    if not rows or not isinstance(rows[0], Example):
        return datasets.Dataset.from_list(list(rows))
    packed = pack(rows, config.max_length) if config.packing else [[row] for row in rows]
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for parts in packed:
        columns["input_ids"].append([token for part in parts for token in part.input_ids])
        # the first token of a part is no continuation of the part before it
        labels = [label for part in parts for label in (IGNORED, *part.labels[1:])]
        columns["labels"].append(labels)
    if config.packing:
        columns["seq_lengths"] = [[len(part.input_ids) for part in parts] for parts in packed]
    return datasets.Dataset.from_dict(columns)


def build(
    config: TrainingConfig,
    folder: Path,
    model: Any,
    tokenizer: Any,
    rows: tuple[Sequence[Any], Sequence[Any]],
) -> Light:
    """Return the trainer of a run's method.

    Args:
        config: The run's settings.
        folder: Where checkpoints go.
        model: The base model.
        tokenizer: Its tokenizer.
        rows: Rows to train on and rows to evaluate on, as ``load_data`` returns them.
    """
    train = dataset_of(rows[0], config)
    held_out = dataset_of(rows[1], config.model_copy(update={"packing": False}))
    named: dict[str, Any] = {
        "model": model,
        "args": settings_of(config, folder, len(train), len(held_out)),
        "train_dataset": train,
        "eval_dataset": held_out if len(held_out) else None,
        "processing_class": tokenizer,
        "peft_config": None if config.tuning == "full" else adapter_settings(config, model),
    }
    bucketed = config.length_buckets and not config.packing
    if config.method == "grpo":
        if config.verifier is None:
            raise BadInputError(
                "verifier",
                "grpo learns from rewards, and nothing says what is right",
                "path/to/file.py:function",
                "Launch from the command line with --verifier path/to/file.py:function",
            )
        reward = reward_of(load_verifier(config.verifier))
        return RewardTrainer(reward_funcs=reward, **named)
    if config.method == "kto":
        return JudgementTrainer(**named)
    kind = PreferenceTrainer if config.method == "dpo" else LoraTrainer
    return kind(bucket_seed=config.seed if bucketed else None, **named)
