"""Examples with the row that will be written, and the faults that keep one from being written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from finetuning.data_prep.convert import Rejection, Row, Unusable, is_plain, writer_for
from finetuning.data_prep.examples import Content, Example, content_of
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate import validate_row
from finetuning.data_prep.validate.rows import fast_check
from finetuning.runs import progress


class Item(NamedTuple):
    """An example that fits its target.

    Attributes:
        raw: The row as it will stand in the file, without line end.
    """

    example: Example
    raw: bytes
    content: Content


class Checked(NamedTuple):
    """Items, and a rejection for every example that the target's provider would refuse."""

    items: list[Item]
    rejections: list[Rejection]


def dump_row(row: Row) -> bytes:
    """Return a row as one line of JSON, without line end.

    Raises:
        Unusable: It is nested too deeply to be written.
    """
    import orjson

    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError:
        raise Unusable("too_deep") from None


class RowWriter:
    """Writes examples as rows of one target and refuses what its validator calls an error."""

    def __init__(self, target: str, *, plain: bool) -> None:
        """Prepare for one target; ``plain`` as for :func:`writer_for`."""
        self._target = target
        self._write = writer_for(target, plain=plain)
        self._is_fine = fast_check(target, TARGETS[target].method)
        self.warnings: dict[str, list[int]] = {}
        """Lines of the rows that have a warning, by its code."""

    def raw(self, example: Example) -> bytes:
        """Return the row of an example.

        Raises:
            Unusable: The target cannot hold it, or its validator finds an error.
        """
        row = self._write(example)
        raw = dump_row(row)
        if self._is_fine is None or not self._is_fine(raw):
            faults = validate_row(self._target, row)
            error = next((found.code for found in faults if found.severity == "error"), None)
            if error is not None:
                raise Unusable(error)
            for code in {found.code for found in faults}:
                self.warnings.setdefault(code, []).append(example.record.line)
        return raw

    def check(self, examples: Iterable[Example]) -> Checked:
        """Return items for the examples that can be written, rejections for the others."""
        items: list[Item] = []
        rejections: list[Rejection] = []
        for number, example in enumerate(examples):
            if number % 10_000 == 0:
                progress(number, None, "checking rows")
            try:
                items.append(Item(example, self.raw(example), content_of(example)))
            except Unusable as error:
                source, line = example.record.source, example.record.line
                rejections.append(Rejection(source, line, error.code))
        return Checked(items, rejections)


def make_writer(target: str, examples: Sequence[Example]) -> RowWriter:
    """Return the writer for a file of these examples, all of one shape."""
    return RowWriter(target, plain=all(map(is_plain, examples)))
