"""Goes through a file once, alone or with helper processes that check ranges of it.

Helpers are started with ``python -m`` and speak over pipes: no state of this process is copied,
threads do no harm, and a helper ends when its pipe does. What a helper that was killed had in
hand, this process does itself.
"""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

from finetuning.data_prep.validate import ranges
from finetuning.data_prep.validate.codes import finding
from finetuning.data_prep.validate.quick import quick_check
from finetuning.data_prep.validate.ranges import RangeScan, identity, spans
from finetuning.data_prep.validate.rows import fast_check
from finetuning.data_prep.validate.scan import LineScan, check_tools
from finetuning.data_prep.validate.typed import Job, Part, Span, read_frame, write_frame
from finetuning.data_prep.validate.wrapping import check_after, check_before, open_file
from finetuning.files.chunks import (
    UTF16_32_MARKS,
    DamagedFileError,
    FileGuard,
    compression_of,
    split_lines,
)
from finetuning.files.json_rows import json_elements
from finetuning.records import Json, Severity
from finetuning.runs import progress

_HELPED_BYTES: Final = 24 << 20
_COUNTED_BYTES: Final = 6 << 20
"""Files from this size on are worth the start of a helper process."""
_RANGED_BYTES: Final = 2 << 20
"""Files from this size on are read in ranges of typed rows."""
_PROGRESS_BYTES: Final = 16 << 20
_IN_HAND: Final = 2


class _Helper:
    """A process that checks ranges for this one."""

    def __init__(self, job: Job) -> None:
        self.in_hand: deque[Span] = deque()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-m", RangeScan.__module__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # faster to start, and smaller
            process_group=0,  # an interrupt is for the parent, which closes the pipes
        )
        self._sink = cast("IO[bytes]", self._process.stdin)
        self._source = cast("IO[bytes]", self._process.stdout)
        self.alive = True
        self._send(job)

    def _send(self, message: Any) -> None:
        try:
            write_frame(self._sink, message)
        except OSError:
            self.alive = False

    def give(self, span: Span) -> None:
        """Hand over a range."""
        self.in_hand.append(span)
        self._send(span)

    def ready(self) -> bool:
        """Say whether a result can be taken without waiting."""
        import select

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
        self._process.kill()
        self._process.communicate()


def helper_count(size: int, *, count_tokens: bool) -> int:
    """Return how many helper processes a file of so many bytes is worth.

    Args:
        size: Bytes of the file.
        count_tokens: Tokens are counted, too, which takes ten times as long.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return min(cores - 1, size // (_COUNTED_BYTES if count_tokens else _HELPED_BYTES), 7)


def scan_ranges(job: Job, start: int, helpers: int) -> Iterator[Part]:
    """Yield what was found in the ranges of a file, in their order.

    Args:
        job: What to check.
        start: First byte of the first line.
        helpers: Processes beside this one.
    """
    own = RangeScan(job)
    crew: list[_Helper] = []
    try:
        crew = [_Helper(job) for _ in range(helpers)]
        with Path(job.path).open("rb", buffering=0) as stream:
            length = ranges.COUNTED_RANGE_BYTES if job.count_tokens else ranges.RANGE_BYTES
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
                _collect(helper, done, again)
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
                _collect(waiting, done, again)
        while due in done:
            yield done.pop(due)
            due += 1
        if mine is None and not again and not any(helper.in_hand for helper in crew):
            return


def _collect(helper: _Helper, done: dict[int, Part], again: deque[Span]) -> None:
    """Take one result, or what the helper had in hand if it is gone."""
    taken = helper.take()
    if taken is not None:
        done[taken[0]] = taken[1]
        return
    again.extend(helper.in_hand)
    helper.in_hand.clear()


def _is_bare(path: Path) -> bool:
    """Say that the bytes of a file are its lines: neither packed nor UTF-16 or UTF-32."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return not head.startswith(tuple(mark for mark, _ in UTF16_32_MARKS)) and not compression_of(
        path
    )


