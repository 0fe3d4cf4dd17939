"""The settings of a run, and the rows it is trained on, measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, ValidationError

from finetuning import files, runs, tokens
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Fraction, Json, Model, Record

Positive = Annotated[int, Field(ge=1)]

RowFormat = Literal["trl_prompt_completion", "trl_messages"]
LATER_METHODS: Final = ("dpo", "kto", "rft", "grpo", "cpt")
LATER_TUNINGS: Final = ("qlora", "full")
_ROWS_AT_ONCE: Final = 1000
END_TOKEN: Final = 1
"""Each answer ends in one end-of-text token."""


class TrainingConfig(Model, defer_build=True):
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


_NOT_FOR_OVERRIDES: Final = frozenset(
    "engine method tuning base_model train_file validation_file test_file train_sha256 row_format "
    "goal".split()
)
KNOBS: Final = tuple(n for n in TrainingConfig.model_fields if n not in _NOT_FOR_OVERRIDES)
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


class DataProfile(Model, defer_build=True):
    """What a training file looks like to the base model's tokenizer (tokens per row)."""

    rows: int
    damaged_rows: int
    first_damaged_line: int | None
    row_format: RowFormat
    mean_tokens: float
    p50_tokens: int
    p95_tokens: int
    p99_tokens: int
    longest_tokens: int
    total_tokens: int
    labelled_tokens: int
    lengths: dict[int, int]
    tokenizer: str
    exact: bool

    @property
    def labelled_fraction(self) -> float:
        """Share of the tokens that belong to answers."""
        return min(1.0, self.labelled_tokens / self.total_tokens) if self.total_tokens else 0.0

    def longer_than(self, max_length: int) -> int:
        """Return how many rows do not fit into ``max_length`` tokens."""
        return sum(count for length, count in self.lengths.items() if length > max_length)


def row_format_of(row: Mapping[str, Json]) -> RowFormat | None:
    """Return the format of a training row, or None when it is none that is trained on here."""
    if isinstance(row.get("messages"), list):
        return "trl_messages"
    pair = row.get("prompt"), row.get("completion")
    if all(isinstance(part, str) for part in pair):
        return "trl_prompt_completion"
    return "trl_messages" if all(isinstance(part, list) for part in pair) else None


def profile_data(path: Path, base_folder: Path | None) -> DataProfile:
    """Measure a training file.

    Args:
        path: Rows of prompt and completion, or of messages.
        base_folder: Folder with the base model's ``tokenizer.json``; None counts approximately.

    Raises:
        BadInputError: The first readable row is of no format that is trained on here.
    """
    counter = _counter(base_folder)
    tally = _Tally(counter)
    for number, found in enumerate(files.read_records(path, source=path.name)):
        tally.add(found.data if isinstance(found, Record) else None, found.line)
        if number % _ROWS_AT_ONCE == 0:
            runs.progress(number, None, f"measuring {path.name}")
    if tally.row_format is None:
        raise BadInputError(
            path.name,
            f"none of {tally.damaged} rows has messages, or a prompt and a completion",
            "rows of trl_prompt_completion or trl_messages",
            f"Run: fine-tuning prepare-data {path} --target trl_prompt_completion "
            "--output-dir prepared",
        )
    return tally.profile()


def _counter(base_folder: Path | None) -> tokens.TokenCounter:
    if base_folder is not None and (base_folder / "tokenizer.json").is_file():
        return tokens.counter_for(tokenizer_dir=base_folder)
    return tokens.counter_for("unknown")


class _Tally:
    def __init__(self, counter: tokens.TokenCounter) -> None:
        self._counter = counter
        self._lengths: Counter[int] = Counter()
        self._labelled = 0
        self._waiting: list[tuple[str, str]] = []
        self.damaged = 0
        self._first_damaged: int | None = None
        self.row_format: RowFormat | None = None

    def add(self, row: Mapping[str, Json] | None, line: int | None) -> None:
        form = None if row is None else row_format_of(row)
        self.row_format = self.row_format or form
        if row is None or form is None or form != self.row_format:
            self.damaged += 1
            self._first_damaged = line if self._first_damaged is None else self._first_damaged
        elif form == "trl_prompt_completion":
            self._waiting.append((str(row["prompt"]), str(row["completion"])))
            if len(self._waiting) >= _ROWS_AT_ONCE:
                self._count_pairs()
        else:
            self._count_chat(row)

    def _count_pairs(self) -> None:
        both = self._counter.count([text for pair in self._waiting for text in pair])
        for prompt, completion in zip(both[::2], both[1::2], strict=True):
            self._lengths[prompt + completion + END_TOKEN] += 1
            self._labelled += completion + END_TOKEN
        self._waiting = []

    def _count_chat(self, row: Mapping[str, Json]) -> None:
        length = sum(self._counter.count(tokens.example_texts(row))) + tokens.overhead_tokens(row)
        self._lengths[length] += 1
        answers = _assistant_texts(row)
        self._labelled += sum(self._counter.count(answers)) + END_TOKEN * len(answers)

    def profile(self) -> DataProfile:
        self._count_pairs()
        rows = self._lengths.total()
        total = sum(length * count for length, count in self._lengths.items())
        assert self.row_format is not None  # noqa: S101 - the caller has checked it
        return DataProfile(
            rows=rows,
            damaged_rows=self.damaged,
            first_damaged_line=self._first_damaged,
            row_format=self.row_format,
            mean_tokens=round(total / rows, 2),
            p50_tokens=self._quantile(0.50),
            p95_tokens=self._quantile(0.95),
            p99_tokens=self._quantile(0.99),
            longest_tokens=max(self._lengths),
            total_tokens=total,
            labelled_tokens=self._labelled,
            lengths=dict(self._lengths),
            tokenizer=self._counter.name,
            exact=self._counter.exact and self.row_format == "trl_prompt_completion",
        )

    def _quantile(self, share: float) -> int:
        wanted, seen = share * self._lengths.total(), 0
        for length in sorted(self._lengths):
            seen += self._lengths[length]
            if seen >= wanted:
                return length
        return 0


def _assistant_texts(row: Mapping[str, Json]) -> list[str]:
    messages = cast("Sequence[Any]", row.get("messages") or row.get("completion") or ())
    return [
        text
        for message in messages
        if isinstance(message, dict) and cast("dict[str, Any]", message).get("role") == "assistant"
        for text in tokens.example_texts({"messages": [message]})
    ]
