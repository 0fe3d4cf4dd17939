"""Cleans examples: redacts, settles votes, leaves out what is excluded or a copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetuning.data_prep.convert import Rejection, time_key
from finetuning.data_prep.duplicates import Duplicates, find_duplicates, overlapping
from finetuning.data_prep.examples import Example
from finetuning.data_prep.preparation.gathering import read_others
from finetuning.data_prep.preparation.items import Item, RowWriter, make_writer
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.errors import BadInputError
from finetuning.runs import progress

MOST_REMOVED_FRACTION: Final = 0.5
"""Near copies above this share of the rows look like a template, not like copies."""

_FEWEST_GUARDED_ROWS: Final = 100
"""In smaller files the person can see what was removed."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left after cleaning.

    Attributes:
        items: Rows that stay.
        writer: Writes further rows in the shape of these.
        cluster: Per row that stays, a name of its cluster that new rows do not change.
        redacted: How many examples were changed by redaction.
        sizes: Sizes of the clusters of near copies, largest first.
    """

    items: list[Item]
    writer: RowWriter
    cluster: list[int]
    rejections: list[Rejection]
    redacted: int
    redacted_types: dict[str, int]
    sizes: list[int]


def redact(
    examples: Sequence[Example], options: Options
) -> tuple[list[Example], int, dict[str, int]]:
    """Replace personal data; return the examples, how many changed, and values by type."""
    if options.redact == "none" or not examples:
        return list(examples), 0, {}
    from finetuning.pii import redact_rows

    progress(0, len(examples), "redacting")
    before = [example.payload() for example in examples]
    after, types = redact_rows(before, options.redact)
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    made = [example.with_payload(new) for example, new in zip(examples, after, strict=True)]
    return made, changed, dict(types)


def settle_votes(items: Sequence[Item]) -> tuple[list[Item], list[Rejection]]:
    """Keep the answer that most annotators gave to a prompt; ties and losers are rejected.

    Answers of one annotator count once; rows without an annotator are not touched.
    """
    asked: dict[int, list[Item]] = {}
    for item in items:
        if item.example.annotator is not None:
            asked.setdefault(item.content.asked, []).append(item)
    lost: dict[int, str] = {}
    for votes in asked.values():
        by_answer: dict[int, set[str | None]] = {}
        for item in votes:
            by_answer.setdefault(item.content.key or item.content.exact, set()).add(
                item.example.annotator
            )
        counts = Counter({answer: len(voters) for answer, voters in by_answer.items()})
        (winner, most), *others = counts.most_common()
        tie = bool(others) and others[0][1] == most
        for item in votes:
            if tie or (item.content.key or item.content.exact) != winner:
                lost[id(item)] = "annotators_disagree" if tie else "outvoted"
    return _without(items, lost)


def _without(items: Sequence[Item], lost: dict[int, str]) -> tuple[list[Item], list[Rejection]]:
    rejections = [
        Rejection(item.example.record.source, item.example.record.line, lost[id(item)])
        for item in items
        if id(item) in lost
    ]
    return [item for item in items if id(item) not in lost], rejections


def leave_out_excluded(
    items: Sequence[Item], options: Options
) -> tuple[list[Item], list[Rejection]]:
    """Reject rows that repeat a row of the files that ``exclude`` names."""
    others: list[Item] = []
    for path in options.exclude:
        where = f"{WHERE}: exclude"
        for part in read_others(path, options.target, options.columns, where=where):
            writer = make_writer(options.target, part.examples)
            examples, _, _ = redact(part.examples, options)
            others += writer.check(examples).items
            others += writer.check(part.examples).items if options.redact != "none" else []
    progress(0, len(items), "looking for excluded rows")
    hits = overlapping(
        [item.content for item in items],
        [other.content for other in others],
        options.near_threshold,
    )
    rejections = [
        Rejection(
            items[row].example.record.source,
            items[row].example.record.line,
            "excluded",
            others[other].example.record,
        )
        for row, other in sorted(hits.items())
    ]
    return [item for row, item in enumerate(items) if row not in hits], rejections


def rank_of(item: Item) -> tuple[float, ...]:
    """Return how much a row is worth keeping: the newest, then the longest answer, then prompt."""
    moment = time_key(item.example.time)
    answer = len(item.content.answer)
    return (float("-inf") if moment is None else moment, answer, len(item.content.prompt))


def _why(gone: Item, kept: Item) -> str:
    """Say why one row stays for another, in a word of a closed list."""
    ours, theirs = rank_of(kept), rank_of(gone)
    reasons = ("newer", "longer_answer", "longer_prompt")
    return next(
        (why for why, our, their in zip(reasons, ours, theirs, strict=True) if our > their), "first"
    )


def _refuse_collapse(found: Duplicates, n_rows: int, options: Options) -> None:
    removed = len(found.near)
    share = removed / n_rows if n_rows else 0.0
    if options.force or n_rows < _FEWEST_GUARDED_ROWS or share <= MOST_REMOVED_FRACTION:
        return
    raise BadInputError(
        f"{WHERE}: near_duplicates",
        f"{removed} of {n_rows} rows ({share:.0%}) are near copies, the largest cluster has "
        f"{found.sizes[0]} rows; that looks like a template",
        f"at most {MOST_REMOVED_FRACTION:.0%}, or a person who says so",
        "Raise near_threshold (0.8), pass near_duplicates=false to keep them, or force=true",
    )


def remove_copies(
    items: Sequence[Item], options: Options
) -> tuple[list[Item], list[int], list[Rejection], list[int]]:
    """Remove exact copies, and near copies if wanted; say which rows belong together.

    Raises:
        BadInputError: More near copies would go than :data:`MOST_REMOVED_FRACTION` allows.
    """
    contents = [item.content for item in items]
    progress(0, len(items), "looking for duplicates")
    found = find_duplicates(
        contents,
        threshold=options.near_threshold,
        rank=[rank_of(item) for item in items],
        near=options.near_duplicates,
        engine=options.engine,
        semantic=options.semantic_duplicates,
    )
    near = found.near
    if near:
        _refuse_collapse(found, len(items) - len(found.exact), options)
    rejections: list[Rejection] = []
    for reason, gone in (("exact_duplicate", found.exact), ("near_duplicate", near)):
        for copy, kept in gone.items():
            stays = items[near.get(kept, kept)]  # an exact copy's own may go as a near one
            record, why = items[copy].example.record, _why(items[copy], stays)
            of = stays.example.record
            rejections.append(Rejection(record.source, record.line, reason, of, why))
    stay = [row for row in range(len(items)) if row not in found.exact and row not in near]
    names = [contents[found.cluster[row]].exact for row in stay]
    return [items[row] for row in stay], names, rejections, found.sizes


def clean(examples: Sequence[Example], options: Options) -> Cleaned:
    """Redact, check, settle votes, leave out excluded rows and copies.

    Raises:
        BadInputError: Near copies look like a template, or a file cannot be read.
    """
    made, redacted, types = redact(examples, options)
    writer = make_writer(options.target, made)
    items, rejections = writer.check(made)
    items, lost = settle_votes(items)
    rejections += lost
    if options.exclude:
        items, lost = leave_out_excluded(items, options)
        rejections += lost
    items, cluster, lost, sizes = remove_copies(items, options)
    return Cleaned(items, writer, cluster, rejections + lost, redacted, types, sizes)
