"""Read a log as a whole and say what, if anything, is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from finetuning.audit import merkle
from finetuning.audit.chain import Broken, Fault, Line, find_fault
from finetuning.audit.checkpoint import Checkpoint, first_difference
from finetuning.audit.log import locked, looks_like_record, read_record


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
            leaves.append(merkle.leaf_hash(line))
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
