"""The rules: read once from rules.jsonl, checked, and compiled to tests of facts.

Each line of the file is one row: gates in the order in which they speak, verdicts in the order in
which they are tried (the first that fires is the candidate), then advice, next experiments,
questions and evidence. A rule names its evidence, and that carries the source and the day.

A test is true, false, or unknown where a fact is absent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from finetuning.errors import RunFailedError
from finetuning.fit.schema import Axis, FitFacts, Stage, Verdict
from finetuning.providers.catalogue import Confidence

Scalar = bool | int | float | str
Truth = bool | None
Test = Callable[[Mapping[str, Any]], Truth]
"""Takes the facts (absent ones read as None) and answers true, false or unknown."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One test of one fact, or ``any`` of several tests.

    ``is``, ``is_not``, ``in`` compare; ``has`` and ``lacks`` look into a list; the four
    comparisons take numbers; ``known`` asks whether the fact is there at all.
    """

    fact: str = ""
    is_: Scalar | None = msgspec.field(default=None, name="is")
    is_not: Scalar | None = None
    in_: tuple[Scalar, ...] = msgspec.field(default=(), name="in")
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None
    known: bool | None = None
    any: tuple[Condition, ...] = ()

    def facts(self) -> Iterator[str]:
        """Yield the names this condition reads."""
        if self.fact:
            yield self.fact
        for part in self.any:
            yield from part.facts()

    def thresholds(self) -> Iterator[tuple[str, float]]:
        """Yield (fact, number) for every comparison with a number."""
        for bound in (self.at_least, self.more_than, self.at_most, self.less_than):
            if bound is not None:
                yield self.fact, bound
        for part in self.any:
            yield from part.thresholds()


def compile_all(conditions: tuple[Condition, ...]) -> Test:
    """Return the conjunction of conditions: false wins over unknown, unknown over true."""
    tests = [compile_one(condition) for condition in conditions]

    def conjunction(facts: Mapping[str, Any]) -> Truth:
        answer: Truth = True
        for test in tests:
            one = test(facts)
            if one is False:
                return False
            if one is None:
                answer = None
        return answer

    return conjunction


def _disjunction(tests: list[Test]) -> Test:
    def test(facts: Mapping[str, Any]) -> Truth:
        answer: Truth = False
        for part in tests:
            one = part(facts)
            if one:
                return True
            if one is None:
                answer = None
        return answer

    return test


def compile_one(condition: Condition) -> Test:
    """Return one condition as a function of the facts."""
    if condition.any:
        return _disjunction([compile_one(part) for part in condition.any])
    name = condition.fact
    if condition.known is not None:
        wanted = condition.known
        return lambda facts: (facts[name] is not None) is wanted
    check = _check_of(condition)
    return lambda facts: None if (value := facts[name]) is None else check(value)


def _check_of(condition: Condition) -> Callable[[Any], bool]:
    checks: list[tuple[Any, Callable[[Any], bool]]] = [
        (condition.is_, lambda value: bool(value == condition.is_)),
        (condition.is_not, lambda value: bool(value != condition.is_not)),
        (condition.in_ or None, lambda value: value in condition.in_),
        (condition.has or None, lambda value: any(part in value for part in condition.has)),
        (
            condition.lacks or None,
            lambda value: not any(part in value for part in condition.lacks),
        ),
        (condition.at_least, lambda value: bool(value >= condition.at_least)),
        (condition.more_than, lambda value: bool(value > condition.more_than)),
        (condition.at_most, lambda value: bool(value <= condition.at_most)),
        (condition.less_than, lambda value: bool(value < condition.less_than)),
    ]
    used = [check for given, check in checks if given is not None]
    if len(used) == 1:
        return used[0]
    return lambda value: all(check(value) for check in used)


RULES: Final = Path(__file__).with_name("rules.jsonl")

DECIDED: Final = "candidate candidate_trains candidate_needs_eval verdict trains".split()
"""Facts that exist once a candidate, and then the verdict, is known."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="row"):
    """One line of the file; ``row`` says which kind."""


class Rule(Row, frozen=True, kw_only=True, tag="advice"):
    """When it fires, what it says, on what evidence."""

    id: str
    evidence: tuple[str, ...]
    stage: Stage = "advice"
    status: Literal["fail", "unknown"] = "fail"
    axis: Axis | None = None
    verdict: Verdict | None = None
    acceptable: tuple[Verdict, ...] = ()
    when: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()
    why: str = ""
    conditions: tuple[str, ...] = ()
    must_do: str = ""
    caution: str = ""

    def facts(self) -> Iterator[str]:
        """Yield the names that decide whether the rule fires."""
        for condition in (*self.when, *self.unless):
            yield from condition.facts()


