"""Which paths a tool may read and write, where a report goes, and what a file holds.

Readable: the working directory, ``FINE_TUNING_ROOTS``, ``FINE_TUNING_HOME`` and what ships with
the two packages. Writable: the first three. Symlinks are resolved before the question is asked.
Digests are the same on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import secrets
from pathlib import Path
from typing import Final, Literal

from finetuning.errors import BadInputError, NotAllowedError
from finetuning.records import Json
from finetuning.settings import settings

PathLike = str | os.PathLike[str]

_CHUNK_BYTES: Final = 1 << 20

SPLITS = ("train", "validation", "test")
"""Names of the files that ``prepare_data`` writes, without ``.jsonl``."""


@functools.cache
def _package_folders() -> tuple[Path, ...]:
    """Return the folders of the two packages (their shipped assets may be read)."""
    folders: list[Path] = []
    for name in ("finetuning", "finetuning_skill"):
        spec = importlib.util.find_spec(name)
        places = (spec.submodule_search_locations if spec else None) or ()
        folders.extend(Path(place).resolve() for place in places)
    return tuple(folders)


def _resolve(path: PathLike, where: str) -> Path:
    """Return the absolute path without symlinks, whether or not it exists."""
    text = os.fspath(path)
    if not text.strip() or "\0" in text:
        raise BadInputError(where, "the path is empty or holds a NUL", "a path", "Name the file")
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInputError(
            where,
            f"{text!r} cannot be resolved ({type(error).__name__})",
            "a path that leads to a file or folder",
            "Check the path for links that point at each other",
        ) from error


def _refuse_outside(path: Path, roots: tuple[Path, ...], where: str, verb: str) -> None:
    if any(path.is_relative_to(root) for root in roots):
        return
    raise NotAllowedError(
        where,
        f"{str(path)!r} is outside the folders this tool may {verb}",
        "a path under the working directory, FINE_TUNING_ROOTS or FINE_TUNING_HOME",
        f"Add its folder to FINE_TUNING_ROOTS, for example FINE_TUNING_ROOTS={str(path.parent)!r}",
    )


def _write_roots() -> tuple[Path, ...]:
    here = settings()
    return (Path.cwd().resolve(), *here.roots, here.home.resolve())


def _exists(path: Path, where: str) -> bool:
    """Say whether the path exists; a path the system cannot even ask about is bad input."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BadInputError(
            where,
            f"{str(path)!r} cannot be opened ({error.strerror})",
            "a path that the system accepts",
            "Check its length and its permissions",
        ) from error
    return True


def resolve_read(
    path: PathLike, *, where: str, kind: Literal["file", "folder", "any"] = "file"
) -> Path:
    """Return the real path of something that may be read.

    Args:
        path: The path as the caller gave it; ``~`` is expanded.
        where: Name of the argument or tool, for the error text.
        kind: What it must be.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, unreadable, or not of the wanted kind.
    """
    found = _resolve(path, where)
    _refuse_outside(found, (*_write_roots(), *_package_folders()), where, "read")
    if not _exists(found, where):
        raise BadInputError(
            where,
            f"{str(path)!r} does not exist",
            "a file" if kind == "file" else "a folder" if kind == "folder" else "a file or folder",
            f"Check the path; the working directory is {str(Path.cwd())!r}",
        )
    if kind == "file" and found.is_dir():
        raise BadInputError(
            where, f"{str(path)!r} is a folder", "a file", "Name one file inside it"
        )
    if kind == "folder" and not found.is_dir():
        raise BadInputError(where, f"{str(path)!r} is a file", "a folder", "Name its folder")
    if not (found.is_dir() or found.is_file()):
        raise BadInputError(
            where, f"{str(path)!r} is a device or pipe", "a regular file", "Save it to a file first"
        )
    if not os.access(found, os.R_OK):
        raise BadInputError(
            where, f"{str(path)!r} may not be read", "read permission", "Run: chmod u+r on it"
        )
    return found


def resolve_write(path: PathLike, *, where: str) -> Path:
    """Return the real path of a file that may be written (it need not exist yet).

    Args:
        path: The path as the caller gave it; ``~`` is expanded.
        where: Name of the argument or tool, for the error text.

    Raises:
        NotAllowedError: It lies outside the writable folders.
        BadInputError: It is a folder, or a file stands where a folder would have to be.
    """
    found = _writable(path, where)
    if found.is_dir():
        raise BadInputError(
            where, f"{str(path)!r} is a folder", "a file name", "Add a file name to it"
        )
    return found


