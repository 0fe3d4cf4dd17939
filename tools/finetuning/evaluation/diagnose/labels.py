"""What each diagnosis means for the person, and from a curve to its labels, numbers filled in.

Source: training-log practice of TRL, Axolotl, LLaMA-Factory and OpenAI users (read 2026-11);
knowledge: evaluation.md#reading-a-loss-curve.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pydantic import Field

from finetuning.records import Fraction, Model

if TYPE_CHECKING:
    from finetuning.evaluation.diagnose.curve import Curve
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


class Meaning(NamedTuple):
    """Texts of one diagnosis; ``{…}`` fields are filled with the run's own numbers."""

    rank: int
    cause: str
    fix: str
    falsified_by: str


MEANINGS: Final[dict[str, Meaning]] = {
    "nan": Meaning(
        0,
        "half-precision overflow, rows without any label, or a damaged row",
        "train in bf16 or fp32, count labelled tokens per row, lower learning_rate"
        " from {learning_rate} to {learning_rate_tenth}; keep the checkpoint before step {step}",
        "a rerun in fp32 on the same rows in the same order ends with the same NaN",
    ),
    "rl_loss_not_interpretable": Meaning(
        1,
        "a policy-gradient loss has no trend by design",
        "judge reward, its spread, KL and completion length instead of the loss",
        "the run is not reinforcement: its columns were renamed",
    ),
    "worse_than_random_start": Meaning(
        2,
        "chat template, labels, padding or tokenizer do not fit the base",
        "decode one batch with its labels and compare it with the base's own template",
        "the base alone scores the same loss on plain text of this kind",
    ),
    "divergence": Meaning(
        3,
        "learning_rate too high for this batch size",
        "lower learning_rate from {learning_rate} to {learning_rate_third}, warm up over the"
        " first 5 % of steps, clip gradients at 1.0; resume before step {step}",
        "at a third of the rate the loss climbs at the same step: then look at the rows there",
    ),
    "not_learning": Meaning(
        4,
        "learning_rate far too low or too high, labels masked, or no signal in the labels",
        "print the trainable parameters and labelled tokens; with LoRA raise learning_rate from"
        " {learning_rate} to {learning_rate_ten}",
        "a 20-row subset cannot be learnt by heart either at ten times the rate",
    ),
    "loss_to_zero_leak": Meaning(
        5,
        "the answer stands in the input, the label is constant, or the prompt is in the loss",
        "read one decoded example with its mask, then remove the leak and train again",
        "held-out rows from another source are answered as well",
    ),
    "overfitting": Meaning(
        6,
        "more passes than the data carry",
        "use the checkpoint at step {step} and set num_train_epochs to {epochs_best}",
        "a second held-out set still improves after step {step}",
    ),
    "staircase_memorisation": Meaning(
        7,
        "the model recognises rows it has seen: the loss drops at each epoch border",
        "deduplicate, use fewer epochs than {epochs}, and watch a held-out loss",
        "the held-out loss falls in the same steps",
    ),
    "memorised_no_eval": Meaning(
        8,
        "many passes and no held-out rows: the log cannot show whether anything generalises",
        "add a validation split and train at most 3 epochs instead of {epochs}",
        "a held-out set scored afterwards shows a loss as low as in training",
    ),
    "plateau_stop_early": Meaning(
        9,
        "the held-out loss has stopped falling while training goes on",
        "stop at step {step}; set num_train_epochs to {epochs_best} or use early stopping",
        "the task metric still rises after step {step}",
    ),
    "undertrained": Meaning(
        10,
        "the loss is still falling where the run ends",
        "raise num_train_epochs from {epochs} to {epochs_double}",
        "a run of twice the length ends at the same held-out loss",
    ),
    "grad_norm_unstable": Meaning(
        11,
        "single rows or a high rate throw the gradient about",
        "clip gradients at 1.0, halve learning_rate from {learning_rate} to"
        " {learning_rate_half}, look at the rows of the largest norms",
        "the same spread at half the rate with clipping",
    ),
    "train_loss_scaled": Meaning(
        12,
        "the trainer reports the sum over accumulation steps instead of the mean",
        "divide the training loss by {ratio} when reading it; the model itself may be fine",
        "the ratio to the held-out loss changes over the run",
    ),
    "healthy": Meaning(
        13,
        "the loss falls and flattens, nothing contradicts it",
        "nothing; judge the model with compare_eval",
        "the task metric on held-out rows does not improve",
    ),
}


