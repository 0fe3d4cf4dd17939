"""Grades an answer to "should I fine-tune?" by code: verdict parsed, patterns, no model.

The same grader reads what ``assess_fit`` returns and what any assistant wrote. A scenario is held
out when the SHA-256 of its id is divisible by three; held-out ones are graded apart, at the end.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
VERDICTS = (
    "keep_current prompt_first rag_first hybrid_rag_sft constrained_decoding "
    "cheaper_base_or_cache build_eval_first fix_data fix_eval sft dpo kto rl "
    "continued_pretraining distill_smaller small_encoder migrate_provider conditional stop_blocked"
).split()
REACH = {"acceptable": 0.95, "exact": 0.85, "must": 0.90}


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case: what a person wrote, what it means as facts, and what a good answer holds."""

    id: str
    prompt: str
    facts: dict[str, Any]
    verdict: str
    why: str
    evidence: tuple[str, ...]
    acceptable: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    lang: str = "en"

    @property
    def held_out(self) -> bool:
        """Say whether this scenario is kept unread until the end."""
        return int(hashlib.sha256(self.id.encode()).hexdigest(), 16) % 3 == 0


def read_scenarios(folder: Path = HERE / "scenarios") -> list[Scenario]:
    """Return every scenario of a folder, file by file."""
    found: list[Scenario] = []
    for path in sorted(folder.glob("*.toml")):
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
        found += msgspec.convert(rows, list[Scenario])
    return found


@dataclass(frozen=True)
class Grade:
    """What one answer was worth: the verdict read from it, and each pattern with its evidence."""

    scenario: Scenario
    verdict: str | None
    missing: tuple[str, ...]
    forbidden: tuple[str, ...]
    evidence: Mapping[str, str]

    @property
    def exact(self) -> bool:
        """Say whether the verdict is the one wanted."""
        return self.verdict == self.scenario.verdict

    @property
    def acceptable(self) -> bool:
        """Say whether an expert could defend the verdict."""
        return self.exact or self.verdict in self.scenario.acceptable

    def checks(self) -> list[dict[str, Any]]:
        """Return the assertions as grading.json of the Agent Skills form holds them."""
        texts = assertions(self.scenario)
        said = f"verdict read: {self.verdict}"
        passed = [(self.acceptable, said)]
        passed += [(p not in self.missing, self._found(p)) for p in self.scenario.must]
        passed += [(p not in self.forbidden, self._found(p)) for p in self.scenario.must_not]
        return [
            {"text": text, "passed": ok, "evidence": why}
            for text, (ok, why) in zip(texts, passed, strict=True)
        ]

    def _found(self, pattern: str) -> str:
        text = self.evidence.get(pattern)
        return "no match" if text is None else f"matched {text!r}"


def assertions(scenario: Scenario) -> list[str]:
    """Return what a good answer must meet, in words."""
    allowed = ", ".join(dict.fromkeys((scenario.verdict, *scenario.acceptable)))
    found = [f"The verdict is one of: {allowed}"]
    found += [f"The answer matches /{pattern}/" for pattern in scenario.must]
    return found + [f"The answer does not match /{pattern}/" for pattern in scenario.must_not]


def read_verdict(text: str) -> str | None:
    """Return the verdict an answer states, or None.

    The last ``verdict: NAME`` line wins; without one, the only verdict named with an underscore.
    """
    names = "|".join(VERDICTS)
    stated = re.findall(rf"(?:verdict|结论|判断)\W{{0,6}}({names})\b", text, re.IGNORECASE)
    if stated:
        return str(stated[-1]).lower()
    named = {name for name in VERDICTS if "_" in name and name in text}
    return named.pop() if len(named) == 1 else None


def grade_text(scenario: Scenario, text: str, verdict: str | None) -> Grade:
    """Grade a text whose verdict is known; the verdict is part of what patterns see."""
    whole = f'{text}\n"verdict": "{verdict}"'
    matches = {
        pattern: match.group(0)
        for pattern in (*scenario.must, *scenario.must_not)
        if (match := re.search(pattern, whole, re.IGNORECASE)) is not None
    }
    return Grade(
        scenario=scenario,
        verdict=verdict,
        missing=tuple(p for p in scenario.must if p not in matches),
        forbidden=tuple(p for p in scenario.must_not if p in matches),
        evidence=matches,
    )


