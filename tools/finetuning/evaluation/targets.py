"""What a target is asked and answers, how a text such as ``local:DIR+ADAPTER`` names one.

Answers that were recorded before need nobody to be asked: they are read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from finetuning import runs
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation.inputs import Question
from finetuning.files import read_records, resolve_read
from finetuning.records import Finding, Record
from finetuning.settings import is_loopback

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

    @property
    def has_template(self) -> bool:
        """Whether the base's tokenizer has a chat template."""
        base = Path(self.base)
        if any(base.glob("chat_template*")):
            return True
        config = base / "tokenizer_config.json"
        return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8")


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


_KINDS = ("local:DIR", "local:DIR+ADAPTER", "run:RUN_ID", "recorded:FILE", "http://HOST/v1#MODEL")


def parse_target(spec: str, *, where: str) -> Target:
    """Return the target that a text names; files and runs are looked up at once.

    Args:
        spec: ``local:DIR``, ``local:DIR+ADAPTER`` (after the last ``+``), ``run:RUN_ID``,
            ``recorded:FILE`` or ``http://HOST/v1#MODEL``.
        where: Name of the argument, for the error text.

    Raises:
        UnknownNameError: The kind of target is not known.
        BadInputError: The folder, file, run or address cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if kind in {"http", "https"}:
        return _http(spec, where)
    if kind not in {"local", "run", "recorded"} or not rest.strip():
        raise UnknownNameError(where, "target", spec[:80], _KINDS)
    if kind == "recorded":
        return RecordedTarget(spec, str(resolve_read(rest, where=where)))
    if kind == "run":
        return _run(spec, rest, where)
    return _local(spec, rest, where)


def _local(spec: str, rest: str, where: str) -> LocalTarget:
    base, plus, adapter = rest.rpartition("+")
    if plus and adapter and base:
        return LocalTarget(spec, _base_folder(base, where), _adapter_folder(adapter, where))
    return LocalTarget(spec, _base_folder(rest, where))


def _run(spec: str, run_id: str, where: str) -> LocalTarget:
    row = runs.read_run(run_id)
    result: dict[str, Any] = row.result or {}
    base, adapter = result.get("base_model"), result.get("adapter_dir")
    if row.status != "succeeded" or not isinstance(base, str):
        raise BadInputError(
            where,
            f"run {run_id} ({row.tool}) is {row.status} and names no trained model",
            "a training run that succeeded",
            f"Run: fine-tuning get-run {run_id}",
        )
    folder = _adapter_folder(adapter, where) if isinstance(adapter, str) else None
    return LocalTarget(spec, _base_folder(base, where), folder)


def _folder_with(name: str, path: str, where: str, expected: str, step: str) -> str:
    folder = resolve_read(path, where=where, kind="folder")
    if not (folder / name).is_file():
        raise BadInputError(where, f"{path!r} has no {name}", expected, step)
    return str(folder)


def _base_folder(path: str, where: str) -> str:
    step = "Name the folder that holds config.json, tokenizer.json and the weights"
    form = "the folder of a model in Hugging Face format"
    return _folder_with("config.json", path, where, form, step)


def _adapter_folder(path: str, where: str) -> str:
    step = "Name the adapter folder after the last '+'"
    return _folder_with("adapter_config.json", path, where, "the folder of a PEFT adapter", step)


def _http(spec: str, where: str) -> HttpTarget:
    try:
        parts = urlsplit(spec)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit("http://"), 0
    if not parts.hostname or not parts.fragment or parts.username or parts.query:
        raise BadInputError(
            where,
            "the address lacks a host or a model, or holds a login or a query",
            "http://HOST:PORT/v1#MODEL",
            "Write the model's name after '#', for example http://localhost:8000/v1#my-model",
        )
    path = parts.path.rstrip("/")
    secure = parts.scheme == "https"
    return HttpTarget(spec, secure, parts.hostname, port, path, parts.fragment)


def read_recorded(
    target: RecordedTarget, side: str, job: Job
) -> tuple[dict[str, Answer], list[str], list[str]]:
    """Return the recorded answers to a job's questions, the faults and the notes.

    Rows without ``id`` are matched by line number; ``sample`` 0 is compared. A row may carry
    ``nll``, the likelihood that an earlier evaluation measured.

    Args:
        target: Where the answers are.
        side: Name of the side, for the texts.
        job: The questions asked.
    """
    found: dict[str, Answer] = {}
    repeated = broken = 0
    for record in read_records(Path(target.path)):
        if isinstance(record, Finding):
            broken += 1
            continue
        if record.data.get("sample", 0) != 0:
            continue
        key = _key(record)
        repeated += key in found
        found[key] = _answer(record)
    asked = {question.id for question in job.questions}
    matched = asked & found.keys()
    faults: list[str] = []
    notes: list[str] = []
    if repeated:
        faults.append(f"{side}: {repeated} recorded answers repeat an id")
    if not matched:
        faults.append(f"{side}: no recorded answer belongs to a row of the data")
    if broken:
        notes.append(f"{side}: {broken} lines of the recorded file cannot be read")
    if len(found) > len(matched) and matched:
        notes.append(f"{side}: {len(found) - len(matched)} recorded answers belong to no row")
    return {key: found[key] for key in matched}, faults, notes


def _key(record: Record) -> str:
    name = record.data.get("id")
    return str(name) if isinstance(name, str | int) and name != "" else str(record.line)


def _answer(record: Record) -> Answer:
    output, nll = record.data.get("output"), record.data.get("nll")
    likelihood = float(nll) if isinstance(nll, int | float) and math.isfinite(nll) else None
    if not isinstance(output, str) or not output.strip():
        return Answer(nll=likelihood)
    reason = record.data.get("finish_reason")
    return Answer(output, "length" if reason == "length" else "stop", nll=likelihood)
