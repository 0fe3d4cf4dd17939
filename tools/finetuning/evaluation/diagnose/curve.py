"""One training curve: read from the formats people's trainers write, and its features.

Rules of every reader: bare ``NaN`` and ``Infinity`` are numbers, numbers may be strings, blanks
and nulls are absent values, unknown columns are kept under their own name. No reader imports
torch or transformers.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import io
import itertools
import json
import math
import re
import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Series = list[tuple[int, float]]
"""(step, value) in the order of training; values may be non-finite."""

MIN_POINTS: Final = 5
"""Fewest logged losses that are judged."""


@dataclass(frozen=True, slots=True)
class Point:
    """What was logged at one step.

    Attributes:
        step: Optimiser step, from 0.
        epoch: Passes over the data so far, None where the log does not say.
        values: Canonical name → number: loss, eval_loss, grad_norm, learning_rate, …
    """

    step: int
    epoch: float | None
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's log, in the order it was trained.

    Attributes:
        points: All points; a step may occur twice (training and evaluation rows).
        format: Name of the log format that was read.
        notes: What the reader had to decide (rewinds, derived epochs).
        vocab_size: Size of the model's vocabulary, None where it is not known.
    """

    points: list[Point]
    format: str
    notes: list[str] = field(default_factory=list[str])
    vocab_size: int | None = None

    def with_vocabulary(self, vocab_size: int | None) -> Curve:
        """Return the same curve with the size of the model's vocabulary."""
        return replace(self, vocab_size=vocab_size)

    def series(self, name: str) -> Series:
        """Return all logged values of one quantity, non-finite ones included."""
        return [(p.step, p.values[name]) for p in self.points if name in p.values]

    def finite(self, name: str) -> Series:
        """Return the finite values of one quantity."""
        return [(step, value) for step, value in self.series(name) if math.isfinite(value)]

    @property
    def names(self) -> set[str]:
        """Names of everything that was logged."""
        return {name for point in self.points for name in point.values}

    def epoch_at(self, step: int) -> float | None:
        """Return the epoch logged at a step or just before it."""
        known = [p.epoch for p in self.points if p.epoch is not None and p.step <= step]
        return known[-1] if known else None

    @property
    def n_epochs(self) -> float | None:
        """Epochs trained, None where the log does not say."""
        known = [p.epoch for p in self.points if p.epoch is not None]
        return max(known) if known else None

    @property
    def is_reinforcement(self) -> bool:
        """Whether the columns show a policy-gradient run (its loss is not a likelihood)."""
        names = self.names
        return "reward" in names or ("kl" in names and "rewards/chosen" not in names)

    @property
    def is_preference(self) -> bool:
        """Whether the columns show a preference loss, which starts at ln 2 by construction."""
        return "rewards/chosen" in self.names or "rewards/margins" in self.names


