"""How large the parts of a split are, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetuning.errors import BadInputError

USUAL: Final = (0.8, 0.1, 0.1)

FEWEST_TEST_ROWS: Final = 160
"""So many rows see a difference of 10 points between two models (paired, 20 % discordance)."""

MOST_TEST_ROWS: Final = 2_000
"""So many rows see 3 points; more cost evaluation time and training rows for little."""

LARGEST_TEST_SHARE: Final = 0.25
"""Where 160 test rows would be more than this share, folds use the rows better."""

DEFAULT_FOLDS: Final = 5
VALIDATION_OF_REST: Final = 0.1
"""Share of a fold's remaining rows that becomes its validation part."""

_STEP: Final = 0.025
"""Shares between the usual and the largest go in steps, so that a few new rows change none."""

_FOLDS: Final = re.compile(r"kfold:(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The parts of a split: shares of train, validation and test, or a number of folds."""

    shares: tuple[float, float, float]
    folds: int | None
    why: str


def _auto(n_rows: int, n_units: int, *, foldable: bool) -> Sizes:
    """Size the test part by the difference it must see."""
    if n_units < len(USUAL):
        return Sizes((1.0, 0.0, 0.0), None, f"{n_units} rows that differ leave none to hold out")
    usual_test = n_rows * USUAL[2]
    if FEWEST_TEST_ROWS <= usual_test <= MOST_TEST_ROWS:
        why = f"80/10/10 gives {FEWEST_TEST_ROWS} to {MOST_TEST_ROWS} test rows"
        return Sizes(USUAL, None, why)
    if usual_test > MOST_TEST_ROWS:
        share = 1 / math.ceil(n_rows / MOST_TEST_ROWS)
        why = f"about {MOST_TEST_ROWS} test rows see 3 points, so the rest goes to training"
        return Sizes((1 - 2 * share, share, share), None, why)
    if n_rows * LARGEST_TEST_SHARE >= FEWEST_TEST_ROWS or not foldable:
        share = math.ceil(FEWEST_TEST_ROWS / n_rows / _STEP - 1e-9) * _STEP
        share = min(share, LARGEST_TEST_SHARE)
        why = f"about {FEWEST_TEST_ROWS} test rows are needed to see a difference of 10 points"
        return Sizes((1 - share - USUAL[1], USUAL[1], share), None, why)
    why = (
        f"{n_rows} rows are too few for {FEWEST_TEST_ROWS} test rows beside training, so "
        f"{min(DEFAULT_FOLDS, n_units)} folds take turns: together they test every row"
    )
    return _folds(min(DEFAULT_FOLDS, n_units), why)


def _folds(count: int, why: str) -> Sizes:
    test = 1 / count
    validation = (1 - test) * VALIDATION_OF_REST
    return Sizes((1 - test - validation, validation, test), count, why)


def _asked_folds(count: int, n_units: int, *, where: str, foldable: bool) -> Sizes:
    if not foldable:
        raise BadInputError(
            where,
            f"split='kfold:{count}' with a time_column",
            "auto or three shares where rows are split by time",
            "Leave time_column or split out",
        )
    if not 2 <= count <= n_units:
        raise BadInputError(
            where,
            f"split='kfold:{count}' of {n_units} clusters of rows",
            "2 folds or more, and at least one cluster per fold",
            "Pass split=auto",
        )
    return _folds(count, "the folds asked for")


def _given(shares: Sequence[float], *, where: str) -> Sizes:
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6 or shares[0] == 0:
        raise BadInputError(
            where,
            f"split={list(shares)}",
            "three shares 0..1 of train, validation and test that add up to 1, train above 0",
            "Pass split=[0.8,0.1,0.1]",
        )
    train, validation, test = shares
    return Sizes((train, validation, test), None, "the shares asked for")


def sizes_for(
    split: str | Sequence[float], n_rows: int, n_units: int, *, where: str, foldable: bool = True
) -> Sizes:
    """Return the parts of a split.

    Args:
        split: ``auto``, three shares (a list, or a text such as ``0.8,0.1,0.1``) or ``kfold:K``.
        n_rows: Rows to split.
        n_units: Clusters or groups that they form; a unit stays in one part.
        where: Name of the argument, for the error text.
        foldable: Folds may be made; not where rows are split by time.

    Raises:
        BadInputError: It is none of these, or K does not fit.
    """
    if not isinstance(split, str):
        return _given(split, where=where)
    if split == "auto":
        return _auto(n_rows, n_units, foldable=foldable)
    if found := _FOLDS.fullmatch(split):
        return _asked_folds(int(found[1]), n_units, where=where, foldable=foldable)
    try:
        return _given([float(part) for part in split.strip("[] ").split(",")], where=where)
    except ValueError as error:
        if isinstance(error, BadInputError):
            raise
        raise BadInputError(
            where,
            f"split={split[:40]!r}",
            "auto, three shares such as [0.8,0.1,0.1], or kfold:K with K of at least 2",
            "Pass split=auto",
        ) from error
