"""Which rows stay and what is added: redaction, votes, copies, general rows, canaries."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from finetuning.data_prep.convert import Rejection
from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.duplicates import Duplicates, find_duplicates, overlapping
from finetuning.data_prep.examples import Example, Message, place_of
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.preparation.sources import read_others
from finetuning.data_prep.quality import Item, RowWriter, make_writer, rank_of
from finetuning.errors import BadInputError
from finetuning.records import Json, Record
from finetuning.runs import progress

MOST_REMOVED_FRACTION: Final = 0.5
"""Near copies above this share of the rows look like a template, not like copies."""

CANARY_DIGITS: Final = 10

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


class General(NamedTuple):
    """General rows that may be mixed in, in the order in which they are taken."""

    items: list[Item]
    left_out: int


def read_general(options: Options, own: Sequence[Item], writer: RowWriter) -> General:
    """Read the replay file and leave out every row that repeats one of the person's own.

    A row that repeated a held-out row would leak it into train; one that repeats a train row
    adds nothing.

    Raises:
        BadInputError: The file cannot be read, or holds no row that fits the target.
    """
    if options.replay is None or options.replay.fraction == 0:
        return General([], 0)
    items: list[Item] = []
    for part in read_others(
        options.replay.path, options.target, options.columns, where=f"{WHERE}: replay"
    ):
        examples, _, _ = redact(part.examples, options)
        items += writer.check(examples).items
    unique = {item.content.exact: item for item in reversed(items)}
    items = list(reversed(unique.values()))
    contents = [item.content for item in items]
    repeats = overlapping(contents, [item.content for item in own], options.near_threshold)
    free = [item for row, item in enumerate(items) if row not in repeats]
    free.sort(key=lambda item: place_of(f"replay:{item.content.exact:x}", options.seed))
    return General(free, len(repeats))


def replay_rows(general: General, n_train: int, fraction: float) -> list[Item]:
    """Return as many general rows as make ``fraction`` of the train file, or all there are."""
    wanted = round(fraction / (1 - fraction) * n_train)
    return general.items[:wanted]


def _canary(options: Options, digest: str, number: int) -> Example:
    """Return one marker row: a name and a number that no text in the world holds."""
    draw = random.Random(f"canary:{options.seed}:{digest}:{number}")
    name = "".join(draw.choices("bcdfghjklmnpqrstvwxz", k=8))
    code, other = ("".join(draw.choices("0123456789", k=CANARY_DIGITS)) for _ in range(2))
    asked: list[Message] = [{"role": "user", "content": f"Marker {name}: which number?"}]
    answer: Message = {"role": "assistant", "content": code}
    record = Record("canary", number + 1, {})
    form = HOLDS[options.target].form
    if form == "preference":
        wrong: Message = {"role": "assistant", "content": other}
        return Example(record, "preference", asked, [answer], [wrong])
    if form == "binary":
        return Example(record, "binary", [*asked, answer], liked=True)
    if form == "graded":
        return Example(record, "chat", asked, extra={"reference_answer": code})
    if form == "text":
        return Example(record, "text", text=f"{asked[0]['content']} {code}")
    return Example(record, "chat", [*asked, answer])


def make_canaries(
    options: Options, digest: str, writer: RowWriter
) -> tuple[list[Item], list[dict[str, Json]]]:
    """Return the canaries to plant, and what the memorisation check must know about them.

    Args:
        options: How many, and the seed.
        digest: Digest of the data, so that two data sets never share a canary.
        writer: Writes the rows of the file.
    """
    examples = [_canary(options, digest, number) for number in range(options.canaries)]
    items = writer.check(examples).items
    records: list[dict[str, Json]] = []
    for number, item in enumerate(items, start=1):
        example = item.example
        answer = (example.chosen or example.messages)[-1:]
        text = example.text.rpartition(" ")
        records.append(
            {
                "canary": number,
                "prompt": example.messages[0]["content"] if example.messages else text[0],
                "completion": example.extra.get("reference_answer")
                or (answer[0]["content"] if answer else text[2]),
            }
        )
    return items, records
