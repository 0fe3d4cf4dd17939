"""What comes in: held-out rows as questions, and answers that were written down before.

Recorded files are read by content: our own JSONL, samples of lm-evaluation-harness, logs of
Inspect (zip or JSON), results of promptfoo.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.logs import (
    LARGEST_BYTES,
    Row,
    as_name,
    as_number,
    as_object,
    objects,
    rows_of_inspect,
    rows_of_lm_eval,
    rows_of_promptfoo,
    zipped_samples,
)
from finetuning.evaluation.matching import tool_calls_text
from finetuning.files import read_records, sha256_file
from finetuning.records import Finding, Json, Record


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a test set."""

    id: str  # the row's own, or its line number
    line: int
    prompt: str | None  # raw text to continue; None for chats, empty for plain texts
    messages: tuple[dict[str, Json], ...] | None  # before the answer
    reference: str
    cluster: str | None = None  # value of the cluster column
    group: str | None = None  # value of the row's domain

    def asked(self) -> str:
        """Return all text that stands before the answer."""
        if self.messages is None:
            return self.prompt or ""
        return "\n".join(message_text(message) for message in self.messages)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """All questions of one file."""

    path: Path
    questions: list[Question]
    # rows that cannot be asked or scored, by fault code
    unusable: Counter[str] = field(default_factory=Counter[str])
    repeated_ids: tuple[str, ...] = ()
    sha256: str = ""


def read_questions(
    path: Path, *, where: str, cluster_column: str | None = None, texts: bool = False
) -> QuestionSet:
    """Read the rows of a file, or of another tool's log, as questions.

    Raises:
        BadInputError: No row can be used, or a row lacks the cluster column.
    """
    log = read_log_file(path)
    questions, unusable = _of_log(log) if log is not None else ([], Counter[str]())
    for record in read_records(path) if log is None else ():
        if isinstance(record, Finding):
            unusable[record.code] += 1
            continue
        cluster = _cluster(record, cluster_column, where)
        question = _question(record, cluster, texts)
        if isinstance(question, Question):
            questions.append(question)
        else:
            unusable[question] += 1
    if not questions:
        raise BadInputError(
            where,
            f"none of the {unusable.total()} rows of {path.name} can be asked and scored",
            "rows with prompt and completion, or with messages that end in an assistant's answer"
            + (", or with text" if texts else ""),
            "Convert the file: fine-tuning prepare-data FILE --target trl_prompt_completion"
            " --output-dir prepared",
        )
    counts = Counter(question.id for question in questions)
    repeated = tuple(name for name, count in counts.items() if count > 1)
    return QuestionSet(path, questions, unusable, repeated, sha256_file(path))


def _of_log(log: Recording) -> tuple[list[Question], Counter[str]]:
    """Return the questions of another tool's log, once each, and what its rows lack."""
    found: dict[str, Question] = {}
    # rows that cannot be asked or scored, by fault code
    unusable: Counter[str] = Counter()
    for row in (row for row in log.rows if row.sample == 0 and row.id not in found):
        if row.prompt is None and row.messages is None:
            unusable["unknown_shape"] += 1
        elif not (row.reference or "").strip():
            unusable["no_reference"] += 1
        else:
            prompt = None if row.messages is not None else row.prompt
            found[row.id] = Question(row.id, row.line, prompt, row.messages, row.reference or "")
    return list(found.values()), unusable


def message_text(message: Mapping[str, Json]) -> str:
    """Return the text of one chat message (the text parts, where content is a list)."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        texts = [cast("dict[str, Any]", p).get("text") for p in parts if isinstance(p, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def _question(record: Record, cluster: str | None, texts: bool) -> Question | str:
    """Return the question of a row, or the code of what it lacks."""
    data = record.data
    name = data.get("id")
    key = str(name) if isinstance(name, str | int) and name != "" else str(record.line)
    domain = data.get("domain")
    group = domain if isinstance(domain, str) else None
    asked = _asked(data, texts)
    if isinstance(asked, str):
        return asked
    prompt, messages, reference = asked
    if not reference.strip():
        return "empty_reference"
    return Question(key, record.line, prompt, messages, reference, cluster, group)


_Asked = tuple[str | None, tuple[dict[str, Json], ...] | None, str]


def _asked(data: Mapping[str, Json], texts: bool) -> _Asked | str:
    prompt, completion = data.get("prompt"), data.get("completion")
    if isinstance(prompt, list):
        turns = [*cast("list[Any]", prompt), *_list(completion)]
        return _from_messages(turns)
    if isinstance(prompt, str):
        if isinstance(completion, int | float) and not isinstance(completion, bool):
            completion = json.dumps(completion)
        return (prompt, None, completion) if isinstance(completion, str) else "no_reference"
    if "messages" in data:
        return _from_messages(_list(data["messages"]))
    text = data.get("text")
    if texts and isinstance(text, str):
        return "", None, text
    return "unknown_shape"


def _from_messages(turns: list[Any]) -> _Asked | str:
    if not turns or not all(isinstance(turn, dict) for turn in turns):
        return "unknown_shape"
    messages = [cast("dict[str, Json]", turn) for turn in turns]
    if messages[-1].get("role") != "assistant" or len(messages) < 2:
        return "no_reference"
    answer = message_text(messages[-1]) or tool_calls_text(messages[-1])
    return None, tuple(messages[:-1]), answer


def _list(value: Json) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _cluster(record: Record, column: str | None, where: str) -> str | None:
    if column is None:
        return None
    value = record.data.get(column)
    if not isinstance(value, str | int | float):
        raise BadInputError(
            where,
            f"cluster_column {column!r} is missing on line {record.line}",
            f"a text or a number there on every row; columns are {', '.join(sorted(record.data))}",
            "Name another column, or leave cluster_column out",
        )
    return str(value)


class Recording(NamedTuple):
    """A recorded file."""

    tool: str  # own, lm_eval, inspect or promptfoo
    rows: list[Row]
    broken: int = 0  # lines that cannot be read, or hold no answer

    @property
    def parts(self) -> list[str]:
        """Names of the models in the file, where it holds more than one."""
        return sorted({row.part for row in self.rows if row.part is not None})


def read_recording(path: Path) -> Recording:
    """Return the rows of a recorded file of any known tool."""
    return read_log_file(path) or _own(path)


def read_log_file(path: Path) -> Recording | None:
    """Return the rows of another tool's log, or None where the file is not one."""
    import zipfile

    if zipfile.is_zipfile(path):
        return Recording("inspect", list(rows_of_inspect(zipped_samples(path))))
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
    if one_line or path.stat().st_size > LARGEST_BYTES:
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
