"""Everything that is read before anything is asked, and the answers that came back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.call import WHERE, Call
from finetuning.evaluation.competitors import BASE, Competitors, build_sides, name_competitors
from finetuning.evaluation.general import general_job
from finetuning.evaluation.metrics import Metric, choose_metrics
from finetuning.evaluation.questions import QuestionSet, held_out_file, read_questions
from finetuning.evaluation.scoring import Answers
from finetuning.evaluation.seen import memorisation_job
from finetuning.evaluation.targets import HttpTarget, Job, LocalTarget, Outcome, Side
from finetuning.files import data_files


@dataclass(frozen=True, slots=True)
class Material:
    """Rows, competitors and jobs of one comparison.

    Attributes:
        test: The held-out rows.
        train: Training rows, if given.
        elsewhere: Rows that have nothing to do with the task, where a side can score them.
        seen: Sample of the training rows to score, where base and tuned can.
        metrics: What to report, the deciding one first.
        competitors: Who competes.
        sides: Who is asked what.
    """

    test: QuestionSet
    train: QuestionSet | None
    elsewhere: Job | None
    seen: Job | None
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
    metrics = choose_metrics(call.metrics, [question.reference for question in test.questions])
    train = _train(call)
    _refuse_examples_without_train(competitors, train)
    if any(question.messages is not None for question in test.questions):
        _refuse_chats_without_template(competitors)
    local = isinstance(competitors.targets["base"], LocalTarget)
    elsewhere = general_job(call.general)  # read even where it cannot be used: a typo is an error
    if not (local and any(competitors.changed(name) for name in competitors.targets)):
        elsewhere = None
    seen = memorisation_job(train.questions) if train and competitors.comparable else None
    examples = train.questions if train else []
    sides = build_sides(competitors, test.questions, examples, elsewhere, seen)
    return Material(test, train, elsewhere, seen, metrics, competitors, sides)


def describe_steps(material: Material) -> list[str]:
    """Return what would happen, in words without row content."""
    steps: list[str] = []
    for side in material.sides:
        asked = sum(len(job.questions) for job in side.jobs if job.generate)
        scored = sum(len(job.questions) for job in side.jobs if job.nll)
        if isinstance(side.target, LocalTarget):
            steps.append(f"{side.name}: answer {asked} and score {scored} rows on this machine")
        elif isinstance(side.target, HttpTarget):
            place = "this machine" if side.target.loopback else side.target.host
            steps.append(f"{side.name}: send {asked} prompts to {place}")
        else:
            steps.append(f"{side.name}: read recorded answers")
    return steps


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
        if isinstance(target, LocalTarget) and not _has_template(Path(target.base)):
            raise BadInputError(
                f"{WHERE}: {name}",
                "the rows are chats and this base's tokenizer has no chat template",
                "a base with a chat template, or rows of prompt and completion",
                "Convert the data: fine-tuning prepare-data FILE --target trl_prompt_completion"
                " --output-dir prepared",
            )


def _has_template(base: Path) -> bool:
    if any(base.glob("chat_template*")):
        return True
    config = base / "tokenizer_config.json"
    return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8")


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
