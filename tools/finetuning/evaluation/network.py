"""Many questions to one server: some at once, asked again when it is busy, paid for once.

Answers that a capture gets this way go to a file that grows by whole rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.sending import AnswerStore, Item, key_of
from finetuning.evaluation.servers import (
    AGAIN_STATUS,
    USELESS_STATUS,
    Asker,
    Params,
    RequestFailedError,
    pause_seconds,
)
from finetuning.evaluation.targets import Answer, AskedTarget, HttpTarget, Job, is_remote
from finetuning.evaluation.vendors import open_asker
from finetuning.records import Json

AT_ONCE: Final = 8
"""Requests at a time where the caller names no number."""

_TRIES: Final = 5

T = TypeVar("T")


class _Committer:
    """Writes what many tasks want written in one transaction, and wakes them when it is safe."""

    def __init__(self, write: Callable[[list[Any]], None]) -> None:
        self._write = write
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, entry: Any) -> None:
        """Return when the entry is on disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        await done

    def flush(self) -> None:
        """Write what a cancelled round left behind."""
        batch, self._waiting = self._waiting, []
        if batch:
            self._write([entry for entry, _ in batch])

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, [entry for entry, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)


@dataclass(slots=True)
class Round:
    """One round of questions to one server."""

    target: AskedTarget
    at_once: int = AT_ONCE  # most requests at a time
    repeat_lost: bool = True  # ask again where no reply came: it may then be paid for twice
    store: AnswerStore = field(default_factory=AnswerStore)
    on_answer: Callable[[int, Answer], None] | None = None  # told once an answer is on disk
    useless: int | None = None  # status after which nothing more is asked
    fixed_temperature: bool = False  # the model took none: answers may differ between runs

    async def run(self, items: Sequence[Item], numbers: Sequence[int]) -> None:
        """Ask the items with these numbers; their answers go to ``on_answer``."""
        left = iter(numbers)
        sent, ended = _Committer(self.store.note_sent), _Committer(self.store.note_ends)
        remote = is_remote(self.target)

        async def work(asker: Asker) -> None:
            for number in left:
                if self.useless is not None:
                    self._tell(number, Answer(finish_reason="error", status=self.useless))
                    continue
                key = key_of(self.target, items[number])
                if remote:
                    await sent.add((key, self.target.spec))
                answer, unsure = await self._ask(asker, items[number])
                if remote and not unsure:
                    await ended.add((key, None if answer.finish_reason == "error" else answer))
                self._tell(number, answer)

        try:
            async with open_asker(self.target, self.at_once) as asker, asyncio.TaskGroup() as group:
                for _ in range(min(self.at_once, len(numbers))):
                    group.create_task(work(asker))
            self.fixed_temperature = bool(getattr(asker, "fixed_temperature", False))
        except ExceptionGroup as errors:  # of workers; one is enough to know
            raise errors.exceptions[0] from None
        finally:
            ended.flush()

    def _tell(self, number: int, answer: Answer) -> None:
        if self.on_answer is not None:
            self.on_answer(number, answer)

    async def _ask(self, asker: Asker, item: Item) -> tuple[Answer, bool]:
        """Return an answer, and whether an attempt without one may have been paid for."""
        question, unsure = item.question, False
        messages = question.prompt or "" if question.messages is None else question.messages
        for attempt in range(_TRIES):
            try:
                return await asker.generate(messages, item.params), False
            except RequestFailedError as error:
                paid = error.sent and error.status in {0, 200}
                unsure = unsure or paid
                again = error.status in AGAIN_STATUS and (self.repeat_lost or not paid)
                pause = pause_seconds(attempt, error.wait)
                if not again or attempt == _TRIES - 1 or pause is None:
                    if error.status in USELESS_STATUS:
                        self.useless = error.status
                    return Answer(finish_reason="error", status=error.status), unsure
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the last attempt returns


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also from code that itself runs in an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, work).result()


async def _score(target: HttpTarget, questions: Sequence[Question]) -> dict[str, float]:
    """Return id → nats per token of the reference; empty where the server cannot tell."""
    found: dict[str, float] = {}
    left = iter(questions)

    async def work(asker: Asker) -> None:
        for question in left:
            messages = question.prompt or "" if question.messages is None else question.messages
            with contextlib.suppress(RequestFailedError):
                value = await asker.nll(messages, question.reference)
                if value is None:
                    return
                found[question.id] = value

    async with open_asker(target, AT_ONCE) as asker, asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(questions))):
            group.create_task(work(asker))
    return found


def ask_server(
    target: AskedTarget, side: str, job: Job, max_tokens: int, *, score: bool = False
) -> tuple[dict[str, Answer], list[str]]:
    """Return a server's answers to a job's questions with greedy decoding, and what to know."""
    items = [Item(question, Params(max_tokens)) for question in job.questions]
    store = AnswerStore()
    found: dict[int, Answer] = {}
    twins: dict[str, list[int]] = {}
    if is_remote(target):
        for number, item in enumerate(items):
            twins.setdefault(key_of(target, item), []).append(number)
        done, _ = store.read(twins)
        found = {number: answer for key, answer in done.items() for number in twins[key]}
    same = {numbers[0]: numbers for numbers in twins.values()}
    new = [number for number in (same or range(len(items))) if number not in found]
    kept = len(found)

    def take(number: int, answer: Answer) -> None:
        found.update(dict.fromkeys(same.get(number, [number]), answer))
        runs.progress(len(found), len(items), f"asking {side}")

    asked = Round(target, store=store, on_answer=take)
    if new:
        wait_for(asked.run(items, new))
    notes: list[str] = []
    if kept:
        notes.append(f"{side}: {kept} of {len(items)} answers were paid for by an earlier call")
    if asked.fixed_temperature:
        notes.append(f"{side}: the model takes no temperature; its answers may differ next time")
    rows = {item.question.id: found[number] for number, item in enumerate(items)}
    if score and job.nll and isinstance(target, HttpTarget) and target.loopback:
        scores = wait_for(_score(target, job.questions))
        rows = {key: answer._replace(nll=scores.get(key)) for key, answer in rows.items()}
        if scores:
            notes.append(f"{side}: likelihoods per token mean the same with one tokenizer only")
    return rows, notes


_ROWS_AT_ONCE: Final = 32


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
        """Hold the file for writing; all rows are on disk at the end."""
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
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Put all rows on disk."""
        if self._stream is not None and self._waiting:
            self._stream.write("".join(self._waiting).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._waiting.clear()