class Evidence(Model, defer_build=True):
    """Where and in which numbers a class shows."""

    steps: list[int] = Field(description="First and last step, or the steps of the event.")
    numbers: dict[str, float]


class Label(Model, defer_build=True):
    """One class that holds for the run."""

    label: Diagnosis
    confidence: Fraction
    evidence: Evidence
    cause: str
    fix: str
    falsified_by: str


def diagnose(curve: Curve) -> list[Label]:
    """Return the labels of a curve, the most serious first; none with too few points."""
    from finetuning.evaluation.diagnose.curve import MIN_POINTS

    n = max(len(curve.series(name)) for name in ("loss", "eval_loss", "reward"))
    hits = judge(curve)
    if n < MIN_POINTS and hits[0].label != "nan":
        return []
    best = best_checkpoint(curve)
    hits.sort(key=lambda hit: MEANINGS[hit.label].rank)
    return [_label(curve, hit, best) for hit in hits]


def judge(curve: Curve) -> list[Hit]:
    """Return every class that holds for a curve; healthy when none does."""
    from finetuning.evaluation.diagnose import rules

    alone = rules.nan(curve) or rules.reinforcement(curve)
    if alone:
        return [alone]
    all_rules = (
        rules.worse_than_random, rules.divergence, rules.not_learning, rules.leak,
        rules.overfitting, rules.stairs, rules.memorised, rules.plateau, rules.undertrained,
        rules.unstable, rules.scaled,
    )  # fmt: skip
    hits = _consistent([hit for rule in all_rules if (hit := rule(curve)) is not None])
    return hits or [rules.Hit("healthy", _health(curve), [], {})]


def _consistent(hits: list[Hit]) -> list[Hit]:
    """Drop what a more serious class explains."""
    labels = {hit.label for hit in hits}
    explained: dict[str, set[str]] = {
        "divergence": {"overfitting", "undertrained", "not_learning", "grad_norm_unstable"},
        "not_learning": {"plateau_stop_early", "undertrained"},
        "overfitting": {"plateau_stop_early", "undertrained"},
        "loss_to_zero_leak": {"memorised_no_eval", "plateau_stop_early", "undertrained"},
        "memorised_no_eval": {"undertrained"},
        "staircase_memorisation": {"undertrained"},
        "plateau_stop_early": {"undertrained"},
        "train_loss_scaled": {"worse_than_random_start"},
    }
    gone = {label for name in labels for label in explained.get(name, set())}
    return [hit for hit in hits if hit.label not in gone]


def _health(curve: Curve) -> float:
    return 0.85 if len(curve.finite("eval_loss")) >= 3 else 0.6


def best_checkpoint(curve: Curve) -> int | None:
    """Return the step of the lowest held-out loss, else of the last finite training loss."""
    from finetuning.evaluation.diagnose.curve import lowest

    evals = curve.finite("eval_loss")
    if evals:
        return lowest(evals)[0]
    losses = [(step, value) for step, value in curve.finite("loss") if value != 0.0]
    return losses[-1][0] if losses else None


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


def _confidence(curve: Curve, hit: Hit) -> float:
    """Lower a rule's confidence where the log is short."""
    from finetuning.evaluation.diagnose.curve import MIN_POINTS

    n = len(curve.finite("loss")) or len(curve.finite("eval_loss"))
    short = 0.8 if n < 2 * MIN_POINTS and hit.label != "nan" else 1.0
    return round(hit.confidence * short, 3)


def _amount(value: float) -> str:
    return f"{value:.3g}"


@functools.cache
def _fields(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", text))
