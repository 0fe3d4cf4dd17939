"""Fires the rules: a candidate verdict from the axis, the data and the money, then the gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from finetuning.fit.derived import DERIVED
from finetuning.fit.results import TRAINS, Verdict
from finetuning.fit.table import CompiledRule, Rule, RuleBook

_NEEDS_EVAL: Final[frozenset[Verdict]] = frozenset({*TRAINS, "prompt_first", "fix_data"})
"""Verdicts that make no sense while nobody can measure an answer."""


class View(dict[str, Any]):
    """Absent is None; derived facts are computed once, when first read."""

    def __missing__(self, name: str) -> Any:
        """Compute and keep a derived fact; anything else that is absent is unknown."""
        derive = DERIVED.get(name)
        value = None if derive is None else derive(self)
        self[name] = value
        return value


class TracedView(View):
    """A view that remembers which facts were read.

    A verdict depends on nothing that was not read on the way to it: a fact outside ``read``
    cannot flip it alone.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """Start with nothing read."""
        super().__init__(facts)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Return a fact and note that it was read."""
        self.read.add(name)
        return super().__getitem__(name)


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
