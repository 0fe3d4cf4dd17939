"""Files and folders that are either whole or not there.

They are written beside their target under a hidden name, then renamed over it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, overload

from finetuning.errors import BadInputError
from finetuning.records import Json

_LOCKS: Final[Any] = importlib.import_module("fcntl") if os.name == "posix" else None
"""Without such locks, on Windows, what a killed process left stays."""

_OWNER: Final = ".owner"
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


def _move_in(built: Path, folder: Path, aside: Path, earlier: Iterable[Path]) -> None:
    """Replace an earlier result by renames; put everything back if one of them fails."""
    moved: list[tuple[Path, Path]] = []
    try:
        for paths, into in ((earlier, aside), (sorted(built.iterdir()), folder)):
            for path in paths:
                path.replace(into / path.name)
                moved.append((path, into / path.name))
    except BaseException:
        for before, after in reversed(moved):
            after.replace(before)
        raise


@contextlib.contextmanager
def whole_folder(
    folder: Path,
    earlier: Callable[[Path], Sequence[Path]] | None = None,
    *,
    leave_out: str = "",
) -> Generator[Path]:
    """Yield a hidden folder that becomes ``folder`` when the block ends well.

    On any exception, Ctrl-C included, everything is as before. A folder that exists keeps its
    other files; only the files of an earlier result are replaced.

    Args:
        folder: The output folder; it need not exist.
        earlier: Returns the files and folders of an earlier result in a folder; they go.
        leave_out: Name of a folder inside that does not become part of it.

    Raises:
        BadInputError: The folder cannot be written, or the disk is full.
    """
    made: list[Path] = []
    exists = folder.is_dir()
    _sweep(folder if exists else folder.parent, folder.name)
    built = (folder if exists else folder.parent) / f".{folder.name}.{secrets.token_hex(4)}.partial"
    aside = built.with_suffix(".old")
    try:
        made = [] if exists else _make_folders(folder.parent)
        built.mkdir()
        with _owned(built):
            yield built
        if leave_out:
            _remove([built / leave_out])
        if exists:
            aside.mkdir()
            _move_in(built, folder, aside, earlier(folder) if earlier else ())
        else:
            built.rename(folder)
    except BaseException as error:
        _remove([built, aside])
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, BadInputError):
            raise BadInputError(
                str(folder),
                f"the folder could not be written ({error.strerror or type(error).__name__})",
                "a folder that may be written, with room for the files",
                "Free some space or choose another folder; nothing was changed",
            ) from error
        raise
    _remove([built, aside])


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _owned(built: Path) -> Generator[None]:
    """Hold a lock in a folder while it is built; it is gone with the process, however it ends."""
    if _LOCKS is None:
        yield
        return
    with (built / _OWNER).open("xb") as stream:
        _LOCKS.flock(stream, _LOCKS.LOCK_EX)
        yield
    (built / _OWNER).unlink()


def _sweep(place: Path, name: str) -> None:
    """Remove what a killed process left half built for the same folder."""
    if _LOCKS is None:
        return
    for left in place.glob(f".{glob.escape(name)}.*.partial"):
        with contextlib.suppress(OSError), (left / _OWNER).open("rb") as stream:
            _LOCKS.flock(stream, _LOCKS.LOCK_EX | _LOCKS.LOCK_NB)
            _remove([left])
