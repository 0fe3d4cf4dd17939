"""Fires the rules, and finds what would change the verdict by asking again with other values.

A candidate verdict follows from the axis, the data and the money; then the gates speak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast, get_args

from finetuning.fit.derived import TracedView, View
from finetuning.fit.rulebook import CompiledRule, Probe, Rule, RuleBook
from finetuning.fit.schema import TRAINS, FitFacts, Verdict

_NEEDS_EVAL: Final[frozenset[Verdict]] = frozenset({*TRAINS, "prompt_first", "fix_data"})
"""Verdicts that make no sense while nobody can measure an answer."""

_MOST_QUESTIONS: Final = 3
_MOST_FLIPS: Final = 10
_HALVINGS: Final = 10
_FACTORS: Final = (0.001, 0.01, 0.1, 0.3, 3, 10, 100, 1_000)
"""Multiples of a count or a sum that are tried on the way to a flip."""

_GIVEN: Final = frozenset(
    {
        "as_of",
        "task_kind",
        "base_model",
        "product_name",
        "jurisdiction",
        "domain",
        "n_classes",
        "n_tools",
        "provider",
        "provider_model",
    }
)
"""Facts that are what the question is about: no flip is looked for in them."""


class Decision(NamedTuple):
    """A verdict with the rule that decided it, the one before the gates, and the facts used."""

    verdict: Verdict
    deciding: Rule
    candidate: Rule
    view: View


def decide(book: RuleBook, facts: Mapping[str, Any]) -> Decision:
    """Return the verdict of a set of facts.

    Args:
        book: The rules.
        facts: Known facts by name; what is absent is unknown.
    """
    return _decide(book, View(facts))


def facts_read(book: RuleBook, facts: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of all facts, known or not, that the verdict depended on."""
    view = TracedView(facts)
    _decide(book, view)
    return frozenset(view.read)


def _decide(book: RuleBook, view: View) -> Decision:
    candidate = _first(book.verdicts, view)
    name = candidate.verdict or "build_eval_first"
    view["candidate"] = name
    view["candidate_trains"] = name in TRAINS
    view["candidate_needs_eval"] = name in _NEEDS_EVAL
    gate = next((rule.rule for rule in book.gates if rule.fires(view)), None)
    deciding = gate or candidate
    verdict = deciding.verdict or name
    view["verdict"] = verdict
    view["trains"] = verdict in TRAINS
    return Decision(verdict, deciding, candidate, view)


def _first(rules: list[CompiledRule], view: View) -> Rule:
    """Return the first rule that fires; the last one has no condition."""
    return next(rule.rule for rule in rules if rule.fires(view))


class Flip(NamedTuple):
    """A known fact, the value at which the verdict changes, and the verdict there."""

    fact: str
    now: Any
    then: Any
    verdict: Verdict


class Open(NamedTuple):
    """An unknown fact and the verdicts that its answers would bring, once others are settled."""

    probe: Probe
    flips: dict[str, Verdict]
    once: dict[str, Any]


def open_questions(book: RuleBook, facts: Mapping[str, Any], decision: Decision) -> list[Open]:
    """Return the unknown facts whose answer would change the verdict, the weightiest first.

    After those that change it now come those that change it once the next step is done.
    """
    found = _askable(book, facts, decision, {})
    once = _next_step(decision, facts)
    if once and len(found) < _MOST_QUESTIONS:
        after = {**facts, **once}
        asked = {item.probe.fact for item in found}
        later = _askable(book, after, decide(book, after), once)
        found += [item for item in later if item.probe.fact not in asked]
    return found[:_MOST_QUESTIONS]


