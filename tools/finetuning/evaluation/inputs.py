"""What comes in: held-out rows as questions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.matching import tool_calls_text
from finetuning.evaluation.recorded import Recording, read_log_file
from finetuning.files import data_files, read_records, sha256_file
from finetuning.records import Finding, Json, Record


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a test set.

    Attributes:
        id: The row's ``id`` as text, or its line number.
        line: Physical line in the file.
        prompt: Raw text to continue (None for chat rows; empty for plain texts).
        messages: Chat messages before the answer (None for raw rows).
        reference: The answer that counts as right.
        cluster: Value of the cluster column, if one was named.
        group: Value of the row's ``domain``, if it has one.
    """

    id: str
    line: int
    prompt: str | None
    messages: tuple[dict[str, Json], ...] | None
    reference: str
    cluster: str | None = None
    group: str | None = None

    def asked(self) -> str:
        """Return all text that stands before the answer."""
        if self.messages is None:
            return self.prompt or ""
        return "\n".join(message_text(message) for message in self.messages)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """All questions of one file.

    Attributes:
        path: The file.
        questions: Usable rows in file order.
        unusable: Rows that cannot be asked or scored, counted by fault code.
        repeated_ids: Ids that stand on more than one row.
        sha256: Digest of the file.
    """

    path: Path
    questions: list[Question]
    unusable: Counter[str] = field(default_factory=Counter[str])
    repeated_ids: tuple[str, ...] = ()
    sha256: str = ""


def held_out_file(data: str) -> Path:
    """Return the file to evaluate on: the one given, or ``test.jsonl`` of a prepared folder.

    Raises:
        BadInputError: The folder has no test split.
    """
    files = data_files(data, where="compare_eval: data")
    found = files.get("test") or files.get("data")
    if found is None:
        raise BadInputError(
            "compare_eval: data",
            f"{data!r} holds {', '.join(sorted(files))} but no test.jsonl",
            "a file of held-out rows, or a folder with test.jsonl",
            "Run prepare_data again with a split that has a test part",
        )
    return found


def read_questions(
    path: Path, *, where: str, cluster_column: str | None = None, texts: bool = False
) -> QuestionSet:
    """Read the rows of a file as questions.

    Args:
        path: A data file; rows are ``prompt``/``completion`` or ``messages``. A log of another
            tool that holds prompts and right answers will do, too.
        where: Name of the argument, for the error text.
        cluster_column: Column that names each row's group, or None.
        texts: Accept rows that only hold ``text``, too.

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
