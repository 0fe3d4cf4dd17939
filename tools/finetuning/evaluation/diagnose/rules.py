"""The rules: each looks at one curve and says whether its class holds, with its evidence.

Thresholds: this project's own, from the developed part of benchmarks/faulty_curves.py. They are
relative, or against the curve's own noise. Classes: evaluation.md#reading-a-loss-curve.
"""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

from finetuning.evaluation.diagnose.curve import MIN_POINTS, Curve, Series, median

LOST: Final = 0.5  # share of what was won that must be lost again to be divergence
RISE: Final = 0.05  # relative rise of the held-out loss that counts as overfitting
LEVEL: Final = 0.03  # relative change of the held-out loss that counts as flat
STILL: Final = 0.085  # relative fall of the training loss in the last half that still counts
NEAR_ZERO: Final = 0.05  # share of the first loss that counts as collapsed
AT_ONCE: Final = 0.2  # passes within which a leak collapses; of the whole run 0.65 of it
SPREAD: Final = 30.0  # ratio of the 95th to the 50th percentile of the gradient norm
LARGEST_VOCABULARY: Final = 262_144  # Gemma 3 (config.json, checked 2026-11)
SHARE: Final = 0.6  # of the decline after the first pass that happens at borders
MIN_PER_EPOCH: Final = 6
SCALED: Final = 1.7  # smallest constant ratio of training to held-out loss


class Hit(NamedTuple):
    """One class that holds, with the steps and numbers that show it."""

    label: str
    confidence: float
    steps: list[int]
    numbers: dict[str, float]


def reinforcement(curve: Curve) -> Hit | None:
    """Columns of a policy-gradient run."""
    if not curve.is_reinforcement:
        return None
    numbers: dict[str, float] = {}
    for name in ("reward", "kl", "reward_std"):
        series = curve.get(name)
        if len(series):
            numbers |= {f"{name}_first": series.level(0, 0.1), f"{name}_last": series.level(0.9, 1)}
    steps = curve.all("reward").steps
    ends = [int(steps[0]), int(steps[-1])] if len(steps) else []
    return Hit("rl_loss_not_interpretable", 0.95, ends, numbers)


def worse_than_random(curve: Curve) -> Hit | None:
    """A first loss above that of uniform guessing over the vocabulary, ln(V)."""
    losses = curve.get("loss")
    if not len(losses) or curve.is_preference:
        return None
    vocabulary = curve.vocab_size or LARGEST_VOCABULARY
    bound = math.log(max(2, vocabulary))
    first = float(losses.values[0])
    if first <= bound * (1.25 if curve.vocab_size else 1.02):  # demo: 5.99 at ln 5.2, no fault
        return None
    ratios = _ratios(curve)[:2]
    if len(ratios) == 2 and min(ratios) > SCALED and max(ratios) < 1.4 * min(ratios):
        return None  # a normal held-out loss, and a steady ratio to it: a sum is reported
    sure = 0.95 if curve.vocab_size else 0.8
    numbers = {"loss": first, "ln_vocabulary": bound}
    return Hit("worse_than_random_start", sure, [losses.step(0)], numbers)