def _writable(path: PathLike, where: str) -> Path:
    found = _resolve(path, where)
    _refuse_outside(found, _write_roots(), where, "write")
    _exists(found, where)
    nearest = next(parent for parent in found.parents if parent.exists())
    if not nearest.is_dir():
        raise BadInputError(
            where,
            f"{str(nearest)!r} is a file, so nothing can be written below it",
            "a folder",
            "Choose another folder",
        )
    return found


def new_output_folder(
    path: PathLike | None, *, where: str, name: str, overwrite: bool = False
) -> Path:
    """Return the folder that results go to; it is created by the first file written.

    Args:
        path: Folder as the caller gave it; None means ``<home>/reports/<name>-<id>``.
        where: Name of the argument or tool, for the error text.
        name: Start of the folder's name when ``path`` is None.
        overwrite: Accept a folder that already holds files.

    Raises:
        NotAllowedError: It lies outside the writable folders.
        BadInputError: It is a file, or it already holds something and ``overwrite`` is false.
    """
    if path is None:
        return settings().reports.resolve() / f"{name}-{secrets.token_hex(4)}"
    found = _writable(path, where)
    if found.exists() and not found.is_dir():
        raise BadInputError(
            where, f"{str(path)!r} is a file", "a folder", "Choose another name for the folder"
        )
    if found.is_dir() and not overwrite and next(found.iterdir(), None) is not None:
        raise BadInputError(
            where,
            f"{str(path)!r} already holds files",
            "a new or empty folder",
            "Choose another folder, or pass overwrite=true to replace its results",
        )
    return found


def data_files(path: PathLike, *, where: str) -> dict[str, Path]:
    """Return the data files behind a ``data`` argument, by split.

    Args:
        path: A file, or the folder that ``prepare_data`` wrote.
        where: Name of the argument or tool, for the error text.

    Returns:
        ``{"data": file}`` for a file; for a folder those of train, validation and test that exist.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, or a folder without any of the three files.
    """
    found = resolve_read(path, where=where, kind="any")
    if found.is_file():
        return {"data": found}
    named = {split: found / f"{split}.jsonl" for split in SPLITS}
    files = {
        split: resolve_read(file, where=where) for split, file in named.items() if file.exists()
    }
    if not files:
        raise BadInputError(
            where,
            f"{str(path)!r} holds none of train.jsonl, validation.jsonl and test.jsonl",
            "a data file, or a folder that prepare_data wrote",
            "Run prepare_data first, or name one file",
        )
    return files


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files in a readable folder and its sub-folders, by path.

    Args:
        folder: Its real path, from :func:`resolve_read`.
        pattern: What their names must match.

    Raises:
        NotAllowedError: A link in it leads to a file that may not be read.
    """
    found = sorted(file for file in folder.rglob(pattern) if file.is_file())
    for file in found:
        if not file.resolve().is_relative_to(folder):
            resolve_read(file, where=file.relative_to(folder).as_posix())
    return found


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


def most_zstd_bytes(path: Path) -> int:
    """Return the most bytes that a zstd file can unpack to, by its block headers alone.

    Source: https://www.rfc-editor.org/rfc/rfc8878 section 3.1.1 (checked 2026-11-20)
    """
    most = 0
    with path.open("rb") as stream:
        while (mark := stream.read(4)) == b"\x28\xb5\x2f\xfd" or mark[1:] == b"\x2a\x4d\x18":
            flags = int.from_bytes(stream.read(4 if mark[1:] == b"\x2a\x4d\x18" else 1), "little")
            if mark[1:] == b"\x2a\x4d\x18":  # bytes to be skipped
                stream.seek(flags, os.SEEK_CUR)
                continue
            single = flags & 32 == 32
            sizes = (int(single), 2, 4, 8)[flags >> 6] + (0, 1, 2, 4)[flags & 3]
            stream.seek(sizes + (not single), os.SEEK_CUR)
            word = 0
            while not word & 1 and len(head := stream.read(3)) == 3:
                word = int.from_bytes(head, "little")
                most += 1 << 17 if word >> 1 & 3 == 2 else word >> 3
                stream.seek(1 if word >> 1 & 3 == 1 else word >> 3, os.SEEK_CUR)
            stream.seek(flags & 4, os.SEEK_CUR)  # a check sum
    return most
