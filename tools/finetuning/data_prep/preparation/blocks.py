"""One block of rows at a time: read, converted, redacted, checked, and reduced to columns.

What a row says is written to a spool file; what it is compared, ranked and split by stays in
memory as a few numbers. A block needs nothing but itself, so any process can take it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from finetuning.data_prep.convert import Columns, Converter, Rejection, Unusable
from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.duplicates.words import contents_of_chats
from finetuning.data_prep.examples import (
    Content,
    Example,
    Message,
    content_of,
    is_plain,
)
from finetuning.data_prep.preparation import Options
from finetuning.data_prep.preparation.sources import (
    MESSAGE_TARGETS,
    PAIR_TARGETS,
    Task,
    Texts,
    Turns,
    is_settled,
    shallow,
    skimmer_for,
    turns_of,
    with_calls,
)
from finetuning.data_prep.preparation.table import (
    Block,
    cells_of,
    lengths_of,
    times_of,
)
from finetuning.data_prep.quality import RowCosts, RowWriter
from finetuning.data_prep.survey import orders_in
from finetuning.data_prep.validate.skim import BLOCK_BYTES
from finetuning.files.chunks import LineRange, line_blocks, lines_in
from finetuning.files.json_rows import read_row
from finetuning.records import Finding, Record

ONE_SHAPE_TARGETS: Final = frozenset({"trl_preference", "trl_kto"})
"""Targets whose rows are texts or lists of turns, but one of the two in a whole file."""

_FAMILY_BITS: Final = 40
"""Numbers of families that one process may give; those of different processes differ above."""


class _Draft:
    """Rows of a block on their way, as columns.

    A row is an example, or, where it is clean as it stands, its bytes and its turns.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: list[int] = []
        self.raws: list[bytes | None] = []
        self.turns: list[Turns] = []
        self.examples: list[Example | None] = []
        self.rejections: list[Rejection] = []
        self.names: set[str] = set()

    def reject(self, line: int | None, code: str) -> None:
        """Leave one row out."""
        self.rejections.append(Rejection(self.source, line, code))

    def add(self, example: Example, raw: bytes | None = None) -> None:
        """Take one example, with its bytes where it is clean as it stands."""
        self.lines.append(example.record.line)
        self.raws.append(raw)
        self.turns.append([])
        self.examples.append(example)

    def add_clean(self, line: int, raw: bytes, turns: Turns) -> None:
        """Take one row of the target that needs no conversion."""
        self.lines.append(line)
        self.raws.append(raw)
        self.turns.append(turns)
        self.examples.append(None)

    def example(self, number: int) -> Example:
        """Return a row as an example."""
        return self.examples[number] or self.as_example(number)

    def as_example(self, number: int) -> Example:
        """Return a row as an example, made of its turns."""
        turns: list[Message] = [
            {"role": role, "content": text} for role, text in self.turns[number]
        ]
        return Example(Record(self.source, self.lines[number], {}), "chat", turns)

    def contents(self, numbers: Sequence[int]) -> list[Content]:
        """Return what some rows are compared by."""
        made = iter(contents_of_chats([turns for n in numbers if (turns := self.turns[n])]))
        return [next(made) if self.turns[n] else content_of(self.example(n)) for n in numbers]

    def replace(self, number: int, example: Example) -> None:
        """Put a changed example in the place of a row."""
        self.examples[number], self.raws[number] = example, None


