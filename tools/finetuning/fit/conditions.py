"""Conditions of rules: true, false, or unknown where a fact is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

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
