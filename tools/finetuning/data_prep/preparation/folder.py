"""The output folder: whole or not there, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from finetuning.errors import BadInputError

NAMES: Final = (
    "train.jsonl",
    "validation.jsonl",
    "test.jsonl",
    "rejected.jsonl",
    "repairs.jsonl",
    "canaries.jsonl",
    "report.md",
)
"""Files of a result; beside them ``fold_1`` … where there are folds. Nothing else is replaced."""


def _old_results(folder: Path) -> list[Path]:
    """Return the files and fold folders of an earlier result."""
    named = [folder / name for name in NAMES]
    return [path for path in named if path.is_file()] + sorted(
        path for path in folder.glob("fold_*") if path.is_dir() and path.name[5:].isdigit()
    )


def _move_in(built: Path, folder: Path, aside: Path) -> None:
    """Replace an earlier result by renames; put everything back if one of them fails."""
    moved: list[tuple[Path, Path]] = []
    try:
        for source, into in ((folder, aside), (built, folder)):
            paths = _old_results(folder) if source == folder else sorted(built.iterdir())
            for path in paths:
                path.replace(into / path.name)
                moved.append((path, into / path.name))
    except BaseException:
        for before, after in reversed(moved):
            after.replace(before)
        raise


def _new_parents(folder: Path) -> list[Path]:
    """Create the missing parents of a folder and return them, innermost first."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return missing


@contextlib.contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Yield a hidden folder that becomes ``folder`` when the block ends well.

    On any exception, Ctrl-C included, everything is as before. A folder that exists keeps its
    other files; only the files of an earlier result are replaced.

    Args:
        folder: The output folder; it need not exist.

    Raises:
        BadInputError: The folder cannot be written, or the disk is full.
    """
    made: list[Path] = []
    exists = folder.is_dir()
    built = (folder if exists else folder.parent) / f".{folder.name}.{secrets.token_hex(4)}.partial"
    aside = built.with_suffix(".old")
    try:
        made = [] if exists else _new_parents(folder)
        built.mkdir()
        yield built
        if exists:
            aside.mkdir()
            _move_in(built, folder, aside)
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
