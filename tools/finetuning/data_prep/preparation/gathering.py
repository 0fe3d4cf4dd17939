"""Reads every source and turns its rows into examples for the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from finetuning.data_prep.convert import Columns, Converted, Converter, check_columns
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.prepared import ExamplesMode
from finetuning.data_prep.validate.codes import finding
from finetuning.errors import BadInputError
from finetuning.files import data_files, read_records, resolve_read, sniff_format
from finetuning.records import Finding, Record
from finetuning.runs import progress


class Source(NamedTuple):
    """A source as the caller named it, and its rows."""

    name: str
    rows: list[Record | Finding]


def source_files(path: str, *, where: str) -> dict[str, Path]:
    """Return name → path of what is read for a source: a file, a text folder, a prepared folder.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, or a folder without rows.
    """
    found = resolve_read(path, where=where, kind="any")
    if found.is_dir() and (found / "train.jsonl").is_file():
        files = data_files(path, where=where)
        filled = {f"{path.rstrip('/')}/{file.name}": file for file in files.values()}
        return {name: file for name, file in filled.items() if file.stat().st_size} or filled
    sniff_format(found)
    return {path: found}


def read_source(path: str, *, where: str) -> Iterator[Source]:
    """Read every row of a source.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, a folder without rows, or has no row.
    """
    for name, file in source_files(path, where=where).items():
        progress(0, None, "reading rows")
        yield Source(name, [_shallow(row) for row in read_records(file, source=name)])


def _shallow(row: Record | Finding) -> Record | Finding:
    """Return a row, or a finding for one nested too deeply to be written again."""
    import orjson

    if isinstance(row, Record) and not all(isinstance(cell, str) for cell in row.data.values()):
        try:
            orjson.dumps(row.data)
        except orjson.JSONEncodeError:
            return finding("too_deep", "more than 254 levels, or a number too large", line=row.line)
    return row


def _names(sources: Sequence[Source]) -> set[str]:
    return {
        name
        for source in sources
        for row in source.rows
        if isinstance(row, Record)
        for name in row.data
    }


def gather(options: Options) -> tuple[Converted, bool]:
    """Read the sources and convert their rows; say whether one is a table of turns.

    Raises:
        NotAllowedError: A source lies outside the readable folders.
        UnknownNameError: A named column is in no row of any source.
        BadInputError: A source is missing, empty or binary, or has no row.
    """
    sources = [
        source
        for path in options.sources
        for source in read_source(path, where=f"{WHERE}: sources")
    ]
    check_columns(options.columns, _names(sources), where=WHERE)
    converter = Converter(options.target, options.columns, options.examples)
    parts = [converter.convert(source.rows, source.name) for source in sources]
    _check_turn_columns(options, converter)
    made = Converted(
        [example for part in parts for example in part.examples],
        [rejection for part in parts for rejection in part.rejections],
    )
    return made, bool(converter.turn_tables)


def _check_turn_columns(options: Options, converter: Converter) -> None:
    """Refuse columns of a table of turns that no source used."""
    names = ("conversation_column", "role_column", "content_column")
    given = [name for name in names if name in options.columns.named()]
    if converter.holds.form == "text" and given == ["content_column"]:
        return
    if given and not converter.turn_tables:
        raise BadInputError(
            f"{WHERE}: {given[0]}",
            f"{', '.join(given)} without the columns that go with it",
            "conversation_column, role_column and content_column, and no prompt_column",
            "Name all three, or leave them out",
        )


def read_others(path: str, target: str, columns: Columns, *, where: str) -> list[Converted]:
    """Read a file of other rows (replay, exclude) for the same target, each shape told anew.

    The columns that a person named count where the file has them.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, or has no row.
    """
    mode: ExamplesMode = "per_conversation"
    return [
        Converter(target, columns.those_in(_names([source])), mode).convert(
            source.rows, source.name
        )
        for source in read_source(path, where=where)
    ]
