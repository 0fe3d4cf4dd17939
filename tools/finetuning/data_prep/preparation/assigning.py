"""Gives every row its part: train, validation or test, in one split or in K folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning.data_prep.convert import time_key
from finetuning.data_prep.duplicates import Clusters
from finetuning.data_prep.preparation.items import Item
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.prepared import SplitMethod
from finetuning.data_prep.sizing import VALIDATION_OF_REST, Sizes, sizes_for
from finetuning.data_prep.split import Part, Units, fold_units, split_by_time, split_units
from finetuning.errors import BadInputError

Split = dict[Part, list[Item]]
"""Rows of train, validation and test, in reading order."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """One split, or one per fold, with how it was made."""

    splits: list[Split]
    method: SplitMethod
    sizes: Sizes


def _units(items: Sequence[Item], cluster: Sequence[int], seed: int) -> Units:
    """Join rows that share a cluster, a group or an origin; name each unit by its first row."""
    joined = Clusters(len(items))
    first: dict[str, int] = {}
    for row, item in enumerate(items):
        names = [f"cluster:{cluster[row]:x}"]
        if item.example.group is not None:
            names.insert(0, f"group:{item.example.group}")
        if item.example.family:
            names.append(f"family:{item.example.record.source}:{item.example.record.line}")
        for name in names:
            joined.join(first.setdefault(name, row), row)
    members: dict[int, list[int]] = {}
    for row in range(len(items)):
        members.setdefault(joined.first(row), []).append(row)
    groups = {unit: items[unit].example.group for unit in members}
    return Units(
        members,
        {
            unit: f"cluster:{cluster[unit]:x}" if group is None else f"group:{group}"
            for unit, group in groups.items()
        },
        seed,
    )


def _times(items: Sequence[Item], units: Units, column: str) -> dict[int, float]:
    """Return when each unit is from: its newest row.

    Raises:
        BadInputError: Some rows have no time that can be read.
    """
    moments = [time_key(item.example.time) for item in items]
    unread = [row for row, moment in enumerate(moments) if moment is None]
    if unread:
        record = items[unread[0]].example.record
        raise BadInputError(
            f"{WHERE}: time_column",
            f"{len(unread)} rows have no time in column {column!r} that can be read, the first "
            f"at line {record.line} of {record.source}",
            "ISO 8601 (2026-01-31T08:00) or a number in every row",
            "Repair the column, or leave time_column out to split by cluster",
        )
    known = [moment for moment in moments if moment is not None]
    return {unit: max(known[row] for row in rows) for unit, rows in units.members.items()}


def _labels(items: Sequence[Item], units: Units) -> dict[int, str]:
    """Return the most frequent label of each unit."""
    return {
        unit: Counter(items[row].example.label or "" for row in rows).most_common(1)[0][0]
        for unit, rows in units.members.items()
    }


def _split(items: Sequence[Item], units: Units, parts: dict[int, Part]) -> Split:
    part_of: dict[int, Part] = {
        row: parts[unit] for unit, rows in units.members.items() for row in rows
    }
    split: Split = {"train": [], "validation": [], "test": []}
    for row, item in enumerate(items):
        split[part_of[row]].append(item)
    return split


def assign(items: Sequence[Item], cluster: Sequence[int], options: Options) -> Assigned:
    """Split rows by cluster, group or time.

    Args:
        items: Rows that stay.
        cluster: Name of each row's cluster.
        options: Which split, columns and seed.

    Raises:
        BadInputError: The split cannot be made, or a time cannot be read.
    """
    units = _units(items, cluster, options.seed)
    sizes = sizes_for(
        options.split,
        len(items),
        len(units.members),
        where=f"{WHERE}: split",
        foldable=not options.by_time,
    )
    grouped = options.columns.group is not None
    method: SplitMethod = "by_group" if grouped else "by_cluster"
    if sizes.folds is not None:
        all_parts = fold_units(units, sizes.folds, VALIDATION_OF_REST)
        return Assigned([_split(items, units, parts) for parts in all_parts], method, sizes)
    if options.by_time:
        times = _times(items, units, options.columns.time or "")
        parts = split_by_time(units, sizes.shares, times.__getitem__)
        return Assigned([_split(items, units, parts)], "by_time", sizes)
    label = _labels(items, units).__getitem__ if options.columns.label else None
    parts = split_units(units, sizes.shares, label)
    return Assigned([_split(items, units, parts)], method, sizes)
