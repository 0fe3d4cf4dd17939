"""Goes through a file once: how it is wrapped, what is wrong row by row, what its tokens cost."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from finetuning.data_prep.targets import Method, Target
from finetuning.data_prep.validate.codes import finding
from finetuning.data_prep.validate.reports import (
    FindingTally,
    Limits,
    RowReport,
    check_after,
    check_before,
    check_length,
)
from finetuning.data_prep.validate.rows import check_row, fast_check
from finetuning.data_prep.validate.texts import read_row
from finetuning.errors import NotAllowedError
from finetuning.files import resolve_read
from finetuning.files.chunks import (
    MAX_LINE_BYTES,
    UTF16_32_MARKS,
    DamagedFileError,
    compression_of,
    read_chunks,
    split_lines,
    utf8_chunks,
)
from finetuning.files.json_rows import json_elements
from finetuning.files.reading import control_bytes, is_document
from finetuning.records import Finding, Json
from finetuning.runs import progress
from finetuning.tokens import TokenStats, TokenTally, counter_for, example_texts, overhead_tokens

_PROGRESS_BYTES: Final = 16 << 20


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


def _tokenizer_folder(model: str | None) -> Path | None:
    """Return the folder of a model on disk if it has a tokenizer."""
    if not model or not (Path(model).expanduser() / "tokenizer.json").is_file():
        return None
    try:
        return resolve_read(model, where="model", kind="folder")
    except NotAllowedError:
        return None


class BillTally:
    """Counts the tokens of rows and what a provider bills for them, at flat memory."""

    def __init__(self, target: Target, model: str | None, limits: Limits) -> None:
        """Choose the tokenizer: a model's own where it is on disk, else OpenAI's.

        Args:
            target: Decides the billing rule: long rows are cut before they are billed, and
                Google bills a preference row's prompt once per completion.
            model: Model id, or the folder of a model on disk.
            limits: The longest row that is not cut.
        """
        folder = _tokenizer_folder(model)
        self._counter = counter_for(None if folder else model, tokenizer_dir=folder)
        self._tally = TokenTally(self._counter)
        self._target = target
        self._cut = None if limits.long_row_fails else limits.row_tokens
        self.billed = 0

    @property
    def exact(self) -> bool:
        """True where the counts are those of the model asked for."""
        return self._counter.exact

    def add(self, row: dict[str, Json]) -> int:
        """Count one row and return its tokens, chat overhead included."""
        tokens = self._tally.add(row)
        billed = tokens if self._cut is None else min(tokens, self._cut)
        if self._target.prompt_billed_twice:
            prompt = {key: row[key] for key in row.keys() - {"completions"}}
            billed += sum(self._counter.count(example_texts(prompt))) + overhead_tokens(prompt)
        self.billed += billed
        return tokens

    def stats(self) -> TokenStats:
        """Return the statistics of the rows added so far."""
        return self._tally.stats()


class FileScan:
    """One pass over one file."""

    def __init__(
        self,
        target: Target,
        method: Method,
        limits: Limits,
        tally: FindingTally,
        bill: BillTally | None,
    ) -> None:
        """Prepare a pass.

        Args:
            target: The format to check against.
            method: The method that the rows are for.
            limits: Limits of the provider and the model.
            tally: Takes the findings.
            bill: Counts tokens; None where they are not wanted.
        """
        self._target = target
        self._method: Method = method
        self._limits = limits
        self._tally = tally
        self._bill = bill
        self._fast = fast_check(target.name, method)
        self._labels: set[bool] = set()
        self._own_shape = False
        self._cr_seen = False
        self.n_rows = 0

    def run(self, path: Path) -> None:
        """Read the file to its end, whatever is in it."""
        size = path.stat().st_size
        self._tally.add(check_before(path, size, self._target, self._limits))
        opened = open_file(path, wants_bom=self._target.name == "azure_chat")
        self._tally.add(opened.findings)
        try:
            if opened.form == "lines":
                self._lines(opened.chunks, size)
            elif opened.form == "document":
                self._document(opened.chunks)
        except DamagedFileError as error:
            self._tally.add([finding("damaged_file", error.what)])
            return
        if opened.form != "nothing":
            self._finish()

    def _lines(self, chunks: Iterator[bytes], size: int) -> None:
        fast, bill = self._fast, self._bill
        done = reported = 0
        for number, raw in enumerate(split_lines(chunks), start=1):
            done += len(raw)
            if done - reported >= _PROGRESS_BYTES:
                reported = done
                progress(done, size, "validate")
            if fast is not None and fast(raw) and raw[-1:] != b"\r":
                self.n_rows += 1
                self._own_shape = True
                if bill is not None:
                    self._count(number, _decode(raw))
                continue
            self._line(number, raw)

    def _line(self, number: int, raw: bytes) -> None:
        """Take a line the slow way."""
        if raw.endswith(b"\r") and not self._cr_seen:
            self._cr_seen = True
            self._tally.add([finding("cr_line_ends", "a lone carriage return", line=number)])
        line = raw.strip(b" \t\r\n")
        if line:
            self._row(number, line)
        else:
            self._tally.add([finding("blank_line", "the line is blank", line=number)])

    def _document(self, chunks: Iterator[bytes]) -> None:
        for element in json_elements(chunks):
            if isinstance(element, tuple):
                self._row(*element)
            else:
                self._tally.add([element])

    def _row(self, number: int, raw: bytes) -> None:
        self.n_rows += 1
        if len(raw) > MAX_LINE_BYTES:
            self._tally.add([finding("line_too_long", "longer than 160 MiB", line=number)])
            return
        report = RowReport(number)
        row = read_row(raw, report)
        if row is not None:
            check_row(self._target.name, self._method, row, report)
            foreign = any(item.code == "wrong_format" for item in report.findings)
            self._own_shape = self._own_shape or not foreign
            if isinstance(row.get("label"), bool):
                self._labels.add(row["label"])
        self._tally.add(report.findings)
        if row is not None and self._bill is not None:
            self._count(number, row)

    def _count(self, number: int, row: dict[str, Json]) -> None:
        bill = self._bill
        if bill is None:
            return
        long = check_length(number, bill.add(row), self._limits, exact=bill.exact)
        if long is not None:
            self._tally.add([long])

    def _finish(self) -> None:
        """Add what only the whole file shows."""
        if not self.n_rows:
            self._tally.add([finding("empty_file", "the file holds no rows")])
            return
        if self._own_shape and self._tally.counts["wrong_format"]:
            count = self._tally.counts["wrong_format"]
            self._tally.add([finding("mixed_formats", f"{count} of {self.n_rows} rows")])
        if self._target.name == "trl_kto" and len(self._labels) == 1:
            self._tally.add([finding("one_label_only", "all labels are the same")])
        self._tally.add(check_after(self.n_rows, self._limits))


def _decode(raw: bytes) -> dict[str, Json]:
    import msgspec

    return msgspec.json.decode(raw, type=dict[str, Json])
