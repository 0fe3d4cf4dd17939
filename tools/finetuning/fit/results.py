"""What the decision says, and everything that it rests on."""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

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
    status: Literal["pass", "fail", "unknown"]
    why: str


class Question(Part):
    """An unknown fact whose answer would change the verdict."""

    fact: str
    ask: str
    values: list[Json] = Field(description="Answers that were tried.")
    flips_to: dict[str, Verdict] = Field(description="Answer → verdict, for those that flip it.")
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
