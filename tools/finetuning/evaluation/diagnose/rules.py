"""The rules: each looks at one curve and says whether its class holds, with its evidence.

Thresholds are this project's own, set on runs with planted faults (tests/evaluation); they are
named here once. Class definitions: evaluation.md#reading-a-loss-curve.
"""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Final, NamedTuple

from finetuning.evaluation.diagnose.curve import MIN_POINTS, Curve, Series, level, lowest, smooth

CLIMB: Final = 0.5  # share of the loss won that must be lost again before it is divergence
FLAT: Final = 0.05  # relative change below which a curve counts as flat
RISE: Final = 0.05  # relative rise of the held-out loss that counts as overfitting
NEAR_ZERO: Final = 0.05  # share of the first loss that counts as collapsed
AT_ONCE: Final = 0.25  # epochs; an easy format task takes longer (demo: 2 % after 0.35)
SPREAD: Final = 30.0  # ratio of the 95th to the 50th percentile of the gradient norm
LARGEST_VOCABULARY: Final = 262_144  # Gemma 3 (config.json, checked 2026-11)
SHARE: Final = 0.6  # of the decline after the first pass that happens at borders
MIN_PER_EPOCH: Final = 6
PREFERENCE_START: Final = math.log(2)


class Hit(NamedTuple):
    """One class that holds, with the steps and numbers that show it."""

    label: str
    confidence: float
    steps: list[int]
    numbers: dict[str, float]


def nan(curve: Curve) -> Hit | None:
    """A loss that is not finite, or exactly 0 beside a gradient that is not, and stays so."""
    norms = dict(curve.series("grad_norm"))
    series = curve.series("loss") or curve.series("eval_loss")
    bad = [
        not math.isfinite(loss) or (loss == 0.0 and not math.isfinite(norms.get(step, 0.0)))
        for step, loss in series
    ]
    broken_eval = any(not math.isfinite(value) for _, value in curve.series("eval_loss")[-1:])
    if not series or not (bad[-1] or broken_eval):
        return None
    first = len(bad)
    while first > 0 and bad[first - 1]:
        first -= 1
    step = series[min(first, len(series) - 1)][0]
    return Hit("nan", 0.99, [step, series[-1][0]], {"bad_points": float(len(bad) - first)})


def reinforcement(curve: Curve) -> Hit | None:
    """Columns of a policy-gradient run."""
    if not curve.is_reinforcement:
        return None
    reward = curve.finite("reward")
    numbers = {"reward_first": reward[0][1], "reward_last": reward[-1][1]} if reward else {}
    return Hit("rl_loss_not_interpretable", 0.95, [], numbers)


def worse_than_random(curve: Curve) -> Hit | None:
    """A first loss above that of uniform guessing over the vocabulary, ln(V)."""
    losses = curve.finite("loss")
    if not losses or curve.is_preference:
        return None
    vocabulary = curve.vocab_size or LARGEST_VOCABULARY
    bound = math.log(vocabulary)
    step, first = losses[0]
    if first <= bound * (1.25 if curve.vocab_size else 1.02):  # demo: 5.99 at ln 5.2, no fault
        return None
    sure = 0.95 if curve.vocab_size else 0.8
    return Hit("worse_than_random_start", sure, [step], {"loss": first, "ln_vocabulary": bound})


def divergence(curve: Curve) -> Hit | None:
    """A training loss that was lower, climbs, and does not come back."""
    losses = curve.finite("loss")
    if len(losses) < 2 * MIN_POINTS:
        return None
    smoothed = smooth(losses)
    first, tail = level(losses, 0.0, 0.05), level(losses, 0.85, 1.0)
    step, best = lowest(smoothed)
    won = first - best
    fell_back = won > 0.1 * first and tail > best + CLIMB * won
    blew_up = tail > 1.25 * first and tail > best + 3 * _wobble(losses)
    if not (fell_back or blew_up):
        return None
    norms = curve.finite("grad_norm")
    grows = len(norms) >= MIN_POINTS and level(norms, 0.8, 1.0) > 3 * level(norms, 0.0, 0.2)
    numbers = {"first_loss": first, "lowest_loss": best, "last_loss": tail}
    return Hit("divergence", 0.95 if grows or blew_up else 0.85, [step, losses[-1][0]], numbers)


