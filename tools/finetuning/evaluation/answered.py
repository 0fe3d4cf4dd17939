"""A comparison whose questions are all answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from finetuning.evaluation.call import Call
from finetuning.evaluation.competitors import BASE
from finetuning.evaluation.material import Material
from finetuning.evaluation.scoring import Answers
from finetuning.evaluation.targets import LocalTarget, Outcome, Side


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
