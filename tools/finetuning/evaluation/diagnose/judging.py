"""From the classes that hold to the labels a person reads: numbers filled in, ranked."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from finetuning.evaluation.diagnose.curve import Curve, lowest
from finetuning.evaluation.diagnose.labels import MEANINGS, MIN_POINTS, Evidence, Label
from finetuning.evaluation.diagnose.rules import Hit, judge


def _amount(value: float) -> str:
    return f"{value:.3g}"


@functools.cache
def _fields(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", text))


def _knobs(curve: Curve, hit: Hit, best: int | None) -> dict[str, str]:
    """Return the run's own numbers for the texts; what is not known is named as such."""
    rates = [value for _, value in curve.finite("learning_rate")]
    epochs = curve.n_epochs
    known: dict[str, str] = {}
    if rates:
        rate = max(rates)
        factors = {"": 1.0, "_tenth": 0.1, "_third": 1 / 3, "_half": 0.5, "_ten": 10.0}
        known |= {f"learning_rate{name}": _amount(rate * by) for name, by in factors.items()}
    if epochs is not None:
        known |= {"epochs": _amount(epochs), "epochs_double": _amount(max(2.0, 2 * epochs))}
    step = best if hit.label in {"overfitting", "plateau_stop_early"} else None
    at = step if step is not None else (hit.steps[0] if hit.steps else None)
    if at is not None:
        known["step"] = str(at)
        reached = curve.epoch_at(at)
        if reached is not None:
            known["epochs_best"] = _amount(max(1.0, round(reached, 1)))
    if "ratio" in hit.numbers:
        known["ratio"] = _amount(hit.numbers["ratio"])
    return known


_UNKNOWN: Final = {
    "learning_rate": "its value",
    "learning_rate_tenth": "a tenth of it",
    "learning_rate_third": "a third of it",
    "learning_rate_half": "half of it",
    "learning_rate_ten": "ten times it",
    "epochs": "its value",
    "epochs_double": "twice as many",
    "epochs_best": "the epochs up to there",
    "step": "the first bad one",
}


def _label(curve: Curve, hit: Hit, best: int | None) -> Label:
    meaning = MEANINGS[hit.label]
    numbers = {**_UNKNOWN, **_knobs(curve, hit, best)}

    def fill(text: str) -> str:
        return text.format(**{name: numbers.get(name, "?") for name in _fields(text)})

    label: Any = hit.label
    return Label(
        label=label,
        confidence=_confidence(curve, hit),
        evidence=Evidence(steps=hit.steps, numbers=hit.numbers),
        cause=meaning.cause,
        fix=fill(meaning.fix),
        falsified_by=fill(meaning.falsified_by),
    )


def _confidence(curve: Curve, hit: Hit) -> float:
    """Lower a rule's confidence where the log is short."""
    n = len(curve.finite("loss")) or len(curve.finite("eval_loss"))
    short = 0.8 if n < 2 * MIN_POINTS and hit.label != "nan" else 1.0
    return round(hit.confidence * short, 3)


def best_checkpoint(curve: Curve) -> int | None:
    """Return the step of the lowest held-out loss, else of the last finite training loss."""
    evals = curve.finite("eval_loss")
    if evals:
        return lowest(evals)[0]
    losses = [(step, value) for step, value in curve.finite("loss") if value != 0.0]
    return losses[-1][0] if losses else None


def diagnose(curve: Curve) -> list[Label]:
    """Return the labels of a curve, the most serious first; none with too few points."""
    n = max(len(curve.series(name)) for name in ("loss", "eval_loss", "reward"))
    hits = judge(curve)
    if n < MIN_POINTS and hits[0].label != "nan":
        return []
    best = best_checkpoint(curve)
    hits.sort(key=lambda hit: MEANINGS[hit.label].rank)
    return [_label(curve, hit, best) for hit in hits]
