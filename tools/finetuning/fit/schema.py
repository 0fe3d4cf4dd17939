"""The facts that decide, each with its unit and its range, and the shape of the answer to them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import Customer, Method, ProviderId, Tuning
from finetuning.records import Fraction, Json, Model, ToolResult, Usd

FailureMode = Literal[
    "syntax", "format", "style", "missing_knowledge", "stale_knowledge", "reasoning",
    "wrong_tool", "inconsistency", "refusals", "language", "latency", "cost", "none",
]  # fmt: skip
PromptTried = Literal[
    "zero_shot", "few_shot", "structured_outputs", "larger_model", "style_guide",
    "prompt_optimiser", "retrieval",
]  # fmt: skip
TaskKind = Literal[
    "classification", "extraction", "generation", "translation", "tool_calling", "code",
    "question_answering", "summarisation", "chat",
]  # fmt: skip
Count = Annotated[int, Field(ge=0)]
Price = Annotated[Usd, Field(ge=0)]
Positive = Annotated[float, Field(ge=0)]

PROSE: Final = ("task", "goal", "failure_examples")
"""Facts that a person reads; no rule does."""


def _said(about: str) -> Any:
    """Describe a fact that may be absent."""
    return Field(default=None, description=about)


class FitFacts(Model):
    """What is known about a wish to fine-tune; every field is optional, absent means unknown.

    Scores are 0..1 in whatever metric is used (BLEU 18 is 0.18).
    """

    model_config = ConfigDict(defer_build=True)

    task: str | None = _said("The task in words; never read by a rule.")
    task_kind: TaskKind | None = None
    goal: str | None = _said("The wish in words; never read by a rule.")
    failure_modes: list[FailureMode] | None = _said("How the answers fail.")
    failure_examples: list[str] | None = _said("Never read by a rule.")
    has_eval: bool | None = _said("Held-out rows with a metric exist.")
    prompt_score: Fraction | None = _said("Best prompt on the held-out rows.")
    target_score: Fraction | None = _said("Score at which it may ship.")
    prompts_tried: list[PromptTried] | None = None
    best_model_tried: bool | None = _said("The strongest model was tried.")
    oracle_context_score: Fraction | None = _said(
        "Score when the needed facts are pasted into the prompt."
    )
    rag_score: Fraction | None = None
    rag_miss_not_retrieved_fraction: Fraction | None = None
    rag_miss_ignored_fraction: Fraction | None = None
    invalid_syntax_fraction: Fraction | None = None
    cheap_base_score: Fraction | None = _said("A current small model's score.")
    pass_at_1: Fraction | None = None
    pass_at_16: Fraction | None = None
    has_verifier: bool | None = _said("A program can check an answer.")
    tuned_score: Fraction | None = None
    base_task_score: Fraction | None = None
    n_examples: Count | None = _said("Usable training rows.")
    n_edge_case_examples: Count | None = None
    label_agreement: Fraction | None = _said("Between annotators.")
    label_conflict_fraction: Fraction | None = _said(
        "Rows whose input also appears with another answer."
    )
    n_preference_pairs: Count | None = None
    n_binary_feedback: Count | None = None
    n_teacher_outputs: Count | None = _said("Stored answers of a larger model.")
    has_draft_and_final: bool | None = None
    corpus_tokens: Count | None = _said("Raw text, in tokens.")
    near_duplicate_test_fraction: Fraction | None = _said(
        "Test rows that nearly repeat a training row."
    )
    split_method: Literal["random", "by_group", "by_time", "by_cluster"] | None = None
    n_classes: Count | None = None
    n_tools: Count | None = None
    language_resource: Literal["high", "low"] | None = None
    n_reviewers: Count | None = None
    data_sensitivity: Literal["none", "personal", "health", "secret"] | None = None
    identified: bool | None = _said("Persons can be identified in the data.")
    consent: bool | None = _said("There is a right to use the data for this.")
    jurisdiction: str | None = _said("Country or union code, e.g. EU, US, CN.")
    baa_signed: bool | None = None
    domain: str | None = None
    teacher_closed_api: bool | None = _said("Training answers come from a closed model.")
    student_use: Literal["internal", "customer_product", "competing_general_model"] | None = None
    base_model: str | None = None
    base_licence: str | None = _said("Licence id, e.g. llama3.1, apache-2.0.")
    product_name: str | None = None
    monthly_active_users: Count | None = None
    distributes_weights: bool | None = None
    requests_per_month: Count | None = None
    tokens_in: Count | None = _said("Input tokens per request today.")
    tokens_out: Count | None = _said("Output tokens per request today.")
    static_prompt_tokens: Count | None = _said("Input tokens that are the same in every request.")
    price_in_usd_per_mtok: Price | None = None
    price_out_usd_per_mtok: Price | None = None
    price_cached_usd_per_mtok: Price | None = None
    monthly_spend_usd: Price | None = None
    budget_one_off_usd: Price | None = None
    budget_monthly_usd: Price | None = None
    quality_ok: bool | None = _said("Today's answers are good enough.")
    latency_p95_ms: Positive | None = None
    latency_target_ms: Positive | None = None
    requirements_change: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily"] | None
    ) = None
    deployment: Literal["cloud", "on_premise", "air_gapped", "on_device"] | None = None
    gpu_memory_gb: Positive | None = _said("Of one GPU.")
    n_gpus: Count | None = None
    device_ram_gb: Positive | None = None
    serving_hardware: Literal["cpu", "gpu"] | None = None
    provider: ProviderId | None = None
    provider_customer: Customer | None = None
    provider_model: str | None = None
    as_of: dt.date | None = _said("Day the question is asked; absent: today.")
    method_wanted: Method | None = None
    tuning_wanted: Tuning | None = None
    params: Count | None = _said("Parameters of the base, a count.")
    training_tokens: Count | None = _said("Tokens of one epoch.")


def read_facts(facts: FitFacts | dict[str, Json]) -> FitFacts:
    """Return checked facts from an object or its JSON.

    Raises:
        UnknownNameError: A name that is not a fact; the nearest are named.
        BadInputError: A value of the wrong kind or out of range.
    """
    try:
        return FitFacts.model_validate(facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden":
            name = str(first["loc"][-1])
            raise UnknownNameError("facts", "fact", name, FitFacts.model_fields) from None
        raise _bad_value(first["loc"], first["msg"], first.get("input")) from None


def _bad_value(place: tuple[int | str, ...], message: str, value: Any) -> BadInputError:
    where = "facts." + ".".join(str(part) for part in place) if place else "facts"
    shown = type(value).__name__ if place and place[0] in PROSE else repr(value)
    if isinstance(value, int | float) and 1 < value <= 100 and "less than or equal" in message:
        hint = f"{value / 100:g}"
        return BadInputError(
            where, f"{shown} is no fraction", f"0..1; {hint}?", f"Write {hint} if you mean percent"
        )
    expected = message[:1].lower() + message[1:]
    return BadInputError(where, f"{shown} does not fit", expected, "Correct it or leave it out")


def known_facts(facts: FitFacts) -> dict[str, Any]:
    """Return the facts that rules may read: known ones, without prose, in a fixed order."""
    return {
        name: value
        for name in FitFacts.model_fields
        if name not in PROSE and (value := getattr(facts, name)) is not None
    }


Verdict = Literal[
    "keep_current", "prompt_first", "rag_first", "hybrid_rag_sft", "constrained_decoding",
    "cheaper_base_or_cache", "build_eval_first", "fix_data", "fix_eval", "sft", "dpo", "kto",
    "rl", "continued_pretraining", "distill_smaller", "small_encoder", "migrate_provider",
    "conditional", "stop_blocked",
]  # fmt: skip

TRAINS: Final[frozenset[Verdict]] = frozenset({
    "sft", "dpo", "kto", "rl", "continued_pretraining", "distill_smaller", "small_encoder",
    "hybrid_rag_sft",
})  # fmt: skip
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