def _wobble(series: Series) -> float:
    gaps = [abs(b[1] - a[1]) for a, b in itertools.pairwise(series)]
    return statistics.median(gaps) if gaps else 0.0


def not_learning(curve: Curve) -> Hit | None:
    """A training loss that stays where it began."""
    losses = curve.finite("loss")
    if len(losses) < MIN_POINTS:
        return None
    first, tail = level(losses, 0.0, 0.1), level(losses, 0.8, 1.0)
    bound = max(FLAT * first, 0.5 * _wobble(losses) if len(losses) >= 20 else 0.0)
    evals = curve.finite("eval_loss")
    helped = len(evals) >= 2 and evals[-1][1] < 0.9 * evals[0][1]
    if first < 0.1 or abs(first - tail) > bound or helped:
        return None
    numbers = {"first_loss": first, "last_loss": tail}
    return Hit("not_learning", 0.85, [losses[0][0], losses[-1][0]], numbers)


def leak(curve: Curve) -> Hit | None:
    """A loss that collapses in the first part of the first epoch, held-out loss included."""
    losses = curve.finite("loss")
    if len(losses) < MIN_POINTS or curve.is_preference:
        return None
    first, tail = losses[0][1], level(losses, 0.8, 1.0)
    goal = NEAR_ZERO * first
    reached = next((i for i, (_, value) in enumerate(smooth(losses)) if value <= goal), None)
    if reached is None or tail > goal or first < 0.2:
        return None
    step = losses[reached][0]
    epoch = curve.epoch_at(step)
    share = reached / len(losses)
    early = epoch <= AT_ONCE if epoch is not None else share <= AT_ONCE / 3
    evals = curve.finite("eval_loss")
    if not early or (evals and evals[-1][1] > 2 * goal):
        return None
    return Hit("loss_to_zero_leak", 0.9 if evals else 0.7, [step], {"loss": losses[reached][1]})