def smooth(series: Series) -> Series:
    """Return a running median (window: a tenth of the points, 1 to 15, odd)."""
    half = min(7, len(series) // 20)
    values = [value for _, value in series]
    return [
        (step, statistics.median(values[max(0, i - half) : i + half + 1]))
        for i, (step, _) in enumerate(series)
    ]


def level(series: Series, start: float, end: float) -> float:
    """Return the median over a share of the series, e.g. ``level(s, 0.8, 1.0)`` for its tail."""
    first = int(len(series) * start)
    last = max(first + 1, math.ceil(len(series) * end))
    return statistics.median(value for _, value in series[first:last] or series[-1:])


def lowest(series: Series) -> tuple[int, float]:
    """Return the step and value of the minimum (the first of equals)."""
    return min(series, key=lambda item: item[1])


NAMES: Final[dict[str, str]] = {
    "lr": "learning_rate",
    "current_steps": "step",
    "step_number": "step",
    "global_step": "step",
    "epoch_number": "epoch",
    "train_loss": "loss",
    "training_loss": "loss",
    "valid_loss": "eval_loss",
    "validation_loss": "eval_loss",
    "full_valid_loss": "eval_loss",
}
"""Other trainers' names → ours (read 2026-11 in LLaMA-Factory, OpenAI and Bedrock logs)."""

MAX_BYTES: Final = 512 * 2**20
_CONSOLE: Final = re.compile(r"\{[^{}]*?['\"](?:loss|eval_loss|reward)['\"][^{}]*\}")
_SUMMARY: Final = frozenset({"train_runtime", "total_flos", "train_samples_per_second"})


def number(value: object) -> float | None:
    """Return a logged value as a number; None where it is not one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value.strip():
        try:
            return float(value)
        except ValueError:
            return None
    return None


def to_point(row: Mapping[str, Any], fallback_step: int) -> Point | None:
    """Return one logged row as a point; None for a row without any number to read."""
    if _SUMMARY & row.keys():
        return None  # the run's average, which hides a collapse
    values: dict[str, float] = {}
    for key, raw in row.items():
        value = number(raw)
        if value is not None:
            values[NAMES.get(key, key)] = value
    step = values.pop("step", None)
    epoch = values.pop("epoch", None)
    if not values:
        return None
    exact = fallback_step if step is None or not math.isfinite(step) else int(step)
    return Point(exact, epoch, values)


def to_curve(rows: Iterable[Mapping[str, Any]], log_format: str) -> Curve:
    """Return rows as a curve; a step that runs backwards is noted, not averaged over."""
    points: list[Point] = []
    for row in rows:
        point = to_point(row, len(points) + 1)
        if point is not None:
            points.append(point)
    rewinds = [b.step for a, b in itertools.pairwise(points) if b.step < a.step]
    note = "the log goes back to step {}: resumed; the later rows are used"
    notes = [note.format(step) for step in rewinds]
    kept = _without_overtaken(points) if rewinds else points
    return Curve(kept, log_format, notes)


def _without_overtaken(points: list[Point]) -> list[Point]:
    """Drop the rows that a resumed run repeated, keeping the later ones."""
    kept: list[Point] = []
    limit: float = math.inf
    for index in range(len(points) - 1, -1, -1):
        point = points[index]
        if point.step < limit:
            kept.append(point)
        if index and points[index - 1].step > point.step:
            limit = min(limit, point.step)
    return kept[::-1]


def _json_rows(text: str) -> tuple[str, list[dict[str, Any]]] | None:
    """Read a whole JSON document or JSON Lines; None where the text is neither."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        rows: list[dict[str, Any]] = []
        for line in text.splitlines():
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError:
                row = None  # the last line of a killed run is often cut
            if isinstance(row, dict):
                rows.append(cast("dict[str, Any]", row))
        return ("log lines", rows) if rows else None
    if isinstance(document, dict):
        table = cast("dict[str, Any]", document)
        if isinstance(table.get("log_history"), list):
            return "trainer_state", cast("list[dict[str, Any]]", table["log_history"])
        return "log lines", [table]
    if isinstance(document, list):
        items = cast("list[Any]", document)
        return "log lines", [row for row in items if isinstance(row, dict)]
    return None


def _console_rows(text: str) -> list[dict[str, Any]]:
    """Read the dict reprs that trainers print, several on a line or behind a progress bar."""
    rows: list[dict[str, Any]] = []
    for found in _CONSOLE.findall(text):
        plain = re.sub(r"(?<=[:\s])(-?)(nan|inf)(?=[,}\s])", r"'\1\2'", found)
        try:
            row = ast.literal_eval(plain)
        except (ValueError, SyntaxError):
            continue
        if isinstance(row, dict):
            rows.append(cast("dict[str, Any]", row))
    return rows


def _table_rows(text: str) -> list[dict[str, Any]]:
    """Read CSV with a header that names a loss."""
    reader = csv.DictReader(io.StringIO(text))
    header = {NAMES.get(name, name) for name in reader.fieldnames or []}
    if not {"loss", "eval_loss", "reward"} & header:
        return []
    return [{key: value for key, value in row.items() if key} for row in reader]


def _decoded(text: str) -> str:
    """Return the text, or what it says in base64 (OpenAI's result files can come so)."""
    stripped = "".join(text.split())
    if len(stripped) > 16 and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", stripped):
        try:
            return base64.b64decode(stripped, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return text
    return text


def read_log(path: Path, *, where: str) -> Curve:
    """Read a training log of any known format.

    Args:
        path: A ``trainer_state.json``, JSON Lines, CSV or console log.
        where: Name of the file, for the error text.

    Raises:
        BadInputError: The file is too large, not text, or holds no training log.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadInputError(where, f"{size} bytes", f"at most {MAX_BYTES}", "Cut the log")
    try:
        text = _decoded(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInputError(
            where, "not a text file", "a training log in UTF-8", "Pass trainer_state.json"
        ) from error
    structured = _json_rows(text)
    if structured is not None:
        name, rows = structured
    elif rows := _table_rows(text):
        name = "csv"
    else:
        name, rows = "console", _console_rows(text)
    curve = to_curve(rows, name)
    if not {"loss", "eval_loss", "reward"} & curve.names:
        raise BadInputError(
            where,
            "no loss, eval_loss or reward was found",
            "trainer_state.json, a JSON Lines or CSV log, or console output",
            "Pass the trainer's log file or a run_id",
        )
    return curve
