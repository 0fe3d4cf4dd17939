"""What a target is asked and what it answers, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from finetuning.evaluation.questions import Question

FinishReason = Literal["stop", "length", "missing", "error"]


class Answer(NamedTuple):
    """One answer to one question.

    Attributes:
        text: What the model wrote; None where there is no answer.
        finish_reason: Why it ended; ``missing`` and ``error`` count as failures.
        seconds: Wall time until the answer was there (shared by the rows of a batch).
        output_tokens: Tokens it wrote, if known.
        nll: Mean negative log-likelihood of the reference in nats per token, if asked and known.
    """

    text: str | None = None
    finish_reason: FinishReason = "missing"
    seconds: float | None = None
    output_tokens: int | None = None
    nll: float | None = None


MISSING = Answer()


@dataclass(frozen=True, slots=True)
class Job:
    """Questions of one purpose, and what is wanted for each.

    Attributes:
        name: ``test``, ``general`` or ``train``; a side's own prompts make it ``test@side``.
        questions: In file order.
        generate: Whether an answer is to be written.
        nll: Whether the reference is to be scored.
    """

    name: str
    questions: Sequence[Question]
    generate: bool = True
    nll: bool = True


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A base on this disk, with or without an adapter."""

    spec: str
    base: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedTarget:
    """Answers that were written down before."""

    spec: str
    path: str


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """An OpenAI-compatible server."""

    spec: str
    secure: bool
    host: str
    port: int
    path: str
    model: str

    @property
    def loopback(self) -> bool:
        """Whether the server runs on this machine."""
        return is_loopback(self.host)


Target = LocalTarget | RecordedTarget | HttpTarget


@dataclass(frozen=True, slots=True)
class Side:
    """One competitor: a name, its target and the jobs it is given."""

    name: str
    target: Target
    jobs: Sequence[Job]


class Outcome(NamedTuple):
    """What all sides answered.

    Attributes:
        answers: side → job → id → answer.
        faults: Reasons why the comparison is not fair or not complete.
        notes: What a reader should know although it does not spoil the comparison.
        provenance: Versions, digests and settings of what ran.
    """

    answers: dict[str, dict[str, dict[str, Answer]]]
    faults: list[str]
    notes: list[str]
    provenance: Mapping[str, object]


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
