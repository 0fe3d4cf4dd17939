"""Fit: whether to fine-tune at all, decided by rules on facts, with what would flip it.

Servers import this at their start: the rules and the catalogue are read when a question comes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.fit.schema import (
    GATES,
    TRAINS,
    FitAssessment,
    FitFacts,
    Verdict,
    known_facts,
    read_facts,
)

if TYPE_CHECKING:
    from finetuning.fit.deciding import Decision, Open
    from finetuning.fit.derived import View
    from finetuning.fit.rulebook import CompiledRule, Rule, RuleBook

__all__ = ["FitAssessment", "FitFacts", "assess_fit"]

_CERTAIN: Final = 0.95
_PER_QUESTION: Final = 0.07
_PER_UNKNOWN_GATE: Final = 0.05
_LEAST: Final = 0.3
"""Confidence starts high and falls with each open question that could flip the verdict and with
each gate nobody spoke about: an ordering, not a measured probability."""


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

    Source: the evidence in the rule files, cited in each answer (checked 2026-11-20); knowledge:
        SKILL.md
    """
    from finetuning.fit.deciding import decide
    from finetuning.fit.rulebook import rule_book

    given = known_facts(read_facts(facts))
    measured, proposed = ({}, []) if data is None else _measure(data)
    contradictions = [
        {"fact": name, "given": _plain(given[name]), "measured": _plain(value)}
        for name, value in measured.items()
        if name in given and _differ(given[name], value)
    ]
    merged = {**measured, **given}
    merged = {name: merged[name] for name in FitFacts.model_fields if name in merged}
    book = rule_book()
    answer = _answer(book, merged, decide(book, merged))
    answer["cautions"] += [
        f"{item['fact']} was stated as {item['given']} and measured as {item['measured']}: "
        "the stated value was used"
        for item in contradictions
    ]
    return FitAssessment.model_validate(
        {
            **answer,
            "contradictions": contradictions,
            "fit_facts": {name: _plain(value) for name, value in merged.items()},
            "next": _next(answer, merged, proposed),
        }
    )


