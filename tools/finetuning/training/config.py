"""The configuration of one local training run: what ``configure_training`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, cast

from pydantic import Field, ValidationError

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import resolve_read
from finetuning.records import Fraction, Json, Model

Positive = Annotated[int, Field(ge=1)]

RowFormat = Literal["trl_prompt_completion", "trl_messages"]
LATER_METHODS: Final = ("dpo", "kto", "rft", "grpo", "cpt")
LATER_TUNINGS: Final = ("qlora", "full")


class TrainingConfig(Model):
    """Every setting of a local LoRA run; names are those of TRL and PEFT."""

    engine: Literal["local"] = "local"
    method: Literal["sft"] = "sft"
    tuning: Literal["lora"] = "lora"
    base_model: str = Field(description="Folder of the base model.")
    train_file: str
    validation_file: str | None = None
    test_file: str | None = Field(default=None, description="Never read; looks at it are counted.")
    train_sha256: str | None = Field(default=None, description="Digest the file must still have.")
    row_format: RowFormat

    r: Annotated[int, Field(ge=1, le=1024)] = 16
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.0
    target_modules: str | list[str] = "all-linear"
    learning_rate: Annotated[float, Field(gt=0.0, lt=1.0)]
    lr_scheduler_type: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup_ratio: Fraction = 0.05
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    num_train_epochs: Annotated[float, Field(gt=0.0, le=1000.0)] = 3.0
    per_device_train_batch_size: Positive = 16
    gradient_accumulation_steps: Positive = 1
    max_length: Annotated[int, Field(ge=2)] = 1024
    completion_only_loss: bool = True
    assistant_only_loss: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    max_validation_rows: Positive = 1000
    eval_steps: Positive | None = Field(default=None, description="None: once per epoch.")
    save_steps: Positive | None = Field(default=None, description="None: once per epoch.")
    save_total_limit: Positive = 2
    num_threads: Positive = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    goal: str | None = Field(default=None, description="The person's words; recorded, not read.")
    accept_risks: list[str] = Field(
        default_factory=list[str], description="Codes of risks that were accepted on purpose."
    )

    @property
    def labels_on_answers_only(self) -> bool:
        """Whether only completions (or assistant turns) carry labels."""
        if self.row_format == "trl_messages":
            return self.assistant_only_loss
        return self.completion_only_loss


KNOBS: Final = tuple(
    name
    for name in TrainingConfig.model_fields
    if name
    not in {
        "engine",
        "method",
        "tuning",
        "base_model",
        "train_file",
        "validation_file",
        "test_file",
        "train_sha256",
        "row_format",
        "goal",
    }
)
"""Settings that ``overrides`` may name."""


def refuse_unbuilt(where: str, kind: str, value: str, built: str, later: tuple[str, ...]) -> None:
    """Stop a call that asks for something this version does not have.

    Raises:
        BadInputError: ``value`` is a known name that this version does not offer yet.
        UnknownNameError: ``value`` is no known name.
    """
    if value == built:
        return
    if value in later:
        raise BadInputError(
            where,
            f"{kind}={value!r} is not in this version",
            f"{kind}={built!r}",
            f"Use {kind}={built!r}, or follow the knowledge file training.md for {value}",
        )
    raise UnknownNameError(where, kind, value, (built, *later))


def parse_config(values: Mapping[str, Json], *, where: str) -> TrainingConfig:
    """Check a configuration and return it.

    Raises:
        UnknownNameError: A setting that does not exist; the nearest are named.
        BadInputError: A value has the wrong type or lies out of range.
    """
    for name, built, later in (
        ("method", "sft", LATER_METHODS),
        ("tuning", "lora", LATER_TUNINGS),
    ):
        refuse_unbuilt(where, name, str(values.get(name, built)), built, later)
    for name in values:
        if name not in TrainingConfig.model_fields:
            raise UnknownNameError(where, "setting", name, TrainingConfig.model_fields)
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        seen = values.get(str(first["loc"][0]), "nothing")
        raise BadInputError(
            where,
            f"{name} is {seen!r}",
            first["msg"][0].lower() + first["msg"][1:],
            f"Change {name} and call again",
        ) from error


def load_config(config: Mapping[str, Json] | str, *, where: str) -> TrainingConfig:
    """Return the configuration from an object or from the file that holds it.

    Raises:
        BadInputError: The file is missing or no JSON object, or a value does not fit.
        UnknownNameError: A setting that does not exist.
    """
    if not isinstance(config, str):
        return parse_config(config, where=where)
    path = resolve_read(config, where=where)
    values = _read_object(path)
    return parse_config(values, where=str(path))


def _read_object(path: Path) -> dict[str, Json]:
    try:
        values: Json = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInputError(
            str(path),
            f"the file is not JSON ({type(error).__name__})",
            "the training.json that configure_training wrote",
            "Run configure_training again",
        ) from error
    if not isinstance(values, dict):
        raise BadInputError(
            str(path),
            f"the file holds a {type(values).__name__}",
            "one JSON object",
            "Run configure_training again",
        )
    return cast("dict[str, Json]", values)
