"""Goes through a file once, row by row, and tells everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from finetuning.data_prep.target_shape import Method, Target
from finetuning.data_prep.validate.billing import BillTally
from finetuning.data_prep.validate.codes import finding
from finetuning.data_prep.validate.fast import fast_check
from finetuning.data_prep.validate.json_faults import read_row
from finetuning.data_prep.validate.limits import Limits, check_after, check_before, check_length
from finetuning.data_prep.validate.opening import open_file
from finetuning.data_prep.validate.reports import RowReport
from finetuning.data_prep.validate.rows import check_row
from finetuning.data_prep.validate.tally import FindingTally
from finetuning.files.chunks import MAX_LINE_BYTES, DamagedFileError, split_lines
from finetuning.files.json_rows import json_elements
from finetuning.records import Json
from finetuning.runs import progress

_PROGRESS_BYTES: Final = 16 << 20


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
