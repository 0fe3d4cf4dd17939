"""How answers look and how long they took, per side."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import Latency, SideFormat, Speed
from finetuning.evaluation.scoring import Answers
from finetuning.evaluation.targets import MISSING


def look_at(questions: Sequence[Question], answers: Answers) -> SideFormat:
    """Return the share of missing and of cut answers, and their mean length."""
    found = [answers.get(question.id, MISSING) for question in questions]
    texts = [answer.text for answer in found if answer.text is not None]
    return SideFormat(
        missing_fraction=(len(found) - len(texts)) / len(found),
        truncated_fraction=sum(a.finish_reason == "length" for a in found) / len(found),
        mean_characters=round(sum(map(len, texts)) / len(texts), 1) if texts else 0.0,
    )


def measure_speed(sides: dict[str, Answers], decisive: str, how: str) -> Latency | None:
    """Return the latency of every side that was timed, or None.

    Args:
        sides: Side → its answers to the test.
        decisive: The side whose figures stand first.
        how: How the times were taken.
    """
    speeds: dict[str, Speed] = {}
    for name, answers in sides.items():
        times = sorted(a.seconds for a in answers.values() if a.seconds is not None)
        if times:
            speeds[name] = Speed(p50_ms=_quantile(times, 0.5), p95_ms=_quantile(times, 0.95))
    if not speeds:
        return None
    first = speeds.get(decisive) or next(iter(speeds.values()))
    return Latency(p50_ms=first.p50_ms, p95_ms=first.p95_ms, sides=speeds, how=how)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
