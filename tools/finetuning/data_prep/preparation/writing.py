"""Writes the files of a result into a folder that is not in place yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from finetuning.data_prep.convert import Rejection
from finetuning.data_prep.preparation.assigning import Split
from finetuning.data_prep.preparation.items import Item
from finetuning.data_prep.split import PARTS
from finetuning.files import atomic_write, sha256_file, write_jsonl
from finetuning.records import Json

_BOM: Final = b"\xef\xbb\xbf"
_WITH_BOM: Final = frozenset({"azure_chat"})
"""Azure wants a byte-order mark; source: MicrosoftDocs/azure-ai-docs (checked 2026-02-17)."""


def write_rows(path: Path, items: Iterable[Item], target: str) -> None:
    """Write the rows of one part."""
    before = _BOM if target in _WITH_BOM else b""
    with atomic_write(path, binary=True) as stream:
        for item in items:
            stream.write(before + item.raw + b"\n")
            before = b""


def write_split(folder: Path, split: Split, added: Sequence[Item], target: str) -> dict[str, str]:
    """Write train (with what is added to it), validation and test; return name → SHA-256."""
    digests: dict[str, str] = {}
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        write_rows(path, [*split[part], *(added if part == "train" else ())], target)
        digests[part] = sha256_file(path)
    return digests


def _rejected_row(rejection: Rejection) -> Mapping[str, Json]:
    row: dict[str, Json] = {
        "source": rejection.source,
        "line": rejection.line,
        "reason": rejection.reason,
    }
    if rejection.of is not None:
        row["of"] = {"source": rejection.of.source, "line": rejection.of.line}
    if rejection.why is not None:
        row["why"] = rejection.why
    return row


def write_rejected(folder: Path, rejections: Sequence[Rejection]) -> None:
    """Write ``rejected.jsonl``, in the order of the sources."""
    order: dict[str, int] = {}
    for rejection in rejections:
        order.setdefault(rejection.source, len(order))
    ordered = sorted(rejections, key=lambda found: (order[found.source], found.line or 0))
    write_jsonl(folder / "rejected.jsonl", map(_rejected_row, ordered))


def write_repairs(folder: Path, items: Sequence[Item]) -> bool:
    """Write ``repairs.jsonl`` where any row was changed; say whether."""
    rows = [
        {
            "source": item.example.record.source,
            "line": item.example.record.line,
            "repairs": list(item.example.notes),
        }
        for item in items
        if item.example.notes
    ]
    if rows:
        write_jsonl(folder / "repairs.jsonl", rows)
    return bool(rows)


def write_signatures(path: Path, items: Sequence[Item]) -> None:
    """Write the MinHash signature and band keys of every row, so that any engine can cluster."""
    import polars as pl

    from finetuning.data_prep.duplicates.candidates import band_keys, sign
    from finetuning.data_prep.duplicates.words import read_words

    signatures = sign(read_words([item.content for item in items]))
    frame = pl.DataFrame(
        {
            "source": [item.example.record.source for item in items],
            "line": [item.example.record.line for item in items],
            "signature": pl.Series(signatures.tolist(), dtype=pl.List(pl.UInt32)),
            "bands": pl.Series(band_keys(signatures).tolist(), dtype=pl.List(pl.UInt64)),
        }
    )
    with atomic_write(path, binary=True) as stream:
        frame.write_parquet(stream)
