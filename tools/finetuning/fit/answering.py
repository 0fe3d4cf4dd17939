"""Puts a decision into words: gates, reasons, questions, flips, the next experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from finetuning.fit.deciding import Decision, TracedView, View, fired
from finetuning.fit.flipping import flip_points, open_questions, plain
from finetuning.fit.hosting import day_of
from finetuning.fit.results import (
    GATES,
    TRAINS,
    Citation,
    FitAssessment,
    FlipPoint,
    Gate,
    NextExperiment,
    Question,
    Stage,
    Verdict,
)
from finetuning.fit.table import Rule, RuleBook
from finetuning.providers.market import market

Status = Literal["pass", "fail", "unknown"]

_CERTAIN: Final = 0.95
_PER_QUESTION: Final = 0.07
_PER_UNKNOWN_GATE: Final = 0.05
_LEAST: Final = 0.3
"""Confidence starts high and falls with each open question that could flip the verdict and with
each gate nobody spoke about: an ordering, not a measured probability."""


def answer(book: RuleBook, facts: Mapping[str, Any], decision: Decision) -> FitAssessment:
    """Return the whole answer to a decision.

    Args:
        book: The rules.
        facts: The facts it was decided on.
        decision: The verdict and the rules behind it.
    """
    view, verdict = decision.view, decision.verdict
    gates = _gates(book, view)
    questions = [
        Question(
            fact=item.probe.fact,
            ask=item.probe.ask,
            values=[plain(value) for value in item.probe.values],
            flips_to=item.flips,
            how_to_measure=item.probe.how,
            tool=item.probe.tool,
        )
        for item in open_questions(book, facts, decision)
    ]
    flips = [
        FlipPoint.model_validate(
            {"fact": f.fact, "from": plain(f.now), "to": plain(f.then), "verdict": f.verdict}
        )
        for f in flip_points(book, facts, verdict)
    ]
    used, advice = _used_rules(book, decision), fired(book.advice, view)
    acceptable, runner_up = _acceptable(book, decision)
    return FitAssessment(
        verdict=verdict,
        why=_words(decision.deciding.why, view),
        acceptable=acceptable,
        runner_up=runner_up,
        confidence=_confidence(questions, gates, decision),
        conditions=_conditions(used, view),
        gates=gates,
        axis=decision.candidate.axis,
        decisive_facts=_decisive(decision, facts),
        questions=questions,
        flip_points=flips,
        must_do=[_words(rule.must_do, view) for rule in advice if rule.must_do],
        cautions=[_words(rule.caution, view) for rule in advice if rule.caution],
        next_experiment=_experiment(book, view, verdict),
        rules_fired=[rule.id for rule in (*used, *advice)],
        citations=_citations(book, (*used, *advice)),
        as_of=day_of(view),
        undecided=not facts or all(gate.status == "unknown" for gate in gates),
    )


def _words(text: str, view: View) -> str:
    """Fill the named facts into a sentence."""
    return text.format_map(view)


def _used_rules(book: RuleBook, decision: Decision) -> list[Rule]:
    """Return the deciding rule, then the candidate and the other gates that fired."""
    used = [decision.deciding]
    for rule in (decision.candidate, *fired(book.gates, decision.view)):
        if all(rule.id != known.id for known in used):
            used.append(rule)
    return used


def _acceptable(book: RuleBook, decision: Decision) -> tuple[list[Verdict], Verdict | None]:
    """Return the defensible verdicts, the decided one first, and the next best."""
    first, candidate = decision.verdict, decision.candidate.verdict
    named = dict.fromkeys((first, *decision.deciding.acceptable))
    if first == "build_eval_first" and candidate is not None and candidate not in TRAINS:
        named[candidate] = None
    lower: list[Verdict | None] = [r.verdict for r in fired(book.verdicts, decision.view)]
    for name in (candidate, *named, *lower):
        if name is not None and name != first:
            return list(named), name
    return list(named), None


def _confidence(questions: list[Question], gates: list[Gate], decision: Decision) -> float:
    unknown = sum(gate.status == "unknown" for gate in gates)
    loose = 0.05 if len(decision.deciding.acceptable) > 1 else 0.0
    value = _CERTAIN - _PER_QUESTION * len(questions) - _PER_UNKNOWN_GATE * unknown - loose
    return round(max(_LEAST, value), 2)


def _conditions(used: list[Rule], view: View) -> list[str]:
    found = [_words(text, view) for rule in used for text in rule.conditions]
    return list(dict.fromkeys(found))


def _decisive(decision: Decision, facts: Mapping[str, Any]) -> list[str]:
    """Name the known facts that the deciding rules read, directly or through what follows."""
    view = TracedView(facts)
    for rule in (decision.deciding, decision.candidate):
        for name in rule.facts():
            _ = view[name]
    return [name for name in facts if name in view.read]


def _gates(book: RuleBook, view: View) -> list[Gate]:
    """Return the four gates: a rule that fired speaks first, else what is known passes."""
    gates: list[Gate] = []
    for stage in GATES:
        said = [rule for rule in fired(book.gates, view) if rule.stage == stage]
        if said:
            failed = [rule for rule in said if rule.status == "fail"]
            why = "; ".join(_words(rule.why, view) for rule in failed or said)
            gates.append(Gate(name=stage, status="fail" if failed else "unknown", why=why))
        else:
            status, why = _STANDING[stage](view)
            gates.append(Gate(name=stage, status=status, why=why))
    return gates


def _evaluation(view: View) -> tuple[Status, str]:
    if view["eval_exists"]:
        return "pass", "held-out rows or a measured score exist"
    if view["eval_exists"] is False:
        return "fail", "there are no held-out rows yet; this verdict does not wait for them"
    return "unknown", "nobody said that held-out rows with a metric exist"


def _law(view: View) -> tuple[Status, str]:
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


def _needs_baa(view: View) -> bool:
    return bool(
        view["data_sensitivity"] == "health"
        and view["sends_data"] is not False
        and not view["baa_signed"]
    )


def _provider(view: View) -> tuple[Status, str]:
    if view["provider"] == "local":
        return "pass", "your own machine takes every job"
    if view["provider_can_start"] and view["provider_offers_method"] is not False:
        return "pass", f"{view['provider']}: {view['provider_why']}"
    if view["provider"] is None:
        return "unknown", "no provider is named"
    if view["provider_can_start"] is False:
        return "fail", f"{view['provider']}: {view['provider_why']}"
    return "unknown", f"{view['provider']}: whether you can start a job there is not known"


def _feasible(view: View) -> tuple[Status, str]:
    if view["fits_in_gpu"] and view["own_hardware"]:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "pass", f"4-bit training needs about {needed} GB of {there} GB"
    if view["own_hardware"] and view["fits_in_gpu"] is False:
        needed, there = view["least_training_gb"], view["gpu_total_gb"]
        return "fail", f"4-bit training needs about {needed} GB of {there} GB"
    if view["provider_hosted"] and view["provider_can_start"]:
        return "pass", "the provider brings the hardware"
    return "unknown", "the base's size or the machine is not known"


_STANDING: Final[dict[Stage, Callable[[View], tuple[Status, str]]]] = {
    "evaluation": _evaluation,
    "law": _law,
    "provider": _provider,
    "feasible": _feasible,
}


def _experiment(book: RuleBook, view: View, verdict: Verdict) -> NextExperiment:
    """Return the verdict's next step, priced on the cheapest current base or training."""
    step = book.experiments[verdict]
    known = market(day_of(view))
    usd = known.base_usd(step.tokens_in, 0, step.tokens_out)
    if step.train_tokens:
        rate = known.train_usd_per_mtok or Decimal(0)
        usd = Decimal(0) if view["own_hardware"] else rate * step.train_tokens / 1_000_000
    return NextExperiment(what=step.what, hours=step.hours, usd=usd.quantize(Decimal("0.01")))


def _citations(book: RuleBook, rules: tuple[Rule, ...]) -> list[Citation]:
    names = dict.fromkeys(name for rule in rules for name in rule.evidence)
    return [
        Citation(
            id=name,
            claim=book.evidence[name].claim,
            as_of=book.evidence[name].as_of,
            source=book.evidence[name].source,
            confidence=book.evidence[name].confidence,
        )
        for name in names
    ]
