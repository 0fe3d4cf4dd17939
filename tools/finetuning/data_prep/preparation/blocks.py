"""One block of rows at a time: read, converted, redacted, checked, and reduced to columns.

What a row says is written to a spool file; what it is compared, ranked and split by stays in
memory as a few numbers. A block needs nothing but itself, so any process can take it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, cast

from finetuning.data_prep.convert import (
    Columns,
    Converter,
    Rejection,
    Unusable,
    is_plain,
    time_key,
)
from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.examples import Content, Example, Message, content_of
from finetuning.data_prep.preparation.options import Options
from finetuning.data_prep.preparation.sources import Task, shallow
from finetuning.data_prep.quality import RowWriter
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate.rows import fast_check
from finetuning.files.json_rows import read_row
from finetuning.files.reading import lines_in
from finetuning.records import Finding, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

MESSAGE_TARGETS: Final = frozenset(
    "openai_chat azure_chat together_chat fireworks_chat nebius_chat aliyun_chat tinker "
    "trl_messages".split()
)
"""Targets whose rows are ``messages`` as they are: a clean row of theirs needs no conversion."""

PAIR_TARGETS: Final = frozenset({"trl_prompt_completion", "together_instruction"})
"""Targets whose rows are one prompt and one completion."""

ONE_SHAPE_TARGETS: Final = frozenset({"trl_preference", "trl_kto"})
"""Targets whose rows are texts or lists of turns, but one of the two in a whole file."""


_FAMILY_BITS: Final = 40
"""Numbers of families that one process may give; those of different processes differ above."""


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
    names: set[str]
    plain: bool
    spool: tuple[int, int]


@dataclass(slots=True)
class _Draft:
    """Examples of a block on their way; ``raws`` holds the bytes where they are known."""

    examples: list[Example] = field(default_factory=list[Example])
    raws: list[bytes | None] = field(default_factory=list[bytes | None])
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    names: set[str] = field(default_factory=set[str])

    def reject(self, source: str, line: int | None, code: str) -> None:
        """Leave one row out."""
        self.rejections.append(Rejection(source, line, code))

    def add(self, example: Example, raw: bytes | None = None) -> None:
        """Take one example, with its bytes if it is a clean row of the target as it stands."""
        self.examples.append(example)
        self.raws.append(raw)


class BlockMaker:
    """Makes blocks for one target and writes their rows to one spool file."""

    def __init__(self, options: Options, spool: IO[bytes], number: int, *, plain: bool) -> None:
        """Prepare.

        Args:
            options: What the person asked for.
            spool: Takes the rows.
            number: Number of the spool file.
            plain: Rows of targets of two shapes are written as texts.
        """
        self._options = options
        self._spool = spool
        self._number = number
        self._plain = plain
        target = options.target
        unchanged = options.columns == Columns() and options.examples == "per_conversation"
        taken = target in MESSAGE_TARGETS | PAIR_TARGETS and unchanged
        self._is_fine = fast_check(target, TARGETS[target].method) if taken else None
        self._converter = Converter(target, options.columns, options.examples)
        self._families = (number + 1) << _FAMILY_BITS

    def make(self, task: Task) -> Block:
        """Turn one task into a block."""
        draft = _Draft()
        if task.path is not None and task.part is not None:
            self._lines(task.source, lines_in(task.path, task.part), draft)
        elif task.rows:
            for row in task.rows:
                self._convert(task.source, shallow(row), draft)
        else:
            for example in task.examples:
                draft.add(example)
        redacted, types = self._redact(draft)
        return self._finish(task.source, draft, redacted, types)

    def _lines(
        self, source: str, lines: Iterable[tuple[int, bytes | Finding]], draft: _Draft
    ) -> None:
        """Decode lines; clean rows of the target pass as they stand, others are converted."""
        import orjson

        fine = self._is_fine
        for number, raw in lines:
            if isinstance(raw, Finding):
                draft.reject(source, number, raw.code)
            elif fine is not None and fine(raw):
                draft.add(_as_example(Record(source, number, orjson.loads(raw))), raw)
            else:
                row = shallow(read_row(source, number, raw))
                spelt = orjson.dumps(row.data) if isinstance(row, Record) and fine else b""
                if isinstance(row, Record) and fine is not None and fine(spelt):
                    draft.add(_as_example(row), spelt)  # clean but for escapes and white space
                else:
                    self._convert(source, row, draft)

    def _convert(self, source: str, row: Record | Finding, draft: _Draft) -> None:
        """Convert one row; alone it is no table of turns, which are gathered elsewhere."""
        if isinstance(row, Record):
            draft.names.update(row.data)
        made = self._converter.convert([row], source)
        draft.rejections += made.rejections
        for example in made.examples:
            if example.family:
                example = dataclasses.replace(example, family=self._families + example.family)
            draft.add(example)

    def _redact(self, draft: _Draft) -> tuple[int, Counter[str]]:
        """Replace personal data; return how many examples changed, and values by type."""
        mode = self._options.redact
        if mode == "none" or not draft.examples:
            return 0, Counter()
        from finetuning.pii import redact_rows

        numbers = _suspects(draft)
        before = [draft.examples[number].payload() for number in numbers]
        after, types = redact_rows(before, mode)
        changed = 0
        for number, old, new in zip(numbers, before, after, strict=True):
            if old != new:
                changed += 1
                draft.examples[number] = draft.examples[number].with_payload(new)
                draft.raws[number] = None
        return changed, types

    def _finish(self, source: str, draft: _Draft, redacted: int, types: Counter[str]) -> Block:
        """Check and write the rows; keep their columns."""
        import numpy as np

        target = self._options.target
        writer = RowWriter(target, plain=self._plain)
        kept: list[Example] = []
        raws: list[bytes] = []
        for example, known in zip(draft.examples, draft.raws, strict=True):
            try:
                raw = writer.raw(example) if known is None else known
            except Unusable as error:
                draft.reject(source, example.record.line, error.code)
                continue
            kept.append(example)
            raws.append(raw)
        contents = [content_of(example) for example in kept]
        start = self._spool.tell()
        self._spool.write(b"".join(part for raw in raws for part in (raw, b"\n")))
        self._spool.flush()
        moments = [time_key(example.time) for example in kept]
        known_times = any(moment is not None for moment in moments)
        return Block(
            source=source,
            lines=np.array([example.record.line for example in kept], dtype=np.int64),
            sizes=np.array([len(raw) + 1 for raw in raws], dtype=np.int64),
            rows=Rows.of(contents),
            lengths=_lengths(contents),
            times=np.array(moments, dtype=np.float64) if known_times else None,
            cells=_cells(kept, self._options.columns),
            notes={row: example.notes for row, example in enumerate(kept) if example.notes},
            warnings=_warnings(kept, writer),
            rejections=draft.rejections,
            redacted=redacted,
            types=types,
            names=draft.names,
            plain=target not in ONE_SHAPE_TARGETS or all(map(is_plain, draft.examples)),
            spool=(self._number, start),
        )


def _as_example(row: Record) -> Example:
    """Return the example of a clean row of a target that needs no conversion."""
    data = row.data
    if "messages" in data:
        turns = cast("list[Message]", data["messages"])
    else:
        turns = [
            {"role": "user", "content": data["prompt"]},
            {"role": "assistant", "content": data["completion"]},
        ]
    return Example(row, "chat", turns)


def _suspects(draft: _Draft) -> list[int]:
    """Return the numbers of the examples that hold personal data, or may do so."""
    from finetuning.pii import find_personal_data

    owners: list[int] = []
    texts: list[str] = []
    chosen: set[int] = set()
    for number, example in enumerate(draft.examples):
        if draft.raws[number] is None:
            chosen.add(number)
            continue
        for turn in example.messages:
            owners.append(number)
            texts.append(cast("str", turn["content"]))
    found = find_personal_data(texts)
    chosen.update(owner for owner, spans in zip(owners, found, strict=True) if spans)
    return sorted(chosen)


def _lengths(contents: Sequence[Content]) -> NDArray[Any]:
    import numpy as np

    pairs = [(len(content.answer), len(content.prompt)) for content in contents]
    return np.array(pairs, dtype=np.int32).reshape(len(contents), 2)


def _cells(examples: Sequence[Example], columns: Columns) -> dict[str, list[str | None]]:
    """Return the cells of the columns that split and votes go by, where they were named."""
    cells: dict[str, list[str | None]] = {}
    if columns.label is not None:
        cells["label"] = [example.label for example in examples]
    if columns.group is not None:
        cells["group"] = [example.group for example in examples]
    if columns.annotator is not None:
        cells["annotator"] = [example.annotator for example in examples]
    return cells


def _warnings(examples: Sequence[Example], writer: RowWriter) -> dict[int, tuple[str, ...]]:
    if not writer.warnings:
        return {}
    by_line: dict[int, list[str]] = {}
    for code, lines in sorted(writer.warnings.items()):
        for line in lines:
            by_line.setdefault(line, []).append(code)
    return {
        row: tuple(by_line[example.record.line])
        for row, example in enumerate(examples)
        if example.record.line in by_line
    }
