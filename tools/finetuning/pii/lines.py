"""Search the lines of a JSON Lines file block by block, on all cores.

Rows of plain messages, which most files hold, are decoded into their texts at once; any other row
is walked. Each process splits the whole file and searches every so manieth block: lines are cheap,
searching is not. The first process takes the results in the order of the blocks.
"""

from __future__ import annotations

import bisect
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple

import msgspec

from finetuning import Work, copied, read_frame, write_frame
from finetuning.files import fault
from finetuning.files.chunks import MAX_LINE_BYTES, read_chunks, split_lines, utf8_chunks
from finetuning.files.json_rows import read_row
from finetuning.pii import PiiFinding, Span, canonical, digester
from finetuning.pii.detect import find_in_block
from finetuning.pii.rows import KeyNames, open_row, without_cue
from finetuning.records import Finding, Record

_BLOCK_BYTES: Final = 1 << 20
_SHARED_BYTES: Final = 2 << 20
"""From this size of the file on it is searched by several processes."""

_MOST_WORKERS: Final = 8
_MOST_KEPT: Final = 4_096
_SAMPLE: Final = 5


class Hit(NamedTuple):
    """One finding without its value; ``key`` is the digest of the key that holds it, if any."""

    line: int
    field: str
    span: Span
    digest: str
    key: str = ""


class Unread(NamedTuple):
    """A line that is no row: its number, the code and the words of the fault."""

    line: int
    code: str
    message: str


class Seen(NamedTuple):
    """What a block holds: findings that may have to be told; ``rest`` counts all others."""

    rows: int
    hits: list[Hit]
    rest: dict[str, int]
    unread: list[Unread]


class Tally:
    """Counts findings, keeps one page of them, and writes all of them where asked."""

    def __init__(self, limit: int | None, offset: int) -> None:
        """Start empty, for the page of ``limit`` findings from ``offset`` on."""
        self.limit, self.offset = limit, offset
        self.rows = 0
        self.total = 0
        self.by_type: Counter[str] = Counter()
        self.page: list[PiiFinding] = []
        self.n_unreadable = 0
        self.n_unsearched = 0
        self.unreadable: list[Finding] = []
        self.stream: IO[str] | None = None
        self._digest: Callable[[str], str] | None = None
        self._keys: set[tuple[str | None, str, Span]] = set()

    def reject(self, finding: Finding) -> None:
        """Count one row that no reader could decode, and keep the first of them."""
        self.n_unreadable += 1
        if len(self.unreadable) < _SAMPLE:
            self.unreadable.append(finding)

    def count_more(self, rest: Mapping[str, int]) -> None:
        """Count findings that are on no page."""
        self.by_type.update(rest)
        self.total += sum(rest.values())

    @property
    def told(self) -> int | None:
        """How many findings, from the first on, may have to be told; None for all."""
        if self.limit is None or self.stream is not None:
            return None
        return self.offset + self.limit

    def add(self, file: str | None, line: int, field: str, span: Span, value: str) -> None:
        """Count one finding; the value itself goes no further than its keyed digest."""
        if self.told is not None and self.total >= self.told:
            self.count_more({span.type: 1})
            return
        self._digest = self._digest or digester()
        self.count(file, Hit(line, field, span, self._digest(canonical(span.type, value))))

    def count(self, file: str | None, hit: Hit) -> None:
        """Count one finding, once for each key of a file that holds it."""
        if hit.key:
            if (file, hit.key, hit.span) in self._keys:
                return
            self._keys.add((file, hit.key, hit.span))
        position = self.total
        self.total += 1
        self.by_type[hit.span.type] += 1
        on_page = position >= self.offset and (self.limit is None or len(self.page) < self.limit)
        if not on_page and self.stream is None:
            return
        finding = PiiFinding.model_validate(
            {
                "file": file,
                "line": hit.line,
                "field": hit.field,
                "start": hit.span.start,
                "end": hit.span.end,
                "type": hit.span.type,
                "confidence": hit.span.confidence,
                "digest": hit.digest,
            }
        )
        if on_page:
            self.page.append(finding)
        if self.stream is not None:
            self.stream.write(finding.model_dump_json() + "\n")


# roles as open_row has them, so that both search the same texts
class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["user", "assistant", "system", "tool", "developer", "function"]
    content: str


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Turn]


class _ToolRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: msgspec.Raw
    tools: msgspec.Raw


class _Place(NamedTuple):
    line: int
    field: str
    cue: int


