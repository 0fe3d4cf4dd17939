"""Checkpoints: what the log was at one moment, to be kept where its writer cannot reach."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from finetuning.audit import merkle
from finetuning.errors import BadInputError
from finetuning.files import write_json
from finetuning.records import Model


class Checkpoint(Model):
    """Root and block roots of the first ``n_records`` records."""

    format: str = "fine-tuning-audit-checkpoint-1"
    at: str
    n_records: int = Field(ge=0)
    head_digest: str
    merkle_root: str
    block_records: int = Field(ge=1)
    blocks: list[str] = Field(max_length=merkle.MOST_BLOCKS)


def make(leaves: Sequence[bytes], head_digest: str) -> Checkpoint:
    """Return the checkpoint of a log with these leaves."""
    size = merkle.block_size(len(leaves))
    blocks = merkle.block_roots(leaves, size)
    return Checkpoint(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        n_records=len(leaves),
        head_digest=head_digest,
        merkle_root=merkle.root_of(blocks).hex(),
        block_records=size,
        blocks=[block.hex() for block in blocks],
    )


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    write_json(path, checkpoint.model_dump())


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and check that its root follows from its blocks.

    Raises:
        BadInputError: The file is not a checkpoint.
    """
    try:
        checkpoint = Checkpoint.model_validate(json.loads(path.read_text(encoding="utf-8")))
        blocks = [bytes.fromhex(block) for block in checkpoint.blocks]
    except ValueError as error:
        raise _not_one(path, type(error).__name__) from error
    if merkle.root_of(blocks).hex() != checkpoint.merkle_root:
        raise _not_one(path, "its root does not follow from its blocks")
    if len(blocks) != -(-checkpoint.n_records // checkpoint.block_records):
        raise _not_one(path, "it holds another number of blocks than its records need")
    return checkpoint


def _not_one(path: Path, reason: str) -> BadInputError:
    return BadInputError(
        "checkpoint",
        f"{str(path)!r} is not a checkpoint ({reason})",
        "a file that verify_audit_log wrote with write_checkpoint",
        "Name another file, or leave checkpoint out",
    )


def first_difference(leaves: Sequence[bytes], checkpoint: Checkpoint) -> int | None:
    """Return the first record (from 1) that is not what it was, as near as blocks can tell.

    Args:
        leaves: Leaf hashes of the log as it is now.
        checkpoint: What it was.

    Returns:
        The record where the first changed block begins (the record itself while the log held at
        most 1,024), or None if all that still stands is unchanged. A log cut short differs at
        its end, unless the cut block was changed as well: then this says so.
    """
    now = leaves[: checkpoint.n_records]
    blocks = merkle.block_roots(now, checkpoint.block_records)
    for number, (current, stated) in enumerate(zip(blocks, checkpoint.blocks, strict=False)):
        if current.hex() != stated:
            last_is_cut = number == len(blocks) - 1 and len(now) < checkpoint.n_records
            if last_is_cut and checkpoint.block_records > 1:
                break
            return number * checkpoint.block_records + 1
    return None
