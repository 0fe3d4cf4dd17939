"""Which rows stay: votes, excluded rows, copies, and what a person decided."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.data_prep import Leakage
from finetuning.data_prep.duplicates import (
    Duplicates,
    Rows,
    find_duplicates,
    leakage_of,
    measure_leakage,
    overlapping,
)
from finetuning.data_prep.examples import Content, place_of
from finetuning.data_prep.preparation import WHERE, Options
from finetuning.data_prep.preparation.sources import columns_of, source_files
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.preparation.workers import gather
from finetuning.data_prep.quality import RowCosts
from finetuning.errors import BadInputError
from finetuning.records import Finding
from finetuning.runs import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates.rows import Template

MOST_REMOVED_FRACTION: Final = 0.5
"""Near copies above this share of the rows look like a template, not like copies."""

_FEWEST_GUARDED_ROWS: Final = 100
"""In smaller files the person can see what was removed."""

_REASONS: Final = ("newer", "longer_answer", "longer_prompt")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left after cleaning.

    Attributes:
        kept: Numbers of the rows that stay, in reading order.
        compared: What they and the copies that are gone are compared by.
        stay: Numbers of the rows that stay among ``compared``.
        template: The text that many of the rows that stay share.
        cluster: Per row that stays, a name of its cluster that new rows do not change.
        sizes: Sizes of the clusters of near copies, largest first.
        reviewed: Rows by what a person decided; empty without a reviews_file.
    """

    kept: NDArray[Any]
    compared: Rows
    stay: NDArray[Any]
    template: Template
    cluster: list[int]
    sizes: list[int]
    reviewed: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[Finding] = field(default_factory=list[Finding])

    def rows(self) -> Rows:
        """Return what the rows that stay are compared by: a copy."""
        return self.compared.take(self.stay)

    def leakage(self, parts: NDArray[Any], general: Rows, threshold: float) -> Leakage:
        """Count the rows not in train (part 0, with general rows) that have a twin there."""
        import numpy as np

        if len(general):
            train = Rows.join([self.compared.take(self.stay[parts == 0]), general])
            return measure_leakage(train, self.compared.take(self.stay[parts != 0]), threshold)
        held = np.zeros(len(self.compared), dtype=bool)
        held[self.stay] = parts != 0
        return leakage_of(self.compared, self.stay, held, threshold, self.template)


def read_others(
    path: str, options: Options, folder: Path, *, where: str, plain: bool
) -> list[Table]:
    """Read other rows for the same target; columns that a person named count where they are."""
    tables: list[Table] = []
    for number, (name, file) in enumerate(source_files(path, where=where).items()):
        below = folder / f"{where.rpartition(' ')[2]}-{len(list(folder.iterdir()))}-{number}"
        below.mkdir()
        columns = options.columns.those_in(columns_of(file, name))
        asked = dataclasses.replace(options, columns=columns, examples="per_conversation")
        tables.append(gather({name: file}, asked, below, plain=plain).table)
    return tables


class General(NamedTuple):
    """General rows that may be mixed in, in the order in which they are taken."""

    raws: list[bytes]
    rows: Rows
    costs: NDArray[Any]
    left_out: int


def read_general(options: Options, own: Cleaned, folder: Path, *, plain: bool) -> General:
    """Read the replay file and leave out every row that repeats one of the person's own.

    A row that repeated a held-out row would leak it into train; one that repeats a train row
    adds nothing.

    Raises:
        BadInputError: The file cannot be read, or holds no row that fits the target.
    """
    import numpy as np

    if options.replay is None or options.replay.fraction == 0:
        return General([], Rows.join([]), np.empty((0, 2), dtype=np.int64), 0)
    tables = read_others(
        options.replay.path, options, folder, where=f"{WHERE}: replay", plain=plain
    )
    rows = Rows.join([table.rows for table in tables])
    first = {name: row for row, name in reversed(list(enumerate(rows.names())))}
    once = sorted(first.values())
    repeats = overlapping(rows.take(once), own.rows(), options.near_threshold)
    names = rows.names()
    free = [row for place, row in enumerate(once) if place not in repeats]
    free.sort(key=lambda row: place_of(f"replay:{names[row]:x}", options.seed))
    raws = [raw[:-1] for table in tables for _, raw in table.raws(table.every())]
    costs = np.concatenate([table.costs for table in tables])[free]
    return General([raws[row] for row in free], rows.take(free), costs, len(repeats))


def settle_votes(table: Table, left: NDArray[Any]) -> NDArray[Any]:
    """Keep the answer that most annotators gave to a prompt; ties and losers are rejected.

    Answers of one annotator count once; rows without an annotator are not touched.
    """
    annotators = table.cells.get("annotator")
    if annotators is None:
        return left
    names, keys = table.rows.names(), table.rows.key.tolist()
    asked: dict[int, list[int]] = {}
    for row, prompt in zip(left.tolist(), table.rows.asked[left].tolist(), strict=True):
        if annotators[row] is not None:
            asked.setdefault(prompt, []).append(row)
    lost: dict[int, str] = {}
    for votes in asked.values():
        by_answer: dict[int, set[str | None]] = {}
        for row in votes:
            by_answer.setdefault(keys[row] or names[row], set()).add(annotators[row])
        counts = Counter({answer: len(voters) for answer, voters in by_answer.items()})
        (winner, most), *others = counts.most_common()
        tie = bool(others) and others[0][1] == most
        for row in votes:
            if tie or (keys[row] or names[row]) != winner:
                lost[row] = "annotators_disagree" if tie else "outvoted"
    for row, reason in sorted(lost.items()):
        table.reject(row, reason)
    return _without(left, lost)