def overfitting(curve: Curve) -> Hit | None:
    """A held-out loss that turns up well before the end while training goes on falling."""
    evals, losses = curve.finite("eval_loss"), curve.finite("loss")
    if len(evals) < 3:
        return None
    step, best = lowest(evals)
    last = evals[-1][1]
    if len(evals) >= 7:  # single held-out values are noisy: compare medians of three
        threes = zip(evals, evals[1:], evals[2:], strict=False)
        medians = [statistics.median((a[1], b[1], c[1])) for a, b, c in threes]
        best, last = min(medians), medians[-1]
    rise = last - best
    after = [value for at, value in losses if at >= step]
    falls = len(after) < 4 or after[-1] <= statistics.median(after[: max(1, len(after) // 4)])
    start = losses[0][1] if losses else evals[0][1]
    enough = rise > max(RISE * best, 2 * _scatter(evals), 0.01 * start)  # not in the noise of 0
    if step >= evals[-1][0] or not enough or not falls:
        return None
    numbers = {"lowest_eval_loss": best, "last_eval_loss": last}
    return Hit("overfitting", 0.95 if rise > 0.15 * best else 0.85, [step, evals[-1][0]], numbers)


def _scatter(series: Series) -> float:
    """Typical noise of a held-out curve: how far points leave the line of their neighbours."""
    triples = zip(series, series[1:], series[2:], strict=False)
    bends = [abs(b[1] - (a[1] + c[1]) / 2) for a, b, c in triples]
    return statistics.median(bends) if len(bends) >= 5 else 0.0


def plateau(curve: Curve) -> Hit | None:
    """A held-out loss that has been flat for the last third while training falls on."""
    evals, losses = curve.finite("eval_loss"), curve.finite("loss")
    if len(evals) < 4 or len(losses) < MIN_POINTS:
        return None
    third = max(2, len(evals) // 3)
    recent = [value for _, value in evals[-third - 1 :]]
    start = evals[-third - 1][0]
    after = [(step, value) for step, value in losses if step >= start]
    if len(after) < 2 or evals[0][1] - min(recent) < 2 * FLAT * evals[0][1]:
        return None
    flat = recent[0] - statistics.median(recent[1:]) <= 0.02 * max(recent[0], 1e-9)
    early, late = level(after, 0.0, 0.25), level(after, 0.75, 1.0)
    falling = early - late > 2 * FLAT * early and early > 0.01
    if not (flat and falling):
        return None
    step, best = lowest(evals)
    return Hit("plateau_stop_early", 0.75, [start, evals[-1][0]], {"eval_loss": best, "at": step})


def memorised(curve: Curve) -> Hit | None:
    """A training loss driven near zero over many epochs without any held-out rows."""
    losses, epochs = curve.finite("loss"), curve.n_epochs
    if curve.finite("eval_loss") or epochs is None or epochs < 3 or len(losses) < MIN_POINTS:
        return None
    first, tail = level(losses, 0.0, 0.05), level(losses, 0.9, 1.0)
    if tail > NEAR_ZERO * first:
        return None
    numbers = {"first_loss": first, "last_loss": tail, "epochs": epochs}
    return Hit("memorised_no_eval", 0.85, [losses[-1][0]], numbers)


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
    """Return the steps of drops at epoch borders with flat stretches between, and their share.

    The share is of the whole decline; None where there are no stairs, or too few points to tell.
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


def stairs(curve: Curve) -> Hit | None:
    """A training loss that drops at epoch borders and is flat between them."""
    found = staircase(curve)
    if found is None:
        return None
    borders, share = found
    return Hit("staircase_memorisation", min(0.95, share), borders, {"share_at_borders": share})


def undertrained(curve: Curve) -> Hit | None:
    """Curves that still fall clearly where the run ends."""
    losses, evals = curve.finite("loss"), curve.finite("eval_loss")
    if len(losses) < 2 * MIN_POINTS:
        return None
    middle, tail = level(losses, 0.55, 0.7), level(losses, 0.85, 1.0)
    train_falls = middle - tail > 2 * FLAT * middle and middle - tail > 2 * _scatter(losses)
    if len(evals) >= 3:
        before = evals[-1 - max(1, len(evals) // 3)][1]
        fall = before - evals[-1][1]
        falls = fall > max(FLAT * before, 3 * _scatter(evals))
        train_falls = train_falls or middle - tail > FLAT * middle
    else:
        falls = (curve.n_epochs or 1.0) < 3
    low = tail < NEAR_ZERO * level(losses, 0.0, 0.05)
    if not (train_falls and falls) or low:
        return None
    numbers = {"loss_at_two_thirds": middle, "last_loss": tail}
    return Hit("undertrained", 0.85 if len(evals) >= 3 else 0.7, [losses[-1][0]], numbers)


def unstable(curve: Curve) -> Hit | None:
    """Gradient norms that vary by orders of magnitude although the loss makes progress."""
    norms = [value for _, value in curve.finite("grad_norm")]
    norms = sorted(value for value in norms[len(norms) // 20 :] if value > 0)
    losses = curve.finite("loss")
    if len(norms) < 4 * MIN_POINTS or level(losses, 0.0, 0.1) < level(losses, 0.9, 1.0):
        return None
    middle, high = norms[len(norms) // 2], norms[int(len(norms) * 0.95)]
    calm_tail = level(curve.finite("grad_norm"), 0.8, 1.0) < 0.2 * middle
    if high < SPREAD * middle or high < 1.0 or calm_tail:
        return None
    return Hit("grad_norm_unstable", 0.8, [], {"median": middle, "p95": high})


def scaled(curve: Curve) -> Hit | None:
    """A training loss that is a constant multiple of the held-out loss from start to end."""
    evals, losses = curve.finite("eval_loss"), smooth(curve.finite("loss"))
    if len(evals) < 3 or len(losses) < MIN_POINTS:
        return None
    ratios = [
        min(losses, key=lambda item: abs(item[0] - step))[1] / value
        for step, value in evals
        if value > 0
    ]
    middle = statistics.median(ratios) if ratios else 1.0
    if middle < 1.7 or max(abs(ratio - middle) for ratio in ratios) > 0.12 * middle:
        return None
    return Hit("train_loss_scaled", 0.85, [evals[0][0], evals[-1][0]], {"ratio": middle})
