"""Checks the lines of a large file range by range; a range is some megabytes of whole lines.

Run as a module this is a helper process: it takes a job and then ranges over its standard input
until that ends. The checks in full are imported when a line needs them.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from finetuning.data_prep.validate.quick import QuickCheck, quick_check
from finetuning.data_prep.validate.skim import BLOCK_BYTES, Skimmed, Skimmer
from finetuning.data_prep.validate.typed import Job, Part, Span, read_frame, write_frame

if TYPE_CHECKING:
    from finetuning.data_prep.validate.scan import PartScan

RANGE_BYTES: Final = 4 << 20
COUNTED_RANGE_BYTES: Final = 1 << 20
"""Bytes of a range; smaller where tokens are counted, so that no process waits long."""
_LONG_LINE_BYTES: Final = 8 << 20
_SEARCH_BYTES: Final = 1 << 16


def identity(stream: IO[bytes]) -> tuple[int, int, int]:
    """Return inode, size and time of change of an open file."""
    state = os.fstat(stream.fileno())
    return state.st_ino, state.st_size, state.st_mtime_ns


def spans(stream: IO[bytes], start: int, size: int, length: int) -> Iterator[Span]:
    """Yield ranges of whole lines, about ``length`` bytes each, from ``start`` on."""
    for number in itertools.count():
        if start >= size:
            return
        place = min(start + length, size)
        while place < size:
            stream.seek(place - 1)
            chunk = stream.read(_SEARCH_BYTES)
            found = chunk.find(b"\n")
            if found >= 0:
                place += found
                break
            place = min(place + len(chunk), size) if chunk else size
        yield Span(number, start, place)
        start = place


class RangeScan:
    """Checks ranges of one file."""

    def __init__(self, job: Job) -> None:
        """Open the file."""
        self._job = job
        self._stream = Path(job.path).open("rb", buffering=0)  # noqa: SIM115 - closed below
        self._same = identity(self._stream) == job.identity
        self._skimmer = Skimmer(_quick(job))
        self._slow: PartScan | None = None
        self._buffer = bytearray(BLOCK_BYTES)

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
        """Take the lines one by one, to count the tokens of each."""
        doubtful = dict(skimmed.doubtful)
        rows = iter(skimmed.rows)
        scanner = self._scanner()
        for at in range(skimmed.n_lines):
            number = part.n_lines + at + 1
            if at in doubtful:
                scanner.line(part, number, doubtful[at])
            else:
                part.n_rows += 1
                part.own_shape = True
                scanner.tokens(part, number, next(rows))

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


def _quick(job: Job) -> QuickCheck:
    from functools import cache

    @cache
    def tools(raw: bytes) -> tuple[frozenset[str], int] | None:
        from finetuning.data_prep.validate.scan import check_tools

        return check_tools(raw)

    return cast("QuickCheck", quick_check(job.target, job.method, tools))


def _serve() -> None:
    """Check the ranges that come over standard input until it ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    job: Job | None = read_frame(source, Job)
    if job is None:
        return
    scan = RangeScan(job)
    while (span := read_frame(source, Span)) is not None:
        write_frame(sink, scan.scan(span))


if __name__ == "__main__":
    try:
        _serve()
    except BrokenPipeError:  # the parent is gone
        os._exit(0)
