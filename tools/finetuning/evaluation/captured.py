"""What a capture leaves: rows of a growing file, their terms, and the result."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from pydantic import Field

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation.results import RemotePlan
from finetuning.records import Finding, Fraction, Json, ToolResult, Usd

if TYPE_CHECKING:
    from finetuning.evaluation.inputs import Question
    from finetuning.evaluation.targets import Answer, Target

WHERE: Final = "capture_outputs"
_BATCH: Final = 32


class CapturedOutputs(ToolResult, defer_build=True):
    """How many prompts are answered, where the answers are, what they cost."""

    n_prompts: int
    n_done: int = Field(description="Prompts whose every sample is in the output file.")
    n_failed: int = Field(description="Prompts asked without success; ask again to repeat them.")
    n_unsure: int = Field(
        default=0,
        description="Requests cut off after they were sent: perhaps paid, not asked again unless "
        "retry_unsure is true.",
    )
    n_known: int = Field(default=0, description="Answers that an earlier call paid for.")
    samples: int
    output_file: str = Field(description="JSONL, usable as recorded:FILE.")
    cost_usd: Usd | None = Field(description="Most in a dry run, else by tokens; None: unknown.")
    run_id: str | None = None
    agreement: Fraction | None = Field(
        default=None,
        description="Chance that two samples of a prompt are the same text: the ceiling of any "
        "claim to equal this model.",
    )
    output_terms: str = Field(description="closed:…, open:LICENCE:… or unknown:…, as in each row.")
    personal_data: dict[str, int] = Field(
        default_factory=dict[str, int], description="Findings in the prompts by type."
    )
    stopped: str = Field(default="", description="Why asking ended early, if it did.")
    plan: RemotePlan | None = None
    plan_id: str | None = None
    needs_approval: bool = False

    def exit_code(self) -> int:
        """Return 0 when all is done or planned, 1 when some failed, 4 when all did."""
        if self.plan is not None or self.n_done == self.n_prompts:
            return 0
        return 1 if self.n_done else 4

    def summary(self) -> str:
        """Return the counts."""
        if self.plan is not None:
            return f"dry run: {'; '.join(self.plan.steps)}"
        text = f"{self.n_done} of {self.n_prompts} prompts answered, {self.n_failed} failed"
        return f"{text}; {self.output_file}" + (f" ({self.stopped})" if self.stopped else "")


def read_prompts(path: Path) -> list[Question]:
    """Return the prompts of a file, with ids that are unique.

    Raises:
        BadInputError: No row holds a prompt, or an id repeats.
    """
    from finetuning.evaluation.inputs import Question
    from finetuning.files import read_records

    found: dict[str, Question] = {}
    rows = 0
    for record in read_records(path):
        rows += 1
        if isinstance(record, Finding):
            continue
        name, prompt = record.data.get("id"), record.data.get("prompt")
        turns = record.data.get("messages") if prompt is None else prompt
        key = str(name) if isinstance(name, str | int) and name != "" else str(record.line)
        if isinstance(turns, list):
            messages = [
                cast("dict[str, Json]", turn)
                for turn in cast("list[Any]", turns)
                if isinstance(turn, dict)
            ]
            while messages and messages[-1].get("role") == "assistant":
                messages.pop()
            question = Question(key, record.line, None, tuple(messages), "") if messages else None
        else:
            question = Question(key, record.line, prompt, None, "") if prompt else None
        if question is None:
            continue
        if key in found:
            raise BadInputError(
                f"{WHERE}: prompts",
                f"line {record.line} repeats an id of line {found[key].line}",
                "unique ids",
                "Give each row an id of its own, or none",
            )
        found[key] = question
    if not found:
        raise BadInputError(
            f"{WHERE}: prompts",
            f"none of the {rows} rows of {path.name} holds a prompt",
            "rows with prompt, or with messages",
            "Name a file of prompt or messages rows",
        )
    return list(found.values())


class AnswerFile:
    """A recorded file that grows by whole rows; a torn last line of a killed process is cut off.

    Attributes:
        path: The file.
        rows: (id, sample) → the row without its text, of all that stands there.
        hashes: id → digest of every sample's text.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Read what is there (nothing is written); ``fresh`` begins again instead."""
        self.path = path
        self.rows: dict[tuple[str, int], dict[str, Json]] = {}
        self.hashes: dict[str, list[str]] = {}
        self._end = 0
        self._waiting: list[str] = []
        self._stream: IO[bytes] | None = None
        if path.exists() and not fresh:
            self._read()

    def _read(self) -> None:
        with self.path.open("rb") as stream:
            for line in stream:
                try:
                    row: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
                    key = (str(row["id"]), int(row["sample"]))
                except (ValueError, KeyError, TypeError):
                    break
                self._end += len(line)
                self._note(key, row)

    def _note(self, key: tuple[str, int], row: dict[str, Json]) -> None:
        from finetuning.files import digest

        self.hashes.setdefault(key[0], []).append(digest(str(row.get("output", "")).strip()))
        self.rows[key] = {name: value for name, value in row.items() if name != "output"}

    @contextlib.contextmanager
    def open(self) -> Generator[None]:
        """Hold the file for writing; all rows are on disk at the end.

        Raises:
            BadInputError: Another process is writing it.
        """
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BadInputError(
                    "capture_outputs: output",
                    f"another process is writing {self.path.name}",
                    "a file that nobody writes",
                    "Wait for it, or name another file",
                ) from error
            stream.seek(self._end)
            stream.truncate()
            self._stream = stream
            try:
                yield
            finally:
                self.flush()
                self._stream = None

    def add(self, row: dict[str, Json]) -> None:
        """Add one row; every 32 of them go to disk together."""
        self._note((str(row["id"]), int(row["sample"])), row)
        self._waiting.append(json.dumps(row, ensure_ascii=False) + "\n")
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Put all rows on disk."""
        if self._stream is not None and self._waiting:
            self._stream.write("".join(self._waiting).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._waiting.clear()


def row_of(key: str, sample: int, answer: Answer) -> dict[str, Json]:
    """Return one answer as a row of the output."""
    row: dict[str, Json] = {
        "id": key,
        "sample": sample,
        "output": answer.text or "",
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
        "tokens_in": answer.input_tokens,
        "tokens_out": answer.output_tokens,
    }
    return {**row, "known": True} if answer.kept else row


def agreement_of(samples: Mapping[str, Sequence[str]]) -> float | None:
    """Return the chance that two samples of one prompt are equal; None with one sample each.

    Args:
        samples: id → digest of every sample's text.
    """
    shares = [
        sum(a == b for n, a in enumerate(texts) for b in texts[:n])
        * 2
        / len(texts)
        / (len(texts) - 1)
        for texts in samples.values()
        if len(texts) > 1
    ]
    return round(sum(shares) / len(shares), 6) if shares else None


_CLOSED: Final = ("gpt", "o1", "o3", "o4", "claude", "gemini", "anthropic.", "amazon.", "cohere.")


def terms_of(target: Target) -> str:
    """Return what is known of the terms under which a model's answers may be used.

    ``closed:MODEL`` is a vendor's own model, whose terms usually restrict training of others;
    ``open:LICENCE:MODEL`` is an open base of the catalogue; else ``unknown:MODEL``. Nothing here
    is a permission: compliance_report asks for the terms of every row that a model wrote.

    Args:
        target: Who answers.
    """
    from finetuning.evaluation.targets import HttpTarget, LocalTarget, VendorTarget
    from finetuning.providers import find_model

    if isinstance(target, LocalTarget):
        return f"unknown:{Path(target.base).name}"
    if not isinstance(target, HttpTarget | VendorTarget):
        return "unknown:recorded"
    vendor = target.vendor if isinstance(target, VendorTarget) else ""
    name = target.model
    if vendor in {"openai", "anthropic"} or name.startswith("ft:"):
        return f"closed:{vendor or 'openai'}:{name}"
    if vendor and name.casefold().startswith(_CLOSED):
        return f"closed:{vendor}:{name}"
    for provider in (vendor or "local", "local"):
        try:
            licence = find_model(provider, name).licence
        except UnknownNameError:
            continue
        if licence is not None:
            kind = "closed" if licence == "proprietary" else f"open:{licence}"
            return f"{kind}:{name}"
    return f"unknown:{name}"
