"""Where a chain of records breaks first, and what was done to it there.

The signs, for one change: an edited record fails its own hash (or its neighbour's, if it was
hashed again) while its place is taken; a removed one leaves a gap in the numbers; a moved one
turns up later; an inserted one is a copy, or stands where no number is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from finetuning.audit.log import FIRST_PREV, Chained
from finetuning.audit.results import Kind


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
