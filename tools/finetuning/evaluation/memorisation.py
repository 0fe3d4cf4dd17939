"""Whether the tuned model knows its training rows better than rows it never saw."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

from finetuning.evaluation.metrics import METRICS
from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import Memorisation
from finetuning.evaluation.scoring import Answers, row_scores, scorable
from finetuning.evaluation.targets import Job

MOST_ROWS: Final = 200
"""Training rows that are scored: the area under the curve is then known to about .05."""


def memorisation_job(train: Sequence[Question], seed: int = 0) -> Job:
    """Return a random sample of the training rows, to be scored and not answered."""
    rows = list(train)
    if len(rows) > MOST_ROWS:
        rows = random.Random(seed).sample(rows, MOST_ROWS)
    return Job("train", rows, generate=False, nll=True)


def measure_memorisation(
    train: Sequence[Question],
    test: Sequence[Question],
    seen: tuple[Answers, Answers],
    unseen: tuple[Answers, Answers],
) -> Memorisation | None:
    """Return how much better training rows are known, or None where nothing can be scored.

    Only training rows that were as hard for the base as the test rows count.

    Args:
        train: The training rows that were scored.
        test: The held-out rows.
        seen: Answers of base and tuned on the training rows.
        unseen: Answers of base and tuned on the held-out rows.
    """
    test_rows = scorable(METRICS["nll"], test, *unseen)
    if not test_rows:
        return None
    new = [row_scores(METRICS["nll"], test_rows, side) for side in unseen]
    train_rows = _alike(scorable(METRICS["nll"], train, *seen), seen[0], new[0])
    if not train_rows:
        return None
    known = [row_scores(METRICS["nll"], train_rows, side) for side in seen]
    # the base says how easy a row is by itself: what it gained since is what training added
    gained = [before - after for before, after in zip(*known, strict=True)]
    unknown = [before - after for before, after in zip(*new, strict=True)]
    auc = _auc(gained, unknown)
    base_gap, tuned_gap = (_mean(new[k]) - _mean(known[k]) for k in (0, 1))
    return Memorisation(
        n_train=len(train_rows),
        n_unseen=len(test_rows),
        train_nll=(_mean(known[0]), _mean(known[1])),
        unseen_nll=(_mean(new[0]), _mean(new[1])),
        gap=tuned_gap - base_gap,
        auc=auc,
        auc_ci95=_auc_interval(auc, len(gained), len(unknown)),
    )


def _alike(rows: list[Question], base: Answers, unseen: Sequence[float]) -> list[Question]:
    """Keep the training rows that were as hard for the base as the unseen ones.

    Rows of another kind (general rows that were mixed in) would say something about the kind.
    """
    low, high = min(unseen), max(unseen)
    room = 0.05 * (high - low)
    scores = row_scores(METRICS["nll"], rows, base)
    return [r for r, nll in zip(rows, scores, strict=True) if low - room <= nll <= high + room]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the chance that a value of the first list exceeds one of the second."""
    import numpy as np

    ordered = np.sort(np.asarray(lower))
    below = np.searchsorted(ordered, higher, side="left")
    upto = np.searchsorted(ordered, higher, side="right")
    return float((below + upto).sum() / (2 * len(higher) * len(lower)))


def _auc_interval(auc: float, first: int, second: int) -> tuple[float, float]:
    """Return Hanley and McNeil's 95 % interval (Radiology 143, 1982; from memory)."""
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (first - 1) * (q1 - auc**2) + (second - 1) * (q2 - auc**2)
    half = 1.96 * math.sqrt(max(spread, 0.25 / min(first, second)) / (first * second))
    return max(0.0, auc - half), min(1.0, auc + half)
