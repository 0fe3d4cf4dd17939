"""Fires the rules: a candidate verdict from the axis, the data and the money, then the gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from finetuning.fit.table import CompiledRule, Rule, RuleBook
from finetuning.fit.verdicts import TRAINS, Verdict
from finetuning.fit.view import TracedView, View

_NEEDS_EVAL: Final[frozenset[Verdict]] = frozenset({*TRAINS, "prompt_first", "fix_data"})
"""Verdicts that make no sense while nobody can measure an answer."""


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


def fired(rules: list[CompiledRule], view: View) -> list[Rule]:
    """Return every rule that fires, in order."""
    return [rule.rule for rule in rules if rule.fires(view)]