def _without(left: NDArray[Any], lost: Collection[int]) -> NDArray[Any]:
    import numpy as np

    return left[~np.isin(left, np.fromiter(lost, dtype=np.int64, count=len(lost)))]


def leave_out_excluded(
    table: Table, left: NDArray[Any], options: Options, folder: Path
) -> NDArray[Any]:
    """Reject rows that repeat a row of the files that ``exclude`` names."""
    as_read = dataclasses.replace(options, redact="none")
    others = [
        other
        for path in options.exclude
        for asked in ((options, as_read) if options.redact != "none" else (options,))
        for other in read_others(path, asked, folder, where=f"{WHERE}: exclude", plain=True)
    ]
    progress(0, len(left), "looking for excluded rows")
    theirs = Rows.join([other.rows for other in others])
    places = [other.place(row) for other in others for row in range(len(other))]
    hits = overlapping(table.rows.take(left), theirs, options.near_threshold)
    lost = {int(left[row]): places[other] for row, other in sorted(hits.items())}
    for row, of in lost.items():
        table.reject(row, "excluded", of)
    return _without(left, lost)


def _ranks(table: Table, left: NDArray[Any]) -> NDArray[Any]:
    """Return how much each row is worth keeping: newest, then longest answer, then prompt."""
    import numpy as np

    times = np.nan_to_num(table.times[left], nan=-np.inf)
    return np.column_stack([times, table.lengths[left].astype(np.float64)])


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


def remove_copies(table: Table, left: NDArray[Any], options: Options) -> Cleaned:
    """Remove exact copies, and near copies if wanted; say which rows belong together.

    Raises:
        BadInputError: More near copies would go than :data:`MOST_REMOVED_FRACTION` allows.
    """
    import numpy as np

    rows = table.rows if len(left) == len(table) else table.rows.take(left)
    ranks = _ranks(table, left)
    progress(0, len(left), "looking for duplicates")
    meanings: list[Content] | None = None
    if options.semantic_duplicates:
        every = table.contents(options.target)
        meanings = [every[row] for row in left.tolist()]
    found = find_duplicates(
        rows,
        threshold=options.near_threshold,
        rank=ranks,
        near=options.near_duplicates,
        engine=options.engine,
        semantic=options.semantic_duplicates,
        contents=meanings,
    )
    if found.near:
        _refuse_collapse(found, len(left) - len(found.exact), options)
    for reason, gone in (("exact_duplicate", found.exact), ("near_duplicate", found.near)):
        for copy, kept in gone.items():
            stays = found.near.get(kept, kept)  # an exact copy's own may go as a near one
            pairs = zip(_REASONS, ranks[stays], ranks[copy], strict=True)
            why = next((why for why, ours, theirs in pairs if ours > theirs), "first")
            table.reject(int(left[copy]), reason, table.place(int(left[stays])), why)
    stay = _without(np.arange(len(left)), {**found.exact, **found.near})
    names = rows.names()
    cluster: list[int] = [names[found.cluster[row]] for row in stay.tolist()]
    return Cleaned(left[stay], rows, stay, found.template, cluster, found.sizes)


def apply_reviews(table: Table, found: Cleaned, options: Options) -> Cleaned:
    """Take out what a person rejected, put in what a person edited; an edit keeps its cluster."""
    import numpy as np

    from finetuning.data_prep.review import read_reviews

    reviews = read_reviews(
        str(options.reviews_file),
        target=options.target,
        redact=options.redact,
        where=f"{WHERE}: reviews_file",
    )
    costs = RowCosts(options.target)
    lost: set[int] = set()
    for row, raw in table.raws(np.isin(np.arange(len(table)), found.kept)):
        decided = reviews.decide(raw[:-1])
        if decided.raw is None:
            table.reject(row, decided.code or "review_rejected")
            lost.add(row)
        elif decided.code is not None:
            table.edit(row, decided.raw, costs.of_row(decided.raw))
            table.notes[row] = (*table.notes.get(row, ()), decided.code)
    gone = np.isin(found.kept, sorted(lost))
    found.template.without(found.stay[gone])
    return dataclasses.replace(
        found,
        kept=found.kept[~gone],
        stay=found.stay[~gone],
        cluster=[name for name, left in zip(found.cluster, ~gone, strict=True) if left],
        reviewed=dict(reviews.counts),
        findings=reviews.findings(),
    )


def clean(table: Table, options: Options, folder: Path) -> Cleaned:
    """Settle votes, leave out excluded rows and copies, apply a person's reviews.

    Raises:
        BadInputError: Near copies look like a template, or a file cannot be read.
    """
    left = settle_votes(table, table.every().nonzero()[0])
    if options.exclude:
        left = leave_out_excluded(table, left, options, folder)
    found = remove_copies(table, left, options)
    return found if options.reviews_file is None else apply_reviews(table, found, options)
