"""Checks lines, one by one in full or fast, and counts what their tokens cost."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from finetuning.data_prep.targets import TARGETS, Method, Target, method_for
from finetuning.data_prep.validate import FindingTally, Limits, limits_for
from finetuning.data_prep.validate.chat import texts_of
from finetuning.data_prep.validate.quick import quick_check
from finetuning.data_prep.validate.reports import RowReport, check_length, finding, tool_names
from finetuning.data_prep.validate.rows import check_row
from finetuning.data_prep.validate.skim import text_quotes
from finetuning.data_prep.validate.texts import check_texts, read_row, walk
from finetuning.data_prep.validate.typed import Job, Part
from finetuning.errors import NotAllowedError
from finetuning.files import resolve_read
from finetuning.files.chunks import MAX_LINE_BYTES
from finetuning.records import Json
from finetuning.tokens import (
    TokenStats,
    TokenTally,
    counter_for,
    example_texts,
    frame_tokens,
    overhead_tokens,
)


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
        self._bill(tokens)
        if self._target.prompt_billed_twice:
            prompt = {key: row[key] for key in row.keys() - {"completions"}}
            self.billed += sum(self._counter.count(example_texts(prompt)))
            self.billed += overhead_tokens(prompt)
        return tokens

    def add_typed(self, rows: Sequence[Any]) -> list[int]:
        """Count typed rows of a format that is billed once; return the tokens of each."""
        read = list(map(texts_of, rows))
        counts = self._counter.count([text for texts, _ in read for text in texts])
        sums = [0, *itertools.accumulate(counts)]
        ends = [0, *itertools.accumulate(len(texts) for texts, _ in read)]
        found = [
            sums[end] - sums[start] + frame_tokens(messages)
            for (_, messages), (start, end) in zip(read, itertools.pairwise(ends), strict=True)
        ]
        self._tally.merge(Counter(found))
        for tokens in found:
            self._bill(tokens)
        return found

    def _bill(self, tokens: int) -> None:
        self.billed += tokens if self._cut is None else min(tokens, self._cut)

    def take(self) -> tuple[dict[int, int], int]:
        """Return rows by number of tokens, and the tokens billed; start again at nothing."""
        billed, self.billed = self.billed, 0
        return self._tally.take(), billed

    def merge(self, lengths: Mapping[int, int], billed: int) -> None:
        """Add what another tally of the same kind took."""
        self._tally.merge(lengths)
        self.billed += billed

    def stats(self) -> TokenStats:
        """Return the statistics of the rows added so far."""
        return self._tally.stats()


class LineScan:
    """Checks lines in full, whatever is in them."""

    def __init__(
        self,
        target: Target,
        method: Method,
        limits: Limits,
        tally: FindingTally,
        bill: BillTally | None,
    ) -> None:
        """Prepare.

        Args:
            target: The format to check against.
            method: The method that the rows are for.
            limits: Limits of the provider and the model.
            tally: Takes the findings.
            bill: Counts tokens; None where they are not wanted.
        """
        self.target = target
        self.method: Method = method
        self.limits = limits
        self.tally = tally
        self.bill = bill
        self.labels: set[bool] = set()
        self.own_shape = False
        self.cr_seen = False
        self.n_rows: int = 0

    def line(self, number: int, raw: bytes) -> None:
        """Check one line in full."""
        if raw.endswith(b"\r") and not self.cr_seen:
            self.cr_seen = True
            self.tally.add([finding("cr_line_ends", "a lone carriage return", line=number)])
        line = raw.strip(b" \t\r\n")
        if line:
            self.row(number, line)
        else:
            self.tally.add([finding("blank_line", "the line is blank", line=number)])

    def row(self, number: int, raw: bytes) -> None:
        """Check one row in full."""
        self.n_rows += 1
        if len(raw) > MAX_LINE_BYTES:
            self.tally.add([finding("line_too_long", "longer than 160 MiB", line=number)])
            return
        report = RowReport(number)
        row = read_row(raw, report)
        if row is not None:
            check_row(self.target.name, self.method, row, report)
            foreign = any(item.code == "wrong_format" for item in report.findings)
            self.own_shape = self.own_shape or not foreign
            if isinstance(row.get("label"), bool):
                self.labels.add(row["label"])
        self.tally.add(report.findings)
        if row is not None and self.bill is not None:
            self.count(number, row)

    def count(self, number: int, row: dict[str, Json]) -> None:
        """Count the tokens of a row."""
        if self.bill is not None:
            self.check_tokens(number, self.bill.add(row))

    def check_tokens(self, number: int, tokens: int) -> None:
        """Report a row over the limit of the model."""
        exact = self.bill is None or self.bill.exact
        long = check_length(number, tokens, self.limits, exact=exact)
        if long is not None:
            self.tally.add([long])


class PartScan:
    """Checks lines of a range in full, and counts the tokens of all its rows."""

    def __init__(self, job: Job) -> None:
        """Prepare what the job asks for."""
        target = TARGETS[job.target]
        limits = limits_for(target, job.model)
        self._tally = FindingTally(None, 0, None)
        self._bill = BillTally(target, job.model, limits) if job.count_tokens else None
        method = method_for(target, job.method, where="job")
        self._scan = LineScan(target, method, limits, self._tally, self._bill)

    def line(self, part: Part, number: int, raw: bytes) -> None:
        """Check one line, which has the number in the range."""
        before = self._scan.n_rows
        self._scan.line(number, raw)
        part.n_rows += self._scan.n_rows - before
        part.own_shape = part.own_shape or self._scan.own_shape
        self._move(part)

    def tokens(self, rows: Sequence[Any]) -> list[int]:
        """Count the tokens of typed rows without fault."""
        return [] if self._bill is None else self._bill.add_typed(rows)

    def fits(self, tokens: Sequence[int]) -> bool:
        """Say that rows of so many tokens need no look at their length."""
        limit = self._scan.limits.row_tokens
        return limit is None or max(tokens, default=0) <= limit

    def length(self, part: Part, number: int, tokens: int) -> None:
        """Check the length of a row."""
        self._scan.check_tokens(number, tokens)
        self._move(part)

    def finish(self, part: Part) -> None:
        """Put the tokens of the range into the part."""
        if self._bill is not None:
            part.lengths, part.billed = self._bill.take()

    def _move(self, part: Part) -> None:
        for item in self._tally.kept:
            found = (item.line or 0, item.field, item.code, item.severity, item.message)
            part.found.append(found)
        self._tally.kept.clear()


def check_tools(raw: bytes) -> tuple[frozenset[str], int] | None:
    """Return names and quotes of a list of tools, or None where it has any fault."""
    report = RowReport()
    row = read_row(b'{"tools":' + raw + b"}", report)
    if row is None:
        return None
    names = tool_names(row["tools"], "/tools", report)
    check_texts(row, report, reserved_words=False)
    if names is None or report.findings:
        return None
    quotes = 0
    for _, item, _ in walk(row["tools"]):
        keys = len(cast("dict[str, Json]", item)) if isinstance(item, dict) else 0
        quotes += 2 if isinstance(item, str) else 2 * keys
    return frozenset(names), quotes


_ESCAPES: Final = (b"\\u", b"\\b", b"\\f")
_TOKENS: Final = (b"<|", b"_of_turn>", b"os>", b"pad>", b"unk>")
"""Escapes and pieces of control tokens: rows with them are checked in full."""
_ODD: Final = re.compile(
    rb"\xc2[\x80-\x9f\xad]|\xc3(?:[\x82\x83]|\xa2\xe2|\xaf\xc2|\xb0\xc5)"
    rb"|\xe2(?:\x80[\x8b\xa8-\xae]|\x81[\xa0-\xaf])|\xef(?:\xbb\xbf|\xbf\xbd)|\xf3\xa0"
)
"""UTF-8 of signs of mojibake, and of signs that nobody sees."""


def _clean(raw: bytes) -> bool:
    """Say that no byte of the row gives reason to look at its texts."""
    if b"\\" in raw and any(mark in raw for mark in _ESCAPES):
        return False
    if b"<" in raw and any(mark in raw for mark in _TOKENS):
        return False
    if b"\x7f" in raw or b"INST]" in raw:
        return False
    return raw.isascii() or _ODD.search(raw) is None


def fast_check(target: str, method: str) -> Callable[[bytes], bool] | None:
    """Return what says of a line that the checks in full would find nothing; any doubt is False.

    None for formats in which every row is checked in full.
    """
    check = quick_check(target, method, check_tools)
    if check is None:
        return None
    quick, careful, decode = check.quick, check.careful, msgspec.json.Decoder(check.row_type).decode

    def fast(raw: bytes) -> bool:
        if len(raw) > MAX_LINE_BYTES or not _clean(raw):
            return False
        try:
            row = decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        quotes = quick([row])[0]
        found = text_quotes(raw) if quotes >= 0 else -1
        return quotes >= 0 and (found == quotes or found == careful(row))

    return fast
