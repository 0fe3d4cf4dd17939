"""Many questions to one server: some at once, asked again when it is busy, paid for once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from finetuning import runs
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.sending import AnswerStore, Item, key_of
from finetuning.evaluation.servers import Asker, Params, RequestFailedError
from finetuning.evaluation.targets import Answer, AskedTarget, HttpTarget, Job, is_remote
from finetuning.evaluation.vendors import open_asker

if TYPE_CHECKING:
    pass

AT_ONCE: Final = 8
"""Requests at a time where the caller names no number."""

_TRIES: Final = 5
PAUSE_SECONDS: tuple[float, float] = (0.5, 30.0)
"""Shortest and longest pause between two attempts, where the server asks for none."""

_LONGEST_RETRY_AFTER_SECONDS: Final = 120.0
_AGAIN: Final = frozenset({0, 408, 409, 425, 429, 500, 502, 503, 504, 529})
_USELESS: Final = frozenset({401, 402, 403, 404})
"""Key, account, permission, model: the next request would fail the same way."""

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
    """One round of questions to one server.

    Attributes:
        target: Who is asked.
        at_once: Most requests at a time.
        repeat_lost: Ask again where no reply came although the request was sent; it may then be
            paid for twice.
        store: Where answers of other machines are kept.
        on_answer: Told the number of every item and its answer as soon as that is safe on disk.
        useless: Status after which nothing more is asked; None while there is hope.
        fixed_temperature: The model took no temperature: answers may differ between runs.
    """

    target: AskedTarget
    at_once: int = AT_ONCE
    repeat_lost: bool = True
    store: AnswerStore = field(default_factory=AnswerStore)
    on_answer: Callable[[int, Answer], None] | None = None
    useless: int | None = None
    fixed_temperature: bool = False

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
                again = error.status in _AGAIN and (self.repeat_lost or not paid)
                pause = pause_seconds(attempt, error.wait)
                if not again or attempt == _TRIES - 1 or pause is None:
                    if error.status in _USELESS:
                        self.useless = error.status
                    return Answer(finish_reason="error", status=error.status), unsure
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the last attempt returns


def pause_seconds(attempt: int, wait: float | None) -> float | None:
    """Return how long to wait before the next attempt, or None where that is too long.

    Args:
        attempt: Attempts that failed so far, less one.
        wait: What the server asked for (``Retry-After``), if it did.
    """
    if wait is not None:
        return wait if wait <= _LONGEST_RETRY_AFTER_SECONDS else None
    shortest, longest = PAUSE_SECONDS
    return min(longest, shortest * 2.0**attempt) * random.uniform(0.5, 1.0)


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
    """Return a server's answers to a job's questions with greedy decoding, and what to know.

    Answers of other machines that were paid for before are not asked for again.

    Args:
        target: The server or the vendor's model.
        side: Name of the side, for the texts.
        job: The questions.
        max_tokens: Most tokens to write per answer.
        score: Ask a server on this machine for the likelihood of the references, too.
    """
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
