"""Rows of other tools' logs: lm-evaluation-harness, Inspect, promptfoo.

Source: the formats' own writers, lm-eval 0.4.13, inspect-ai 0.3.285, promptfoo 0.123 (checked
2026-11-20); knowledge: evaluation.md#recorded-answers
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.records import Json, Record

_CUT: Final = frozenset({"length", "max_tokens", "model_length"})


class Row(NamedTuple):
    """One row of a recorded file."""

    id: str  # its line number where our own format has none
    line: int  # from 1
    position: int | None = None  # in its data set from 0, where a tool counts rows itself
    output: str | None = None
    sample: int = 0  # which of several answers to one prompt
    cut: bool = False  # it ended at the limit of tokens
    seconds: float | None = None
    nll: float | None = None  # mean negative log-likelihood of the reference
    prompt: str | None = None  # raw text asked, where it was no chat
    messages: tuple[dict[str, Json], ...] | None = None
    reference: str | None = None  # the right answer
    part: str | None = None  # which model of a file with several


# --- lm-evaluation-harness: --log_samples ---------------------------------------------------------


def rows_of_lm_eval(records: Iterable[Record]) -> Iterator[Row]:
    """Yield one row per document: a task with several filters repeats it, the first one counts."""
    first: Json = None
    for number, record in enumerate(records):
        data = record.data
        name = data.get("filter")
        first = name if number == 0 else first
        if name != first:
            continue
        asked = _arguments(data.get("arguments"))
        choices = [text for _, text in asked if text is not None]
        position = data["doc_id"]
        row = Row(
            id=str(position),
            line=record.line,
            position=position if isinstance(position, int) else None,
            prompt=asked[0][0] if asked else None,
        )
        if len(choices) > 1:
            yield row._replace(
                output=_likeliest(data, choices), reference=_gold(data.get("target"), choices)
            )
        else:
            target = data.get("target")
            reference = None if target is None else target if isinstance(target, str) else None
            if target is not None and reference is None:
                reference = _plain(_first(target) if isinstance(target, list) else target)
            yield row._replace(output=_written(data), reference=reference)


def _arguments(value: Json) -> list[tuple[str | None, str | None]]:
    """Return of each request the context and, for a likelihood, the continuation."""
    requests: list[Any] = []
    if isinstance(value, dict):
        requests = [
            [as_object(item).get("arg_0"), as_object(item).get("arg_1")]
            for item in cast("dict[str, Any]", value).values()
        ]
    elif isinstance(value, list):
        requests = cast("list[Any]", value)
    found: list[tuple[str | None, str | None]] = []
    for request in requests:
        parts = cast("list[Any]", request) if isinstance(request, list) else [request]
        texts = [part if isinstance(part, str) else None for part in [*parts, None, None][:2]]
        found.append((texts[0], texts[1]))
    return found


def _likeliest(data: Mapping[str, Json], choices: list[str]) -> str | None:
    scores = [as_number(_first(pair)) for pair in _list(data.get("filtered_resps"))]
    if len(scores) != len(choices) or None in scores:
        return None
    best = max(range(len(choices)), key=lambda index: cast("float", scores[index]))
    return choices[best].strip()


def _gold(target: Json, choices: list[str]) -> str | None:
    index = target if isinstance(target, int) else None
    if isinstance(target, str) and target.isdigit():
        index = int(target)
    if index is not None and 0 <= index < len(choices):
        return choices[index].strip()
    return target.strip() if isinstance(target, str) else None


def _written(data: Mapping[str, Json]) -> str | None:
    for key in ("filtered_resps", "resps"):
        value: Any = data.get(key)
        while isinstance(value, list):
            value = _first(cast("Json", value))
        if isinstance(value, str):
            return value
    return None


# --- Inspect: .eval (a zip of JSON) and .json -----------------------------------------------------


def rows_of_inspect(samples: Iterable[dict[str, Json]]) -> Iterator[Row]:
    """Yield one row per sample and epoch of an Inspect log."""
    for number, sample in enumerate(samples):
        output = as_object(sample.get("output"))
        choice = as_object(_first(output.get("choices")))
        text = output.get("completion")
        if not isinstance(text, str):
            text = _content(as_object(choice.get("message")).get("content"))
        asked, target = sample.get("input"), sample.get("target")
        epoch = sample.get("epoch", 1)
        yield Row(
            id=as_name(sample.get("id")) or str(number + 1),
            line=number + 1,
            output=None if sample.get("error") else text,
            sample=epoch - 1 if isinstance(epoch, int) else 0,
            cut=choice.get("stop_reason") in _CUT,
            seconds=as_number(output.get("time")),
            messages=_chat(asked),
            reference=_plain(_first(target) if isinstance(target, list) else target),
        )


def _chat(asked: Json) -> tuple[dict[str, Json], ...] | None:
    if isinstance(asked, str):
        return ({"role": "user", "content": asked},)
    turns = [
        {"role": turn.get("role"), "content": _content(turn.get("content")) or ""}
        for turn in objects(asked)
    ]
    return tuple(turns) or None


def _content(value: Json) -> str | None:
    if isinstance(value, list):
        texts = [part.get("text") for part in objects(value)]
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else None


# --- promptfoo: results as JSON or JSONL ----------------------------------------------------------


def rows_of_promptfoo(results: list[dict[str, Json]]) -> list[Row]:
    """Return one row per result: each test of each prompt and provider."""
    several = len({result.get("promptIdx") for result in results}) > 1
    seen: dict[tuple[Json, Json], int] = {}
    rows: list[Row] = []
    for number, result in enumerate(results):
        provider = result.get("provider")
        named = as_object(provider)
        part = named.get("label") or named.get("id") or provider
        part = f"{part}@{result.get('promptIdx')}" if several else _plain(part)
        test, response = as_object(result.get("testCase")), as_object(result.get("response"))
        given = as_object(result.get("vars") or test.get("vars"))
        position = result.get("testIdx")
        sample = seen.get((part, position), 0)
        seen[part, position] = sample + 1
        seconds = as_number(result.get("latencyMs"))
        own = as_name(given.get("id")) or as_name(as_object(test.get("metadata")).get("id"))
        rows.append(
            Row(
                id=own or str(position),
                line=number + 1,
                position=position if isinstance(position, int) else None,
                output=None if response.get("error") else _plain(response.get("output")),
                sample=sample,
                cut=response.get("finishReason") in _CUT,
                seconds=None if seconds is None else seconds / 1000,
                prompt=_plain(as_object(result.get("prompt")).get("raw")),
                reference=_expected(test.get("assert")),
                part=part,
            )
        )
    return rows


def _expected(asserts: Json) -> str | None:
    """Return what an assertion of equality wants."""
    for check in objects(asserts):
        if check.get("type") in {"equals", "is-equal"}:
            return _plain(check.get("value"))
    return None


# --- JSON of unknown shape ------------------------------------------------------------------------


def as_name(value: Json) -> str:
    """Return an id as text; empty where the value cannot be one."""
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if usable else ""


def as_number(value: Json) -> float | None:
    """Return a finite number, also one written as text; else None."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and math.isfinite(value) else None


def _plain(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _first(value: Json) -> Json:
    found = _list(value)
    return found[0] if found else None


def _list(value: Json) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def as_object(value: Json) -> dict[str, Json]:
    """Return the value if it is an object, else an empty one."""
    return cast("dict[str, Json]", value) if isinstance(value, dict) else {}


def objects(value: Json) -> list[dict[str, Json]]:
    """Return the objects of a list; an empty list for anything else."""
    return [as_object(item) for item in _list(value) if isinstance(item, dict)]


LARGEST_BYTES: Final = 1 << 30
_ZSTANDARD: Final = 93


def zipped_samples(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the samples of an Inspect log that is a zip."""
    import zipfile

    with zipfile.ZipFile(path) as packed:
        entries = [e for e in packed.infolist() if e.filename.startswith("samples/")]
        if not entries:
            raise _unusable(path, "is a zip without samples/")
        for entry in entries:
            if entry.file_size > LARGEST_BYTES:
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
