"""Digests of files and of values, the same on every machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from finetuning.errors import BadInputError
from finetuning.records import Json

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex, at flat memory."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digest(value: Json) -> str:
    """Return the SHA-256 (hex) of a JSON value, whatever the order of its keys.

    The value is written as RFC 8785 canonical JSON, so equal values have equal digests
    in any language.

    Raises:
        BadInputError: The value cannot be written as canonical JSON (NaN, an integer
            beyond 2**53, a key or value of another type).

    Source: https://www.rfc-editor.org/rfc/rfc8785 (checked 2026-11-20)
    """
    import rfc8785

    try:
        text = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise BadInputError(
            "digest",
            f"a value cannot be written as canonical JSON ({type(error).__name__})",
            "strings, booleans, null, finite numbers and integers up to 2**53",
            "Write large integers as strings",
        ) from error
    return hashlib.sha256(text).hexdigest()
