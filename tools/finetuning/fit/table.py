"""The rule files: read once, checked, compiled."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from finetuning.errors import RunFailedError
from finetuning.fit.conditions import Condition, Test, Truth, compile_all
from finetuning.fit.facts import FitFacts
from finetuning.fit.results import Axis, Stage, Verdict
from finetuning.providers.catalogue import Confidence

FOLDER: Final = Path(__file__).parent / "rules"

DECIDED: Final = (
    "candidate",
    "candidate_trains",
    "candidate_needs_eval",
    "verdict",
    "trains",
)
"""Facts that exist once a candidate, and then the verdict, is known."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row of the table: when it fires, what it says, on what evidence."""

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


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fact worth asking for, and the answers that are tried."""

    fact: str
    values: tuple[Any, ...]
    ask: str
    how: str
    tool: str | None = None
    relevant: tuple[Condition, ...] = ()


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The cheapest next step of a verdict, with the tokens that it costs."""

    what: str
    hours: float
    tokens_in: int = 0
    tokens_out: int = 0
    train_tokens: int = 0


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A claim with its source and the day it was read."""

    claim: str
    source: str
    as_of: str
    confidence: Confidence


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

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Convert and check the contents of the rule files, by file stem."""
        self.gates = _rules(files["gates"])
        self.verdicts = _rules(files["verdicts"])
        self.advice = _rules(files["advice"])
        self.experiments = msgspec.convert(
            files["advice"]["experiments"], dict[Verdict, Experiment]
        )
        self.probes = msgspec.convert(files["probes"]["probe"], tuple[Probe, ...])
        self.thresholds = self._thresholds()
        self.relevant = {probe.fact: compile_all(probe.relevant) for probe in self.probes}
        self.evidence = msgspec.convert(files["evidence"]["evidence"], dict[str, Evidence])
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


def _rules(file: Mapping[str, Any]) -> list[CompiledRule]:
    return [CompiledRule(rule) for rule in msgspec.convert(file["rule"], tuple[Rule, ...])]


def read_rules(folder: Path) -> RuleBook:
    """Read the five rule files of a folder.

    Raises:
        RunFailedError: A file is not TOML, breaks the schema, or names what does not exist.
    """
    import tomllib

    try:
        return RuleBook(
            {
                path.stem: tomllib.loads(path.read_text(encoding="utf-8"))
                for path in sorted(folder.glob("*.toml"))
            }
        )
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, KeyError) as error:
        raise RunFailedError(
            "fit rules",
            f"{type(error).__name__}: {error}",
            "rule files as finetuning.fit.table describes them",
            "Undo the last edit",
        ) from error


@functools.cache
def rule_book() -> RuleBook:
    """Return the rules that ship, read on first use."""
    return read_rules(FOLDER)
