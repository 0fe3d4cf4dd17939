"""Replace personal data by tags, in rounds until none is found; JSON stays JSON."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from typing import Final

from finetuning.pii.detect import find_personal_data
from finetuning.pii.keyed import tag
from finetuning.pii.kinds import RedactMode, Span
from finetuning.pii.leaves import Leaf
from finetuning.pii.views import is_json_container

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[-+.\w]+', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ROUNDS: Final = 8
"""Replacing one value can uncover another beside it; measured: two rounds settle real text."""

_Piece = tuple[int, int, str]
"""Start, end and replacement."""

_Pending = tuple[int, Leaf, list[list[_Piece]]]
"""Number of a leaf, the leaf as it is now, and what each round has replaced in it."""


def redact_texts(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], mode: RedactMode
) -> list[str]:
    """Return the texts with each span replaced by its tag.

    Args:
        texts: The texts that were searched.
        spans: For each text its spans, as ``find_personal_data`` returns them.
        mode: ``mask`` writes ``[EMAIL]``, ``pseudonym`` ``[EMAIL_0123456789ab]``, the same for
            the same value in every file.

    Returns:
        Texts in the same order; one that was JSON is still JSON.
    """
    return [_replace(text, _pieces(text, s, mode)) for text, s in zip(texts, spans, strict=True)]


def _pieces(text: str, spans: Sequence[Span], mode: RedactMode) -> list[_Piece]:
    if spans and text.lstrip()[:1] in {"{", "["} and is_json_container(text):
        return list(_pieces_in_json(text, spans, mode))
    return [(s.start, s.end, tag(s.type, text[s.start : s.end], mode)) for s in spans]


def _replace(text: str, pieces: Sequence[_Piece]) -> str:
    parts: list[str] = []
    last = 0
    for start, end, replacement in pieces:
        parts += [text[last:start], replacement]
        last = end
    return "".join([*parts, text[last:]])


def _place_before(position: int, pieces: Sequence[_Piece]) -> int:
    """Return where a place of the redacted text (outside the tags) was before."""
    for start, end, replacement in pieces:
        if position <= start:
            break
        position += (end - start) - len(replacement)
    return position


def _pieces_in_json(text: str, spans: Sequence[Span], mode: RedactMode) -> Iterator[_Piece]:
    """Cut spans at the tokens of a JSON text: inside a string, or a whole number as a string."""
    waiting = list(reversed(spans))
    for token in _TOKEN.finditer(text):
        while waiting and waiting[-1].end <= token.start():
            waiting.pop()
        quoted = token.group()[0] == '"'
        first, last = (token.start() + 1, token.end() - 1) if quoted else token.span()
        if not quoted:
            if waiting and waiting[-1].start < last:
                yield first, last, f'"{tag(waiting[-1].type, token.group(), mode)}"'
            continue
        escapes = [e.span() for e in _ESCAPE.finditer(text, first, last)] if waiting else []
        done = first
        for span in reversed(waiting):
            if span.start >= last:
                break
            start = max(_widen(max(span.start, first), escapes)[0], done)
            end = _widen(min(span.end, last), escapes)[1]
            if start < end:
                yield start, end, tag(span.type, text[start:end], mode)
                done = end


def _widen(place: int, escapes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the ends of the escape sequence around a place, or the place twice."""
    position = bisect.bisect_left(escapes, (place, 0)) - 1
    if position >= 0 and escapes[position][0] < place < escapes[position][1]:
        return escapes[position]
    return place, place


def search_leaves(
    leaves: Sequence[Leaf], *, types: Sequence[str] | None = None, detector: str = "fast"
) -> list[list[Span]]:
    """Find personal data in the leaves of rows, with the help of their field names.

    Returns:
        For each leaf its spans, in code points of ``leaf.text``.
    """
    found = find_personal_data(
        [leaf.cue + leaf.text for leaf in leaves], types=types, detector=detector
    )
    return [
        [
            span._replace(start=max(0, span.start - len(leaf.cue)), end=span.end - len(leaf.cue))
            for span in spans
            if span.end > len(leaf.cue)
        ]
        if leaf.cue
        else spans
        for leaf, spans in zip(leaves, found, strict=True)
    ]


def redact_leaves(
    leaves: Sequence[Leaf],
    mode: RedactMode,
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> Iterator[tuple[int, Span, str]]:
    """Redact leaves in place, in rounds until nothing is found, and yield what was found.

    Yields:
        Number of the leaf, the span (code points of the original text), and the value.
    """
    pending: list[_Pending] = [(number, leaf, []) for number, leaf in enumerate(leaves)]
    for _ in range(_ROUNDS):
        spans = search_leaves([leaf for _, leaf, _ in pending], types=types, detector=detector)
        changed: list[_Pending] = []
        for (number, leaf, earlier), found in zip(pending, spans, strict=True):
            if not found:
                continue
            for span in found:
                start, end = span.start, span.end
                for pieces in reversed(earlier):
                    start, end = _place_before(start, pieces), _place_before(end, pieces)
                original = span._replace(start=start, end=end)
                yield number, original, leaf.text[span.start : span.end]
            pieces = _pieces(leaf.text, found, mode)
            text = _replace(leaf.text, pieces)
            leaf.put(text)
            changed.append((number, leaf._replace(text=text), [*earlier, pieces]))
        pending = changed
        if not pending:
            return
