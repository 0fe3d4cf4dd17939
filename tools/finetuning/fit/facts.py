"""The facts that decide: what a person or another tool may say, with its unit and its range."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, cast

from pydantic import ConfigDict, Field, ValidationError

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import Customer, Method, ProviderId, Tuning
from finetuning.records import Fraction, Json, Model, Usd

FailureMode = Literal[
    "syntax",
    "format",
    "style",
    "missing_knowledge",
    "stale_knowledge",
    "reasoning",
    "wrong_tool",
    "inconsistency",
    "refusals",
    "language",
    "latency",
    "cost",
    "none",
]
PromptTried = Literal[
    "zero_shot",
    "few_shot",
    "structured_outputs",
    "larger_model",
    "style_guide",
    "prompt_optimiser",
    "retrieval",
]
TaskKind = Literal[
    "classification",
    "extraction",
    "generation",
    "translation",
    "tool_calling",
    "code",
    "question_answering",
    "summarisation",
    "chat",
]
Count = Annotated[int, Field(ge=0)]
Price = Annotated[Usd, Field(ge=0)]
Positive = Annotated[float, Field(ge=0)]

PROSE: Final = ("task", "goal", "failure_examples")
"""Facts that a person reads; no rule does."""


class FitFacts(Model):
    """What is known about a wish to fine-tune; every field is optional, absent means unknown.

    Scores are 0..1 in whatever metric is used (BLEU 18 is 0.18).
    """

    model_config = ConfigDict(defer_build=True)

    task: str | None = Field(default=None, description="The task in words; never read by a rule.")
    task_kind: TaskKind | None = None
    goal: str | None = Field(default=None, description="The wish in words; never read by a rule.")
    failure_modes: list[FailureMode] | None = Field(
        default=None, description="How the answers fail."
    )
    failure_examples: list[str] | None = Field(default=None, description="Never read by a rule.")
    has_eval: bool | None = Field(default=None, description="Held-out rows with a metric exist.")
    prompt_score: Fraction | None = Field(
        default=None, description="Best prompt on the held-out rows."
    )
    target_score: Fraction | None = Field(default=None, description="Score at which it may ship.")
    prompts_tried: list[PromptTried] | None = None
    best_model_tried: bool | None = Field(
        default=None, description="The strongest model was tried."
    )
    oracle_context_score: Fraction | None = Field(
        default=None, description="Score when the needed facts are pasted into the prompt."
    )
    rag_score: Fraction | None = None
    rag_miss_not_retrieved_fraction: Fraction | None = None
    rag_miss_ignored_fraction: Fraction | None = None
    invalid_syntax_fraction: Fraction | None = None
    cheap_base_score: Fraction | None = Field(
        default=None, description="A current small model's score."
    )
    pass_at_1: Fraction | None = None
    pass_at_16: Fraction | None = None
    has_verifier: bool | None = Field(default=None, description="A program can check an answer.")
    tuned_score: Fraction | None = None
    base_task_score: Fraction | None = None
    n_examples: Count | None = Field(default=None, description="Usable training rows.")
    n_edge_case_examples: Count | None = None
    label_agreement: Fraction | None = Field(default=None, description="Between annotators.")
    label_conflict_fraction: Fraction | None = Field(
        default=None, description="Rows whose input also appears with another answer."
    )
    n_preference_pairs: Count | None = None
    n_binary_feedback: Count | None = None
    n_teacher_outputs: Count | None = Field(
        default=None, description="Stored answers of a larger model."
    )
    has_draft_and_final: bool | None = None
    corpus_tokens: Count | None = Field(default=None, description="Raw text, in tokens.")
    near_duplicate_test_fraction: Fraction | None = Field(
        default=None, description="Test rows that nearly repeat a training row."
    )
    split_method: Literal["random", "by_group", "by_time", "by_cluster"] | None = None
    n_classes: Count | None = None
    n_tools: Count | None = None
    language_resource: Literal["high", "low"] | None = None
    n_reviewers: Count | None = None
    data_sensitivity: Literal["none", "personal", "health", "secret"] | None = None
    identified: bool | None = Field(
        default=None, description="Persons can be identified in the data."
    )
    consent: bool | None = Field(
        default=None, description="There is a right to use the data for this."
    )
    jurisdiction: str | None = Field(
        default=None, description="Country or union code, e.g. EU, US, CN."
    )
    baa_signed: bool | None = None
    domain: str | None = None
    teacher_closed_api: bool | None = Field(
        default=None, description="Training answers come from a closed model."
    )
    student_use: Literal["internal", "customer_product", "competing_general_model"] | None = None
    base_model: str | None = None
    base_licence: str | None = Field(
        default=None, description="Licence id, e.g. llama3.1, apache-2.0."
    )
    product_name: str | None = None
    monthly_active_users: Count | None = None
    distributes_weights: bool | None = None
    requests_per_month: Count | None = None
    tokens_in: Count | None = Field(default=None, description="Input tokens per request today.")
    tokens_out: Count | None = Field(default=None, description="Output tokens per request today.")
    static_prompt_tokens: Count | None = Field(
        default=None, description="Input tokens that are the same in every request."
    )
    price_in_usd_per_mtok: Price | None = None
    price_out_usd_per_mtok: Price | None = None
    price_cached_usd_per_mtok: Price | None = None
    monthly_spend_usd: Price | None = None
    budget_one_off_usd: Price | None = None
    budget_monthly_usd: Price | None = None
    quality_ok: bool | None = Field(default=None, description="Today's answers are good enough.")
    latency_p95_ms: Positive | None = None
    latency_target_ms: Positive | None = None
    requirements_change: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily"] | None
    ) = None
    deployment: Literal["cloud", "on_premise", "air_gapped", "on_device"] | None = None
    gpu_memory_gb: Positive | None = Field(default=None, description="Of one GPU.")
    n_gpus: Count | None = None
    device_ram_gb: Positive | None = None
    serving_hardware: Literal["cpu", "gpu"] | None = None
    provider: ProviderId | None = None
    provider_customer: Customer | None = None
    provider_model: str | None = None
    as_of: dt.date | None = Field(
        default=None, description="Day the question is asked; absent: today."
    )
    method_wanted: Method | None = None
    tuning_wanted: Tuning | None = None
    params: Count | None = Field(default=None, description="Parameters of the base, a count.")
    training_tokens: Count | None = Field(default=None, description="Tokens of one epoch.")


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


def plain(value: Any) -> Any:
    """Return a fact's value as JSON: dates and money as text."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return list(cast("list[Any]", value))
    return value