class GateRule(Rule, frozen=True, kw_only=True, tag="gate"):
    """A rule that may overrule the candidate verdict."""


class VerdictRule(Rule, frozen=True, kw_only=True, tag="verdict"):
    """A rule that proposes the candidate verdict."""


class Probe(Row, frozen=True, kw_only=True, tag="question"):
    """A fact worth asking for, and the answers that are tried."""

    fact: str
    values: tuple[Any, ...]
    ask: str
    how: str
    tool: str | None = None
    relevant: tuple[Condition, ...] = ()


class Experiment(Row, frozen=True, kw_only=True, tag="experiment"):
    """The cheapest next step of a verdict, with the tokens that it costs."""

    verdict: Verdict
    what: str
    hours: float
    tokens_in: int = 0
    tokens_out: int = 0
    train_tokens: int = 0


class Evidence(Row, frozen=True, kw_only=True, tag="evidence"):
    """A claim with its source and the day it was read."""

    id: str
    claim: str
    source: str
    as_of: str
    confidence: Confidence


AnyRow = Rule | GateRule | VerdictRule | Probe | Experiment | Evidence


class CompiledRule:
    """A rule with its conditions as functions."""

    __slots__ = ("rule", "unless", "when")

    def __init__(self, rule: Rule) -> None:
        """Compile the conditions once."""
        self.rule = rule
        self.when: Test = compile_all(rule.when)
        self.unless: list[Test] = [compile_all((part,)) for part in rule.unless]

    def fires(self, facts: Mapping[str, Any]) -> Truth:
        """Say whether the rule fires: every ``when`` true and no ``unless`` true."""
        held = self.when(facts)
        if held and any(test(facts) for test in self.unless):
            return False
        return held


class RuleBook:
    """All rules, probes, experiments and evidence, checked against each other."""

    def __init__(self, rows: Sequence[AnyRow]) -> None:
        """Sort the rows by kind and check them."""
        self.gates = [CompiledRule(row) for row in rows if isinstance(row, GateRule)]
        self.verdicts = [CompiledRule(row) for row in rows if isinstance(row, VerdictRule)]
        self.advice = [CompiledRule(row) for row in rows if type(row) is Rule]
        self.experiments = {row.verdict: row for row in rows if isinstance(row, Experiment)}
        self.probes = tuple(row for row in rows if isinstance(row, Probe))
        self.thresholds = self._thresholds()
        self.relevant = {probe.fact: compile_all(probe.relevant) for probe in self.probes}
        self.evidence = {row.id: row for row in rows if isinstance(row, Evidence)}
        faults = self._faults()
        if faults:
            raise RunFailedError(
                "fit rules", "; ".join(faults), "rules that fit together", "Undo the last edit"
            )

    def _faults(self) -> list[str]:
        from finetuning.fit.derived import DERIVED

        names = {*FitFacts.model_fields, *DERIVED, *DECIDED}
        rules = [compiled.rule for compiled in (*self.gates, *self.verdicts, *self.advice)]
        read = [(rule.id, name) for rule in rules for name in rule.facts()]
        for probe in self.probes:
            read += [(probe.fact, name) for part in probe.relevant for name in part.facts()]
        found = [f"{who} reads unknown fact {name!r}" for who, name in read if name not in names]
        found += [
            f"{rule.id} cites unknown evidence {name!r}"
            for rule in rules
            for name in rule.evidence
            if name not in self.evidence
        ]
        found += [f"{rule.id} has no evidence" for rule in rules if not rule.evidence]
        found += [
            f"probe of unknown fact {probe.fact!r}"
            for probe in self.probes
            if probe.fact not in FitFacts.model_fields
        ]
        return found

    def _thresholds(self) -> dict[str, list[float]]:
        found: dict[str, set[float]] = {}
        for compiled in (*self.gates, *self.verdicts):
            for condition in (*compiled.rule.when, *compiled.rule.unless):
                for name, bound in condition.thresholds():
                    found.setdefault(name, set()).add(bound)
        return {name: sorted(bounds) for name, bounds in found.items()}


def read_rules(path: Path) -> RuleBook:
    """Read a file of rules.

    Raises:
        RunFailedError: A line is no row, or a row names what does not exist.
    """
    try:
        return RuleBook(msgspec.json.Decoder(AnyRow).decode_lines(path.read_bytes()))
    except (OSError, msgspec.DecodeError) as error:
        raise RunFailedError(
            "fit rules",
            f"{type(error).__name__}: {error}",
            "rules as finetuning.fit.rulebook describes them",
            "Undo the last edit",
        ) from error


@functools.cache
def rule_book() -> RuleBook:
    """Return the rules that ship, read on first use."""
    return read_rules(RULES)