def grade_answer(scenario: Scenario, answer: str) -> Grade:
    """Grade what an assistant wrote."""
    return grade_text(scenario, answer, read_verdict(answer))


def grade_result(scenario: Scenario, result: Mapping[str, Any]) -> Grade:
    """Grade what ``assess_fit`` returned: the words a person would be told, not its tables."""
    told = ("why", "conditions", "must_do", "cautions", "next_experiment", "gates", "citations")
    parts = [json.dumps(result[name], ensure_ascii=False) for name in told]
    parts += [f"{row['fact']}: {row['ask']} {row['how_to_measure']}" for row in result["questions"]]
    return grade_text(scenario, "\n".join(parts), str(result["verdict"]))


@dataclass(frozen=True)
class Rates:
    """The four figures over a set of graded answers, with how many they rest on."""

    n: int
    acceptable: float
    exact: float
    must: float
    must_not: int

    def reached(self) -> bool:
        """Say whether every reach is met."""
        return (
            self.acceptable >= REACH["acceptable"]
            and self.exact >= REACH["exact"]
            and self.must >= REACH["must"]
            and self.must_not == 0
        )


def rates(grades: Sequence[Grade]) -> Rates:
    """Return acceptable, exact and must-mention as shares, and the forbidden as a count."""
    wanted = sum(len(grade.scenario.must) for grade in grades)
    missing = sum(len(grade.missing) for grade in grades)
    n = len(grades)
    return Rates(
        n=n,
        acceptable=sum(grade.acceptable for grade in grades) / n,
        exact=sum(grade.exact for grade in grades) / n,
        must=(wanted - missing) / wanted,
        must_not=sum(len(grade.forbidden) for grade in grades),
    )


STOP = frozenset(
    "a an and are as at be but by can do does for from has have how i in is it its just may me my "
    "no not of on or our so that the them then there they this to us was we what when which who "
    "why will with you your want make made should could would fix set one new right now using use "
    "用 怎么 什么 一个 我们 我的 一下 这个 这段 帮我 把这 办 了 吗 个 里".split()
)


def terms(text: str) -> set[str]:
    """Return the content words of a text, shortened to stems, and its Chinese pairs of signs."""
    words = re.findall(r"[a-z0-9][a-z0-9-]*", text.lower())
    stems = {_stem(part) for word in words for part in {word, *word.split("-")} if part}
    for run in re.findall(r"[\u4e00-\u9fff]+", text):
        stems |= {run[i : i + 2] for i in range(len(run) - 1)}
    return {stem for stem in stems if stem not in STOP and len(stem) > 1}


def _stem(word: str) -> str:
    if word in STOP:
        return word
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@dataclass(frozen=True)
class TriggerCheck:
    """How well words alone separate the prompts: the share ranked right, and who goes wrong."""

    auc: float
    recall: float
    false_alarms: list[str]
    missed: list[str]


def check_triggers(description: str, rows: Iterable[Mapping[str, Any]]) -> TriggerCheck:
    """Score each prompt by the share of its words that the description holds.

    Words that stand in many prompts of the other kind tell little, so a shared word counts by
    its rarity among all prompts. Code can see that a description names what people ask for, in
    both languages, and that near misses share little with it. It cannot see whether an assistant
    would load the skill, which other skills compete, or what a prompt means without its words.
    """
    listed = list(rows)
    positive = terms(description.split(" Not for")[0])
    scored = [(_overlap(terms(row["query"]), positive), row) for row in listed]
    yes = [score for score, row in scored if row["should_trigger"]]
    no = [score for score, row in scored if not row["should_trigger"]]
    pairs = [(a > b) + 0.5 * (a == b) for a in yes for b in no]
    missed = [row["query"] for score, row in scored if row["should_trigger"] and score < 1]
    alarms = [row["query"] for score, row in scored if not row["should_trigger"] and score >= 2]
    recall = 1 - len(missed) / len(yes)
    return TriggerCheck(sum(pairs) / len(pairs), recall, alarms, missed)


def _overlap(query: set[str], description: set[str]) -> int:
    return len(query & description)
