"""Files that are either whole or not there, and the digests that tell what they hold.

A file is written beside its target, then renamed over it. Digests are the same on every machine.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final, Literal, overload

from finetuning.errors import BadInputError
from finetuning.records import Json

_CHUNK_BYTES: Final = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def _cannot_write(path: Path, error: OSError) -> BadInputError:
    reason = error.strerror or type(error).__name__
    return BadInputError(
        str(path),
        f"the file could not be written ({reason})",
        "a folder that may be written, with room for the file",
        "Free some space or choose another folder and call again; nothing was changed",
    )


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder and return those that were missing, innermost first."""
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, place in enumerate(missing) if place.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _drop(temporary: Path, folders: list[Path]) -> None:
    """Remove the temporary file and the folders made for it; what is in use stays."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@overload
def atomic_write(
    path: Path, *, binary: Literal[False] = False
) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(
    path: Path, *, binary: Literal[True]
) -> contextlib.AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def atomic_write(path: Path, *, binary: bool = False) -> Generator[IO[Any]]:
    """Open a file for writing that appears under its name only when it is whole.

    The text goes to a hidden file in the same folder, is flushed to the disk and renamed over
    the target. On any exception, Ctrl-C included, the hidden file is removed and the target
    stays as it was; a killed process leaves the target as it was, too.

    Args:
        path: The target; missing folders are created.
        binary: Open for bytes instead of UTF-8 text with line-feed line ends.

    Raises:
        BadInputError: The folder cannot be written, or the disk is full.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    folders: list[Path] = []
    try:
        try:
            folders = _make_folders(path.parent)
            stream: IO[Any] = (
                temporary.open("xb")
                if binary
                else temporary.open("x", encoding="utf-8", newline="\n")
            )
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        finally:
            with contextlib.suppress(OSError):  # a full disk: the first error is the one to tell
                stream.close()
        _put_in_place(temporary, path)
    except BaseException as error:
        _drop(temporary, folders)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _cannot_write(path, error) from error
        raise


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename over the target, and make the rename itself last through a power cut."""
    try:
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Json) -> None:
    """Write one JSON value, indented, whole or not at all.

    Raises:
        ValueError: The value holds NaN or an infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Json]]) -> int:
    """Write one JSON object per line, whole or not at all, and return how many.

    Args:
        path: The target; missing folders are created.
        rows: Consumed once, one at a time, so that memory stays flat.

    Raises:
        BadInputError: A row cannot be written as JSON, the folder cannot be written, or the
            disk is full.
    """
    import orjson

    count = 0
    with atomic_write(path, binary=True) as stream:
        for row in rows:
            try:
                stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            except orjson.JSONEncodeError as error:
                raise BadInputError(
                    str(path),
                    f"row {count + 1} cannot be written as JSON",
                    "strings without lone surrogates, numbers, lists and objects",
                    "Repair or leave out that row",
                ) from error
            count += 1
    return count


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
