"""Lengths and labels of training rows, counted with the base model's own tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning.errors import BadInputError
from finetuning.files import read_records
from finetuning.records import Json, Model, Record
from finetuning.runs import progress
from finetuning.tokens import TokenCounter, counter_for, example_texts, overhead_tokens
from finetuning.training.config import RowFormat

_BATCH: Final = 1000
END_TOKEN: Final = 1
"""Each answer ends in one end-of-text token."""


class DataProfile(Model):
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
    for number, found in enumerate(read_records(path, source=path.name)):
        tally.add(found.data if isinstance(found, Record) else None, found.line)
        if number % _BATCH == 0:
            progress(number, None, f"measuring {path.name}")
    if tally.row_format is None:
        raise BadInputError(
            path.name,
            f"none of {tally.damaged} rows has messages, or a prompt and a completion",
            "rows of trl_prompt_completion or trl_messages",
            f"Run: fine-tuning prepare-data {path} --target trl_prompt_completion "
            "--output-dir prepared",
        )
    return tally.profile()


def _counter(base_folder: Path | None) -> TokenCounter:
    if base_folder is not None and (base_folder / "tokenizer.json").is_file():
        return counter_for(tokenizer_dir=base_folder)
    return counter_for("unknown")


class _Tally:
    def __init__(self, counter: TokenCounter) -> None:
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
            if len(self._waiting) >= _BATCH:
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
        length = sum(self._counter.count(example_texts(row))) + overhead_tokens(row)
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
        for text in example_texts({"messages": [message]})
    ]
