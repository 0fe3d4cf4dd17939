"""From a curve to its labels: which rules hold, which explain which, and the knobs' new values.

The words stand in labels.toml; knowledge: evaluation.md#reading-a-loss-curve.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from finetuning.records import Fraction, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.evaluation.diagnose.curve import Curve, Series
    from finetuning.evaluation.diagnose.rules import Hit

Diagnosis = Literal[
    "healthy",
    "nan",
    "divergence",
    "overfitting",
    "staircase_memorisation",
    "memorised_no_eval",
    "loss_to_zero_leak",
    "undertrained",
    "not_learning",
    "plateau_stop_early",
    "grad_norm_unstable",
    "train_loss_scaled",
    "worse_than_random_start",
    "rl_loss_not_interpretable",
]
Language = Literal["en", "zh"]

_EXPLAINED: Final[dict[str, set[str]]] = {
    "divergence": {"overfitting", "undertrained", "not_learning", "plateau_stop_early"},
    "not_learning": {"plateau_stop_early", "undertrained", "train_loss_scaled"},
    "overfitting": {"plateau_stop_early", "undertrained"},
    "loss_to_zero_leak": {"memorised_no_eval", "plateau_stop_early", "undertrained"},
    "memorised_no_eval": {"undertrained"},
    "staircase_memorisation": {"undertrained", "plateau_stop_early"},
    "plateau_stop_early": {"undertrained"},
    "train_loss_scaled": {"worse_than_random_start"},
}
"""Classes that a more serious one accounts for."""

_NEEDS_HELD_OUT: Final = {"healthy", "undertrained", "staircase_memorisation", "loss_to_zero_leak"}


class Evidence(Model, defer_build=True):
    """Where and in which numbers a class shows."""

    steps: list[int] = Field(description="First and last step, or the steps of the event.")
    numbers: dict[str, float]
    places: list[str] = Field(
        default_factory=list[str], description="File and row of those steps in the log."
    )


class Label(Model, defer_build=True):
    """One class that holds for the run."""

    label: Diagnosis
    confidence: Fraction
    evidence: Evidence
    cause: str
    fix: str
    falsified_by: str


@functools.cache
def texts() -> dict[str, Any]:
    """Return labels.toml: one table per class, and the words of the page."""
    import tomllib

    return tomllib.loads((Path(__file__).parent / "labels.toml").read_text(encoding="utf-8"))


def name_of(label: str, language: Language) -> str:
    """Return what a class is called on a page."""
    said = texts()[label]
    return str(said["zh_name"]) if language == "zh" else label.replace("_", " ")


def diagnose(curve: Curve, language: Language = "en") -> list[Label]:
    """Return the labels of a curve, the most serious first; none with too few points.

    Args:
        curve: The run.
        language: Language of the texts.
    """
    from finetuning.evaluation.diagnose.curve import MIN_POINTS

    n = max(len(curve.all(name)) for name in ("loss", "eval_loss", "reward"))
    hits = judge(curve)
    if n < MIN_POINTS and hits[0].label != "nan":
        return []
    ranks = list(texts())
    hits.sort(key=lambda hit: ranks.index(hit.label))
    return [_label(curve, hit, language) for hit in hits]


def judge(curve: Curve) -> list[Hit]:
    """Return every class that holds for a curve; healthy when none does."""
    from finetuning.evaluation.diagnose import rules

    alone = nan(curve) or rules.reinforcement(curve)
    if alone:
        return [alone]
    all_rules = (
        rules.worse_than_random, rules.divergence, rules.not_learning, rules.leak,
        rules.overfitting, rules.stairs, rules.memorised, rules.plateau, rules.undertrained,
        rules.unstable, rules.scaled,
    )  # fmt: skip
    hits = [hit for rule in all_rules if (hit := rule(curve)) is not None]
    gone = {label for hit in hits for label in _EXPLAINED.get(hit.label, ())}
    kept = [hit for hit in hits if hit.label not in gone]
    return kept or [rules.Hit("healthy", 0.85, [], _ends(curve))]


def nan(curve: Curve) -> Hit | None:
    """A loss that is not finite, or exactly 0 beside a gradient that is not, and stays so."""
    import numpy as np

    from finetuning.evaluation.diagnose.curve import MIN_POINTS
    from finetuning.evaluation.diagnose.rules import Hit

    series = curve.all("loss")
    if not len(series):
        series = curve.all("eval_loss")
    if not len(series):
        return None
    norms = curve.all("grad_norm")
    broken = np.isin(series.steps, norms.steps[~np.isfinite(norms.values)])
    finite = np.isfinite(series.values)
    bad: NDArray[np.bool_] = ~finite | ((series.values == 0.0) & (broken | _fell_to_zero(series)))
    tail = norms.values[-max(MIN_POINTS, len(norms) // 4) :]
    if len(tail) >= MIN_POINTS and not np.isfinite(tail).any():
        bad |= broken  # a filter shows the last good loss instead of the bad one
    evals = curve.all("eval_loss").values
    if not (bad[-1] or (len(evals) and not math.isfinite(evals[-1]))):
        return None
    good = np.flatnonzero(~bad)
    first = min(int(good[-1]) + 1 if len(good) else 0, len(series) - 1)
    numbers = {"bad_points": float(max(1, len(series) - first if bad[-1] else 1))}
    return Hit("nan", 0.99 if bad[-1] else 0.9, [series.step(first), series.step(-1)], numbers)


def _fell_to_zero(series: Series) -> NDArray[np.bool_]:
    """Mark the trailing zeros of a loss that was far from zero just before them."""
    import numpy as np

    from finetuning.evaluation.diagnose.curve import median

    zeros = series.values == 0.0
    good = np.flatnonzero(~zeros)
    mark = np.zeros(len(series), dtype=bool)
    if len(good) and len(series) - good[-1] > 3:
        before = series.values[: good[-1] + 1]
        if before[-1] > 0.1 * median(before[: max(1, len(before) // 10)]):
            mark[good[-1] + 1 :] = True
    return mark


def _ends(curve: Curve) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name in ("loss", "eval_loss"):
        series = curve.get(name)
        if len(series):
            numbers |= {f"first_{name}": float(series.values[0])}
            numbers |= {f"last_{name}": series.level(0.9, 1.0)}
    return numbers


def best_checkpoint(curve: Curve) -> int | None:
    """Return the step of the lowest held-out loss, else of the last finite training loss."""
    from finetuning.evaluation.diagnose import rules

    if len(curve.get("eval_loss")):
        return rules.lowest(curve).step(0)
    losses = curve.get("loss")
    if not len(losses):
        return None
    broken = nan(curve)
    if broken:
        before = losses.only(losses.steps < broken.steps[0])
        return before.step(-1) if len(before) else None
    return losses.step(-1)


def _label(curve: Curve, hit: Hit, language: Language) -> Label:
    said = texts()[hit.label]
    mark = "zh_" if language == "zh" else ""
    unknown = texts()["unknown_zh" if language == "zh" else "unknown"]
    numbers = {**unknown, **_knobs(curve, hit)}
    label: Any = hit.label
    finite = {name: value for name, value in hit.numbers.items() if math.isfinite(value)}
    return Label(
        label=label,
        confidence=_confidence(curve, hit),
        evidence=Evidence(steps=hit.steps, numbers=finite, places=_places(curve, hit.steps)),
        cause=_filled(said[f"{mark}cause"], numbers),
        fix=_filled(said[f"{mark}fix"], numbers),
        falsified_by=_filled(said[f"{mark}falsified_by"], numbers),
    )


def _filled(text: str, numbers: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: numbers[found[1]], text)


def _places(curve: Curve, steps: list[int]) -> list[str]:
    """Return file and row of the steps of a finding."""
    found: list[str] = []
    for step in steps[:6]:
        for name in ("loss", "eval_loss", "reward"):
            series = curve.all(name)
            here = (series.steps == step).nonzero()[0]
            if len(here):
                found.append(f"{curve.source or curve.format}:{int(series.places[here[0]])}")
                break
    return list(dict.fromkeys(found))


def _knobs(curve: Curve, hit: Hit) -> dict[str, str]:
    """Return the run's own numbers for the texts; what is not known is left out."""
    known = {name: _amount(value) for name, value in hit.numbers.items()}
    rate = _rate(curve)
    if rate:
        factors = {
            "": 1.0, "_tenth": 0.1, "_third": 1 / 3, "_half": 0.5, "_double": 2.0, "_ten": 10.0,
        }  # fmt: skip
        known |= {f"learning_rate{name}": _amount(rate * by) for name, by in factors.items()}
    epochs = curve.n_epochs
    if epochs is not None:
        fewer = max(1, min(3, math.floor(epochs / 2)))
        known |= {"epochs": _amount(epochs), "epochs_double": _amount(max(2.0, 2 * epochs))}
        known |= {"epochs_fewer": str(fewer)}
    norm = curve.settings.get("max_grad_norm", 0.0)
    known["clip"] = "1.0" if norm <= 0 or norm > 1 else _amount(norm / 2)
    losses = curve.all("loss")
    if len(losses):
        last = float(losses.steps[-1])
        known["warmup"] = str(max(1, round(0.05 * curve.settings.get("max_steps", last))))
    if hit.steps:
        known["step"] = str(hit.steps[0])
        known["before"] = _before(curve, hit)
        reached = curve.epoch_at(hit.steps[0])
        if reached is not None:
            known["epochs_best"] = _amount(max(1.0, round(reached, 1)))
    return known


