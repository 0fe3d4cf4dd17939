"""Sources: read, looked at for their shape, and turned into examples for the target."""

from __future__ import annotations

import itertools
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert import (
    Columns,
    Converter,
    Rejection,
    cell_text,
    guess_annotator,
    guess_pair,
    shape_of,
    time_key,
    turn_columns,
)
from finetuning.data_prep.convert.codes import Unusable
from finetuning.data_prep.convert.exports import export_kind, open_source
from finetuning.data_prep.convert.rows import read_row
from finetuning.data_prep.examples import Example, tool_calls_of
from finetuning.data_prep.preparation.options import Options
from finetuning.data_prep.targets import TargetName
from finetuning.data_prep.validate.codes import finding
from finetuning.files import data_files, resolve_read, sniff_format
from finetuning.files.ranges import LineRange, has_ranges, line_ranges
from finetuning.records import Finding, Record
from finetuning.runs import progress

BLOCK_BYTES: Final = 16 << 20
_BLOCK_ROWS: Final = 8_000
_SAMPLE, _SAMPLE_ROWS = 1_000, 2_000
_GROUPS: Final = (
    "customer_id", "user_id", "account_id", "client_id", "patient_id", "document_id", "doc_id",
    "author_id", "company_id",
)  # fmt: skip


class Source(NamedTuple):
    """A source as the caller named it, and its rows."""

    name: str
    rows: list[Record | Finding]


def source_files(path: str, *, where: str) -> dict[str, Path]:
    """Return name → path of what is read for a source: a file, a folder of texts or of splits.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, or a folder without rows.
    """
    found = resolve_read(path, where=where, kind="any")
    if found.is_dir() and (found / "train.jsonl").is_file():
        files = data_files(path, where=where)
        filled = {f"{path.rstrip('/')}/{file.name}": file for file in files.values()}
        return {name: file for name, file in filled.items() if file.stat().st_size} or filled
    if export_kind(found) is None:
        sniff_format(found)
    return {path: found}


def read_source(
    path: str, *, where: str, role_map: Mapping[str, str] | None = None
) -> Iterator[Source]:
    """Read every row of a source; those of an export are conversations.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, a folder without rows, or has no row.
    """
    for name, file in source_files(path, where=where).items():
        progress(0, None, "reading rows")
        yield Source(name, [shallow(row) for row in open_source(file, name, role_map)])


class Task(NamedTuple):
    """A block to be made: lines of a file, or rows or examples that were read already."""

    source: str
    path: Path | None = None
    part: LineRange | None = None
    rows: Sequence[Record | Finding] = ()
    examples: Sequence[Example] = ()


def shallow(row: Record | Finding) -> Record | Finding:
    """Return a row, or a finding for one nested too deeply to be written again."""
    import orjson

    if isinstance(row, Record) and not all(isinstance(cell, str) for cell in row.data.values()):
        try:
            orjson.dumps(row.data)
        except orjson.JSONEncodeError:
            return finding("too_deep", "more than 254 levels, or a number too large", line=row.line)
    return row


class Reader:
    """Cuts sources into tasks and keeps what it learnt on the way."""

    def __init__(self, options: Options) -> None:
        """Prepare for what the person asked for."""
        self._options = options
        self._converter = Converter(options.target, options.columns, options.examples)
        self.names: set[str] = set()
        self.rejections: list[Rejection] = []

    @property
    def turn_tables(self) -> int:
        """How many sources were tables with one turn per row."""
        return self._converter.turn_tables

    def tasks(self, name: str, path: Path) -> Iterator[Task]:
        """Yield the tasks of one file."""
        rows = open_source(path, name, self._options.columns.role_map)
        sample = list(itertools.islice(rows, _SAMPLE))
        records = [row for row in sample if isinstance(row, Record)]
        if turn_columns(records, self._options.columns) is not None:
            every = itertools.chain(sample, rows)
            yield from self._turns(name, every)
        elif export_kind(path) is None and sniff_format(path) == "jsonl" and has_ranges(path):
            del rows
            for part in line_ranges(path, BLOCK_BYTES):
                yield Task(name, path=path, part=part)
        else:
            every = itertools.chain(sample, rows)
            while batch := list(itertools.islice(every, _BLOCK_ROWS)):
                yield Task(name, rows=batch)

    def _turns(self, name: str, rows: Iterable[Record | Finding]) -> Iterator[Task]:
        """Join the turns of a table; a conversation may be spread over the whole of it."""
        held = list(rows)
        for row in held:
            if isinstance(row, Record):
                self.names.update(row.data)
        made = self._converter.convert(held, name)
        self.rejections += made.rejections
        for start in range(0, len(made.examples), _BLOCK_ROWS):
            yield Task(name, examples=made.examples[start : start + _BLOCK_ROWS])


def columns_of(path: Path, name: str) -> set[str]:
    """Return the columns or keys of the first rows of a file."""
    rows = itertools.islice(open_source(path, name, None), _SAMPLE)
    return {key for row in rows if isinstance(row, Record) for key in row.data}


