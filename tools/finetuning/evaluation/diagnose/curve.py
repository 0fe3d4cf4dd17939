"""One training curve: its logged quantities with their features, and how rows become one."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from finetuning.evaluation.diagnose.names import number, reading_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

MIN_POINTS: Final = 5
"""Fewest logged losses that are judged."""

MOST: Final = 2**53  # largest step that a float holds exactly
HUGE: Final = 1e100  # a number beyond it has overflowed


@dataclass(frozen=True, slots=True)
class Series:
    """One logged quantity in the order of training; values may be non-finite.

    Epochs are NaN where the log does not say; places are lines or rows of the source, from 1.
    """

    steps: Numbers
    values: Numbers
    epochs: Numbers
    places: Numbers

    def __len__(self) -> int:
        """Return the number of logged values."""
        return len(self.values)

    def only(self, keep: Any) -> Series:
        """Return the points that a mask, slice or list of indices picks."""
        return Series(self.steps[keep], self.values[keep], self.epochs[keep], self.places[keep])

    def finite(self) -> Series:
        """Return the points with a finite value."""
        import numpy as np

        return self.only(np.isfinite(self.values))

    def level(self, start: float, end: float) -> float:
        """Return the median over a share of the points: ``level(0.8, 1.0)`` is the tail."""
        n = len(self)
        first = min(int(n * start), n - 1)
        return median(self.values[first : max(first + 1, math.ceil(n * end))])

    def step(self, index: int) -> int:
        """Return the step of a point."""
        return int(self.steps[index])

    def smooth(self, width: int | None = None) -> Series:
        """Return running medians (odd window; by default a tenth of the points, at most 15)."""
        import numpy as np

        half = min(7, len(self) // 20) if width is None else min(width, len(self) - 1) // 2
        if half < 1 or len(self) < 3:
            return self
        if half > 31:  # a long log: medians of blocks first, or this would take minutes
            size = half // 15
            n = len(self) // size
            blocks = self.values[: n * size].reshape(n, size)
            middle = self.only(slice(size // 2, n * size, size))
            return replace(middle, values=np.median(blocks, axis=1)).smooth(31)
        padded = np.pad(self.values, half, mode="reflect", reflect_type="odd")  # keeps a trend
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
        return replace(self, values=np.median(windows, axis=-1))

    def noise(self) -> float:
        """Return the typical distance of a point from the line of its neighbours."""
        import numpy as np

        v = self.values
        if len(v) < 5:
            return 0.0
        return float(np.median(np.abs(v[1:-1] - (v[:-2] + v[2:]) / 2)))


def median(values: Numbers) -> float:
    """Return the median of some values as a plain float."""
    import numpy as np

    return float(np.median(values))


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's log, in the order it was trained.

    Attributes:
        columns: Canonical name → series: loss, eval_loss, grad_norm, learning_rate, …
        format: Name of the log format that was read.
        n_points: Rows that hold a number.
        notes: What the reader had to decide (rewinds, derived epochs).
        settings: Knobs of the run, where they are known.
        source: Name of the file the places refer to.
        vocab_size: None where it is not known.
    """

    columns: dict[str, Series]
    format: str
    n_points: int
    notes: list[str] = field(default_factory=list[str])
    settings: dict[str, float] = field(default_factory=dict[str, float])
    source: str = ""
    vocab_size: int | None = None

    def known(self, vocab_size: int | None, settings: Mapping[str, float]) -> Curve:
        """Return the curve with what is known of its run from elsewhere; the log goes first."""
        both = {**settings, **self.settings}
        return replace(self, vocab_size=vocab_size or self.vocab_size, settings=both)

    def get(self, name: str) -> Series:
        """Return the finite values of one quantity; empty where it was not logged."""
        return self.all(name).finite()

    def all(self, name: str) -> Series:
        """Return all values of one quantity, non-finite ones included."""
        return self.columns.get(name) or _empty()

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) pairs of one quantity, for drawing."""
        found = self.all(name)
        return [(int(s), float(v)) for s, v in zip(found.steps, found.values, strict=True)]

    @property
    def n_epochs(self) -> float | None:
        """Epochs trained, None where neither the log nor the settings say."""
        import numpy as np

        tops = [float(np.nanmax(s.epochs)) for s in self.columns.values() if _some(s.epochs)]
        return max(tops) if tops else self.settings.get("num_train_epochs")

    def epoch_at(self, step: float) -> float | None:
        """Return the epoch logged at a step or just before it."""
        best: tuple[float, float] | None = None
        for one in (self.all("loss"), self.all("eval_loss")):
            known = (one.steps <= step) & (one.epochs == one.epochs)
            if known.any():
                found = float(one.steps[known][-1]), float(one.epochs[known][-1])
                best = max(best or found, found)
        return best[1] if best else None

    @property
    def is_reinforcement(self) -> bool:
        """Whether the columns show a policy-gradient run (its loss is not a likelihood)."""
        names = self.columns.keys()
        rewarded = names & {"reward", "reward_std", "frac_reward_zero_std", "policy_loss"}
        return bool(rewarded) or ("kl" in names and not self.is_preference)

    @property
    def is_preference(self) -> bool:
        """Whether the columns show a preference loss, which starts at ln 2 by construction."""
        return bool(self.columns.keys() & {"rewards/chosen", "rewards/margins"})


def _some(values: Numbers) -> bool:
    return bool((values == values).any())


@functools.cache
def _empty() -> Series:
    import numpy as np

    return Series(*(np.empty(0) for _ in range(4)))


def _numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    """Return what a row holds under our names."""
    values: dict[str, float] = {}
    for key, name in reading_of(tuple(row)) or ():
        raw = row[key]
        value = raw if type(raw) is float else number(raw)
        if value is not None:
            values[name] = value
    return values


Item = tuple[int, float, float, dict[str, float]]  # place, step, epoch or NaN, the other numbers


def to_items(rows: Iterable[tuple[int, Mapping[Any, Any]]], notes: list[str]) -> list[Item]:
    """Return rows with numbers, each with its step; rows that a resumed run repeated are left out.

    Args:
        rows: Place in the source, and the row.
        notes: Gets a sentence where a step runs backwards or no step is logged.
    """
    items: list[Item] = []
    stepless = 0
    last: dict[str, float] = {}
    rewinds: list[tuple[int, float]] = []
    for place, row in rows:
        values = _numbers(row)
        step, epoch = values.pop("step", math.nan), values.pop("epoch", math.nan)
        if not values:
            continue
        kind = "eval_loss" if "eval_loss" in values and "loss" not in values else "loss"
        if not abs(step) < MOST:
            stepless += 1
            step = last.get("loss", 0.0) + (1 if kind == "loss" else 0)
        if step < last.get(kind, -math.inf):
            rewinds.append((len(items), step))
            last.clear()
        last[kind] = step
        items.append((place, float(int(step)), epoch if abs(epoch) < MOST else math.nan, values))
    if stepless:
        notes.append(f"{stepless} rows have no step: they are counted instead")
    said = "the log goes back to step {:.0f}: resumed; the later rows are used"
    notes += [said.format(step) for _, step in rewinds[:5]]
    return _without_overtaken(items, dict(rewinds)) if rewinds else items


def _without_overtaken(items: list[Item], rewinds: dict[int, float]) -> list[Item]:
    """Drop the rows that a resumed run repeated, keeping the later ones."""
    kept: list[Item] = []
    limit = math.inf
    for index in range(len(items) - 1, -1, -1):
        if items[index][1] < limit:
            kept.append(items[index])
        limit = min(limit, rewinds.get(index, math.inf))
    return kept[::-1]


def to_curve(
    rows: Iterable[Mapping[Any, Any]] | Iterable[tuple[int, Mapping[Any, Any]]],
    log_format: str,
    *,
    source: str = "",
    notes: Iterable[str] = (),
    settings: Mapping[str, float] | None = None,
) -> Curve:
    """Return rows, with or without their places, as a curve.

    Args:
        rows: What was logged, or pairs of place and that.
        log_format: Name of the format.
        source: Name of the file, for the evidence.
        notes: What the reader had to decide.
        settings: Knobs that the file names.
    """
    import numpy as np

    placed = (
        row if isinstance(row, tuple) else (index, row) for index, row in enumerate(rows, start=1)
    )
    said = list(notes)
    known = dict(settings or {})
    items = to_items(placed, said)
    parts: dict[str, tuple[list[int], list[float]]] = {}
    for index, item in enumerate(items):
        for name, value in item[3].items():
            where, held = parts.setdefault(name, ([], []))
            where.append(index)
            held.append(value)
    frame = np.array([item[:3] for item in items], dtype=np.float64).reshape(-1, 3).T
    columns: dict[str, Series] = {}
    for name, (where, held) in parts.items():
        at = np.array(where)
        epochs = _epochs(frame[1][at], frame[2][at], known, said)
        values = np.array(held)
        values[np.abs(values) > HUGE] *= np.inf
        columns[name] = Series(frame[1][at], values, epochs, frame[0][at])
    return Curve(columns, log_format, len(items), list(dict.fromkeys(said)), known, source)


def _epochs(
    steps: Numbers, epochs: Numbers, settings: Mapping[str, float], notes: list[str]
) -> Numbers:
    """Return epochs as fractions: derived where they are missing, or counted in whole passes."""
    import numpy as np

    known = np.isfinite(epochs)
    if not known.any():
        total, passes = settings.get("max_steps", 0.0), settings.get("num_train_epochs", 0.0)
        if total > 0 and passes > 0:
            notes.append("epochs are derived from the steps")
            return steps / total * passes
        return epochs
    whole = known.all() and bool((epochs == np.floor(epochs)).all())
    values, counts = np.unique(epochs, return_counts=True) if whole else (epochs, epochs)
    if not whole or counts.max() < 2:
        return epochs + 1 if whole and values[0] == 0 else epochs
    notes.append("epochs are counted in whole passes: the part of a pass is derived from the rows")
    place = np.searchsorted(values, epochs)
    starts = np.searchsorted(epochs, values)
    within = np.arange(len(epochs)) - starts[place] + 1
    return np.asarray(place + within / counts[place], dtype=np.float64)