def _before(curve: Curve, hit: Hit) -> str:
    """Return the last step that may be used: the lowest point before a climb, or before NaN."""
    if hit.label == "divergence":
        return str(best_checkpoint(curve) if len(curve.get("eval_loss")) else hit.steps[0])
    losses = curve.get("loss")
    good = losses.only(losses.steps < hit.steps[0])
    return str(good.step(-1)) if len(good) else "0"


def _rate(curve: Curve) -> float:
    """Return the highest learning rate of the run, 0 where it is not known."""
    rates = curve.get("learning_rate").values
    return float(rates.max()) if len(rates) else curve.settings.get("learning_rate", 0.0)


def _confidence(curve: Curve, hit: Hit) -> float:
    """Lower a rule's confidence for few points, no held-out loss, and noisy held-out batches."""
    if hit.label in {"nan", "rl_loss_not_interpretable"}:
        return hit.confidence
    n, evals = len(curve.get("loss")), curve.get("eval_loss")
    sure = hit.confidence * min(1.0, 0.5 + max(n, len(evals)) / 40)
    if not len(evals) and hit.label in _NEEDS_HELD_OUT and not curve.is_preference:
        sure *= 0.75
    if len(evals) >= 5 and evals.noise() > 0.05 * abs(float(evals.values[0])):
        sure *= 0.85
    return round(min(1.0, max(0.0, sure)), 3)


def _amount(value: float) -> str:
    return f"{value:.3g}"
