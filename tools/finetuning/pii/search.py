"""Search the pieces of a file in batches, count, page, and hand redacted rows on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from finetuning.pii.keyed import canonical, keyed_digest
from finetuning.pii.keys import KeyNames
from finetuning.pii.kinds import RedactMode, Span
from finetuning.pii.leaves import Leaf, open_row
from finetuning.pii.outputs import Sink
from finetuning.pii.pieces import Block, Unreadable, read_pieces
from finetuning.pii.results import PiiFinding
from finetuning.pii.rounds import redact_leaves, search_leaves
from finetuning.records import Json, Record

_BATCH_CHARACTERS: Final = 4_000_000
"""Text searched at once: large enough for the prefilter, small enough for flat memory."""


class Tally:
    """Counts findings, keeps one page of them, and writes all of them where asked."""

    def __init__(self, limit: int | None, offset: int) -> None:
        """Start empty, for the page of ``limit`` findings from ``offset`` on."""
        self.limit, self.offset = limit, offset
        self.rows = 0
        self.total = 0
        self.by_type: Counter[str] = Counter()
        self.page: list[PiiFinding] = []
        self.unreadable = Unreadable()
        self.stream: IO[str] | None = None

    def add(self, file: str | None, line: int, field: str, span: Span, value: str) -> None:
        """Count one finding; the value itself goes no further than its keyed digest."""
        position = self.total
        self.total += 1
        self.by_type[span.type] += 1
        on_page = position >= self.offset and (self.limit is None or len(self.page) < self.limit)
        if not on_page and self.stream is None:
            return
        finding = PiiFinding.model_validate(
            {
                "file": file,
                "line": line,
                "field": field,
                "start": span.start,
                "end": span.end,
                "type": span.type,
                "confidence": span.confidence,
                "digest": keyed_digest(canonical(span.type, value)),
            }
        )
        if on_page:
            self.page.append(finding)
        if self.stream is not None:
            self.stream.write(finding.model_dump_json() + "\n")


class _Open(NamedTuple):
    line: int
    copy: dict[str, Json]
    leaves: list[Leaf]


class Search:
    """One scan: what is looked for, how it is replaced, and where it is counted."""

    def __init__(
        self, wanted: frozenset[str], detector: str, redact: RedactMode, tally: Tally
    ) -> None:
        """Take the types, the detector, the way of redaction and the tally."""
        self._types = sorted(wanted)
        self._detector = detector
        self._mode: RedactMode = redact
        self._tally = tally

    def file(self, source: Path, label: str | None, sink: Sink | None) -> None:
        """Search one file; with a sink, also write it redacted.

        Args:
            source: A resolved path.
            label: Name of the file in its findings, None where there is only one.
            sink: Takes the redacted rows or text.
        """
        names = KeyNames(self._mode, self._types)
        batch: list[_Open] = []
        size = 0
        for piece in read_pieces(source, self._tally.unreadable):
            if isinstance(piece, Block):
                self._flush(batch, label, sink)
                batch = []
                self._block(piece, label, sink)
                continue
            size += self._open(piece, names, label, batch)
            if size > _BATCH_CHARACTERS:
                self._flush(batch, label, sink)
                batch, size = [], 0
        self._flush(batch, label, sink)

    def _open(self, row: Record, names: KeyNames, label: str | None, batch: list[_Open]) -> int:
        self._tally.rows += 1
        copy, leaves = open_row(row.data, names.safe)
        for field, key, span in names.take_found():
            self._tally.add(label, row.line, field, span, key[span.start : span.end])
        batch.append(_Open(row.line, copy, leaves))
        return sum(len(leaf.text) for leaf in leaves)

    def _flush(self, batch: list[_Open], label: str | None, sink: Sink | None) -> None:
        owners = [row.line for row in batch for _ in row.leaves]
        leaves = [leaf for row in batch for leaf in row.leaves]
        for number, span, value in sorted(self._found(leaves, sink)):
            self._tally.add(label, owners[number], leaves[number].pointer, span, value)
        if sink is not None:
            for row in batch:
                sink.row(row.copy)

    def _found(self, leaves: list[Leaf], sink: Sink | None) -> Iterator[tuple[int, Span, str]]:
        if sink is not None:
            yield from redact_leaves(leaves, self._mode, types=self._types, detector=self._detector)
            return
        spans = search_leaves(leaves, types=self._types, detector=self._detector)
        for number, found in enumerate(spans):
            for span in found:
                yield number, span, leaves[number].text[span.start : span.end]

    def _block(self, block: Block, label: str | None, sink: Sink | None) -> None:
        """Search raw text; of a row that could not be decoded nothing is ever written."""
        if block.whole:
            self._tally.rows += 1
        elif sink is not None:
            return
        name = label
        place: dict[str, Json] = {}
        leaf = Leaf(place, "text", "", "", block.text)
        for _, span, value in sorted(self._found([leaf], sink)):
            before = block.text.count("\n", 0, span.start)
            column = block.text.rfind("\n", 0, span.start) + 1
            moved = span._replace(start=span.start - column, end=span.end - column)
            self._tally.add(name, block.line + before, "", moved, value)
        if sink is not None:
            sink.text(str(place.get("text", block.text)))