def _measure(data: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the facts that a look at the data gives, and the call that it proposes."""
    from finetuning.data_prep import inspect_data

    seen = inspect_data(data)
    calls = [call.model_dump(mode="json") for call in seen.next]
    return known_facts(read_facts(dict(seen.fit_facts))), calls


def _differ(given: Any, measured: Any) -> bool:
    """Say whether two values of a fact are apart; numbers within 5 % agree."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return bool(given != measured)
    return bool(abs(given - measured) > 0.05 * max(abs(given), abs(measured)))


def _next(
    answer: dict[str, Any], facts: dict[str, Any], proposed: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the calls that make sense now and can be made as they stand."""
    calls = [call for call in proposed if call["tool"] == "prepare_data"][:1]
    if any(question["tool"] == "inspect_environment" for question in answer["questions"]):
        calls.append({"tool": "inspect_environment", "why": "Answers a question"})
    if answer["verdict"] == "migrate_provider":
        constraints = {"method": facts.get("method_wanted", "sft"), "customer": "new"}
        why = "Who takes this job today, with prices and dates"
        calls.append(
            {"tool": "compare_providers", "args": {"constraints": constraints}, "why": why}
        )
    wanted = ("provider", "provider_model", "training_tokens")
    if all(name in facts for name in wanted) and answer["verdict"] in _PRICED:
        arguments = {
            "provider": facts["provider"],
            "model": facts["provider_model"],
            "method": facts.get("method_wanted", "sft"),
            "training_tokens": facts["training_tokens"],
        }
        why = "Price it with the provider's own rule"
        calls.append({"tool": "estimate_cost", "args": arguments, "why": why})
    return calls[:3]


_PRICED: Final[frozenset[Verdict]] = frozenset(
    {"sft", "dpo", "distill_smaller", "hybrid_rag_sft", "conditional"}
)
"""Verdicts after which the price of a job is the next thing to know."""


def _answer(book: RuleBook, facts: Mapping[str, Any], decision: Decision) -> dict[str, Any]:
    """Return the fields of the answer to a decision; they are checked once, as a whole.

    Args:
        book: The rules.
        facts: The facts it was decided on.
        decision: The verdict and the rules behind it.
    """
    from finetuning.fit.circumstances import day_of
    from finetuning.fit.deciding import flip_points, open_questions

    view, verdict = decision.view, decision.verdict
    gates = _gates(book, view)
    questions = open_questions(book, facts, decision)
    used, advice = _used_rules(book, decision), _fired(book.advice, view)
    acceptable, runner_up = _acceptable(book, decision)
    return {
        "verdict": verdict,
        "why": _words(decision.deciding.why, view),
        "acceptable": acceptable,
        "runner_up": runner_up,
        "confidence": _confidence(questions, gates, decision),
        "conditions": _conditions(used, view),
        "gates": gates,
        "axis": decision.candidate.axis,
        "decisive_facts": _decisive(decision, facts),
        "questions": [_question(item) for item in questions],
        "flip_points": [
            {"fact": f.fact, "from": _plain(f.now), "to": _plain(f.then), "verdict": f.verdict}
            for f in flip_points(book, facts, verdict)
        ],
        "must_do": [_words(rule.must_do, view) for rule in advice if rule.must_do],
        "cautions": [_words(rule.caution, view) for rule in advice if rule.caution],
        "next_experiment": _experiment(book, view, verdict),
        "rules_fired": [rule.id for rule in (*used, *advice)],
        "citations": _citations(book, (*used, *advice)),
        "as_of": day_of(view),
        "undecided": not facts or all(gate["status"] == "unknown" for gate in gates),
    }


def _question(item: Open) -> dict[str, Any]:
    return {
        "fact": item.probe.fact,
        "ask": item.probe.ask,
        "values": [_plain(value) for value in item.probe.values],
        "flips_to": item.flips,
        "once": {name: _plain(value) for name, value in item.once.items()},
        "how_to_measure": item.probe.how,
        "tool": item.probe.tool,
    }


def _words(text: str, view: View) -> str:
    """Fill the named facts into a sentence."""
    return text.format_map(view)


def _used_rules(book: RuleBook, decision: Decision) -> list[Rule]:
    """Return the deciding rule, then the candidate and the other gates that fired."""
    used = [decision.deciding]
    for rule in (decision.candidate, *_fired(book.gates, decision.view)):
        if all(rule.id != known.id for known in used):
            used.append(rule)
    return used


def _acceptable(book: RuleBook, decision: Decision) -> tuple[list[Verdict], Verdict | None]:
    """Return the defensible verdicts, the decided one first, and the next best."""
    first, candidate = decision.verdict, decision.candidate.verdict
    named = dict.fromkeys((first, *decision.deciding.acceptable))
    if first == "build_eval_first" and candidate is not None and candidate not in TRAINS:
        named[candidate] = None
    lower: list[Verdict | None] = [r.verdict for r in _fired(book.verdicts, decision.view)]
    for name in (candidate, *named, *lower):
        if name is not None and name != first:
            return list(named), name
    return list(named), None


def _confidence(questions: list[Open], gates: list[dict[str, str]], decision: Decision) -> float:
    unknown = sum(gate["status"] == "unknown" for gate in gates)
    loose = 0.05 if len(decision.deciding.acceptable) > 1 else 0.0
    flipping = sum(not question.once for question in questions)
    value = _CERTAIN - _PER_QUESTION * flipping - _PER_UNKNOWN_GATE * unknown - loose
    return round(max(_LEAST, value), 2)


def _conditions(used: list[Rule], view: View) -> list[str]:
    found = [_words(text, view) for rule in used for text in rule.conditions]
    return list(dict.fromkeys(found))


def _decisive(decision: Decision, facts: Mapping[str, Any]) -> list[str]:
    """Name the known facts that the deciding rules read, directly or through what follows."""
    from finetuning.fit.derived import TracedView

    view = TracedView(facts)
    for rule in (decision.deciding, decision.candidate):
        for name in rule.facts():
            _ = view[name]
    return [name for name in facts if name in view.read]


def _gates(book: RuleBook, view: View) -> list[dict[str, str]]:
    """Return the four gates: a rule that fired speaks first, else what is known passes."""
    from finetuning.fit.circumstances import STANDING

    gates: list[dict[str, str]] = []
    for stage in GATES:
        said = [rule for rule in _fired(book.gates, view) if rule.stage == stage]
        if said:
            failed = [rule for rule in said if rule.status == "fail"]
            why = "; ".join(_words(rule.why, view) for rule in failed or said)
            status = "fail" if failed else "unknown"
        else:
            status, why = STANDING[stage](view)
        gates.append({"name": stage, "status": status, "why": why})
    return gates


def _experiment(book: RuleBook, view: View, verdict: Verdict) -> dict[str, Any]:
    """Return the verdict's next step, priced on the cheapest current base or training."""
    from finetuning.fit.circumstances import day_of
    from finetuning.providers.market import market

    step = book.experiments[verdict]
    known = market(day_of(view))
    usd = known.base_usd(step.tokens_in, 0, step.tokens_out)
    if step.train_tokens:
        rate = known.train_usd_per_mtok or Decimal(0)
        usd = Decimal(0) if view["own_hardware"] else rate * step.train_tokens / 1_000_000
    return {"what": step.what, "hours": step.hours, "usd": usd.quantize(Decimal("0.01"))}


def _citations(book: RuleBook, rules: tuple[Rule, ...]) -> list[dict[str, str]]:
    names = dict.fromkeys(name for rule in rules for name in rule.evidence)
    fields = ("claim", "as_of", "source", "confidence")
    return [
        {"id": name, **{field: getattr(book.evidence[name], field) for field in fields}}
        for name in names
    ]


def _fired(rules: list[CompiledRule], view: View) -> list[Rule]:
    """Return every rule that fires, in order."""
    return [rule.rule for rule in rules if rule.fires(view)]


def _plain(value: Any) -> Any:
    """Return a fact's value as JSON: dates and money as text."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return list(cast("list[Any]", value))
    return value
