"""Blocks made by several processes, each started by ``python -m`` and spoken to through pipes.

Small inputs stay in this process. A process that dies is an error that says so; when this one
ends, whatever way, the others read the end of their pipe and end, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import os
import pickle
import selectors
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.preparation import WHERE, Options
from finetuning.data_prep.preparation.blocks import BlockMaker
from finetuning.data_prep.preparation.sources import Reader, Task
from finetuning.data_prep.preparation.table import Block, Table, spool_name
from finetuning.errors import BadInputError, RunFailedError, UnknownNameError
from finetuning.files.chunks import FileGuard
from finetuning.runs import progress

SMALL_BYTES: Final = 5_000_000
"""Up to this size starting processes costs more than it saves."""

MOST_WORKERS: Final = 16
_HEAD_BYTES: Final = 8


def count_workers(size: int) -> int:
    """Return how many processes an input of this size is worth; 0 stays in this one.

    Args:
        size: Bytes of all sources.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    enough = min(cores or 1, MOST_WORKERS)
    return enough if size >= SMALL_BYTES and enough > 1 and sys.executable else 0


def _send(pipe: IO[bytes], value: object) -> None:
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(body).to_bytes(_HEAD_BYTES, "little"))
    pipe.write(body)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """Return the next value; EOFError where the other side is gone."""
    head = pipe.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        raise EOFError
    body = pipe.read(int.from_bytes(head, "little"))
    return pickle.loads(body)  # noqa: S301 - our own child wrote it


class _Worker:
    """One child process."""

    def __init__(self, number: int, options: Options, folder: Path, *, plain: bool) -> None:
        """Start the process and tell it what all blocks have in common."""
        self.number = number
        paths = [path for path in sys.path if path]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "finetuning.data_prep.preparation.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "POLARS_MAX_THREADS": "1"},
        )
        self.task: int | None = None
        self.give((options, folder, number, plain))

    @property
    def answers(self) -> IO[bytes]:
        """The pipe that the answers come from."""
        return cast("IO[bytes]", self.child.stdout)

    def give(self, value: object) -> None:
        """Send something to a process that waits for it."""
        try:
            _send(cast("IO[bytes]", self.child.stdin), value)
        except OSError as error:
            raise self._lost() from error

    def take(self) -> Block:
        """Return the block that the process made; raise what it raised."""
        try:
            answer = _receive(self.answers)
        except (EOFError, pickle.UnpicklingError, OSError) as error:
            raise self._lost() from error
        if isinstance(answer, BaseException):
            raise answer
        self.task = None
        return cast("Block", answer)

    def _lost(self) -> RunFailedError:
        code = self.child.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return RunFailedError(
            WHERE,
            f"a worker process {how}",
            "processes that run to their end (signal 9 is often a lack of memory)",
            "Free some memory and call again; nothing was changed",
        )

    def close(self) -> None:
        """End the process, at once if it is at work."""
        for pipe in (self.child.stdin, self.child.stdout):
            with contextlib.suppress(OSError):
                cast("IO[bytes]", pipe).close()
        if self.task is not None:
            self.child.kill()
        self.child.wait()


def make_blocks(
    tasks: Iterable[Task], options: Options, folder: Path, n_workers: int, *, plain: bool
) -> Generator[tuple[int, Block]]:
    """Make every task into a block; blocks come with the number of their task, in any order.

    Args:
        tasks: What is to be made, read one after the other.
        options: What all have in common.
        folder: Where the spool files go.
        n_workers: Processes, or 0 to work in this one.
        plain: As for :class:`BlockMaker`.

    Raises:
        RunFailedError: A process died.
        OSError: A spool file could not be written.
        BadInputError: A source cannot be read or changed meanwhile.
    """
    options = dataclasses.replace(options, replay=None, exclude=(), split="auto")
    if not n_workers:
        with (folder / spool_name(0)).open("ab") as spool:
            maker = BlockMaker(options, spool, 0, plain=plain)
            for number, task in enumerate(tasks):
                yield number, maker.make(task)
        return
    with _started(options, folder, n_workers, plain=plain) as workers:
        yield from _shared_out(iter(enumerate(tasks)), workers)


