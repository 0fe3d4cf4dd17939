"""Answers that were written down before: rows of a file, whoever wrote it.

Read by content, whatever the file is called: our own JSONL, samples of lm-evaluation-harness,
logs of Inspect (zip or JSON), results of promptfoo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.logs import (
    Row,
    as_name,
    as_number,
    as_object,
    objects,
    rows_of_inspect,
    rows_of_lm_eval,
    rows_of_promptfoo,
)
from finetuning.files import read_records
from finetuning.records import Finding, Json, Record

_LARGEST_BYTES: Final = 1 << 30
_ZSTANDARD: Final = 93


class Recording(NamedTuple):
    """A recorded file.

    Attributes:
        tool: Who wrote it: ``own``, ``lm_eval``, ``inspect`` or ``promptfoo``.
        rows: What it holds.
        broken: Lines that cannot be read, or hold no answer.
    """

    tool: str
    rows: list[Row]
    broken: int = 0

    @property
    def parts(self) -> list[str]:
        """Names of the models in the file, where it holds more than one."""
        return sorted({row.part for row in self.rows if row.part is not None})


def read_recording(path: Path) -> Recording:
    """Return the rows of a recorded file of any known tool.

    Raises:
        BadInputError: The file cannot be read, or is a log packed in a way that needs its tool.
    """
    return read_log_file(path) or _own(path)


def read_log_file(path: Path) -> Recording | None:
    """Return the rows of another tool's log, or None where the file is not one.

    Raises:
        BadInputError: It is one, and cannot be read.
    """
    import zipfile

    if zipfile.is_zipfile(path):
        return Recording("inspect", list(rows_of_inspect(_zipped_samples(path))))
    document = _document(path)
    if document is not None:
        if "samples" in document and "eval" in document:
            return Recording("inspect", list(rows_of_inspect(objects(document["samples"]))))
        results = as_object(document.get("results"))
        if isinstance(results.get("results"), list):
            return Recording("promptfoo", rows_of_promptfoo(objects(results["results"])))
    return _lines(path)


def _document(path: Path) -> dict[str, Json] | None:
    """Return a file that is one JSON object over several lines, or one of a log's shape."""
    with path.open("rb") as stream:
        head = stream.read(4096).lstrip()
        if not head.startswith(b"{"):
            return None
        stream.seek(0)
        first = stream.readline(1 << 20)
        rest = stream.read(1)
        one_line = first.rstrip().endswith(b"}") and rest != b""
    if one_line or path.stat().st_size > _LARGEST_BYTES:
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Json]", value) if isinstance(value, dict) else None


def _lines(path: Path) -> Recording | None:
    """Return the rows of a log of one object per line, told by its first row."""
    rows: list[Record] = []
    broken, reader = 0, None
    for record in read_records(path):
        if isinstance(record, Finding):
            broken += 1
            continue
        if reader is None:
            reader = _reader_of(record.data)
            if reader is None:
                return None
        rows.append(record)
    if reader is None:
        return None
    if reader == "promptfoo":
        return Recording(reader, rows_of_promptfoo([row.data for row in rows]), broken)
    return Recording(reader, list(rows_of_lm_eval(rows)), broken)


def _reader_of(data: Mapping[str, Json]) -> str | None:
    if "doc_id" in data and ("filtered_resps" in data or "resps" in data):
        return "lm_eval"
    return "promptfoo" if "testIdx" in data and "promptIdx" in data else None


def _own(path: Path) -> Recording:
    rows: list[Row] = []
    broken = 0
    for record in read_records(path):
        if isinstance(record, Finding):
            broken += 1
            continue
        data = record.data
        if "output" not in data and "nll" not in data:
            broken += 1
            continue
        sample, output = data.get("sample", 0), data.get("output")
        rows.append(
            Row(
                id=as_name(data.get("id")) or str(record.line),
                line=record.line,
                output=output if isinstance(output, str) else None,
                sample=sample if isinstance(sample, int) else -1,
                cut=data.get("finish_reason") == "length",
                seconds=as_number(data.get("seconds")),
                nll=as_number(data.get("nll")),
            )
        )
    return Recording("own", rows, broken)


def _zipped_samples(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the samples of an Inspect log that is a zip.

    Raises:
        BadInputError: It holds no samples, or one that cannot be unpacked.
    """
    import zipfile

    with zipfile.ZipFile(path) as packed:
        entries = [e for e in packed.infolist() if e.filename.startswith("samples/")]
        if not entries:
            raise _unusable(path, "is a zip without samples/")
        for entry in entries:
            if entry.file_size > _LARGEST_BYTES:
                raise _unusable(path, f"holds a sample of {entry.file_size} bytes")
            try:
                if entry.compress_type == _ZSTANDARD:
                    text = _unpack(path, entry.header_offset, entry.compress_size)
                else:
                    text = packed.read(entry)
                yield as_object(json.loads(text))
            except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
                raise _unusable(path, "holds a sample that cannot be unpacked") from error


def _unusable(path: Path, what: str) -> BadInputError:
    step = f"Run: inspect log convert {path.name} --to json --output-dir converted"
    return BadInputError("recorded", f"{path.name} {what}", "a whole log of Inspect", step)


def _unpack(path: Path, offset: int, size: int) -> bytes:
    """Return a Zstandard entry of a zip, which Python before 3.14 cannot unpack by itself."""
    import tempfile

    from finetuning.files.chunks import read_chunks

    with path.open("rb") as stream:
        stream.seek(offset)
        header = stream.read(30)  # ends with the lengths of the name and of the extra field
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        stream.seek(offset + 30 + name + extra)
        data = stream.read(size)
    with tempfile.NamedTemporaryFile(suffix=".zst") as file:
        file.write(data)
        file.flush()
        return b"".join(read_chunks(Path(file.name)))
