"""Goes through a file once: how it is wrapped, its rows, and what only the whole of it shows."""

from __future__ import annotations

import codecs
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast

from finetuning.data_prep.targets import Target
from finetuning.data_prep.validate import Limits
from finetuning.data_prep.validate.quick import quick_check
from finetuning.data_prep.validate.ranges import scan_ranges
from finetuning.data_prep.validate.reports import finding
from finetuning.data_prep.validate.scan import LineScan, check_tools, fast_check
from finetuning.data_prep.validate.typed import Job, Part, identity
from finetuning.files import control_bytes
from finetuning.files.chunks import (
    UTF16_32_MARKS,
    DamagedFileError,
    FileGuard,
    compression_of,
    read_chunks,
    split_lines,
    utf8_chunks,
)
from finetuning.files.json_rows import is_document, json_elements
from finetuning.records import Finding, Json, Severity
from finetuning.runs import progress

_HELPED_BYTES: Final = 24 << 20
_COUNTED_BYTES: Final = 6 << 20
"""Files from this size on are worth the start of a helper process."""
_RANGED_BYTES: Final = 2 << 20
"""Files from this size on are read in ranges of typed rows."""
_PROGRESS_BYTES: Final = 16 << 20
_BEDROCK_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


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


def _is_bare(path: Path) -> bool:
    """Say that the bytes of a file are its lines: neither packed nor UTF-16 or UTF-32."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return not head.startswith(tuple(mark for mark, _ in UTF16_32_MARKS)) and not compression_of(
        path
    )


class Opened(NamedTuple):
    """A file whose wrapping is known.

    Attributes:
        findings: What is wrong with the wrapping.
        form: Rows on lines, rows in a JSON document, or nothing that can be read.
        chunks: The unpacked UTF-8 text without byte-order mark.
    """

    findings: list[Finding]
    form: Literal["lines", "document", "nothing"]
    chunks: Iterator[bytes]


def _nothing(*findings: Finding) -> Opened:
    return Opened(list(findings), "nothing", iter(()))


def _wrapping(path: Path, first: bytes, *, wants_bom: bool) -> list[Finding]:
    """Return findings about compression and encoding, by the first bytes."""
    found: list[Finding] = []
    packed = compression_of(path)
    if packed:
        found.append(finding("compressed_file", f"the file is {packed}"))
    if first.startswith(tuple(mark for mark, _ in UTF16_32_MARKS)):
        found.append(finding("utf16", "the file starts with a UTF-16 or UTF-32 mark"))
    elif first.startswith(codecs.BOM_UTF8):
        if not wants_bom:
            found.append(finding("utf8_bom", "a byte-order mark at byte 0", line=1))
    elif wants_bom and first.strip():
        found.append(finding("bom_missing", "no byte-order mark at byte 0", line=1))
    return found


def _unreadable(head: bytes) -> Finding | None:
    """Return the finding of a file that is not text."""
    controls = control_bytes(head)
    if not controls:
        return None
    even, odd = head[:4096:2].count(0), head[1:4096:2].count(0)
    if max(even, odd) > 0.3 * len(head[:4096]) / 2 and min(even, odd) < max(even, odd) / 4:
        return finding("utf16", "every second byte is NUL: UTF-16 without a mark")
    return finding("binary_file", f"{controls} control bytes at the start of the file")


def open_file(path: Path, *, wants_bom: bool) -> Opened:
    """Return how a file is wrapped, and its text.

    Args:
        path: A resolved path.
        wants_bom: The target asks for a byte-order mark (Azure).
    """
    packed_chunks = read_chunks(path)
    try:
        first = next(packed_chunks, b"")
    except DamagedFileError:
        return _nothing(finding("damaged_file", "the file is compressed, and cut off or damaged"))
    found = _wrapping(path, first, wants_bom=wants_bom)
    chunks = utf8_chunks(itertools.chain([first], packed_chunks), name=path.name)
    try:
        head = next(chunks, b"")
    except DamagedFileError:
        return _nothing(finding("damaged_file", "the file starts like UTF-16 or UTF-32"))
    unreadable = _unreadable(head)
    if unreadable:
        return _nothing(*found, unreadable)
    text = itertools.chain([head], chunks)
    start = head.lstrip()
    if start[:1] in {b"[", b"{"} and is_document(start):
        code = "array_wrapped" if start.startswith(b"[") else "pretty_printed"
        found.append(finding(code, "rows do not stand one to a line", line=1))
        return Opened(found, "document", text)
    return Opened(found, "lines", text)


def check_before(path: Path, size: int, target: Target, limits: Limits) -> list[Finding]:
    """Return what can be said before the first row is read."""
    found: list[Finding] = []
    if target.closed:
        found.append(finding("service_closed", target.closed))
    if target.name.startswith("fireworks") and path.suffix != ".jsonl":
        found.append(finding("file_name", "the name does not end in .jsonl"))
    if target.name.startswith("bedrock") and not _BEDROCK_NAME.fullmatch(path.name):
        found.append(finding("file_name", "the name has other signs than letters, digits, _ - ."))
    if limits.max_bytes is not None and size > limits.max_bytes:
        message = f"{size} bytes; at most {limits.max_bytes}"
        found.append(finding("file_too_large", message))
    return found


def check_after(n_rows: int, limits: Limits) -> list[Finding]:
    """Return what can be said once all rows are counted."""
    least, advised, most = limits.min_rows, limits.advised_rows, limits.max_rows
    if least is not None and n_rows < least:
        return [finding("too_few_rows", f"{n_rows} rows; at least {least}")]
    if advised is not None and n_rows < advised:
        return [finding("few_rows", f"{n_rows} rows; {advised} or more are advised")]
    if most is not None and n_rows > most:
        return [finding("too_many_rows", f"{n_rows} rows; at most {most}")]
    return []


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
