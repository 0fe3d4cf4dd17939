"""Which row goes to which part: whole clusters, by hash, so that new rows move no old ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep import PARTS, Part, SplitMethod
from finetuning.data_prep.duplicates import components
from finetuning.data_prep.examples import place_of
from finetuning.data_prep.preparation import (
    VALIDATION_OF_REST,
    WHERE,
    Options,
    Sizes,
    sizes_for,
)
from finetuning.data_prep.preparation.table import SplitColumns
from finetuning.errors import BadInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABEL_TOLERANCE: Final = 0.1
"""A label's rows in a part may differ from their due by this share of it, or by one row."""


class Units:
    """What the split moves as one: rows of a cluster, a group, or both where they touch."""

    def __init__(self, members: dict[int, list[int]], names: dict[int, str], seed: int) -> None:
        """Keep the rows of each unit and the place that its name gives it."""
        self.members = members
        self._names, self._seed = names, seed
        self.places = {unit: place_of(names[unit], seed) for unit in members}

    def other_place(self, unit: int) -> float:
        """Return another place that the name of a unit gives it."""
        return place_of(self._names[unit], self._seed + 1)

    def rows(self, units: Iterable[int]) -> int:
        """Return how many rows some units have."""
        return sum(len(self.members[unit]) for unit in units)


def _by_place(units: Units, shares: Sequence[float]) -> dict[int, Part]:
    """Give each unit the part that its place falls into: test at the bottom, validation on top.

    Test shrinks and grows at one end only, so that a larger file moves rows from test to train
    and never between test and validation.
    """
    _, validation, test = shares
    return {
        unit: "test" if place < test else "validation" if place >= 1 - validation else "train"
        for unit, place in units.places.items()
    }


def _fill_empty(units: Units, parts: dict[int, Part], shares: Sequence[float]) -> None:
    """Give every part with a share above zero at least one unit, where there are enough."""
    for part, share in zip(PARTS, shares, strict=True):
        counts = Counter(parts.values())
        if share == 0 or counts[part] or not counts:
            continue
        giver = max(counts, key=lambda name: counts[name])
        if counts[giver] > 1 or part == "train":
            nearest = min if part == "test" else max
            moved = nearest(
                (unit for unit, name in parts.items() if name == giver),
                key=lambda unit: units.places[unit],
            )
            parts[moved] = part


def _balance_labels(
    units: Units, parts: dict[int, Part], shares: Sequence[float], label: Callable[[int], str]
) -> None:
    """Move the units nearest a border until each label has its due in each part."""
    by_label: dict[str, list[int]] = {}
    for unit in units.members:
        by_label.setdefault(label(unit), []).append(unit)
    for same in by_label.values():
        in_order = sorted(same, key=lambda unit: units.places[unit])
        total = units.rows(in_order)
        _meet(units, parts, in_order, "test", shares[2] * total)
        _meet(units, parts, in_order[::-1], "validation", shares[1] * total)


def _meet(
    units: Units, parts: dict[int, Part], in_order: Sequence[int], part: Part, due: float
) -> None:
    """Move units between one part and train until the part has about its due of rows."""
    slack = max(1.0, LABEL_TOLERANCE * due)
    have = units.rows(unit for unit in in_order if parts[unit] == part)
    for unit in reversed([unit for unit in in_order if parts[unit] == part]):
        size = len(units.members[unit])
        if have - size < due - slack or have <= due + slack:
            break
        parts[unit] = "train"
        have -= size
    for unit in [unit for unit in in_order if parts[unit] == "train"]:
        size = len(units.members[unit])
        if have >= due - slack or have + size > due + slack:
            break
        parts[unit] = part
        have += size


def split_units(
    units: Units, shares: Sequence[float], label: Callable[[int], str] | None = None
) -> dict[int, Part]:
    """Return the part of each unit.

    Args:
        units: Clusters or groups.
        shares: Shares of train, validation and test, which add up to 1.
        label: Label of a unit; then each label has its due in each part, and a few units near
            a border may move when rows are added. Without it no unit ever moves.
    """
    parts = _by_place(units, shares)
    if label is not None:
        _balance_labels(units, parts, shares, label)
    _fill_empty(units, parts, shares)
    return parts


def split_by_time(
    units: Units, shares: Sequence[float], time: Callable[[int], float]
) -> dict[int, Part]:
    """Return the part of each unit: the oldest train, the newest test.

    Args:
        units: Clusters or groups.
        shares: Shares of train, validation and test, which add up to 1.
        time: When a unit is from; units of one time stay together.
    """
    moments: dict[float, list[int]] = {}
    for unit in units.members:
        moments.setdefault(time(unit), []).append(unit)
    total = units.rows(units.members)
    parts: dict[int, Part] = {}
    done = 0
    for moment in sorted(moments):
        size = units.rows(moments[moment])
        middle = (done + size / 2) / total
        part: Part = "train" if middle < shares[0] else "test"
        if part == "test" and middle < shares[0] + shares[1]:
            part = "validation"
        parts.update(dict.fromkeys(moments[moment], part))
        done += size
    return parts


