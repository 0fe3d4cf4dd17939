"""Tags in place of values: keyed digests that nobody can guess back, and texts rewritten.

Equal values get equal digests, which only this installation can make; JSON stays JSON.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from finetuning.errors import BadInputError
from finetuning.pii import RedactMode, Span
from finetuning.pii.rules import is_json_container
from finetuning.settings import settings

_KEY_BYTES: Final = 32
DIGEST_LENGTH: Final = 16
"""Hex digits of a keyed digest: 64 bits, so a million values collide with probability 3e-8."""

_TAG_LENGTH: Final = 12
_EXACT_TYPES: Final = frozenset(
    {"password", "private_key", "jwt", "api_key", "connection_string", "url_credentials"}
)

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[-+.\w]+', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)

Piece = tuple[int, int, str]
"""Start, end and replacement."""


def _create(path: Path) -> bytes:
    """Write a new key whole and 0600; of two processes that try, one wins and both use it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> bytes:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadInputError(
            "pseudonym key",
            f"{str(path)!r} does not hold a key ({len(text)} characters)",
            f"{2 * _KEY_BYTES} hex digits",
            "Restore it from a backup, or move it away to begin with a new key "
            "(pseudonyms made so far will then no longer match)",
        )
    return key


@functools.lru_cache(maxsize=8)
def _key(path: Path) -> bytes:
    return _read(path) if path.exists() else _create(path)


def _hmac(value: str) -> str:
    data = value.encode("utf-8", "surrogatepass")
    return hmac.new(_key(settings().pseudonym_key), data, hashlib.sha256).hexdigest()


def keyed_digest(value: str) -> str:
    """Return 16 hex digits of the HMAC-SHA-256 of a value under this installation's key.

    The key is created on first use (``FINE_TUNING_HOME/keys/pseudonym.key``, mode 0600) and
    never leaves that file. Equal values give equal digests in every file and every process.

    Raises:
        BadInputError: The key file does not hold a key.
    """
    return _hmac(value)[:DIGEST_LENGTH]


def canonical(type_: str, value: str) -> str:
    """Return the form under which two spellings of one value count as the same.

    Case and separators do not matter, except in secrets; JSON escapes are decoded.
    """
    if "\\" in value:
        with contextlib.suppress(ValueError):
            value = str(json.loads(f'"{value}"'))
    if type_ in _EXACT_TYPES:
        return f"{type_}:{value}"
    kept = "".join(c for c in value.casefold() if c.isalnum() or c in "@.")
    return f"{type_}:{kept}"


def tag(type_: str, value: str, mode: RedactMode) -> str:
    """Return what replaces a value: ``[EMAIL]``, or ``[EMAIL_0123456789ab]`` as pseudonym.

    Args:
        type_: Personal-data type.
        value: The value as it stands in the text.
        mode: ``mask``, or ``pseudonym`` (the same value gives the same tag in every file).
    """
    if mode == "mask":
        return f"[{type_.upper()}]"
    return f"[{type_.upper()}_{_hmac(canonical(type_, value))[:_TAG_LENGTH]}]"


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
    return [replace(text, pieces_of(text, s, mode)) for text, s in zip(texts, spans, strict=True)]


def pieces_of(text: str, spans: Sequence[Span], mode: RedactMode) -> list[Piece]:
    """Return what to write in place of the spans; cut at the tokens where the text is JSON."""
    if spans and text.lstrip()[:1] in {"{", "["} and is_json_container(text):
        return list(_pieces_in_json(text, spans, mode))
    return [(s.start, s.end, tag(s.type, text[s.start : s.end], mode)) for s in spans]


def replace(text: str, pieces: Sequence[Piece]) -> str:
    """Return the text with every piece in its place."""
    parts: list[str] = []
    last = 0
    for start, end, replacement in pieces:
        parts += [text[last:start], replacement]
        last = end
    return "".join([*parts, text[last:]])


def place_before(position: int, pieces: Sequence[Piece]) -> int:
    """Return where a place of the redacted text (outside the tags) was before."""
    for start, end, replacement in pieces:
        if position <= start:
            break
        position += (end - start) - len(replacement)
    return position


def _pieces_in_json(text: str, spans: Sequence[Span], mode: RedactMode) -> Iterator[Piece]:
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
