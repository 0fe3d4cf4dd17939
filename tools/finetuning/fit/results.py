"""What the decision says: the shape of an answer, and the words of each gate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from finetuning.records import Fraction, Json, Model, ToolResult, Usd

Verdict = Literal[
    "keep_current",
    "prompt_first",
    "rag_first",
    "hybrid_rag_sft",
    "constrained_decoding",
    "cheaper_base_or_cache",
    "build_eval_first",
    "fix_data",
    "fix_eval",
    "sft",
    "dpo",
    "kto",
    "rl",
    "continued_pretraining",
    "distill_smaller",
    "small_encoder",
    "migrate_provider",
    "conditional",
    "stop_blocked",
]

TRAINS: Final[frozenset[Verdict]] = frozenset(
    {
        "sft",
        "dpo",
        "kto",
        "rl",
        "continued_pretraining",
        "distill_smaller",
        "small_encoder",
        "hybrid_rag_sft",
    }
)
"""Verdicts that train a model."""

Status = Literal["pass", "fail", "unknown"]
Facts = Mapping[str, Any]
Axis = Literal["context", "behaviour", "syntax", "skill", "cost", "latency", "evaluation"]
GateName = Literal["evaluation", "law", "provider", "feasible"]
Stage = GateName | Literal["axis", "data", "economics", "advice"]
GATES: Final[tuple[GateName, ...]] = ("evaluation", "law", "provider", "feasible")
"""The gates in the order in which they are reported."""


class Part(Model):
    """Base of the parts of a decision: their checks are built when first used, not at start."""

    model_config = ConfigDict(defer_build=True)


class Gate(Part):
    """One thing that must hold before anything is trained."""

    name: GateName
    status: Status
    why: str


class Question(Part):
    """An unknown fact whose answer would change the verdict."""

    fact: str
    ask: str
    values: list[Json] = Field(description="Answers that were tried.")
    flips_to: dict[str, Verdict] = Field(description="Answer → verdict, for those that flip it.")
    once: dict[str, Json] = Field(
        default_factory=dict,
        description="What the next step settles before the answer flips the verdict.",
    )
    how_to_measure: str
    tool: str | None = None


class FlipPoint(Part):
    """A known fact and the nearest value at which the verdict changes."""

    model_config = ConfigDict(defer_build=True, populate_by_name=True, serialize_by_alias=True)

    fact: str
    from_: Json = Field(alias="from")
    to: Json
    verdict: Verdict


class NextExperiment(Part):
    """The cheapest step that would tell more."""

    what: str
    hours: float
    usd: Usd


class Citation(Part):
    """A claim behind a rule that fired; ``memory`` was not re-read: verify before quoting."""

    id: str
    claim: str
    as_of: str
    source: str
    confidence: str


class Contradiction(Part):
    """A fact that was stated one way and measured another; the stated one was used."""

    fact: str
    given: Json
    measured: Json


class FitAssessment(ToolResult):
    """Whether to fine-tune, why, and what would change that."""

    model_config = ConfigDict(defer_build=True, serialize_by_alias=True)

    verdict: Verdict
    why: str
    acceptable: list[Verdict] = Field(
        description="Answers that can be defended; the verdict first."
    )
    runner_up: Verdict | None
    confidence: Fraction
    conditions: list[str] = Field(default_factory=list)
    gates: list[Gate]
    axis: Axis | None
    decisive_facts: list[str]
    questions: list[Question]
    flip_points: list[FlipPoint]
    must_do: list[str]
    cautions: list[str]
    next_experiment: NextExperiment
    rules_fired: list[str]
    citations: list[Citation]
    contradictions: list[Contradiction] = Field(default_factory=list[Contradiction])
    as_of: dt.date
    undecided: bool = Field(description="No facts, or every gate is unknown.")

    def exit_code(self) -> int:
        """Return 1 when stopped, 3 when nothing is known, else 0."""
        if self.verdict == "stop_blocked":
            return 1
        return 3 if self.undecided else 0

    def summary(self) -> str:
        """Return the verdict, its reason and the next step in one line."""
        step = self.next_experiment
        return (
            f"{self.verdict}: {self.why}. Next: {step.what} (about {step.hours:g} h, ${step.usd})."
        )


def _evaluation(view: Facts) -> tuple[Status, str]:
    if view["eval_exists"]:
        return "pass", "held-out rows or a measured score exist"
    if view["eval_exists"] is False:
        return "fail", "there are no held-out rows yet; this verdict does not wait for them"
    return "unknown", "nobody said that held-out rows with a metric exist"


def _law(view: Facts) -> tuple[Status, str]:
    kind = view["data_sensitivity"]
    if view["teacher_closed_api"] and view["student_use"] != "internal":
        return "unknown", "answers of a closed model: what they may be used for is not settled"
    if kind == "none":
        return "pass", "no personal, health or secret data"
    if kind in {"personal", "health"} and view["identified"] is False:
        return "pass", "nobody can be identified in the data (as stated, not checked here)"
    if kind in {"personal", "health"} and view["consent"] and not _needs_baa(view):
        return "pass", "a right to use the data is stated"
    if kind == "secret" and view["sends_data"] is False:
        return "pass", "the data stays on your machines"
    return "unknown", "whether this data may be used for training is not known"


def _needs_baa(view: Facts) -> bool:
    return bool(
        view["data_sensitivity"] == "health"
        and view["sends_data"] is not False
        and not view["baa_signed"]
    )


def _provider(view: Facts) -> tuple[Status, str]:
    if view["provider"] == "local":
        return "pass", "your own machine takes every job"
    if view["provider_can_start"] and view["provider_offers_method"] is not False:
        return "pass", f"{view['provider']}: {view['provider_why']}"
    if view["provider"] is None:
        return "unknown", "no provider is named"
    if view["provider_can_start"] is False:
        return "fail", f"{view['provider']}: {view['provider_why']}"
    return "unknown", f"{view['provider']}: whether you can start a job there is not known"


def _feasible(view: Facts) -> tuple[Status, str]:
    if view["fits_in_gpu"] and view["own_hardware"]:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "pass", f"4-bit training needs about {needed} GB of {there} GB"
    if view["own_hardware"] and view["fits_in_gpu"] is False:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "fail", f"4-bit training needs about {needed} GB of {there} GB"
    if view["provider_hosted"] and view["provider_can_start"]:
        return "pass", "the provider brings the hardware"
    return "unknown", "the base's size or the machine is not known"


STANDING: Final[dict[Stage, Callable[[Facts], tuple[Status, str]]]] = {
    "evaluation": _evaluation,
    "law": _law,
    "provider": _provider,
    "feasible": _feasible,
}
"""What is known about each gate where no rule spoke: its status and why."""