class LineSearch:
    """Searches blocks of lines for some types."""

    def __init__(self, types: Sequence[str], told: int | None = None) -> None:
        """Prepare.

        Args:
            types: What to look for.
            told: How many findings of a block, from the first on, are told; None for all.
        """
        self._types = frozenset(types)
        self._names = KeyNames("mask", types)
        self._decode = msgspec.json.Decoder(_Row).decode
        self._digest = digester()
        self._told = told
        self._split = msgspec.json.Decoder(_ToolRow).decode
        self._clean: set[bytes] = set()  # lists of tools, as they stand, that hold nothing

    def file(self, path: Path) -> Iterator[Seen]:
        """Yield what each block holds, in order.

        Raises:
            BadInputError: The file cannot be read, or changes meanwhile.
        """
        workers = 1
        if path.stat().st_size >= _SHARED_BYTES:
            workers = min(os.cpu_count() or 1, _MOST_WORKERS)
        helpers = [copied(self._share(path, number, workers)) for number in range(1, workers)]
        try:
            for number, (first, lines) in enumerate(_blocks(path)):
                helper = helpers[number % workers - 1] if number % workers else None
                seen = read_frame(helper[2], Seen) if helper else None
                yield self.block(first, lines) if seen is None else seen
        finally:
            for helper in helpers:
                if helper is not None:
                    helper[1].close()
                    helper[2].close()
                    os.waitpid(helper[0], 0)

    def _share(self, path: Path, share: int, workers: int) -> Work:
        def work(_: IO[bytes], answers: IO[bytes]) -> None:
            for number, (first, lines) in enumerate(_blocks(path)):
                if number % workers == share:
                    write_frame(answers, self.block(first, lines))

        return work

    def block(self, first: int, lines: Sequence[bytes]) -> Seen:
        """Search lines, of which the first has the number ``first``."""
        texts: list[str] = []
        starts: list[int] = []  # number of the first text of each row of plain messages
        numbers: list[int] = []
        other: dict[int, _Place] = {}
        hits: list[Hit] = []
        unread: list[Unread] = []
        tools: dict[int, bytes] = {}
        rows = 0
        for number, raw in enumerate(lines, start=first):
            try:
                messages = self._decode(raw).messages
            except (msgspec.MsgspecError, ValueError):
                item = self._other(number, raw, tools)
                if isinstance(item, Record):
                    self._take(item, texts, other, hits)
                    rows += 1
                elif item is not None:
                    unread.append(Unread(number, item.code, item.message))
                continue
            starts.append(len(texts))
            numbers.append(number)
            texts += [turn.content for turn in messages]
        rest: Counter[str] = Counter()
        for number, spans in sorted(find_in_block(texts, self._types).items()):
            place = other.get(number)
            if place is not None and place.field.startswith("/tools"):
                tools.pop(place.line, None)
            if self._told is not None and len(hits) >= self._told:
                kept = without_cue(spans, place.cue if place else 0)
                rest.update(span.type for span in kept)
                continue
            if place is None:
                row = bisect.bisect_right(starts, number) - 1
                place = _Place(numbers[row], f"/messages/{number - starts[row]}/content", 0)
            hits.extend(_hits(place, texts[number], spans, self._digest))
        if len(self._clean) < _MOST_KEPT:
            self._clean.update(tools.values())
        return Seen(rows + len(starts), hits, rest, unread)

    def _other(self, number: int, raw: bytes, tools: dict[int, bytes]) -> Record | Finding | None:
        """Read a row of any other form, without tools known to hold nothing; None if blank."""
        line = raw.strip()
        if not line:
            return None
        if len(raw) > MAX_LINE_BYTES:
            return fault("line_too_long", line=number, message="the line is longer than 160 MiB")
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            row = self._split(line)
            tools[number] = bytes(row.tools)
            if tools[number] in self._clean:
                item = read_row("", number, b'{"messages":' + bytes(row.messages) + b"}")
                if isinstance(item, Record):
                    return item
        return read_row("", number, line)

    def _take(
        self, row: Record, texts: list[str], other: dict[int, _Place], hits: list[Hit]
    ) -> None:
        _, leaves = open_row(row.data, self._names.safe)
        for field, key, span in self._names.take_found():
            digest = self._digest(canonical(span.type, key[span.start : span.end]))
            hits.append(Hit(row.line, field, span, digest, self._digest(key)))
        for leaf in leaves:
            other[len(texts)] = _Place(row.line, leaf.pointer, len(leaf.cue))
            texts.append(leaf.cue + leaf.text)


def _hits(
    place: _Place, text: str, spans: list[Span], digest: Callable[[str], str]
) -> Iterator[Hit]:
    line, field, cue = place
    for span in without_cue(spans, cue):
        value = text[cue + span.start : cue + span.end]
        yield Hit(line, field, span, digest(canonical(span.type, value)))


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield blocks of physical lines with the number of their first one."""
    held: list[bytes] = []
    size, first = 0, 1
    for line in split_lines(utf8_chunks(read_chunks(path), name=str(path))):
        held.append(line)
        size += len(line)
        if size >= _BLOCK_BYTES:
            yield first, held
            first += len(held)
            held, size = [], 0
    if held:
        yield first, held
