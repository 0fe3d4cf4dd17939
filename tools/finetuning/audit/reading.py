"""Read a log as a whole and find its first fault, alone or against a checkpoint.

The signs of one change: an edited record fails its own hash (or its neighbour's, if it was hashed
again) while its place is taken; a removed one leaves a gap in the numbers; a moved one turns up
later; an inserted one is a copy, or stands where no number is missing. A checkpoint, what the log
was at one moment, kept where its writer cannot reach, shows what the chain alone cannot.
"""

from __future__ import annotations

import datetime
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from finetuning.audit.log import (
    FIRST_PREV,
    MOST_BLOCKS,
    Chained,
    Kind,
    block_roots,
    block_size,
    leaf_hash,
    locked,
    looks_like_record,
    read_record,
    root_of,
)
from finetuning.errors import BadInputError
from finetuning.files import write_json
from finetuning.records import Model


class Fault(NamedTuple):
    """The first record (from 1) that is not as it was written, and the kind of change."""

    first_bad: int
    kind: Kind


class Broken(NamedTuple):
    """A line that is not a record as it was written.

    Attributes:
        like_a_record: It has the outline of one, so it was probably edited, not made up.
    """

    like_a_record: bool


Line = Chained | Broken


def find_fault(lines: Sequence[Line]) -> Fault | None:
    """Return the first fault of a chain, or None for a whole one.

    Args:
        lines: What each line of the log holds, in order.
    """
    last: Chained | None = None
    for place, line in enumerate(lines):
        expected = last.seq + 1 if last else 1
        if isinstance(line, Broken):
            return _at_broken(lines, place, expected)
        if line.seq != expected:
            return _at_wrong_number(lines, place, expected)
        if line.prev != (last.sha256 if last else FIRST_PREV):
            return _at_wrong_link(lines, place)
        last = line
    return None


def _at_broken(lines: Sequence[Line], place: int, expected: int) -> Fault:
    """A broken line is an edited record if a number is missing there, else an inserted one."""
    following = next((line for line in lines[place:] if isinstance(line, Chained)), None)
    if following is not None:
        inserted = following.seq == expected
    else:
        first = lines[place]
        inserted = isinstance(first, Broken) and not first.like_a_record
    return Fault(place + 1, "inserted" if inserted else "edited")


def _at_wrong_link(lines: Sequence[Line], place: int) -> Fault:
    """The hash named as previous is another: whose successor agrees with it tells who changed."""
    line = lines[place]
    following = lines[place + 1] if place + 1 < len(lines) else None
    confirmed = (
        isinstance(line, Chained)
        and isinstance(following, Chained)
        and following.prev == line.sha256
    )
    first_bad = place if place and (confirmed or following is None) else place + 1
    return Fault(first_bad, "edited")


def _at_wrong_number(lines: Sequence[Line], place: int, expected: int) -> Fault:
    places: dict[int, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if isinstance(line, Chained):
            places[line.seq].append(number)
    line = lines[place]
    seq = line.seq if isinstance(line, Chained) else 0
    twins = places[seq]
    if len(twins) > 1:
        copies = all(lines[twin] == line for twin in twins)
        stranger = place if copies else _stranger(lines, twins, places[seq + 1])
        return Fault(stranger + 1, "inserted")
    if expected in places and places[expected][-1] > place:
        return Fault(place + 1, "reordered")
    return Fault(place + 1, "removed")


def _stranger(lines: Sequence[Line], twins: list[int], successors: list[int]) -> int:
    """Return which of the lines with one number the next record does not build on."""
    named = {
        line.prev for line in (lines[place] for place in successors) if isinstance(line, Chained)
    }
    genuine = [
        place
        for place in twins
        if isinstance(line := lines[place], Chained) and line.sha256 in named
    ]
    others = [place for place in twins if place not in genuine[:1]]
    return others[0] if genuine else twins[-1]


class Checkpoint(Model):
    """Root and block roots of the first ``n_records`` records."""

    format: str = "fine-tuning-audit-checkpoint-1"
    at: str
    n_records: int = Field(ge=0)
    head_digest: str
    merkle_root: str
    block_records: int = Field(ge=1)
    blocks: list[str] = Field(max_length=MOST_BLOCKS)


def make_checkpoint(leaves: Sequence[bytes], head_digest: str) -> Checkpoint:
    """Return the checkpoint of a log with these leaves."""
    size = block_size(len(leaves))
    blocks = block_roots(leaves, size)
    return Checkpoint(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        n_records=len(leaves),
        head_digest=head_digest,
        merkle_root=root_of(blocks).hex(),
        block_records=size,
        blocks=[block.hex() for block in blocks],
    )


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    write_json(path, checkpoint.model_dump())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check that its root follows from its blocks.

    Raises:
        BadInputError: The file is not a checkpoint.
    """
    try:
        checkpoint = Checkpoint.model_validate(json.loads(path.read_text(encoding="utf-8")))
        blocks = [bytes.fromhex(block) for block in checkpoint.blocks]
    except ValueError as error:
        raise _not_one(path, type(error).__name__) from error
    if root_of(blocks).hex() != checkpoint.merkle_root:
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
    blocks = block_roots(now, checkpoint.block_records)
    for number, (current, stated) in enumerate(zip(blocks, checkpoint.blocks, strict=False)):
        if current.hex() != stated:
            last_is_cut = number == len(blocks) - 1 and len(now) < checkpoint.n_records
            if last_is_cut and checkpoint.block_records > 1:
                break
            return number * checkpoint.block_records + 1
    return None


class Log(NamedTuple):
    """The log as it was read.

    Attributes:
        lines: What each whole line holds.
        leaves: Merkle leaf of each.
        torn: Unfinished last line.
        torn_after_record: The unfinished line begins with a whole record: it was edited.
    """

    lines: list[Line]
    leaves: list[bytes]
    torn: bytes
    torn_after_record: bool


def read_log(path: Path) -> Log:
    """Read a log under a lock that keeps writers out."""
    lines: list[Line] = []
    leaves: list[bytes] = []
    torn = b""
    with locked(path, write=False) as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
        for raw in stream:
            line = raw.removesuffix(b"\n")
            record = read_record(line)
            if record is None and len(line) == len(raw):
                torn = line
                break
            lines.append(record or Broken(looks_like_record(line)))
            leaves.append(leaf_hash(line))
    cut = torn.rfind(b'"}') + 2
    return Log(lines, leaves, torn, cut > 1 and read_record(torn[:cut]) is not None)


def fault_of(log: Log, kept: Checkpoint | None) -> Fault | None:
    """Return the first fault of a log, or None.

    Args:
        log: The log as it was read.
        kept: A checkpoint from elsewhere; it shows what the chain alone cannot.
    """
    fault = find_fault(log.lines)
    if fault is None and log.torn_after_record:
        fault = Fault(len(log.lines) + 1, "edited")
    return fault if kept is None else _against(log, kept, fault)


def _against(log: Log, kept: Checkpoint, fault: Fault | None) -> Fault | None:
    """Compare with a checkpoint: it can show a fault, and say more about one that shows itself."""
    total = len(log.lines)
    if fault is not None:
        # the last line alone cannot say whether it replaced a record; the count of records can
        made_up = fault.kind == "inserted" and fault.first_bad == total <= kept.n_records
        return Fault(total, "edited") if made_up else fault
    different = first_difference(log.leaves, kept)
    if different is not None:
        return Fault(different, "edited")
    return Fault(total + 1, "truncated") if total < kept.n_records else None
