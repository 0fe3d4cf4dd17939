"""One training curve, whatever format it was logged in, and the features the rules read."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass, field, replace
from typing import Final

Series = list[tuple[int, float]]
"""(step, value) in the order of training; values may be non-finite."""

MIN_POINTS: Final = 5
"""Fewest logged losses that are judged."""

SHARE: Final = 0.6  # of the decline after the first pass that happens at borders
MIN_PER_EPOCH: Final = 6


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


def by_epoch(curve: Curve) -> list[tuple[int, list[float]]]:
    """Return (first step, losses) of each pass; empty where epochs are not logged."""
    passes: dict[int, tuple[int, list[float]]] = {}
    for point in curve.points:
        if point.epoch is None or "loss" not in point.values:
            continue
        at_end = point.epoch == int(point.epoch) and point.epoch > 0
        index = int(point.epoch) - (1 if at_end else 0)
        passes.setdefault(index, (point.step, []))[1].append(point.values["loss"])
    return [passes[index] for index in sorted(passes)]


def staircase(curve: Curve) -> tuple[list[int], float] | None:
    """Find drops at epoch borders with flat stretches between them.

    Returns:
        The steps where the drops happen and the share of the decline they hold; None where
        the curve has no stairs or too few points to tell.
    """
    passes = [item for item in by_epoch(curve) if len(item[1]) >= MIN_PER_EPOCH]
    if len(passes) < 3:
        return None
    drops: list[float] = []
    inside: list[float] = []
    for (_, before), (_, after) in itertools.pairwise(passes):
        width = max(2, min(len(before), len(after)) // 4)
        drops.append(statistics.mean(before[-width:]) - statistics.mean(after[:width]))
        inside.append(statistics.mean(after[:width]) - statistics.mean(after[-width:]))
    first = statistics.mean(passes[0][1])
    decline = sum(drops) + sum(inside)
    clear = sum(drop > 0.03 * first for drop in drops)
    if decline < 0.1 * first or clear < 2:
        return None
    share = sum(drops) / decline
    flat = all(abs(step) < 0.5 * drop for step, drop in zip(inside, drops, strict=True) if drop > 0)
    if share < SHARE or not flat:
        return None
    return [step for step, _ in passes[1:]], min(1.0, share)
