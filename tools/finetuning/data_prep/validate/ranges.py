"""Checks a large file range by range, alone or with helpers; a range is megabytes of whole lines.

Helpers are copies of this process where it has no other thread, else they run this module with
``python -m``; they speak over pipes, and end with those. What a killed one had in hand, the parent
does. The checks in full are imported when a line needs them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from finetuning import copied, read_frame, write_frame
from finetuning.data_prep.validate.plain import PlainRows
from finetuning.data_prep.validate.quick import QuickCheck, quick_check
from finetuning.data_prep.validate.skim import BLOCK_BYTES, Skimmed, Skimmer
from finetuning.data_prep.validate.typed import (
    Job,
    Part,
    Span,
    identity,
    spans,
)

if TYPE_CHECKING:
    import subprocess

    from finetuning.data_prep.validate.scan import PartScan

RANGE_BYTES, COUNTED_RANGE_BYTES = 2 << 20, 1 << 20
"""Bytes of a range, fewer where tokens are counted; plain rows are read a third at a time."""
_LONG_LINE_BYTES, _IN_HAND = 8 << 20, 2


def _tools(raw: bytes) -> tuple[frozenset[str], int] | None:
    from finetuning.data_prep.validate.scan import check_tools

    return check_tools(raw)


class RangeScan:
    """Checks ranges of one file."""

    def __init__(self, job: Job, *, plain: bool = True) -> None:
        """Open the file; ``plain`` rows may be proven without decoding them."""
        self._job = job
        self._stream = Path(job.path).open("rb", buffering=0)  # noqa: SIM115 - closed below
        self._same = identity(self._stream) == job.identity
        check = cast("QuickCheck", quick_check(job.target, job.method, _tools))
        proven = PlainRows(job.target) if plain and not job.count_tokens else None
        self._skimmer = Skimmer(check, proven)
        self._slow: PartScan | None = None
        self._buffer = bytearray(BLOCK_BYTES if proven is None else RANGE_BYTES // 3 + (16 << 10))

    @property
    def untouched(self) -> bool:
        """True while no line needed the checks in full."""
        return self._slow is None

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def scan(self, span: Span) -> Part:
        """Check one range."""
        part = Part(end=span.end, changed=not self._same)
        collecting = gc.isenabled()
        gc.disable()  # rows make no cycles, and each block of them would be searched for some
        try:
            self._read(span, part)
        finally:
            if collecting:
                gc.enable()
        if self._job.count_tokens:
            self._scanner().finish(part)
        return part

    def _read(self, span: Span, part: Part) -> None:
        left, held = span.end - span.start, 0
        self._stream.seek(span.start)
        block = self._buffer
        while (left or held) and not part.changed:
            with memoryview(block)[held : held + left] as room:
                read = self._stream.readinto(room) if room else 0
            part.changed = not read and bool(left) and held < len(block)
            left, held = left - read, held + read
            cut = block.rfind(b"\n", 0, held) + 1
            if cut:
                self._block(block, cut, part)
                block[: held - cut] = block[cut:held]
                held -= cut
            elif not left and block[held - 1] == 0x0D:
                self._lines(iter((bytes(block[:held]),)), part)
                return
            elif not left:
                block = block[:held] + b"\n"  # the last line of a file may have no end
                held += 1
            elif held > _LONG_LINE_BYTES:
                self._stream_lines(bytes(block[:held]), left, part)
                return
            elif held == len(block):
                block = block + bytes(len(block))

    def _scanner(self) -> PartScan:
        """Return the checks in full; imported when a line needs them."""
        if self._slow is None:
            from finetuning.data_prep.validate.scan import PartScan

            self._slow = PartScan(self._job)
        return self._slow

    def _block(self, block: bytearray, size: int, part: Part) -> None:
        skimmed = self._skimmer.skim(block, size)
        if skimmed is None:
            self._lines(iter((bytes(block[:size]),)), part)
            return
        if self._job.count_tokens:
            self._counted(skimmed, part)
        else:
            part.n_rows += skimmed.n_lines - len(skimmed.doubtful)
            part.own_shape = part.own_shape or skimmed.n_lines > len(skimmed.doubtful)
            for at, raw in skimmed.doubtful:
                self._scanner().line(part, part.n_lines + at + 1, raw)
        part.n_lines += skimmed.n_lines

    def _counted(self, skimmed: Skimmed, part: Part) -> None:
        """Count the tokens of the rows, and take the lines in their order where one needs it."""
        scanner = self._scanner()
        counted = scanner.tokens(skimmed.rows)
        part.n_rows += len(counted)
        part.own_shape = part.own_shape or bool(counted)
        if not skimmed.doubtful and scanner.fits(counted):
            return
        doubtful, tokens = dict(skimmed.doubtful), iter(counted)
        for at in range(skimmed.n_lines):
            number = part.n_lines + at + 1
            if at in doubtful:
                scanner.line(part, number, doubtful[at])
            else:
                scanner.length(part, number, next(tokens))

    def _lines(self, chunks: Iterator[bytes], part: Part) -> None:
        """Check lines in full, whatever ends them, at bounded memory."""
        from finetuning.files.chunks import split_lines

        for raw in split_lines(chunks):
            part.n_lines += 1
            self._scanner().line(part, part.n_lines, raw)

    def _stream_lines(self, head: bytes, left: int, part: Part) -> None:
        """Check the rest of a range that has a very long line."""

        def chunks() -> Iterator[bytes]:
            nonlocal left
            yield head
            while left:
                chunk = self._stream.read(min(left, BLOCK_BYTES))
                if not chunk:
                    part.changed = True
                    return
                left -= len(chunk)
                yield chunk

        self._lines(chunks(), part)


class _Helper:
    """A process that checks ranges for this one."""

    def __init__(self, job: Job) -> None:
        self.in_hand: deque[Span] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._copy, self._sink, self._source = copied(_serve) or (0, *self._start())
        self.alive = True
        self._send(job)

    def _start(self) -> tuple[IO[bytes], IO[bytes]]:
        import subprocess

        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-m", RangeScan.__module__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # faster to start, and smaller
            process_group=0,  # an interrupt is for the parent, which closes the pipes
        )
        return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)

    def _send(self, message: Any) -> None:
        self.alive = False
        with contextlib.suppress(OSError):
            write_frame(self._sink, message)
            self.alive = True

    def give(self, span: Span) -> None:
        """Hand over a range."""
        self.in_hand.append(span)
        self._send(span)

    def ready(self) -> bool:
        """Say whether a result can be taken without waiting."""
        return bool(select.select([self._source], [], [], 0)[0])

    def take(self) -> tuple[int, Part] | None:
        """Return number and result of the oldest range; None where the helper is gone."""
        part = read_frame(self._source, Part)
        if part is None:
            self.alive = False
            return None
        return self.in_hand.popleft().number, part

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._copy, signal.SIGKILL)
            os.waitpid(self._copy, 0)
        self._source.close()
        with contextlib.suppress(BrokenPipeError):
            self._sink.close()


def scan_ranges(job: Job, start: int, helpers: int) -> Iterator[Part]:
    """Yield what was found in the ranges of a file from ``start`` on, in their order."""
    own, crew = RangeScan(job), list[_Helper]()
    try:
        crew = [_Helper(job) for _ in range(helpers)]
        with Path(job.path).open("rb", buffering=0) as stream:
            length = COUNTED_RANGE_BYTES if job.count_tokens else RANGE_BYTES
            yield from _in_order(own, crew, spans(stream, start, job.identity[1], length))
    finally:
        own.close()
        for helper in crew:
            helper.close()


def _in_order(own: RangeScan, crew: list[_Helper], todo: Iterator[Span]) -> Iterator[Part]:
    done: dict[int, Part] = {}
    again: deque[Span] = deque()  # what helpers that are gone had in hand
    due = 0
    while True:
        for helper in crew:
            while helper.alive and helper.in_hand and helper.ready():
                _collect(helper, done)
            while helper.alive and len(helper.in_hand) < _IN_HAND and (span := next(todo, None)):
                helper.give(span)
            if not helper.alive:
                again.extend(helper.in_hand)
                helper.in_hand.clear()
        mine = again.popleft() if again else next(todo, None)
        if mine is not None:
            done[mine.number] = own.scan(mine)
        else:
            waiting = next((helper for helper in crew if helper.in_hand), None)
            if waiting is not None:
                _collect(waiting, done)
        while due in done:
            yield done.pop(due)
            due += 1
        if mine is None and not again and not any(helper.in_hand for helper in crew):
            return


def _collect(helper: _Helper, done: dict[int, Part]) -> None:
    """Take one result, if the helper is not gone."""
    taken = helper.take()
    if taken is not None:
        done[taken[0]] = taken[1]


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Check the ranges that come until there are no more."""
    job: Job | None = read_frame(source, Job)
    if job is None:
        return
    scan = RangeScan(job)
    while (span := read_frame(source, Span)) is not None:
        write_frame(sink, scan.scan(span))


if __name__ == "__main__":
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # the parent is gone
        os._exit(0)
