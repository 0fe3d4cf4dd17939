"""Who competes on which rows: all that is read before anything is asked, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.call import Call, chosen_metrics, held_out_file
from finetuning.evaluation.habits import canary_job, safety_job
from finetuning.evaluation.inputs import Question, QuestionSet, read_questions
from finetuning.evaluation.metrics import Answers, Metric, short_references
from finetuning.evaluation.results import WHERE, Arm
from finetuning.evaluation.sending import host_of
from finetuning.evaluation.side_effects import memorisation_job
from finetuning.evaluation.targets import (
    Job,
    LocalTarget,
    Outcome,
    RecordedTarget,
    Side,
    Target,
    parse_target,
)
from finetuning.files import data_files, resolve_read

BASE, TUNED = "base", "tuned"

PACK: Final = Path(__file__).with_name("general_pack.jsonl")
"""Short texts over six domains, written for this project (CC0)."""


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
        return sorted({host for target in self.targets.values() if (host := host_of(target))})

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
    by_heart: Sequence[Job],
) -> list[Side]:
    """Return every side with its jobs; the first job of each is the test.

    Args:
        competitors: Who competes.
        test: The held-out rows.
        examples: Training rows, for arms with examples in the prompt.
        elsewhere: Rows that have nothing to do with the task, or None.
        by_heart: Training rows and markers to look for memorisation.
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
        if name in {BASE, TUNED}:
            jobs += by_heart
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


@dataclass(frozen=True, slots=True)
class Material:
    """Rows, competitors and jobs of one comparison.

    Attributes:
        test: The held-out rows.
        train: Training rows, if given.
        elsewhere: Rows that have nothing to do with the task, where a side can score them.
        seen: Sample of the training rows to score, where base and tuned can.
        canaries: Markers that prepare_data planted in them, where there are any.
        metrics: What to report, the deciding one first.
        competitors: Who competes.
        sides: Who is asked what.
    """

    test: QuestionSet
    train: QuestionSet | None
    elsewhere: Job | None
    seen: Job | None
    canaries: Job | None
    metrics: list[Metric]
    competitors: Competitors
    sides: list[Side]

    @property
    def files(self) -> dict[str, Path]:
        """Name → data file that was read."""
        return {"data": self.test.path, **({"train": self.train.path} if self.train else {})}


def gather(call: Call) -> Material:
    """Read the rows and name the competitors; nothing is asked and nothing is written.

    Raises:
        BadInputError: A file, a target or a combination of arguments cannot be used.
    """
    competitors = name_competitors(call.base, call.tuned, call.chosen_arms())
    test = read_questions(
        held_out_file(call.data), where=f"{WHERE}: data", cluster_column=call.cluster_column
    )
    metrics = chosen_metrics(call.metrics, [question.reference for question in test.questions])
    train = _train(call)
    _refuse_examples_without_train(competitors, train)
    chats = any(question.messages is not None for question in test.questions)
    if chats:
        _refuse_chats_without_template(competitors)
    local = isinstance(competitors.targets["base"], LocalTarget)
    elsewhere = general_job(call.general)  # read even where it cannot be used: a typo is an error
    if not (local and any(competitors.changed(name) for name in competitors.targets)):
        elsewhere = None
    known = train if competitors.comparable else None
    seen = memorisation_job(known.questions) if known else None
    canaries = canary_job(known.path, chats=chats) if known else None
    examples = train.questions if train else []
    by_heart = [job for job in (seen, canaries) if job is not None]
    if chats and elsewhere is not None and call.general == "builtin" and competitors.comparable:
        by_heart.append(safety_job())
    sides = build_sides(competitors, test.questions, examples, elsewhere, by_heart)
    return Material(test, train, elsewhere, seen, canaries, metrics, competitors, sides)


def general_job(general: str) -> Job | None:
    """Return the rows to ask elsewhere.

    Args:
        general: ``builtin``, ``none``, or a file of prompt/completion, messages or text rows.

    Raises:
        BadInputError: The file cannot be read or holds no usable row.
    """
    if general == "none":
        return None
    where = "compare_eval: general"
    path = PACK if general == "builtin" else resolve_read(general, where=where)
    found = read_questions(path, where=where, texts=True).questions
    rows = [replace(question, id=str(number)) for number, question in enumerate(found, 1)]
    answered = [question for question in rows if question.asked()]
    short = len(answered) == len(rows) and short_references([q.reference for q in rows])
    return Job("general", rows, generate=short, nll=True)


def _train(call: Call) -> QuestionSet | None:
    if call.train is None:
        return None
    where = f"{WHERE}: train"
    files = data_files(call.train, where=where)
    path = files.get("train") or files.get("data")
    if path is None:
        raise BadInputError(
            where, f"{call.train!r} has no train.jsonl", "the training rows", "Name the file"
        )
    return read_questions(path, where=where)


def _refuse_examples_without_train(competitors: Competitors, train: QuestionSet | None) -> None:
    for name, arm in competitors.arms.items():
        if arm.few_shot and train is None:
            raise BadInputError(
                f"{WHERE}: arm {name!r}",
                f"few_shot={arm.few_shot} and no training rows to take examples from",
                "train, a file of training rows",
                "Pass train=FILE: examples from the test rows would give the answers away",
            )


def _refuse_chats_without_template(competitors: Competitors) -> None:
    for name, target in competitors.targets.items():
        if isinstance(target, LocalTarget) and not target.has_template:
            raise BadInputError(
                f"{WHERE}: {name}",
                "the rows are chats and this base's tokenizer has no chat template",
                "a base with a chat template, or rows of prompt and completion",
                "Convert the data: fine-tuning prepare-data FILE --target trl_prompt_completion"
                " --output-dir prepared",
            )


@dataclass(frozen=True, slots=True)
class Answered:
    """A comparison whose questions are all answered."""

    call: Call
    material: Material
    outcome: Outcome

    def test(self, name: str) -> Answers:
        """Return a side's answers to the held-out rows."""
        return self.outcome.answers[name].get(self.side(name).jobs[0].name, {})

    def job(self, name: str, job: str) -> Answers:
        """Return a side's answers to another job ({} where it had none)."""
        return self.outcome.answers[name].get(job, {})

    def side(self, name: str) -> Side:
        """Return a side by its name."""
        return next(side for side in self.material.sides if side.name == name)

    @property
    def models(self) -> list[dict[str, Any]]:
        """What each local base says of itself."""
        return cast("list[dict[str, Any]]", self.outcome.provenance.get("models", []))

    def same_tokens(self, name: str) -> bool:
        """Say whether likelihoods per token of a side and of the base mean the same."""
        targets = self.material.competitors.targets
        base, side = targets[BASE], targets[name]
        if not (isinstance(base, LocalTarget) and isinstance(side, LocalTarget)):
            return True  # recorded: whoever wrote both files vouches for it
        return base.base == side.base or len({m["tokenizer_sha256"] for m in self.models}) == 1