def divergence(curve: Curve) -> Hit | None:
    """A training loss that was lower, climbs, and does not come back."""
    losses = curve.get("loss")
    if len(losses) < 2 * MIN_POINTS:
        return None
    smooth, tail = losses.smooth(max(3, len(losses) // 15 | 1)), losses.level(0.85, 1.0)
    place = int(smooth.values.argmin())
    first, best, noise = losses.level(0.0, 0.05), float(smooth.values[place]), losses.noise()
    won, lost = first - best, tail - best
    fell_back = won > 0.1 * abs(first) and lost > LOST * won and lost > 2 * noise
    blew_up = tail > 1.25 * first > 0 and lost > 3 * noise
    if not (fell_back or blew_up) or lost < 0.1 * abs(best):
        return None
    numbers = {"first_loss": first, "lowest_loss": best, "last_loss": tail}
    sure = 0.95 if blew_up or lost > 0.8 * won else 0.85
    return Hit("divergence", sure, [smooth.step(place), losses.step(-1)], numbers)


def not_learning(curve: Curve) -> Hit | None:
    """A training loss without any trend: what is won lies within the noise of the batches."""
    losses, evals = curve.get("loss"), curve.get("eval_loss")
    n = len(losses)
    if n < MIN_POINTS:
        return None
    third = max(2, n // 3)
    early, late = losses.values[:third], losses.values[-third:]
    first = float(early.mean())
    won = first - float(late.mean())
    error = 1.25 * losses.noise() * math.sqrt(2 / third)
    if len(evals) >= 2:  # the same rows each time: far less noise than batches
        held = 1 - float(evals.values[-1] / evals.values[0]) if evals.values[0] > 0 else 1.0
        spread = evals.noise() / float(evals.values[0] or 1.0)
        if held > max(0.01, 2 * spread) or abs(held) > max(0.05, 4 * spread):
            return None
    clear = max(2 * error, 0.01 * first)
    if first < 0.02 or abs(won) > min(clear, 0.05 * first) or 2 * error > 0.15 * first:
        return None
    numbers = {"first_loss": first, "last_loss": first - won}
    return Hit("not_learning", 0.85, [losses.step(0), losses.step(-1)], numbers)


def leak(curve: Curve) -> Hit | None:
    """A loss that collapses in the first part of the first epoch, held-out loss included."""
    losses, evals = curve.get("loss"), curve.get("eval_loss")
    if len(losses) < MIN_POINTS or curve.is_preference:
        return None
    first, tail = float(losses.values[0]), losses.level(0.8, 1.0)
    goal = NEAR_ZERO * first
    below = (losses.smooth(3).values <= goal).nonzero()[0]
    if not len(below) or tail > goal or first <= 0:
        return None
    place = int(below[0])
    epoch, share = losses.epochs[place], place / len(losses)
    early = epoch <= AT_ONCE if math.isfinite(epoch) else share <= AT_ONCE * 0.65
    if not early or (len(evals) and float(evals.values[-1]) > 2 * goal):
        return None
    return Hit("loss_to_zero_leak", 0.9, [losses.step(place)], {"first_loss": first})


def held_out(curve: Curve) -> Series:
    """Return the held-out loss, smoothed where it is logged often (then it is one batch)."""
    evals = curve.get("eval_loss")
    n = len(evals)
    return evals.smooth(min(31, n // 6 | 1)) if n >= 12 else evals.smooth(3) if n >= 7 else evals


def lowest(curve: Curve) -> Series:
    """Return the point of the lowest held-out loss: of the smoothed one where it is noisy."""
    evals = held_out(curve) if len(curve.get("eval_loss")) >= 12 else curve.get("eval_loss")
    return evals.only([int(evals.values.argmin())])


def overfitting(curve: Curve) -> Hit | None:
    """A held-out loss that turns up well before the end while training goes on falling."""
    raw, evals, losses = curve.get("eval_loss"), held_out(curve), curve.get("loss")
    n = len(evals)
    if n < 3:
        return None
    place = int(evals.values.argmin())
    ends = raw if n >= 12 else evals
    best, last = float(evals.values[place]), median(ends.values[-max(1, n // 6) :])
    rise, noise = last - best, raw.noise() * (3 / math.sqrt(n // 6) if n >= 12 else 1)
    start = float(losses.values[0]) if len(losses) else float(evals.values[0])
    enough = rise > max(RISE * abs(best), 2 * noise, 0.01 * start)  # not in the noise of 0
    after = losses.only(losses.steps >= evals.steps[place])
    falls = len(after) < 4 or after.level(0.75, 1.0) <= after.level(0, 0.25) + losses.noise()
    if place > 0.9 * (n - 1) or not enough or not falls:
        return None
    numbers = {"lowest_eval_loss": best, "last_eval_loss": last}
    sure = 0.95 if rise > 0.15 * best and rise > 6 * noise else 0.85
    return Hit("overfitting", sure, [lowest(curve).step(0), evals.step(-1)], numbers)


def plateau(curve: Curve) -> Hit | None:
    """A held-out loss that has been flat for the last half while training falls on."""
    evals, losses = held_out(curve), curve.get("loss")
    n = len(evals)
    if n < 4 or len(losses) < MIN_POINTS:
        return None
    half = evals.only(slice(n // 2 - 1 if n < 8 else n // 2, None))
    begin, end = float(half.values[0]), median(half.values[-max(1, len(half) // 3) :])
    early = max(float(evals.values[0]), losses.level(0.0, 0.05))
    if begin <= 0 or early < 1.1 * begin:
        return None
    middle, tail = losses.level(0.5, 0.62), losses.level(0.88, 1.0)
    falls = middle - tail
    clear = falls > STILL * middle and falls > 2 * losses.noise() / math.sqrt(len(losses) / 8)
    level = abs(begin - end) <= LEVEL * begin and begin > 0.02 * early
    if not (level and clear):
        return None
    flat = evals.only(evals.values <= float(evals.values.min()) * (1 + LEVEL / 2))
    numbers = {"eval_loss": float(evals.values.min()), "training_loss_fell_by": falls}
    return Hit("plateau_stop_early", 0.75, [flat.step(0), evals.step(-1)], numbers)


def memorised(curve: Curve) -> Hit | None:
    """A training loss driven near zero over many epochs without any held-out rows."""
    losses, epochs = curve.get("loss"), curve.n_epochs
    if len(curve.get("eval_loss")) or not epochs or epochs < 3 or len(losses) < MIN_POINTS:
        return None
    first, tail = losses.level(0.0, 0.02), losses.level(0.9, 1.0)
    if first <= 0 or tail > NEAR_ZERO * first:
        return None
    numbers = {"first_loss": first, "last_loss": tail, "epochs": epochs}
    return Hit("memorised_no_eval", 0.85, [losses.step(-1)], numbers)


def by_epoch(losses: Series) -> list[Series]:
    """Return the losses of each pass; empty where epochs are not logged, or too many."""
    import numpy as np

    known = losses.only(np.isfinite(losses.epochs))
    borders = np.flatnonzero(np.diff(np.ceil(np.round(known.epochs, 6)))) + 1
    edges = [0, *borders.tolist(), len(known)]
    few = len(edges) <= max(2, len(known) // 2)
    return [known.only(slice(a, b)) for a, b in itertools.pairwise(edges)] if few else []


def stairs(curve: Curve) -> Hit | None:
    """A training loss that drops at epoch borders and is flat between; held-out loss decides."""
    found = [one for one in by_epoch(curve.get("loss")) if len(one) >= MIN_PER_EPOCH]
    if len(found) < 3:
        return None
    drops: list[float] = []
    inside: list[float] = []
    for before, after in itertools.pairwise(found):
        width = max(2, min(len(before), len(after)) // 4)
        start = float(after.values[:width].mean())
        drops.append(float(before.values[-width:].mean()) - start)
        inside.append(start - float(after.values[-width:].mean()))
    first = float(found[0].values.mean())
    decline = sum(drops) + sum(inside)
    clear = sum(drop > 0.03 * first for drop in drops)
    if decline < 0.1 * first or clear < 2 or sum(drops) < SHARE * decline:
        return None
    evals = held_out(curve)
    if len(evals) >= 2:
        start, end = float(evals.values[0]), float(evals.values[-1])
        if end < 0.99 * start and end <= 1.02 * float(evals.values.min()):
            return None  # held-out rows get better all along: the stairs do no harm
    share = min(1.0, sum(drops) / decline)
    numbers = {"share_of_decline_at_borders": share, "passes": float(len(found))}
    return Hit("staircase_memorisation", min(0.95, share), [s.step(0) for s in found[1:]], numbers)


def undertrained(curve: Curve) -> Hit | None:
    """Curves that still fall clearly where the run ends."""
    losses, evals = curve.get("loss"), held_out(curve)
    if len(losses) < 2 * MIN_POINTS:
        return None
    first, middle, tail = losses.level(0.0, 0.05), losses.level(0.6, 0.75), losses.level(0.85, 1.0)
    fall, won = middle - tail, first - tail
    error = 1.5 * losses.noise() / math.sqrt(max(1.0, len(losses) * 0.15))
    if won <= 0 or fall < 2 * error or fall < 0.02 * middle or fall < 0.06 * won:
        return None
    numbers = {"loss_at_two_thirds": middle, "last_loss": tail}
    if len(evals) >= 3:
        before = float(evals.values[min(len(evals) - 2, int(len(evals) * 0.7))])
        held = before - float(evals.values[-1])
        spread = curve.get("eval_loss").noise()
        won = float(evals.values.max() - evals.values[-1])
        if held < 0.025 * before or held < spread or held < 0.10 * won:
            return None
        return Hit("undertrained", 0.85, [losses.step(-1)], numbers)
    if (curve.n_epochs or 1.0) >= 3 or fall < 0.05 * middle or fall < 0.10 * won:
        return None
    return Hit("undertrained", 0.7, [losses.step(-1)], numbers)


def unstable(curve: Curve) -> Hit | None:
    """Gradient norms that vary by orders of magnitude although the loss makes progress."""
    import numpy as np

    norms, losses = curve.get("grad_norm"), curve.get("loss")
    positive = norms.only(norms.values > 0)
    positive = positive.only(slice(len(positive) // 20, None))
    enough = len(positive) >= 4 * MIN_POINTS and len(losses)
    if not enough or losses.level(0.0, 0.1) < losses.level(0.9, 1.0):
        return None
    middle, high = (float(v) for v in np.quantile(positive.values, (0.5, 0.95)))
    few = positive.values[:: 1 + len(positive) // 512]
    wide = np.pad(few, half := max(4, len(few) // 16), mode="edge")
    near = np.median(np.lib.stride_tricks.sliding_window_view(wide, 2 * half + 1), axis=1)
    if high < SPREAD * middle or np.quantile(few / near, 0.95) < SPREAD:  # it fell with the loss
        return None
    steps = sorted(map(int, positive.steps[np.argsort(positive.values)[-3:]]))
    return Hit("grad_norm_unstable", 0.8, steps, {"median": middle, "p95": high})


def _ratios(curve: Curve) -> list[float]:
    """Return training over held-out loss wherever both are known."""
    import numpy as np

    evals, losses = held_out(curve), curve.get("loss").smooth()
    keep = evals.values > 0
    at = np.interp(evals.steps[keep], losses.steps, losses.values)
    return list(map(float, at / evals.values[keep]))


def scaled(curve: Curve) -> Hit | None:
    """A training loss that is a constant multiple of the held-out loss from start to end."""
    import numpy as np

    if len(curve.get("eval_loss")) < 3 or len(curve.get("loss")) < MIN_POINTS:
        return None
    ratios = np.array(_ratios(curve) or [1.0])
    middle = median(ratios)
    off = np.quantile(np.abs(ratios / middle - 1), 0.8) if middle > 0 else 1.0
    if len(ratios) < 3 or middle < SCALED or off > 0.12:
        return None
    return Hit("train_loss_scaled", 0.85, [curve.get("eval_loss").step(0)], {"ratio": middle})
