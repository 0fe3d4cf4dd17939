"""What the tuned model knows by heart: training rows, planted markers, copies word for word."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.metrics import METRICS, Answers, tokens
from finetuning.evaluation.results import Canaries, Memorisation, Verbatim
from finetuning.evaluation.scoring import row_scores, scorable
from finetuning.evaluation.targets import MISSING, Job
from finetuning.files import read_records
from finetuning.records import Finding

MOST_ROWS: Final = 200
"""Training rows that are scored: the area under the curve is then known to about .05."""

MOST_CANARIES: Final = 16

CONTROLS: Final = 63
"""Numbers never planted that each canary is ranked against: chance puts it first 1 time in 64."""

COPY: Final = 50
"""Words in a row that count as a copy; the length of the usual extraction studies.

Source: Carlini et al., arXiv 2202.07646 (50 tokens; checked 2026-11-20)."""

_ANCHOR: Final = 8


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
) -> Memorisation:
    """Return how much better training rows are known; empty where nothing can be scored.

    Only training rows that were as hard for the base as the test rows count.

    Args:
        train: The training rows that were scored.
        test: The held-out rows.
        seen: Answers of base and tuned on the training rows.
        unseen: Answers of base and tuned on the held-out rows.
    """
    test_rows = scorable(METRICS["nll"], test, *unseen)
    if not test_rows:
        return Memorisation()
    new = [row_scores(METRICS["nll"], test_rows, side) for side in unseen]
    train_rows = _alike(scorable(METRICS["nll"], train, *seen), seen[0], new[0])
    if not train_rows:
        return Memorisation()
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


def canary_job(train: Path, *, chats: bool) -> Job | None:
    """Return the planted markers, each with numbers that were never planted, or None.

    Args:
        train: The training file; ``canaries.jsonl`` of prepare_data lies beside it.
        chats: Ask in messages instead of a raw prompt.
    """
    path = train.with_name("canaries.jsonl")
    if not path.is_file():
        return None
    rows = [row.data for row in read_records(path) if not isinstance(row, Finding)]
    questions: list[Question] = []
    for row in rows[:MOST_CANARIES]:
        name, asked, planted = (str(row.get(key)) for key in ("canary", "prompt", "completion"))
        draw = random.Random(f"controls:{name}:{asked}")
        others = ["".join(draw.choices("0123456789", k=len(planted))) for _ in range(CONTROLS)]
        turns: tuple[dict[str, Any], ...] = ({"role": "user", "content": asked},)
        for number, code in enumerate([planted, *others]):
            questions.append(
                Question(
                    f"{name}:{number}", 0, None if chats else asked, turns if chats else None, code
                )
            )
    return Job("canaries", questions, generate=False, nll=True) if questions else None


def measure_canaries(job: Job, base: Answers, tuned: Answers) -> Canaries | None:
    """Return how far up the planted numbers rank among those never planted.

    Exposure is log2(64 / rank): 6 bits where the planted number is the likeliest of 64, about
    1.4 on average for numbers never seen.

    Source: Carlini et al., "The Secret Sharer", arXiv 1802.08232 (checked 2026-11-20).
    """
    ranks = [_ranks(job.questions, side) for side in (base, tuned)]
    if not ranks[1]:
        return None
    bits = [[math.log2((CONTROLS + 1) / rank) for rank in side] for side in ranks]
    first = sum(rank == 1 for rank in ranks[1])
    return Canaries(
        planted=len(ranks[1]),
        first=first,
        exposure_bits=_mean(bits[1]),
        base_exposure_bits=_mean(bits[0]) if bits[0] else None,
        most_bits=math.log2(CONTROLS + 1),
        p=_chance_of(first, len(ranks[1]), 1 / (CONTROLS + 1)),
    )


def _ranks(questions: Sequence[Question], answers: Answers) -> list[int]:
    """Return the rank of each canary that was scored with all its controls, 1 = likeliest."""
    found: dict[str, list[float | None]] = {}
    for question in questions:
        name = question.id.partition(":")[0]
        found.setdefault(name, []).append(answers.get(question.id, MISSING).nll)
    ranks: list[int] = []
    for scores in found.values():
        known = [score for score in scores if score is not None]
        if len(known) == len(scores):
            ranks.append(1 + sum(other <= known[0] for other in known[1:]))
    return ranks


def _chance_of(hits: int, n: int, share: float) -> float:
    """Return the chance of at least this many hits, were each one as likely as ``share``."""
    below = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits))
    return min(1.0, max(0.0, 1 - below))


def find_copies(train: Sequence[Question], test: Sequence[Question], answers: Answers) -> Verbatim:
    """Return the answers that hold 50 words or more of a training answer, word for word.

    Words that already stand in the row's own prompt do not count: repeating them is no memory.

    Args:
        train: The training rows.
        test: The held-out rows.
        answers: The tuned model's answers to them.
    """
    said = {q.id: tokens(answers.get(q.id, MISSING).text or "") for q in test}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for name, words in said.items():
        for at in range(len(words) - _ANCHOR + 1):
            places.setdefault(tuple(words[at : at + _ANCHOR]), []).append((name, at))
    longest: dict[str, int] = {}
    where: dict[str, tuple[int, int]] = {}
    for row in train if places else ():
        words = tokens(row.reference)
        for at in range(0, len(words) - _ANCHOR + 1, COPY - _ANCHOR + 1):
            for name, start in places.get(tuple(words[at : at + _ANCHOR]), ()):
                first, last = _stretch(words, at, said[name], start)
                if last - first > longest.get(name, 0):
                    longest[name], where[name] = last - first, (first, last)
    asked = {question.id: f" {' '.join(tokens(question.asked()))} " for question in test}
    copied = [
        name
        for name, length in longest.items()
        if length >= COPY and f" {' '.join(said[name][slice(*where[name])])} " not in asked[name]
    ]
    return Verbatim(
        words=COPY,
        rows=len(copied),
        longest=max((longest[name] for name in copied), default=0),
        ids=sorted(copied)[:20],
    )


def _stretch(words: Sequence[str], at: int, said: Sequence[str], start: int) -> tuple[int, int]:
    """Return first and last place in ``said`` of the longest common run through an anchor."""
    back = 0
    while back < min(at, start) and words[at - back - 1] == said[start - back - 1]:
        back += 1
    ahead = _ANCHOR
    while (
        at + ahead < len(words)
        and start + ahead < len(said)
        and words[at + ahead] == said[start + ahead]
    ):
        ahead += 1
    return start - back, start + ahead
