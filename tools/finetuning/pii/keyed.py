"""Digests that only this installation can make: equal values match, nobody can guess back."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Final

from finetuning.errors import BadInputError
from finetuning.pii.kinds import RedactMode
from finetuning.settings import settings

_KEY_BYTES: Final = 32
DIGEST_LENGTH: Final = 16
"""Hex digits of a keyed digest: 64 bits, so a million values collide with probability 3e-8."""

_TAG_LENGTH: Final = 12
_EXACT_TYPES: Final = frozenset(
    {"password", "private_key", "jwt", "api_key", "connection_string", "url_credentials"}
)


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