class FileScan(LineScan):
    """One pass over one file."""

    def run(self, path: Path, model: str | None = None) -> None:
        """Read the file to its end, whatever is in it; helpers count tokens for ``model``."""
        size = path.stat().st_size
        self.tally.add(check_before(path, size, self.target, self.limits))
        opened = open_file(path, wants_bom=self.target.name == "azure_chat")
        self.tally.add(opened.findings)
        ranged = size >= _RANGED_BYTES and self._has_quick_check() and _is_bare(path)
        try:
            if opened.form == "lines" and ranged:
                self._ranges(path, model)
            elif opened.form == "lines":
                self._lines(opened.chunks, size)
            elif opened.form == "document":
                self._document(opened.chunks)
        except DamagedFileError as error:
            self.tally.add([finding("damaged_file", error.what)])
            return
        if opened.form != "nothing":
            self._finish()

    def _lines(self, chunks: Iterator[bytes], size: int) -> None:
        fast, bill = fast_check(self.target.name, self.method), self.bill
        done = reported = 0
        for number, raw in enumerate(split_lines(chunks), start=1):
            done += len(raw)
            if done - reported >= _PROGRESS_BYTES:
                reported = done
                progress(done, size, "validate")
            if fast is not None and fast(raw) and raw[-1:] != b"\r":
                self.n_rows += 1
                self.own_shape = True
                if bill is not None:
                    self.count(number, _decode(raw))
                continue
            self.line(number, raw)

    def _ranges(self, path: Path, model: str | None) -> None:
        """Read a large file in ranges, in helper processes, too, where it is worth it."""
        guard = FileGuard(path)
        with path.open("rb") as stream:
            known, bom = identity(stream), stream.read(3) == codecs.BOM_UTF8
        counted = self.bill is not None
        job = Job(str(path), known, self.target.name, self.method, model, counted)
        first = 1
        helpers = helper_count(known[1], count_tokens=counted)
        for part in scan_ranges(job, 3 if bom else 0, helpers):
            if part.changed:
                break
            self._take(part, first)
            first += part.n_lines
            progress(part.end, known[1], "validate")
        guard.check()

    def _take(self, part: Part, first: int) -> None:
        """Add what was found in a range whose first line has the number ``first``."""
        self.n_rows += part.n_rows
        self.own_shape = self.own_shape or part.own_shape
        for line, field, code, severity, message in part.found:
            if code == "cr_line_ends" and self.cr_seen:
                continue
            self.cr_seen = self.cr_seen or code == "cr_line_ends"
            number = first + line - 1
            sure = cast("Severity", severity)
            self.tally.add([finding(code, message, line=number, field=field, severity=sure)])
        if self.bill is not None:
            self.bill.merge(part.lengths, part.billed)

    def _document(self, chunks: Iterator[bytes]) -> None:
        for element in json_elements(chunks):
            if isinstance(element, tuple):
                self.row(*element)
            else:
                self.tally.add([element])

    def _finish(self) -> None:
        """Add what only the whole file shows."""
        if not self.n_rows:
            self.tally.add([finding("empty_file", "the file holds no rows")])
            return
        if self.own_shape and self.tally.counts["wrong_format"]:
            count = self.tally.counts["wrong_format"]
            self.tally.add([finding("mixed_formats", f"{count} of {self.n_rows} rows")])
        if self.target.name == "trl_kto" and len(self.labels) == 1:
            self.tally.add([finding("one_label_only", "all labels are the same")])
        self.tally.add(check_after(self.n_rows, self.limits))

    def _has_quick_check(self) -> bool:
        return quick_check(self.target.name, self.method, check_tools) is not None


def _decode(raw: bytes) -> dict[str, Json]:
    import msgspec

    return msgspec.json.decode(raw, type=dict[str, Json])