def fold_units(units: Units, folds: int, validation_share: float) -> list[dict[int, Part]]:
    """Return the part of each unit in each of K folds; every unit is tested in just one.

    Args:
        units: Clusters or groups.
        folds: Number of folds, at least 2.
        validation_share: Share of the units not tested that a fold validates on.
    """
    fold_of = {unit: min(int(place * folds), folds - 1) for unit, place in units.places.items()}
    _fill_folds(fold_of, folds)
    result: list[dict[int, Part]] = []
    for fold in range(folds):
        parts: dict[int, Part] = {}
        for unit in units.members:
            validating = units.other_place(unit) < validation_share
            rest: Part = "validation" if validating else "train"
            parts[unit] = "test" if fold_of[unit] == fold else rest
        _fill_empty(units, parts, (1.0, validation_share, 0.0))
        result.append(parts)
    return result


def _fill_folds(fold_of: dict[int, int], folds: int) -> None:
    """Give every fold at least one unit, where there are enough."""
    for fold in range(folds):
        counts = Counter(fold_of.values())
        if counts[fold] or not counts:
            continue
        fullest = max(counts, key=lambda name: (counts[name], -name))
        if counts[fullest] > 1:
            fold_of[next(unit for unit in fold_of if fold_of[unit] == fullest)] = fold


@dataclass(frozen=True, slots=True)
class Assigned:
    """One split, or one per fold, with how it was made.

    Attributes:
        parts: Per split the part of each row: 0 train, 1 validation, 2 test.
    """

    parts: list[NDArray[Any]]
    method: SplitMethod
    sizes: Sizes


def _units(columns: SplitColumns, seed: int) -> Units:
    """Join rows that share a cluster, a group or an origin; name each unit by its first row."""
    import numpy as np

    pairs: list[tuple[int, int]] = []
    some = bool(columns.family.any())
    families = [number or None for number in columns.family.tolist()] if some else ()
    for same in (columns.cluster, columns.groups or (), families):
        first: dict[int | str, int] = {}
        for row, name in enumerate(same):
            if name is not None and (other := first.setdefault(name, row)) != row:
                pairs.append((other, row))
    joined = components(len(columns), np.array(pairs, dtype=np.int64).reshape(-1, 2))
    members: dict[int, list[int]] = {}
    for row, unit in enumerate(joined.tolist()):
        members.setdefault(unit, []).append(row)
    names: dict[int, str] = {}
    for unit in members:
        group = columns.groups[unit] if columns.groups is not None else None
        named = f"cluster:{columns.cluster[unit]:x}" if group is None else f"group:{group}"
        names[unit] = named
    return Units(members, names, seed)


def _times(columns: SplitColumns, units: Units, column: str) -> dict[int, float]:
    """Return when each unit is from: its newest row.

    Raises:
        BadInputError: Some rows have no time that can be read.
    """
    import numpy as np

    unread = np.flatnonzero(np.isnan(columns.times))
    if len(unread):
        source, line = columns.place(int(unread[0]))
        raise BadInputError(
            f"{WHERE}: time_column",
            f"{len(unread)} rows have no time in column {column!r} that can be read, the first "
            f"at line {line} of {source}",
            "ISO 8601 (2026-01-31T08:00) or a number in every row",
            "Repair the column, or leave time_column out to split by cluster",
        )
    moments: list[float] = columns.times.tolist()
    return {unit: max(moments[row] for row in rows) for unit, rows in units.members.items()}


def _labels(labels: Sequence[str | None], units: Units) -> dict[int, str]:
    """Return the most frequent label of each unit."""
    return {
        unit: Counter(labels[row] or "" for row in rows).most_common(1)[0][0]
        for unit, rows in units.members.items()
    }


def _by_row(n_rows: int, units: Units, parts: dict[int, Part]) -> NDArray[Any]:
    """Return the part of each row as a number."""
    import numpy as np

    numbers = {part: number for number, part in enumerate(PARTS)}
    found = np.zeros(n_rows, dtype=np.int8)
    for unit, rows in units.members.items():
        if parts[unit] != PARTS[0]:
            found[rows] = numbers[parts[unit]]
    return found


def assign(columns: SplitColumns, options: Options) -> Assigned:
    """Split rows by cluster, group or time.

    Args:
        columns: Of the rows that stay.
        options: Which split, columns and seed.

    Raises:
        BadInputError: The split cannot be made, or a time cannot be read.
    """
    units, n_rows = _units(columns, options.seed), len(columns)
    sizes = sizes_for(
        options.split,
        n_rows,
        len(units.members),
        where=f"{WHERE}: split",
        foldable=not options.by_time,
    )
    method: SplitMethod = "by_cluster" if columns.groups is None else "by_group"
    if sizes.folds is not None:
        every = fold_units(units, sizes.folds, VALIDATION_OF_REST)
        return Assigned([_by_row(n_rows, units, parts) for parts in every], method, sizes)
    if options.by_time:
        times = _times(columns, units, options.columns.time or "")
        parts = split_by_time(units, sizes.shares, times.__getitem__)
        return Assigned([_by_row(n_rows, units, parts)], "by_time", sizes)
    label = _labels(columns.labels, units).__getitem__ if columns.labels is not None else None
    parts = split_units(units, sizes.shares, label)
    return Assigned([_by_row(n_rows, units, parts)], method, sizes)
