"""Files: which may be touched, how rows are read, how results are written whole."""

from __future__ import annotations

from finetuning.files.digests import digest, sha256_file
from finetuning.files.faults import READER_CODES, Code
from finetuning.files.formats import sniff_format
from finetuning.files.paths import data_files, new_output_folder, resolve_read, resolve_write
from finetuning.files.reading import read_records
from finetuning.files.writing import atomic_write, write_json, write_jsonl, write_text

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
