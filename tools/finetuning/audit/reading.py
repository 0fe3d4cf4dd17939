"""Read a log as a whole and find its first fault, alone or against a checkpoint.

The signs of one change: an edited record fails its own hash (or its neighbour's, if it was hashed
again) while its place is taken; a removed one leaves a gap in the numbers; a moved one turns up
later; an inserted one is a copy, or stands where no number is missing. A checkpoint, what the log
was at one moment, kept where its writer cannot reach, shows what the chain alone cannot.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from finetuning.audit import Checkpoint
from finetuning.audit.log import (
    FIRST_PREV,
    Chained,
    Kind,
    block_roots,
    leaf_hash,
    locked,
    looks_like_record,
    read_record,
)


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
    places = _places(lines)
    if isinstance(line, Chained) and len(places[line.seq]) > 1:
        return Fault(_stranger(lines, places, line.seq) + 1, "inserted")
    following = lines[place + 1] if place + 1 < len(lines) else None
    confirmed = (
        isinstance(line, Chained)
        and isinstance(following, Chained)
        and following.prev == line.sha256
    )
    first_bad = place if place and (confirmed or following is None) else place + 1
    return Fault(first_bad, "edited")


def _places(lines: Sequence[Line]) -> dict[int, list[int]]:
    """Return number of a record → where records with this number stand."""
    places: dict[int, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if isinstance(line, Chained):
            places[line.seq].append(number)
    return places


def _at_wrong_number(lines: Sequence[Line], place: int, expected: int) -> Fault:
    places = _places(lines)
    line = lines[place]
    seq = line.seq if isinstance(line, Chained) else 0
    following = lines[place + 1] if place + 1 < len(lines) else None
    goes_on = isinstance(following, Chained) and following.seq == expected + 1
    if goes_on and expected not in places:
        return Fault(place + 1, "edited")  # another record stands in the place of the missing one
    if len(places[seq]) > 1:
        twins = places[seq]
        copies = all(lines[twin] == line for twin in twins)
        return Fault((place if copies else _stranger(lines, places, seq)) + 1, "inserted")
    if expected in places and places[expected][-1] > place:
        moved = bool(_named_by_next(lines, places, seq) or _fits_the_one_before(lines, places, seq))
        return Fault(place + 1, "reordered" if moved else "inserted")
    return Fault(place + 1, "removed")


def _stranger(lines: Sequence[Line], places: Mapping[int, list[int]], seq: int) -> int:
    """Return which of the lines with one number its neighbours do not know."""
    twins = places[seq]
    genuine = _named_by_next(lines, places, seq)
    if not genuine:
        fitting = _fits_the_one_before(lines, places, seq)
        genuine = fitting if len(fitting) < len(twins) else []
    if not genuine:  # the last record has no next: which of them stands behind the one before?
        genuine = [place for place in twins if place - 1 in places.get(seq - 1, ())]
    others = [place for place in twins if place not in genuine[:1]]
    return others[0] if genuine else twins[-1]


def _named_by_next(lines: Sequence[Line], places: Mapping[int, list[int]], seq: int) -> list[int]:
    """Return which of the lines with a number a record with the next number builds on."""
    named = {line.prev for line in _at(lines, places, seq + 1)}
    return [k for k, line in zip(places[seq], _at(lines, places, seq), strict=True)
            if line.sha256 in named]  # fmt: skip


def _fits_the_one_before(
    lines: Sequence[Line], places: Mapping[int, list[int]], seq: int
) -> list[int]:
    """Return which of the lines with a number build on a record with the number before."""
    before = {line.sha256 for line in _at(lines, places, seq - 1)}
    before |= {FIRST_PREV} if seq == 1 else set()
    return [k for k, line in zip(places[seq], _at(lines, places, seq), strict=True)
            if line.prev in before]  # fmt: skip


def _at(lines: Sequence[Line], places: Mapping[int, list[int]], seq: int) -> list[Chained]:
    found = (lines[place] for place in places.get(seq, ()))
    return [line for line in found if isinstance(line, Chained)]


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
            short = len(now) < checkpoint.n_records and len(now) % checkpoint.block_records
            if short and number == len(blocks) - 1:
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
    if kept.block_records == 1:
        return _exactly(log.leaves, [bytes.fromhex(block) for block in kept.blocks], fault)
    if fault is not None:
        # the last line alone cannot say whether it replaced a record; the count of records can
        made_up = fault.kind == "inserted" and fault.first_bad == total <= kept.n_records
        return Fault(total, "edited") if made_up else fault
    different = first_difference(log.leaves, kept)
    if different is not None:
        return Fault(different, "edited")
    return Fault(total + 1, "truncated") if total < kept.n_records else None


def _exactly(now: Sequence[bytes], was: Sequence[bytes], chain: Fault | None) -> Fault | None:
    """Return the first fault where every single record is known.

    Args:
        now: Leaves of the log as it is.
        was: Leaves that the checkpoint covers.
        chain: What the log says of itself; it decides where a line was never in the checkpoint.
    """
    pairs = enumerate(zip(now, was, strict=False))
    place = next((k for k, (one, other) in pairs if one != other), None)
    if place is None:
        if chain is None:
            return Fault(len(now) + 1, "truncated") if len(now) < len(was) else None
        proven = min(len(now), len(was))  # these records are as they were
        return Fault(max(chain.first_bad, proven + 1), chain.kind)
    here, later = now[place], was[place] in now[place + 1 :]
    guess = chain.kind if chain is not None and chain.first_bad == place + 1 else "edited"
    if here in was[place + 1 :]:  # a record that belongs further down: moved, or copied
        alone = now.count(here) == 1
        kinds: tuple[Kind, Kind] = ("reordered", "removed") if alone else ("inserted", "edited")
        return Fault(place + 1, kinds[0] if later else kinds[1])
    if later:
        return Fault(place + 1, guess if guess == "reordered" else "inserted")
    return Fault(place + 1, guess if guess == "removed" else "edited")
