"""The settings of a run, what may stand in them, the tables they are chosen by, and YAML."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

from pydantic import Field, ValidationError

from finetuning import files
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Finding, Fraction, Json, Model, Severity

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]

Method = Literal["sft", "dpo", "kto", "grpo", "cpt"]
Tuning = Literal["lora", "qlora", "full"]
RowFormat = Literal[
    "trl_prompt_completion",
    "trl_messages",
    "trl_preference",
    "trl_kto",
    "trl_text",
    "trl_prompt",
]
FORMATS: Final[dict[str, tuple[RowFormat, ...]]] = {
    "sft": ("trl_messages", "trl_prompt_completion"),
    "dpo": ("trl_preference",),
    "kto": ("trl_kto",),
    "grpo": ("trl_prompt",),
    "cpt": ("trl_text",),
}
"""Method → the formats of its rows; ``trl_prompt``: further columns go to the verifier."""


class TrainingConfig(Model, defer_build=True):
    """Every setting of a run; names are those of TRL and PEFT."""

    engine: Literal["local", "torchrun", "ray"] = "local"
    method: Method = "sft"
    tuning: Tuning = "lora"
    base_model: str = Field(description="Folder of the base model, or its name on the hub.")
    base_revision: str | None = Field(default=None, description="Commit of the base on the hub.")
    base_sha256: str | None = Field(default=None, description="Digest of the base's files.")
    quantisation: Literal["none", "nf4"] = "none"
    train_file: str
    validation_file: str | None = None
    test_file: str | None = Field(default=None, description="Never read; looks at it are counted.")
    train_sha256: str | None = Field(default=None, description="Digest the file must still have.")
    row_format: RowFormat
    replay_file: str | None = Field(default=None, description="General rows mixed into training.")
    replay_fraction: Fraction = Field(default=0.0, description="Share of such rows in the mix.")

    r: Annotated[int, Field(ge=1, le=1024)] = 16
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.0
    target_modules: str | list[str] = "all-linear"
    learning_rate: Rate
    probe_learning_rates: list[Rate] | None = Field(
        default=None, description="Each is tried for a few steps on held-out loss before the run."
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup_ratio: Fraction = 0.05
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    num_train_epochs: Annotated[float, Field(gt=0.0, le=1000.0)] = 3.0
    per_device_train_batch_size: Positive = 16
    gradient_accumulation_steps: Positive = 1
    num_processes: Positive = 1
    max_length: Annotated[int, Field(ge=2)] = 1024
    packing: bool = False
    length_buckets: bool = Field(default=True, description="Micro-batches of about equal tokens.")
    completion_only_loss: bool = True
    assistant_only_loss: bool = True
    beta: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        default=None, description="Pull towards the base; None: dpo 0.1, kto 0.1, grpo 0."
    )
    desirable_weight: Annotated[float, Field(gt=0.0)] = 1.0
    undesirable_weight: Annotated[float, Field(gt=0.0)] = 1.0
    num_generations: Annotated[int, Field(ge=2, le=1024)] = 8
    max_completion_length: Positive = 256
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    verifier: str | None = Field(
        default=None, description="path/to/file.py:function or module:function (CLI only)."
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    early_stopping_patience: Positive | None = Field(
        default=3, description="Evaluations without improvement; None: off."
    )
    keep_best: bool = True
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
        if self.method == "cpt":
            return False
        if self.row_format == "trl_messages":
            return self.assistant_only_loss
        return self.completion_only_loss


_NOT_FOR_OVERRIDES: Final = frozenset(
    "engine method tuning base_model base_sha256 quantisation train_file validation_file "
    "test_file train_sha256 row_format goal".split()
)
KNOBS: Final = tuple(n for n in TrainingConfig.model_fields if n not in _NOT_FOR_OVERRIDES)
"""Settings that ``overrides`` may name."""
_NAMED: Final[dict[str, tuple[str, ...]]] = {
    "method": tuple(FORMATS),
    "tuning": ("lora", "qlora", "full"),
    "engine": ("local", "torchrun", "ray"),
}


def parse_config(values: Mapping[str, Json], *, where: str) -> TrainingConfig:
    """Check a configuration and return it.

    Raises:
        UnknownNameError: A setting, method, tuning or engine that does not exist.
        BadInputError: A value has the wrong type or lies out of range, or the rows are not those
            of the method.
    """
    for kind, known in _NAMED.items():
        if (value := values.get(kind, known[0])) not in known:
            raise UnknownNameError(where, kind, str(value), known)
    for name in values:
        if name not in TrainingConfig.model_fields:
            raise UnknownNameError(where, "setting", name, TrainingConfig.model_fields)
    try:
        config = TrainingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        seen, expected = values.get(str(first["loc"][0]), "nothing"), first["msg"]
        expected = expected[0].lower() + expected[1:]
        facts = {"name": name, "seen": seen, "wanted": expected}
        raise refusal(where, "setting_out_of_range", **facts) from error
    method, form = config.method, config.row_format
    if form not in FORMATS[method]:
        forms = " or ".join(FORMATS[method])
        raise refusal(where, "rows_of_other_method", method=method, form=form, forms=forms)
    return config


def check_names(given: Mapping[str, Json], *, where: str) -> None:
    """Check the names of overrides.

    Raises:
        UnknownNameError: A setting that does not exist; the nearest are named.
        BadInputError: A setting of TRL that does not stand alone.
    """
    if "padding_free" in given:
        raise refusal("overrides", "padding_free_alone")
    for name in given:
        if name not in KNOBS:
            raise UnknownNameError(where, "setting", name, KNOBS)


def load_config(config: Mapping[str, Json] | str, *, where: str) -> TrainingConfig:
    """Return the configuration from an object or from the file that holds it.

    Raises:
        BadInputError: The file is missing or no JSON object, or a value does not fit.
        UnknownNameError: A setting that does not exist.
    """
    if not isinstance(config, str):
        return parse_config(config, where=where)
    path = files.resolve_read(config, where=where)
    return parse_config(_read_object(path), where=str(path))


def _read_object(path: Path) -> dict[str, Json]:
    try:
        values: Json = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise refusal(str(path), "config_not_json", error=type(error).__name__) from error
    if not isinstance(values, dict):
        raise refusal(str(path), "config_no_object", kind=type(values).__name__)
    return cast("dict[str, Json]", values)


@functools.cache
def read_tables() -> dict[str, dict[str, Any]]:
    """Return the tables of reasons, findings, engines and hosted providers."""
    import tomli

    text = Path(__file__).with_name("tables.toml").read_text(encoding="utf-8")
    return tomli.loads(text)


class Choice(NamedTuple):
    """One setting with its reason and its source."""

    value: Any
    reason: str
    source: str

    def why(self) -> str:
        """Return reason and source as one line."""
        return f"{self.reason} [{self.source}]"


def explain(value: Any, case: str, **facts: Any) -> Choice:
    """Return a choice with the reason that tables.toml gives for its case."""
    reason, source = read_tables()["reasons"][case]
    return Choice(value, reason.format(**facts), source.format(**facts))


def finding(code: str, **facts: Any) -> Finding:
    """Return a finding in the words of tables.toml."""
    severity, message, fix = read_tables()["findings"][code]
    return Finding(
        code=code,
        severity=cast("Severity", severity),
        message=message.format(**facts),
        fix=fix.format(**facts),
    )


def refusal(where: str, case: str, **facts: Any) -> BadInputError:
    """Return the error that tables.toml words for a case, ready to be raised."""
    return BadInputError(where, *(part.format(**facts) for part in read_tables()["refusals"][case]))


# --- YAML ------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[A-Za-z_./~][\w./~-]*")
_WORDS: Final = frozenset("true false yes no on off y n null none ~ .inf .nan".split())
"""Texts that YAML 1.1 takes for something else."""


def to_yaml(value: Any, indent: int = 0) -> str:
    """Return a value as YAML that reads the same under YAML 1.1 and 1.2."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[str, Any]", value).items()
        return "".join(f"{pad}{_scalar(key)}:{_below(each, indent)}" for key, each in items)
    if isinstance(value, list) and value:
        lines = [to_yaml(each, indent + 2) for each in cast("list[Any]", value)]
        return "".join(f"{pad}- {line[indent + 2 :]}" for line in lines)
    return f"{pad}{_scalar(value)}\n"


def _below(value: Any, indent: int) -> str:
    if isinstance(value, Mapping | list) and value:
        return "\n" + to_yaml(value, indent + 2)
    if isinstance(value, str) and re.fullmatch(r"(?:[ -~]*[!-~]\n)+", value) and value[0] != " ":
        pad = " " * (indent + 2)
        return " |\n" + "".join(f"{pad}{line}\n" for line in value.splitlines())
    return f" {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        text = repr(value)  # 2e-05 is a string to YAML 1.1: it wants a point
        return text if "." in text else text.replace("e", ".0e")
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.casefold() not in _WORDS:
            return value
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    return "{}" if isinstance(value, Mapping) else "[]"
