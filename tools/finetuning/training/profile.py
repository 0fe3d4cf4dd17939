"""The rows of a training file, measured: their format, lengths and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning import files, runs, tokens
from finetuning.errors import BadInputError
from finetuning.records import Json, Model, Record
from finetuning.training.config import FORMATS, RowFormat, refusal

_ROWS_AT_ONCE: Final = 1000
END_TOKEN: Final = 1
"""Each answer ends in one end-of-text token."""


class DataProfile(Model, defer_build=True):
    """What a training file looks like to the base model's tokenizer.

    Tokens per row; of a pair of answers, those of the longer one with its prompt.
    """

    rows: int
    desirable_rows: int = 0
    damaged_rows: int
    first_damaged_line: int | None
    row_format: RowFormat
    message_columns: list[str]
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


def row_format_of(row: Mapping[str, Json], method: str | None = None) -> RowFormat | None:
    """Return the format of a training row, or None when it is none that is trained on here.

    Args:
        row: The row.
        method: Only the formats of this method count; None: those of any.
    """
    form = _format_of(row)
    if method is None or form in FORMATS[method]:
        return form
    if method == "grpo" and _is_text(row.get("prompt")):
        return "trl_prompt"  # what stands beside the prompt is the verifier's
    return None


def _format_of(row: Mapping[str, Json]) -> RowFormat | None:
    prompt, completion = row.get("prompt"), row.get("completion")
    if _is_text(row.get("chosen")):
        same = type(row["chosen"]) is type(row.get("rejected"))
        return "trl_preference" if same and isinstance(prompt, str | list | None) else None
    if isinstance(row.get("messages"), list):
        return "trl_messages"
    if _is_text(prompt) and type(prompt) is type(completion):
        if isinstance(row.get("label"), bool):
            return "trl_kto"
        return "trl_prompt_completion" if isinstance(prompt, str) else "trl_messages"
    if _is_text(prompt) and completion is None:
        return "trl_prompt"
    return "trl_text" if isinstance(row.get("text"), str) else None


def _is_text(value: Json) -> bool:
    return bool(value) and isinstance(value, str | list)


def profile_data(path: Path, base_folder: Path | None, method: str | None = None) -> DataProfile:
    """Measure a training file.

    Args:
        path: Training rows.
        base_folder: Folder with the base model's ``tokenizer.json``; None counts approximately.
        method: How the rows are to be trained on; None: whatever fits the first of them.

    Raises:
        BadInputError: No row is of a format that the method trains on.
    """
    tally = _Tally(_counter(base_folder), method)
    for number, found in enumerate(files.read_records(path, source=path.name)):
        tally.add(found.data if isinstance(found, Record) else None, found.line)
        if number % _ROWS_AT_ONCE == 0:
            runs.progress(number, None, f"measuring {path.name}")
    if tally.row_format is None:
        raise _no_rows(path, tally, method)
    return tally.profile()


def measure_rows(path: Path) -> tuple[int, float]:
    """Return the rows of a file and their mean tokens, whatever the format.

    Raises:
        BadInputError: Not one row can be read.
    """
    found = (
        row.data for row in files.read_records(path, source=path.name) if isinstance(row, Record)
    )
    tally = tokens.TokenTally(tokens.counter_for("unknown"))
    rows = sum(1 for row in found if tally.add(row) >= 0)
    if not rows:
        raise refusal(path.name, "no_readable_row")
    return rows, tally.stats().mean


def _no_rows(path: Path, tally: _Tally, method: str | None) -> BadInputError:
    if tally.other is not None:
        fitting = next(name for name, forms in FORMATS.items() if tally.other in forms)
        step = f"Use method={fitting!r} for these rows, or prepare others for {method}"
    else:
        target = FORMATS[method or "sft"][-1]
        step = f"Run: fine-tuning prepare-data {path} --target {target} --output-dir prepared"
    wanted = FORMATS[method] if method else ("trl_prompt_completion", "trl_messages")
    facts = {"rows": tally.damaged, "forms": " or ".join(wanted), "method": method or "sft"}
    other = f"; they are {tally.other}" if tally.other else ""
    return refusal(path.name, "no_row_of_method", **facts, other=other, step=step)


def _counter(base_folder: Path | None) -> tokens.TokenCounter:
    if base_folder is not None and (base_folder / "tokenizer.json").is_file():
        return tokens.counter_for(tokenizer_dir=base_folder)
    return tokens.counter_for("unknown")


class _Sequence(NamedTuple):
    """What a row is trained as: its texts, those that are an answer, and its frame in tokens."""

    texts: list[str]
    answers: list[str]
    frame: int


class _Tally:
    def __init__(self, counter: tokens.TokenCounter, method: str | None) -> None:
        self._counter, self._method = counter, method
        self._lengths: Counter[int] = Counter()
        self._labelled = self._desirable = 0
        self._waiting: list[list[_Sequence]] = []
        self.damaged = 0
        self._first_damaged: int | None = None
        self.row_format: RowFormat | None = None
        self._lists: list[str] = []
        self.other: RowFormat | None = None

    def add(self, row: Mapping[str, Json] | None, line: int | None) -> None:
        form = None if row is None else row_format_of(row, self._method)
        if self.row_format is None and row is not None and form is not None:
            self.row_format = form
            self._lists = [name for name, value in row.items() if isinstance(value, list)]
        if row is not None and form is not None and form == self.row_format:
            self._waiting.append(_sequences(row, form))
            self._desirable += form == "trl_kto" and row["label"] is True
            if len(self._waiting) >= _ROWS_AT_ONCE:
                self._count()
            return
        self.damaged += 1
        self.other = self.other or (None if row is None else row_format_of(row))
        self._first_damaged = line if self._first_damaged is None else self._first_damaged

    def _count(self) -> None:
        """Count the rows that wait, all at once; of a pair of answers the longer one counts."""
        found = [part for row in self._waiting for part in row]
        counts = iter(self._counter.count([t for part in found for t in part.texts + part.answers]))
        for row in self._waiting:
            sizes = [
                (sum(islice(counts, len(p.texts))), sum(islice(counts, len(p.answers))), p)
                for p in row
            ]
            length, labelled = max(
                (length + (part.frame or END_TOKEN), labelled + END_TOKEN * len(part.answers))
                for length, labelled, part in sizes
            )
            self._lengths[length] += 1
            self._labelled += labelled
        self._waiting = []

    def profile(self) -> DataProfile:
        self._count()
        ordered = sorted(self._lengths.items())
        rows = self._lengths.total()
        total = sum(length * count for length, count in ordered)
        assert self.row_format is not None  # noqa: S101 - the caller has checked it
        return DataProfile(
            rows=rows,
            desirable_rows=self._desirable,
            damaged_rows=self.damaged,
            first_damaged_line=self._first_damaged,
            row_format=self.row_format,
            message_columns=self._lists,
            mean_tokens=round(total / rows, 2),
            p50_tokens=_quantile(ordered, 0.50 * rows),
            p95_tokens=_quantile(ordered, 0.95 * rows),
            p99_tokens=_quantile(ordered, 0.99 * rows),
            longest_tokens=ordered[-1][0],
            total_tokens=total,
            labelled_tokens=self._labelled,
            lengths=dict(self._lengths),
            tokenizer=self._counter.name,
            exact=self._counter.exact and self.row_format in {"trl_prompt_completion", "trl_text"},
        )


def _quantile(ordered: Sequence[tuple[int, int]], wanted: float) -> int:
    seen = accumulate(count for _, count in ordered)
    reached = (length for (length, _), count in zip(ordered, seen, strict=True) if count >= wanted)
    return next(reached, 0)


def _sequences(row: Mapping[str, Json], form: RowFormat) -> list[_Sequence]:
    """Return what a row is trained as: two sequences where it is a pair of answers."""
    alone: list[dict[str, Json]] = [dict(row)]
    if form == "trl_preference":
        sides = (row["chosen"], row["rejected"])
        alone = [{"prompt": row.get("prompt"), "completion": side} for side in sides]
    elif form in {"trl_prompt", "trl_text"}:
        key = form.removeprefix("trl_")
        alone = [{key: row[key]}]
    return [
        _Sequence(tokens.example_texts(part), _answer_texts(part), tokens.overhead_tokens(part))
        for part in alone
    ]


def _answer_texts(row: Mapping[str, Json]) -> list[str]:
    for key in ("completion", "text"):
        if isinstance(value := row.get(key), str):
            return [value]
    messages = cast("Sequence[Any]", row.get("messages") or row.get("completion") or ())
    return [
        text
        for message in messages
        if isinstance(message, dict) and cast("dict[str, Any]", message).get("role") == "assistant"
        for text in tokens.example_texts({"messages": [message]})
    ]
