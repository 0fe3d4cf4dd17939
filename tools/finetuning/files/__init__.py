"""Files: which may be touched, how rows are read, how results are written whole.

Names are imported when they are used first: a server that starts reads and writes nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.files.chunks import READER_CODES, Code
    from finetuning.files.paths import data_files, new_output_folder, resolve_read, resolve_write
    from finetuning.files.reading import read_records, sniff_format
    from finetuning.files.writing import (
        atomic_write,
        digest,
        sha256_file,
        write_json,
        write_jsonl,
        write_text,
    )

__all__ = [
    "READER_CODES",
    "Code",
    "atomic_write",
    "data_files",
    "digest",
    "new_output_folder",
    "read_records",
    "resolve_read",
    "resolve_write",
    "sha256_file",
    "sniff_format",
    "write_json",
    "write_jsonl",
    "write_text",
]

_HOMES: Final = {
    "READER_CODES": "chunks",
    "Code": "chunks",
    "atomic_write": "writing",
    "data_files": "paths",
    "digest": "writing",
    "new_output_folder": "paths",
    "read_records": "reading",
    "resolve_read": "paths",
    "resolve_write": "paths",
    "sha256_file": "writing",
    "sniff_format": "reading",
    "write_json": "writing",
    "write_jsonl": "writing",
    "write_text": "writing",
}


if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