def _warnings_of(
    examples: Mapping[int, Example], raws: Sequence[bytes], writer: RowWriter
) -> dict[int, tuple[str, ...]]:
    """Return the codes of the validator's warnings and of orders to an assistant, by row."""
    by_line: dict[int, list[str]] = {}
    for code, lines in sorted(writer.warnings.items()):
        for line in lines:
            by_line.setdefault(line, []).append(code)
    made = {
        row: tuple(by_line[example.record.line])
        for row, example in examples.items()
        if example.record.line in by_line
    }
    for row in orders_in(raws):
        made[row] = (*made.get(row, ()), "orders_an_assistant")
    return made


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
        self._converter = Converter(options.target, options.columns, options.examples)
        self._costs = RowCosts(options.target)
        self._families = (number + 1) << _FAMILY_BITS
        unchanged = options.columns == Columns() and options.examples == "per_conversation"
        taken = options.target in MESSAGE_TARGETS | PAIR_TARGETS and unchanged
        self._skimmer = skimmer_for(options.target) if taken else None

    def convert_every_row(self) -> None:
        """Take no short way: also rows that are clean already are converted."""
        self._skimmer = None

    def make(self, task: Task) -> Block:
        """Turn one task into a block."""
        draft = _Draft(task.source)
        if task.path is not None and task.part is not None:
            self._lines(task.path, task.part, draft)
        elif task.rows:
            for row in task.rows:
                self._convert(shallow(row), draft)
        else:
            for example in task.examples:
                draft.add(example)
        redacted, types = self._redact(draft)
        return self._finish(draft, redacted, types)

    def _lines(self, path: Path, part: LineRange, draft: _Draft) -> None:
        """Decode lines; clean rows of the target pass as they stand, others are converted."""
        blocks = line_blocks(path, part, BLOCK_BYTES) if self._skimmer else None
        for number, raw in lines_in(path, part) if blocks is None else ():
            self._line(number, raw, draft)
        line = part.line
        for block in blocks or ():
            line += self._skim(line, block, draft)

    def _skim(self, line: int, block: bytearray, draft: _Draft) -> int:
        """Take the lines of a block that are clean; return how many lines it has."""
        skimmed = self._skimmer.skim(block, len(block)) if self._skimmer else None
        raws = bytes(block).split(b"\n")[:-1]
        doubtful = {at for at, _ in skimmed.doubtful} if skimmed else set[int]()
        rows: Iterator[Any] = iter(skimmed.rows if skimmed else ())
        for at, raw in enumerate(raws):
            row = None if skimmed is None or at in doubtful else next(rows)
            turns = None if row is None else turns_of(row)
            if turns is not None:
                draft.add_clean(line + at, raw.rstrip(), turns)
            elif row is not None and is_settled(row):
                draft.add(with_calls(draft.source, line + at, raw), raw.rstrip())
            elif raw.strip():
                self._line(line + at, raw.strip(), draft)
        return len(raws)

    def _line(self, number: int, raw: bytes | Finding, draft: _Draft) -> None:
        if isinstance(raw, Finding):
            draft.reject(number, raw.code)
        else:
            self._convert(shallow(read_row(draft.source, number, raw)), draft)

    def _convert(self, row: Record | Finding, draft: _Draft) -> None:
        """Convert one row; alone it is no table of turns, which are gathered elsewhere."""
        if isinstance(row, Record):
            draft.names.update(row.data)
        made = self._converter.convert([row], draft.source)
        draft.rejections += made.rejections
        for example in made.examples:
            if example.family:
                example = dataclasses.replace(example, family=self._families + example.family)
            draft.add(example)

    def _redact(self, draft: _Draft) -> tuple[int, Counter[str]]:
        """Replace personal data; return how many examples changed, and values by type."""
        mode = self._options.redact
        types: Counter[str] = Counter()
        if mode == "none" or not draft.lines:
            return 0, types
        from finetuning.pii import redact_rows

        texts = Texts(draft.turns)
        fresh = texts.redact(mode, types)
        changed = 0
        for number, turns in enumerate(draft.turns):
            if turns and not fresh.keys().isdisjoint(texts.rows[number]):
                draft.turns[number] = [
                    (role, fresh.get(place, text))
                    for (role, text), place in zip(turns, texts.rows[number], strict=True)
                ]
                draft.replace(number, draft.as_example(number))
                changed += 1
        numbers = [number for number, turns in enumerate(draft.turns) if not turns]
        chosen = [draft.example(number) for number in numbers]
        before = [example.payload() for example in chosen]
        after, found = redact_rows(before, mode)
        types.update(found)
        for number, example, old, new in zip(numbers, chosen, before, after, strict=True):
            if old != new:
                changed += 1
                draft.replace(number, example.with_payload(new))
        return changed, types

    def _finish(self, draft: _Draft, redacted: int, types: Counter[str]) -> Block:
        """Check and write the rows; keep their columns."""
        import numpy as np

        target = self._options.target
        writer = RowWriter(target, plain=self._plain)
        kept: list[int] = []
        raws: list[bytes] = []
        for number, (raw, example) in enumerate(zip(draft.raws, draft.examples, strict=True)):
            try:
                raws.append(raw or writer.raw(example or draft.as_example(number)))
            except Unusable as error:
                draft.reject(draft.lines[number], error.code)
                continue
            kept.append(number)
        contents = draft.contents(kept)
        examples = {
            row: example
            for row, number in enumerate(kept)
            if (example := draft.examples[number]) is not None
        }
        bare = target in MESSAGE_TARGETS
        chats = [(draft.turns[number] or None) if bare else None for number in kept]
        start = self._spool.tell()
        self._spool.write(b"".join(part for raw in raws for part in (raw, b"\n")))
        self._spool.flush()
        return Block(
            source=draft.source,
            lines=np.array([draft.lines[number] for number in kept], dtype=np.int64),
            sizes=np.array([len(raw) + 1 for raw in raws], dtype=np.int64),
            rows=Rows.of(contents),
            lengths=lengths_of(contents),
            times=times_of(examples, len(kept)),
            cells=cells_of(examples, len(kept), self._options.columns),
            notes={row: example.notes for row, example in examples.items() if example.notes},
            warnings=_warnings_of(examples, raws, writer),
            rejections=draft.rejections,
            redacted=redacted,
            types=types,
            costs=np.array(self._costs.of_block(raws, chats), dtype=np.int64).reshape(-1, 2),
            tokenizer=self._costs.tokenizer,
            names=draft.names,
            plain=target not in ONE_SHAPE_TARGETS
            or all(example is not None and is_plain(example) for example in draft.examples),
            spool=(self._number, start),
        )
