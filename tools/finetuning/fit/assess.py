"""The tool: should this be fine-tuned, decided by rules on facts."""

from __future__ import annotations

from typing import Any, Final

from finetuning.fit.facts import FitFacts
from finetuning.fit.results import Contradiction, FitAssessment, Verdict
from finetuning.records import NextCall


def assess_fit(facts: FitFacts, data: str | None = None) -> FitAssessment:
    """Say whether to fine-tune, why, and what would change the answer.

    Gates first (an evaluation, lawful data, an open provider, hardware), then how it fails, then
    the data, then the money. Absent facts are unknown: at most three questions name those whose
    answer flips the verdict. Free text is never read by a rule.

    Args:
        facts: What is known; every field is optional, scores and fractions are 0..1.
        data: File or prepared folder; what inspect_data measures fills facts that are absent,
            and what it contradicts is returned.

    Returns:
        The verdict with gates, questions, flip points, advice, the next experiment and sources.

    Raises:
        UnknownNameError: A fact that does not exist; the nearest are named.
        BadInputError: A value of the wrong kind or out of range, or unreadable data.

    Source: decision-evidence.md of this project (checked 2026-11-20); knowledge: SKILL.md
    """
    from finetuning.fit.answering import answer
    from finetuning.fit.deciding import decide
    from finetuning.fit.facts import known_facts, read_facts
    from finetuning.fit.flipping import plain
    from finetuning.fit.table import rule_book

    given = known_facts(read_facts(facts))
    measured, proposed = ({}, []) if data is None else _measure(data)
    contradictions = [
        Contradiction(fact=name, given=plain(given[name]), measured=plain(value))
        for name, value in measured.items()
        if name in given and _differ(given[name], value)
    ]
    merged = known_facts(read_facts({**measured, **given}))
    book = rule_book()
    result = answer(book, merged, decide(book, merged))
    cautions = result.cautions + [
        f"{item.fact} was stated as {item.given} and measured as {item.measured}: "
        "the stated value was used"
        for item in contradictions
    ]
    return result.model_copy(
        update={
            "contradictions": contradictions,
            "cautions": cautions,
            "fit_facts": {name: plain(value) for name, value in merged.items()},
            "next": _next(result, merged, proposed),
        }
    )


def _measure(data: str) -> tuple[dict[str, Any], list[NextCall]]:
    """Return the facts that a look at the data gives, and the call that it proposes."""
    from finetuning.data_prep import inspect_data
    from finetuning.fit.facts import known_facts, read_facts

    seen = inspect_data(data)
    return known_facts(read_facts(dict(seen.fit_facts))), list(seen.next)


def _differ(given: Any, measured: Any) -> bool:
    """Say whether two values of a fact are apart; numbers within 5 % agree."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return bool(given != measured)
    return bool(abs(given - measured) > 0.05 * max(abs(given), abs(measured)))


def _next(result: FitAssessment, facts: dict[str, Any], proposed: list[NextCall]) -> list[NextCall]:
    """Return the calls that make sense now and can be made as they stand."""
    calls = [call for call in proposed if call.tool == "prepare_data"][:1]
    if any(question.tool == "inspect_environment" for question in result.questions):
        calls.append(NextCall(tool="inspect_environment", why="Answers a question"))
    wanted = ("provider", "provider_model", "training_tokens")
    if all(name in facts for name in wanted) and result.verdict in _PRICED:
        calls.append(
            NextCall(
                tool="estimate_cost",
                args={
                    "provider": facts["provider"],
                    "model": facts["provider_model"],
                    "method": facts.get("method_wanted", "sft"),
                    "training_tokens": facts["training_tokens"],
                },
                why="Price it with the provider's own rule",
            )
        )
    return calls[:3]


_PRICED: Final[frozenset[Verdict]] = frozenset(
    {"sft", "dpo", "distill_smaller", "hybrid_rag_sft", "conditional"}
)
"""Verdicts after which the price of a job is the next thing to know."""
