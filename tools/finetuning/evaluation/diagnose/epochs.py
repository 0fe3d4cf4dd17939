"""How the training loss behaves at the borders between passes over the data."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from finetuning.evaluation.diagnose.curve import Curve

SHARE: Final = 0.6  # of the decline after the first pass that happens at borders
MIN_PER_EPOCH: Final = 6


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