def _next_step(decision: Decision, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the next step settles: rows to measure on, and the best prompt measured."""
    settled: dict[str, Any] = {}
    if decision.verdict == "build_eval_first":
        settled["has_eval"] = True
    if (
        decision.verdict in {"build_eval_first", "prompt_first"}
        and not (decision.view["prompting_done"])
    ):
        settled["prompts_tried"] = [*facts.get("prompts_tried", ()), "few_shot", "prompt_optimiser"]
    if decision.verdict == "cheaper_base_or_cache":
        if facts.keys().isdisjoint({"target_score", "prompt_score"}):
            settled["target_score"] = 0.9
        if decision.view["rows_for_student"] is None:
            settled["n_teacher_outputs"] = 20_000
    return settled


def _askable(
    book: RuleBook, facts: Mapping[str, Any], decision: Decision, once: dict[str, Any]
) -> list[Open]:
    """Try the answers to every question that makes sense, and keep those that flip the verdict.

    An answer that decides between training and not training weighs more than others. Facts that
    the verdict never read cannot flip it and are not tried; nor is what only ``once`` can tell.
    """
    read, verdict = facts_read(book, facts), decision.verdict
    found: list[tuple[tuple[int, int], Open]] = []
    for order, probe in enumerate(book.probes):
        if probe.fact in facts or probe.fact not in read:
            continue
        if not book.relevant[probe.fact](decision.view) or not once.keys().isdisjoint(
            name for part in probe.relevant for name in part.facts()
        ):
            continue
        flips: dict[str, Verdict] = {}
        for value in probe.values:
            other = decide(book, {**facts, probe.fact: value}).verdict
            if other != verdict:
                flips[_written(value)] = other
        if flips:
            crosses = any((other in TRAINS) != (verdict in TRAINS) for other in flips.values())
            found.append(((not crosses, order), Open(probe, flips, once)))
    found.sort(key=lambda item: item[0])
    return [question for _, question in found]


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "+".join(cast("list[str]", value))
    return str(value)


def flip_points(book: RuleBook, facts: Mapping[str, Any], verdict: Verdict) -> list[Flip]:
    """Return, for each known fact, the nearest value at which the verdict changes.

    Only facts that the verdict read are tried; numbers are closed in on from both sides.
    """
    read = facts_read(book, facts) - _GIVEN
    flips: list[Flip] = []
    for fact, now in facts.items():
        if fact not in read:
            continue
        if isinstance(now, bool) or not isinstance(now, int | float | Decimal):
            flips += _word_flip(book, facts, fact, now, verdict)
        else:
            both = (_number_flip(book, facts, fact, now, verdict, up=up) for up in (False, True))
            flips += [flip for flip in both if flip is not None]
    return flips[:_MOST_FLIPS]


def _word_flip(
    book: RuleBook, facts: Mapping[str, Any], fact: str, now: Any, verdict: Verdict
) -> list[Flip]:
    for value in _other_words(book, fact, now):
        other = decide(book, {**facts, fact: value}).verdict
        if other != verdict:
            return [Flip(fact, now, value, other)]
    return []


def _other_words(book: RuleBook, fact: str, now: Any) -> Iterator[Any]:
    """Yield the other values of a fact that is not a number."""
    if isinstance(now, bool):
        yield not now
    elif isinstance(now, list):
        same: set[str] = set(cast("list[str]", now))
        for probe in book.probes:
            if probe.fact == fact:
                yield from (value for value in probe.values if set(value) != same)
    else:
        yield from (value for value in _choices(fact) if value != now)


def _choices(fact: str) -> tuple[str, ...]:
    """Return the words a fact may hold, or nothing for free words."""
    for part in get_args(FitFacts.model_fields[fact].annotation):
        words = get_args(part)
        if words and all(isinstance(word, str) for word in words):
            return words
    return ()


def _number_flip(
    book: RuleBook,
    facts: Mapping[str, Any],
    fact: str,
    now: int | float | Decimal,
    verdict: Verdict,
    *,
    up: bool,
) -> Flip | None:
    """Walk away from today's value until the verdict changes, then close in on where."""
    same: Any = now
    for value in _ladder(book, facts, fact, now, up=up):
        other = decide(book, {**facts, fact: value}).verdict
        if other == verdict:
            same = value
            continue
        for _ in range(_HALVINGS):
            middle = _like((float(same) + float(value)) / 2, now)
            if middle in (same, value):
                break
            there = decide(book, {**facts, fact: middle}).verdict
            if there == verdict:
                same = middle
            else:
                value, other = middle, there
        return Flip(fact, now, value, other)
    return None


def _ladder(
    book: RuleBook,
    facts: Mapping[str, Any],
    fact: str,
    now: int | float | Decimal,
    *,
    up: bool,
) -> list[Any]:
    """Return values to try on one side of today's, the nearest first."""
    share = _is_share(fact)
    rungs = [*book.thresholds.get(fact, ()), *_probe_values(book, fact)]
    if share:
        rungs += [value for name, value in facts.items() if _is_share(name)]
        rungs += [0, 0.5, 1]
    else:
        rungs += [float(now) * factor for factor in _FACTORS]
    tried = {_like(rung, now) for rung in rungs}
    return sorted(
        (value for value in tried if (value > now if up else value < now)), reverse=not up
    )


def _probe_values(book: RuleBook, fact: str) -> list[float]:
    return [float(value) for probe in book.probes if probe.fact == fact for value in probe.values]


def _is_share(fact: str) -> bool:
    return fact.endswith(("_score", "_fraction", "_agreement")) or fact.startswith("pass_at_")


def _like(value: float, now: Any) -> Any:
    """Return a number of the same kind as today's value."""
    if isinstance(now, int):
        return round(value)
    if isinstance(now, Decimal):
        return Decimal(f"{value:.4g}")
    return round(value, 3)
