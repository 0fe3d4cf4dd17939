"""Who competes: base, tuned and arms, each with the questions it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning.errors import BadInputError
from finetuning.evaluation.questions import Question
from finetuning.evaluation.results import Arm
from finetuning.evaluation.targets import (
    HttpTarget,
    Job,
    LocalTarget,
    RecordedTarget,
    Side,
    Target,
    parse_target,
)

BASE, TUNED = "base", "tuned"


@dataclass(frozen=True, slots=True)
class Competitors:
    """The targets of one comparison.

    Attributes:
        targets: Name → target; ``base`` first, then ``tuned`` if there is one, then the arms.
        arms: Name → what the caller said of the arm.
    """

    targets: dict[str, Target]
    arms: dict[str, Arm]

    @property
    def remote(self) -> list[str]:
        """Hosts that are not this machine."""
        found = [t for t in self.targets.values() if isinstance(t, HttpTarget) and not t.loopback]
        return sorted({target.host for target in found})

    @property
    def comparable(self) -> bool:
        """Whether base and tuned both give likelihoods."""
        named = [self.targets[name] for name in (BASE, TUNED) if name in self.targets]
        return len(named) == 2 and all(isinstance(target, LocalTarget) for target in named)

    def changed(self, name: str) -> bool:
        """Say whether a side is another model than the base (not only another prompt)."""
        base, side = self.targets[BASE], self.targets[name]
        if isinstance(base, LocalTarget) and isinstance(side, LocalTarget):
            return (base.base, base.adapter) != (side.base, side.adapter)
        return base != side


def name_competitors(base: str, tuned: str | None, arms: Sequence[Arm]) -> Competitors:
    """Return the targets that the arguments name.

    Raises:
        BadInputError: A target cannot be used, a name is taken, or an arm changes the prompt of
            answers that were recorded before.
    """
    targets = {BASE: parse_target(base, where="compare_eval: base")}
    if tuned is not None:
        targets[TUNED] = parse_target(tuned, where="compare_eval: tuned")
    for arm in arms:
        where = f"compare_eval: arm {arm.name!r}"
        if arm.name in {*targets, TUNED} or "@" in arm.name:
            raise BadInputError(
                where, "the name is taken or holds '@'", "a name of its own", "Rename the arm"
            )
        target = parse_target(arm.target, where=where)
        if isinstance(target, RecordedTarget) and (arm.system or arm.few_shot):
            raise BadInputError(
                where,
                "recorded answers cannot be asked with another prompt",
                "no system and no few_shot",
                "Record the answers to the other prompt in a file of their own",
            )
        targets[arm.name] = target
    return Competitors(targets, {arm.name: arm for arm in arms})


def build_sides(
    competitors: Competitors,
    test: Sequence[Question],
    examples: Sequence[Question],
    elsewhere: Job | None,
    seen: Job | None,
) -> list[Side]:
    """Return every side with its jobs; the first job of each is the test.

    Args:
        competitors: Who competes.
        test: The held-out rows.
        examples: Training rows, for arms with examples in the prompt.
        elsewhere: Rows that have nothing to do with the task, or None.
        seen: Training rows to look for memorisation, or None.
    """
    sides: list[Side] = []
    for name, target in competitors.targets.items():
        arm = competitors.arms.get(name)
        job = Job("test", test)
        if arm is not None and (arm.system or arm.few_shot):
            shots = examples[: arm.few_shot or 0]
            asked = [_with_prompt(question, arm.system, shots) for question in test]
            job = Job(f"test@{name}", asked)
        jobs = [job]
        other_model = name in {BASE, TUNED} or competitors.changed(name)
        if elsewhere is not None and isinstance(target, LocalTarget) and other_model:
            jobs.append(elsewhere)
        if seen is not None and name in {BASE, TUNED}:
            jobs.append(seen)
        sides.append(Side(name, target, jobs))
    return sides


def _with_prompt(question: Question, system: str | None, shots: Sequence[Question]) -> Question:
    """Return the question with an instruction and examples before it."""
    if question.messages is None:
        before = [system] if system else []
        before += [f"{shot.asked()}{shot.reference}" for shot in shots]
        return replace(question, prompt="\n\n".join([*before, question.prompt or ""]))
    own = [message for message in question.messages if message.get("role") == "system"]
    rest = [message for message in question.messages if message.get("role") != "system"]
    head = [{"role": "system", "content": system}] if system else own
    turns = [
        turn
        for shot in shots
        for turn in (
            {"role": "user", "content": shot.asked()},
            {"role": "assistant", "content": shot.reference},
        )
    ]
    return replace(question, messages=(*head, *turns, *rest))
