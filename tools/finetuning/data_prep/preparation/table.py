"""All rows of a call as columns, made block by block, with their bytes in spool files."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from finetuning.data_prep.convert import Columns, Converter, Rejection
from finetuning.data_prep.convert.turns import time_key
from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.examples import Example, content_of
from finetuning.records import Finding, Json, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from finetuning.data_prep.examples import Content


def spool_name(number: int) -> str:
    """Return the file name of a spool."""
    return f".rows-{number}"


@dataclass(slots=True)
class Block:
    """What stays in memory of the rows of one block.

    Attributes:
        lines: Physical line of each row that is left.
        sizes: Bytes of each row in the spool, line end included.
        rows: What the rows are compared by.
        lengths: Characters of answer and prompt, two columns.
        times: When each row is from (NaN: not known); None where no row has a time.
        cells: Label, group and annotator of each row, by column name; only those named.
        notes: What was repaired, by row number in the block.
        warnings: Codes of the validator's warnings, by row number in the block.
        costs: Tokens of each row and those billed for it, two columns.
        tokenizer: Name of the tokenizer, and whether its counts are exact.
        names: Columns or keys met.
        plain: All examples could be written as texts.
        spool: Number of the spool file, and the first byte in it.
    """

    source: str
    lines: NDArray[Any]
    sizes: NDArray[Any]
    rows: Rows
    lengths: NDArray[Any]
    times: NDArray[Any] | None
    cells: dict[str, list[str | None]]
    notes: dict[int, tuple[str, ...]]
    warnings: dict[int, tuple[str, ...]]
    rejections: list[Rejection]
    redacted: int
    types: Counter[str]
    costs: NDArray[Any]
    tokenizer: tuple[str, bool]
    names: set[str]
    plain: bool
    spool: tuple[int, int]


class Place(NamedTuple):
    """Where a row came from."""

    source: str
    line: int


@dataclass(frozen=True, slots=True)
class SplitColumns:
    """What a split goes by; one entry per row that stays.

    Attributes:
        cluster: Name of the cluster.
        family: Rows of one family (not 0) come from one row or conversation.
        groups: Cells of the group column, if one was named.
        labels: Cells of the label column, if one was named.
        times: When each row is from; NaN where that is not known.
        place: Returns source and line of a row, for error texts.
    """

    cluster: Sequence[int]
    family: NDArray[Any]
    groups: Sequence[str | None] | None
    labels: Sequence[str | None] | None
    times: NDArray[Any]
    place: Callable[[int], tuple[str, int]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.cluster)


class Table:
    """Rows in reading order, as columns.

    Attributes:
        rows: What the rows are compared by.
        lengths: Characters of answer and prompt, two columns.
        times: When each row is from; NaN where that is not known.
        cells: Label, group and annotator of each row; only those whose column was named.
        notes: What was repaired, by row number.
        warnings: Codes of the validator's warnings, by row number.
        costs: Tokens of each row and those billed for it, two columns.
        tokenizer: Name of the tokenizer, and whether its counts are exact.
        rejections: Rows that could not be used.
    """

    def __init__(self, blocks: Sequence[Block], folder: Path) -> None:
        """Join blocks; they are used up."""
        import numpy as np

        self._folder = folder
        self._sources = [block.source for block in blocks]
        counts = [len(block.lines) for block in blocks]
        self._first = np.cumsum([0, *counts])
        self._lines = _joined([block.lines for block in blocks], np.int64)
        self._sizes = _joined([block.sizes for block in blocks], np.int64)
        self._spools = [block.spool for block in blocks]
        self._edits: dict[int, bytes] = {}
        self.lengths = _joined([block.lengths for block in blocks], np.int32, width=2)
        self.costs = _joined([block.costs for block in blocks], np.int64, width=2)
        self.tokenizer = blocks[0].tokenizer if blocks else ("", False)
        unknown = [np.full(count, np.nan) for count in counts]
        times = [block.times for block in blocks]
        self.times = _joined(
            [gap if time is None else time for time, gap in zip(times, unknown, strict=True)],
            np.float64,
        )
        self.cells = {
            name: list(itertools.chain.from_iterable(block.cells[name] for block in blocks))
            for name in (blocks[0].cells if blocks else ())
        }
        self.notes = self._by_row([block.notes for block in blocks])
        self.warnings = self._by_row([block.warnings for block in blocks])
        self.rejections = [found for block in blocks for found in block.rejections]
        self.redacted = sum(block.redacted for block in blocks)
        types: Counter[str] = Counter()
        for block in blocks:
            types.update(block.types)
        self.types = dict(types.most_common())
        self.rows = Rows.join(block.rows for block in blocks)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._lines)

    def _by_row(self, parts: Sequence[dict[int, tuple[str, ...]]]) -> dict[int, tuple[str, ...]]:
        return {
            int(first) + row: codes
            for first, part in zip(self._first, parts, strict=False)
            for row, codes in part.items()
        }

    def place(self, row: int) -> Place:
        """Return where a row came from."""
        block = int(self._first.searchsorted(row, side="right")) - 1
        return Place(self._sources[block], int(self._lines[row]))

    def reject(
        self, row: int, reason: str, of: Place | None = None, why: str | None = None
    ) -> None:
        """Note that a row is in no part; the caller leaves it out."""
        source, line = self.place(row)
        self.rejections.append(Rejection(source, line, reason, _record(of), why))

    def edit(self, row: int, raw: bytes, cost: tuple[int, int]) -> None:
        """Replace the bytes of a row, and what they cost."""
        self._edits[row] = raw
        self.costs[row] = cost

    def raws(self, chosen: NDArray[Any]) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of some rows, in order, with their line end.

        Args:
            chosen: One flag per row.
        """
        for first, ends, data in self._blocks(chosen):
            begin = 0
            for row, end in enumerate(ends.tolist(), start=first):
                if chosen[row]:
                    edited = self._edits.get(row) if self._edits else None
                    yield row, data[begin:end] if edited is None else edited + b"\n"
                begin = end

    def runs(self, parts: NDArray[Any]) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield the part and the bytes of rows that follow each other in one part, in order.

        Args:
            parts: Part of each row; below 0 it is left out.
        """
        import numpy as np

        if self._edits:
            yield from ((int(parts[row]), raw) for row, raw in self.raws(parts >= 0))
            return
        for first, ends, data in self._blocks(parts >= 0):
            own, view = parts[first : first + len(ends)], memoryview(data)
            last = np.append(np.flatnonzero(own[1:] != own[:-1]), len(own) - 1)
            begin = 0
            for part, end in zip(own[last].tolist(), ends[last].tolist(), strict=True):
                if part >= 0:
                    yield part, view[begin:end]
                begin = end

    def _blocks(self, chosen: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any], bytes]]:
        """Yield first row, ends of the rows and bytes of the blocks with a row that is chosen."""
        import numpy as np

        with contextlib.ExitStack() as stack:
            streams: dict[int, IO[bytes]] = {}
            for block, (spool, start) in enumerate(self._spools):
                first, last = int(self._first[block]), int(self._first[block + 1])
                if not chosen[first:last].any():
                    continue
                if spool not in streams:
                    file = self._folder / spool_name(spool)
                    streams[spool] = stack.enter_context(file.open("rb"))
                streams[spool].seek(start)
                ends = np.cumsum(self._sizes[first:last])
                yield first, ends, streams[spool].read(int(ends[-1]))

    def every(self) -> NDArray[Any]:
        """Return a flag that is set for every row."""
        import numpy as np

        return np.ones(len(self), dtype=bool)

    def contents(self, target: str) -> list[Content]:
        """Return what all rows are compared by, with their texts (for a search by meaning)."""
        return contents_of((raw for _, raw in self.raws(self.every())), target)


def _record(place: Place | None) -> Record | None:
    return None if place is None else Record(place.source, place.line, {})


def _joined(parts: Sequence[NDArray[Any]], kind: Any, *, width: int = 0) -> NDArray[Any]:
    import numpy as np

    shape = (0, width) if width else (0,)
    return np.concatenate([np.empty(shape, dtype=kind), *parts])


def contents_of(raws: Iterable[bytes], target: str) -> list[Content]:
    """Return what rows of a target are compared by, read from their bytes."""
    import orjson

    rows: list[Record | Finding] = [
        Record("", number, cast("dict[str, Json]", orjson.loads(raw)))
        for number, raw in enumerate(raws, start=1)
    ]
    made = Converter(target, Columns(), "per_conversation").convert(rows, "")
    return [content_of(example) for example in made.examples]


def times_of(examples: Mapping[int, Example], count: int) -> NDArray[Any] | None:
    """Return when each row is from, where any row says so."""
    import numpy as np

    known = {row: time_key(one.time) for row, one in examples.items() if one.time is not None}
    if not known:
        return None
    times = np.full(count, np.nan)
    for row, moment in known.items():
        times[row] = np.nan if moment is None else moment
    return times


def lengths_of(contents: Sequence[Content]) -> NDArray[Any]:
    """Return the characters of answer and prompt, two columns."""
    import numpy as np

    pairs = [(len(content.answer), len(content.prompt)) for content in contents]
    return np.array(pairs, dtype=np.int32).reshape(len(contents), 2)


def cells_of(
    examples: Mapping[int, Example], count: int, columns: Columns
) -> dict[str, list[str | None]]:
    """Return the cells of the columns that split and votes go by, where they were named."""
    named = (("label", columns.label), ("group", columns.group), ("annotator", columns.annotator))
    return {
        name: [getattr(examples[row], name) for row in range(count)]
        for name, column in named
        if column is not None
    }
