"""What a target is asked and answers, how a text such as ``local:DIR+ADAPTER`` names one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from finetuning import runs
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation.inputs import Question
from finetuning.files import resolve_read
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
        input_tokens: Tokens it read, if known.
        status: HTTP status of a request that failed, 0 where no reply came; else None.
        kept: It was paid for by an earlier call and read from this disk.
    """

    text: str | None = None
    finish_reason: FinishReason = "missing"
    seconds: float | None = None
    output_tokens: int | None = None
    nll: float | None = None
    input_tokens: int | None = None
    status: int | None = None
    kept: bool = False


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
    """Answers that were written down before, by this or by another tool.

    Attributes:
        spec: As the caller wrote it.
        path: The file.
        part: Which of several models of one file, by its name there.
    """

    spec: str
    path: str
    part: str | None = None


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


Vendor = Literal["openai", "azure", "anthropic", "bedrock", "vertex"]
VENDORS: Final[dict[str, str]] = {
    "openai": "api.openai.com",
    "azure": "the Azure OpenAI resource",
    "anthropic": "api.anthropic.com",
    "bedrock": "Amazon Bedrock",
    "vertex": "Vertex AI",
}
"""Vendors asked through their own package, and where prompts go unless the environment differs."""


@dataclass(frozen=True, slots=True)
class VendorTarget:
    """A model of a vendor, asked through the vendor's own package; always another machine."""

    spec: str
    vendor: Vendor
    model: str

    @property
    def host(self) -> str:
        """Where prompts go: the vendor, or the address that the environment sets for it."""
        return urlsplit(address_of(self.vendor) or "").hostname or VENDORS[self.vendor]


def address_of(vendor: Vendor) -> str | None:
    """Return the address that the environment sets for a vendor, or None for the vendor's own."""
    found = {
        "openai": os.environ.get("OPENAI_BASE_URL"),
        "azure": os.environ.get("AZURE_OPENAI_ENDPOINT"),
        "anthropic": os.environ.get("ANTHROPIC_BASE_URL"),
        "bedrock": os.environ.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
        "vertex": os.environ.get("GOOGLE_VERTEX_BASE_URL"),
    }[vendor]
    return found or None


AskedTarget = HttpTarget | VendorTarget
"""Answers over HTTP."""

Target = LocalTarget | RecordedTarget | HttpTarget | VendorTarget


def is_remote(target: Target) -> bool:
    """Say whether asking the target sends prompts to another machine."""
    return isinstance(target, VendorTarget) or (
        isinstance(target, HttpTarget) and not target.loopback
    )


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


KINDS: Final = (
    *("local:DIR", "local:DIR+ADAPTER", "run:RUN_ID", "recorded:FILE", "http://HOST/v1#MODEL"),
    *("openai:MODEL", "azure:DEPLOYMENT", "anthropic:MODEL", "bedrock:ID", "vertex:ID"),
)
"""How a target can be named."""


def parse_target(spec: str, *, where: str) -> Target:
    """Return the target that a text names; files and runs are looked up at once.

    Args:
        spec: One of :data:`KINDS`; the adapter stands after the last ``+``, and a recorded file
            that holds several models takes the name of one after ``#``.
        where: Name of the argument, for the error text.

    Raises:
        UnknownNameError: The kind of target is not known.
        BadInputError: The folder, file, run or address cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if kind in {"http", "https"}:
        return _http(spec, where)
    if kind not in {"local", "run", "recorded", *VENDORS} or not rest.strip():
        raise UnknownNameError(where, "target", spec[:80], KINDS)
    if kind in VENDORS:
        return VendorTarget(spec, cast("Vendor", kind), rest.strip())
    if kind == "recorded":
        return _recorded(spec, rest, where)
    if kind == "run":
        return _run(spec, rest, where)
    return _local(spec, rest, where)


def _recorded(spec: str, rest: str, where: str) -> RecordedTarget:
    file, mark, part = rest.rpartition("#")
    if mark and file and not Path(rest).expanduser().exists():
        return RecordedTarget(spec, str(resolve_read(file, where=where)), part)
    return RecordedTarget(spec, str(resolve_read(rest, where=where)))


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