@dataclass(frozen=True, slots=True)
class SourceSurvey:
    """What a first look shows.

    Attributes:
        sources: The rows, file by file.
        records: The rows that could be decoded.
        names: Columns or keys, in the order of their first use.
        shape: Commonest shape, ``turns`` for a table of one turn per row, ``table`` for one
            whose columns tell what asks and answers, else ``unknown``.
        columns: Columns that prepare_data must be told.
        target: Target that holds what the rows hold; None where that cannot be told.
    """

    format: str
    sources: list[Source]
    records: list[Record]
    names: list[str]
    shape: str
    columns: Columns
    target: TargetName | None

    @property
    def n_rows(self) -> int:
        """Rows in the file, faulty ones included."""
        return sum(len(source.rows) for source in self.sources)


def _format(path: str, where: str) -> str:
    files = source_files(path, where=where)
    if len(files) > 1 or next(iter(files)) != path:
        return "prepared"
    (found,) = files.values()
    kind = export_kind(found)
    if kind is not None and (found.is_dir() or zipfile.is_zipfile(found)):
        return "zip" if found.is_file() else "folder"
    return sniff_format(found)


def _is_id_or_time(cells: Sequence[str]) -> bool:
    """Say whether a column holds ids, numbers or times rather than words."""
    wordless = sum(" " not in cell and len(cell) <= 40 for cell in cells)
    distinct = len(set(cells)) == len(cells) and wordless == len(cells)
    return distinct or sum(time_key(cell) is not None for cell in cells) > 0.8 * len(cells)


def _pair_by_values(records: Sequence[Record], names: Sequence[str]) -> tuple[str, str] | None:
    """Return the two columns that hold words, the longer as prompt, if there are just two."""
    words: list[tuple[float, str]] = []
    for name in names:
        cells = [cell_text(record.data.get(name)) for record in records]
        filled = [cell for cell in cells if cell.strip()]
        if len(filled) > 0.8 * len(cells) and not _is_id_or_time(filled):
            words.append((sum(map(len, filled)) / len(filled), name))
    if len(words) != 2:
        return None
    (_, answer), (_, prompt) = sorted(words)
    return prompt, answer


def _with_sides(columns: Columns, records: Sequence[Record], names: Sequence[str]) -> Columns:
    """Add the group and annotator columns that the names and values tell."""
    group = next((name for name in names if name.lower() in _GROUPS), None)
    if group is not None:
        values = Counter(cell_text(record.data.get(group)) for record in records)
        repeated = 10 <= len(values) < 0.9 * len(records) and "" not in values
        group = group if repeated else None
    return Columns(
        prompt=columns.prompt,
        completion=columns.completion,
        group=group,
        annotator=guess_annotator(names),
    )


def _columns(records: Sequence[Record], names: Sequence[str]) -> tuple[str, Columns]:
    """Return the shape of the rows and the columns that prepare_data must be told."""
    turns = turn_columns(records, Columns())
    if turns is not None:
        return "turns", turns
    shapes = Counter(shape.name for record in records if (shape := shape_of(record.data)))
    common, count = shapes.most_common(1)[0] if shapes else ("unknown", 0)
    if count >= len(records) / 2:
        return common, _with_sides(Columns(), records, names)
    pair = guess_pair(names, Columns()) or _pair_by_values(records, names)
    if pair is None:
        return common, Columns()
    return "table", _with_sides(Columns(prompt=pair[0], completion=pair[1]), records, names)


def _examples(records: Sequence[Record], columns: Columns) -> Iterator[Example]:
    for record in records:
        try:
            yield read_row(record, columns, frozenset({"chat"}))
        except Unusable:
            continue


def _is_single(example: Example) -> bool:
    roles = [turn["role"] for turn in example.messages]
    return roles in (["user", "assistant"], ["user"]) and not any(
        isinstance(turn.get("content"), list) or tool_calls_of(turn) for turn in example.messages
    )


def _target(shape: str, records: Sequence[Record], columns: Columns) -> TargetName | None:
    """Return the target for local training that holds what the rows hold."""
    if shape == "turns":
        return "trl_messages"
    examples = list(_examples(records, columns))
    if not examples:
        return None
    (kind, _), *_ = Counter(example.kind for example in examples).most_common(1)
    if kind == "preference":
        return "trl_preference"
    if kind == "binary":
        return "trl_kto"
    if kind == "text":
        return "trl_text"
    chats = [example for example in examples if example.kind == "chat"]
    return "trl_prompt_completion" if all(map(_is_single, chats)) else "trl_messages"


def survey_source(path: str, *, where: str) -> SourceSurvey:
    """Read a source and say what shape it has.

    Args:
        path: Data file, text folder, or folder that prepare_data wrote.
        where: Name of the tool, for error texts.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, a folder without rows, or has no row.
    """
    form = _format(path, where)
    sources = list(read_source(path, where=where))
    rows = itertools.chain.from_iterable(source.rows for source in sources)
    records = [row for row in rows if isinstance(row, Record)]
    names = list(dict.fromkeys(name for record in records for name in record.data))
    sample = records[:_SAMPLE_ROWS]
    shape, columns = _columns(sample, names) if sample else ("unknown", Columns())
    target = _target(shape, sample, columns) if sample else None
    kind = None if form == "prepared" else export_kind(resolve_read(path, where=where, kind="any"))
    if kind is not None:
        shape, columns, target = kind, Columns(), "trl_messages"
    return SourceSurvey(form, sources, records, names, shape, columns, target)
