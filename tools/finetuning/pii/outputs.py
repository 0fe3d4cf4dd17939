"""Where redacted copies go, and how rows are written there."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

from finetuning.errors import BadInputError
from finetuning.files import atomic_write, new_output_folder, resolve_write, sniff_format
from finetuning.records import Json

_TABLES: Final = {"csv", "tsv"}
_TEXT_ENDINGS: Final = (".txt", ".md", ".markdown")


class Sink:
    """Writes redacted rows in the format that the file's ending names."""

    def __init__(self, stream: IO[str], ending: str) -> None:
        """Write to ``stream``; ``ending`` is the target's, with the dot."""
        self._stream = stream
        self._ending = ending
        self._count = 0
        self._table: Any = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, target: Path) -> Generator[Sink]:
        """Open a target that appears only when it is whole."""
        with atomic_write(target) as stream:
            sink = cls(stream, target.suffix.lower())
            yield sink
            if sink._ending == ".json":
                stream.write("\n]\n" if sink._count else "[]\n")

    def text(self, text: str) -> None:
        """Write a text file's text."""
        self._stream.write(text)

    def row(self, row: Mapping[str, Json]) -> None:
        """Write one row."""
        if self._ending in {".csv", ".tsv"}:
            self._table_row(row)
        else:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            if self._ending == ".json":
                line = ("[\n" if not self._count else ",\n") + line
            else:
                line += "\n"
            self._stream.write(line)
        self._count += 1

    def _table_row(self, row: Mapping[str, Json]) -> None:
        if self._table is None:
            separator = "\t" if self._ending == ".tsv" else ","
            self._table = csv.writer(self._stream, delimiter=separator, lineterminator="\n")
            self._table.writerow(row)
        self._table.writerow(row.values())


def checked_file(path: str | None, *, overwrite: bool, where: str) -> Path | None:
    """Return the resolved path of a file to write, or None for None.

    Raises:
        NotAllowedError: Outside the writable folders.
        BadInputError: It exists and ``overwrite`` is false.
    """
    if path is None:
        return None
    target = resolve_write(path, where=where)
    if target.exists() and not overwrite:
        raise BadInputError(
            where,
            f"{path!r} exists",
            "a new file",
            "Choose another name, or pass overwrite=true to replace it",
        )
    return target


def targets(
    inputs: Mapping[str, Path],
    path: str,
    mode: Literal["scan", "redact"],
    output: str | None,
    *,
    overwrite: bool,
    where: str,
) -> tuple[dict[str, Path], str | None]:
    """Return the target of each input, and the path to report (a file, or a folder for many).

    Raises:
        BadInputError: ``output`` with mode scan, a wrong ending, or an existing target.
        NotAllowedError: Outside the writable folders.
    """
    if mode == "scan":
        if output is not None:
            raise BadInputError(
                where, "output is given with mode='scan'", "mode='redact'", "Pass mode='redact'"
            )
        return {}, None
    if len(inputs) > 1 or Path(path).expanduser().is_dir():
        folder = new_output_folder(output, where=where, name="redacted", overwrite=overwrite)
        return {
            name: folder / Path(name).parent / _name(file) for name, file in inputs.items()
        }, str(folder)
    (name, source), *_ = inputs.items()
    if output is None:
        folder = new_output_folder(None, where=where, name="redacted")
        return {name: folder / _name(source)}, str(folder / _name(source))
    target = checked_file(output, overwrite=overwrite, where=where)
    allowed = _endings(source)
    if target is None or target.suffix.lower() not in allowed:
        raise BadInputError(
            where,
            f"output is {output!r}",
            f"a name that ends in {' or '.join(allowed)}",
            f"Name it {Path(output).stem + allowed[0]!r}",
        )
    return {name: target}, str(target)


def _endings(source: Path) -> tuple[str, ...]:
    form = sniff_format(source)
    if form == "text_folder":
        return _TEXT_ENDINGS
    first = {"csv": ".csv", "tsv": ".tsv", "json": ".json"}.get(form, ".jsonl")
    others = [".jsonl", ".json", *([".csv", ".tsv"] if form in _TABLES else [])]
    return (first, *(ending for ending in others if ending != first))


def _name(source: Path) -> str:
    stem = source.name
    while Path(stem).suffix.lower() in {".gz", ".zst", ".zstd"}:
        stem = Path(stem).stem
    endings = _endings(source)
    ending = Path(stem).suffix.lower()
    return Path(stem).stem + (ending if ending in endings else endings[0])


def refuse_same(paths: Sequence[Path], *, where: str) -> None:
    """Refuse to write over a file that is read, or to write two things to one file.

    Raises:
        BadInputError: Two of the paths are the same.
    """
    for position, path in enumerate(paths):
        if path in paths[:position]:
            raise BadInputError(
                where, f"{str(path)!r} is used twice", "different files", "Choose another name"
            )