@contextlib.contextmanager
def _started(
    options: Options, folder: Path, n_workers: int, *, plain: bool
) -> Generator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for number in range(n_workers):
            worker = _Worker(number, options, folder, plain=plain)
            workers.append(worker)  # one by one: those started are closed whatever comes
        yield workers
    finally:
        for worker in workers:
            worker.close()


def _shared_out(
    tasks: Iterator[tuple[int, Task]], workers: list[_Worker]
) -> Iterator[tuple[int, Block]]:
    """Keep every process at work until no task is left."""
    with selectors.DefaultSelector() as answers:
        for worker in workers:
            answers.register(worker.answers, selectors.EVENT_READ, worker)
        idle = list(workers)
        following = next(tasks, None)
        while following is not None or len(idle) < len(workers):
            while following is not None and idle:
                worker = idle.pop()
                worker.task = following[0]
                worker.give(following[1])
                following = next(tasks, None)
            for key, _ in answers.select():
                worker = cast("_Worker", key.data)
                number = cast("int", worker.task)
                block = worker.take()
                idle.append(worker)
                yield number, block


@dataclass(frozen=True, slots=True)
class Gathered:
    """What reading showed beside the rows.

    Attributes:
        table: The rows.
        names: Columns or keys that any row has.
        turn_tables: How many sources were tables with one turn per row.
        plain: Rows of targets of two shapes are written as texts.
    """

    table: Table
    names: set[str]
    turn_tables: int
    plain: bool


def gather(
    files: dict[str, Path], options: Options, folder: Path, *, plain: bool | None = None
) -> Gathered:
    """Read files into one table.

    Args:
        files: Name → path.
        options: What the person asked for.
        folder: New folder for the spool files.
        plain: Whether rows of targets of two shapes are texts; None: if all of them can be.

    Raises:
        BadInputError: A file is damaged or changes while it is read.
        RunFailedError: A worker process died.
    """
    size = sum(path.stat().st_size for path in files.values() if path.is_file())
    asked = plain is not False
    guards = [FileGuard(path) for path in files.values()]
    reader = Reader(options)
    tasks = itertools.chain.from_iterable(reader.tasks(*item) for item in files.items())
    made: dict[int, Block] = {}
    rows = 0
    progress(0, None, "reading rows")
    with contextlib.closing(
        make_blocks(tasks, options, folder, count_workers(size), plain=asked)
    ) as blocks:
        for number, block in blocks:
            made[number] = block
            rows += len(block.lines)
            progress(rows, None, "reading rows")
            if plain is None and not block.plain:
                break
    for guard in guards:
        guard.check()
    if plain is None and not all(block.plain for block in made.values()):
        for spool in folder.iterdir():
            spool.unlink()
        return gather(files, options, folder, plain=False)
    in_order = [made.pop(number) for number in sorted(made)]
    names = reader.names.union(*(block.names for block in in_order))
    table = Table(in_order, folder)
    table.rejections += reader.rejections
    return Gathered(table, names, reader.turn_tables, asked)


def check_columns(options: Options, found: Gathered) -> None:
    """Refuse a named column that no row has, and columns of a table of turns that none used."""
    named = options.columns.named()
    for argument, column in named.items():
        if column not in found.names:
            raise UnknownNameError(f"{WHERE}: {argument}", "column", column, found.names)
    names = ("conversation_column", "role_column", "content_column")
    given = [name for name in names if name in named]
    if HOLDS[options.target].form == "text" and given == ["content_column"]:
        return
    if given and not found.turn_tables:
        raise BadInputError(
            f"{WHERE}: {given[0]}",
            f"{', '.join(given)} without the columns that go with it",
            "conversation_column, role_column and content_column, and no prompt_column",
            "Name all three, or leave them out",
        )


def main() -> None:
    """Make blocks until the pipe ends; answers go to what was standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does not get between the answers
    tasks = sys.stdin.buffer
    gc.disable()  # rows refer to nothing that refers back: counting references frees them all
    options, folder, number, plain = _receive(tasks)
    with (folder / spool_name(number)).open("ab") as spool:
        maker = BlockMaker(options, spool, number, plain=plain)
        while True:
            try:
                task = _receive(tasks)
            except EOFError:
                return
            try:
                answer: object = maker.make(task)
            except Exception as error:  # whatever it is, the caller is told
                answer = error
            _send(answers, answer)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
