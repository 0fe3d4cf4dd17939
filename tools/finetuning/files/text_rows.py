"""Question and answer pairs of text and Markdown files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from finetuning.files.chunks import read_chunks, split_lines, utf8_chunks
from finetuning.files.faults import fault
from finetuning.files.formats import text_files
from finetuning.records import Finding, Record

_LABEL: Final = re.compile(
    r"^\s*(?:#{1,6}\s*)?(?:[-*]\s+)?(?:\*\*|__)?"
    r"(?:(?P<ask>q|question|user|customer|prompt|frage|pregunta|问题?|用户)"
    r"|(?P<reply>a|answer|assistant|agent|completion|antwort|respuesta|答案?|回答|助手))"
    r"\s*\d{0,5}\s*(?:\*\*|__)?\s*[:：]\s*(?:\*\*|__)?\s*",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"^#{1,6}\s+(?P<title>.*\S)\s*#*\s*$")
_FENCE: Final = re.compile(r"^\s*(?:```|~~~)")


class _Pair:
    """One question with the lines of its answer, as they are collected."""

    def __init__(self, line: int, question: str) -> None:
        self.line = line
        self.question = [question]
        self.answer: list[str] | None = None

    def add(self, text: str) -> None:
        (self.question if self.answer is None else self.answer).append(text)

    def data(self) -> dict[str, str] | None:
        prompt = "\n".join(self.question).strip()
        completion = "\n".join(self.answer or []).strip()
        return {"prompt": prompt, "completion": completion} if prompt and completion else None


def _labelled(lines: list[str]) -> Iterator[_Pair]:
    """Pairs of the form ``Q: … A: …`` (Question/Answer, User/Assistant, 问/答…)."""
    pair: _Pair | None = None
    fenced = False
    for number, line in enumerate(lines, start=1):
        fenced ^= bool(_FENCE.match(line))
        label = None if fenced else _LABEL.match(line)
        if label and label["ask"]:
            if pair:
                yield pair
            pair = _Pair(number, line[label.end() :])
        elif label and pair and pair.answer is None:
            pair.answer = [line[label.end() :]]
        elif pair:
            pair.add(line)
    if pair:
        yield pair


def _headed(lines: list[str]) -> Iterator[_Pair]:
    """Pairs of a Markdown heading that asks (ends in ``?`` or ``？``) and the text below it."""
    pair: _Pair | None = None
    fenced = False
    for number, line in enumerate(lines, start=1):
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading:
            if pair:
                yield pair
            asks = heading["title"].endswith(("?", "？"))
            pair = _Pair(number, heading["title"]) if asks else None
            if pair:
                pair.answer = []
        elif pair:
            pair.add(line)
    if pair:
        yield pair


def _file_rows(file: Path, source: str) -> Iterator[Record | Finding]:
    raw = b"".join(split_lines(utf8_chunks(read_chunks(file), name=source)))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = 1 + len(raw[: error.start].splitlines())
        message = f"{source}: byte 0x{raw[error.start]:02x} is not UTF-8"
        yield fault("invalid_utf8", line=line, message=message)
        return
    if not text.strip():
        yield fault("empty_text_file", line=None, message=f"{source} holds no text")
        return
    lines = re.split(r"\r\n|\r|\n", text)
    found = False
    for pairs in (_labelled, _headed):
        for pair in pairs(lines):
            data = pair.data()
            if data:
                found = True
                yield Record(source, pair.line, {**data})
        if found:
            return
    yield Record(source, 1, {"text": text.strip()})


def text_rows(path: Path, source: str) -> Iterator[Record | Finding]:
    """Yield ``prompt``/``completion`` pairs of a text file or of a folder of them.

    A pair starts at a line ``Q:`` (``Question:``, ``User:``, ``问：`` …) or at a Markdown
    heading that ends in a question mark. A file without any pair is one row ``{"text": …}``.
    The source of a row is the file it came from; its line is where the question starts.
    """
    if path.is_file():
        yield from _file_rows(path, source)
        return
    for file in text_files(path):
        yield from _file_rows(file, f"{source}/{file.relative_to(path).as_posix()}")
