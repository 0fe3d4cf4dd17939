"""Rows go to parts by hash: clusters stay whole, and new rows move no old ones."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.data_prep import PARTS
from finetuning.data_prep.examples import place_of
from finetuning.data_prep.preparation import sizes_for
from finetuning.data_prep.preparation.split import Units, fold_units, split_by_time, split_units
from finetuning.errors import BadInputError

USUAL = (0.8, 0.1, 0.1)


def units(n_units: int, size: int = 1, seed: int = 0) -> Units:
    members = {unit: list(range(unit * size, (unit + 1) * size)) for unit in range(n_units)}
    return Units(members, {unit: f"name {unit}" for unit in members}, seed)


def test_shares_are_met_within_half_a_point_on_many_rows() -> None:
    counts = Counter(split_units(units(200_000), USUAL).values())
    for part, share in zip(PARTS, USUAL, strict=True):
        assert abs(counts[part] / 200_000 - share) <= 0.005


def test_new_rows_move_no_old_ones_and_a_second_run_is_the_same() -> None:
    before = split_units(units(2_000), USUAL)
    after = split_units(units(3_000), USUAL)
    assert {unit: after[unit] for unit in before} == before
    assert split_units(units(2_000), USUAL) == before
    assert split_units(units(2_000, seed=1), USUAL) != before


def test_a_smaller_test_share_moves_rows_from_test_to_train_only() -> None:
    before = split_units(units(2_000), (0.65, 0.1, 0.25))
    after = split_units(units(2_000), (0.8, 0.1, 0.1))
    moves = {(before[unit], after[unit]) for unit in before if before[unit] != after[unit]}
    assert moves == {("test", "train")}


@pytest.mark.parametrize("n_units", [1, 2, 3, 5, 20])
def test_no_wanted_part_is_left_empty_where_there_are_enough_units(n_units: int) -> None:
    parts = split_units(units(n_units), USUAL)
    assert len(set(parts.values())) == min(3, n_units)
    assert "train" in parts.values()
    assert set(split_units(units(n_units), (1.0, 0.0, 0.0)).values()) == {"train"}
    assert split_units(units(0), USUAL) == {}


@pytest.mark.parametrize("n_units", [60, 400, 3_000])
def test_every_label_has_its_due_in_every_part(n_units: int) -> None:
    labels = ["rare" if unit % 10 == 0 else "often" for unit in range(n_units)]
    parts = split_units(units(n_units), USUAL, labels.__getitem__)
    for label in ("rare", "often"):
        own = [unit for unit in range(n_units) if labels[unit] == label]
        counts = Counter(parts[unit] for unit in own)
        for part, share in zip(PARTS[1:], USUAL[1:], strict=True):
            due = share * len(own)
            assert abs(counts[part] - due) <= max(1.0, 0.1 * due) + 1e-9


def test_large_units_are_not_moved_past_a_labels_due() -> None:
    members = {0: list(range(50)), **{unit: [49 + unit] for unit in range(1, 51)}}
    made = Units(members, {unit: str(unit) for unit in members}, 0)
    parts = split_units(made, USUAL, lambda _: "one")
    assert set(parts.values()) == set(PARTS)


def test_oldest_rows_train_and_newest_test() -> None:
    times = {unit: float(unit // 2) for unit in range(100)}
    parts = split_by_time(units(100), USUAL, times.__getitem__)
    newest = {part: max(times[u] for u in parts if parts[u] == part) for part in PARTS}
    oldest = {part: min(times[u] for u in parts if parts[u] == part) for part in PARTS}
    assert newest["train"] < oldest["validation"]
    assert newest["validation"] < oldest["test"]
    assert Counter(parts.values()) == {"train": 80, "validation": 10, "test": 10}
    assert split_by_time(units(0), USUAL, lambda _: 0.0) == {}


def test_every_unit_is_tested_in_just_one_fold() -> None:
    folds = fold_units(units(300), 5, 0.1)
    assert len(folds) == 5
    tested = Counter(unit for parts in folds for unit in parts if parts[unit] == "test")
    assert tested == dict.fromkeys(range(300), 1)
    for parts in folds:
        assert set(parts.values()) == set(PARTS)


@pytest.mark.parametrize("seed", range(8))
def test_folds_are_filled_where_there_are_as_many_units(seed: int) -> None:
    for n_units in (3, 5, 7):
        folds = fold_units(units(n_units, seed=seed), 3, 0.1)
        assert all("test" in parts.values() for parts in folds)
        assert all("train" in parts.values() for parts in folds)
    assert fold_units(units(0), 3, 0.1) == [{}, {}, {}]
    assert len(fold_units(units(1, seed=seed), 3, 0.1)) == 3


@given(
    sizes=st.lists(st.integers(1, 5), max_size=60),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 3),
    labelled=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_every_unit_gets_one_part_and_train_is_never_empty(
    sizes: list[int], cuts: tuple[float, float], seed: int, labelled: bool
) -> None:
    low, high = sorted(cuts)
    shares = (0.2 + 0.8 * low, 0.8 * (high - low), 0.8 * (1 - high))
    members = {unit: [0] * size for unit, size in enumerate(sizes)}
    made = Units(members, {unit: str(unit) for unit in members}, seed)
    parts = split_units(made, shares, (lambda unit: str(unit % 2)) if labelled else None)
    assert parts.keys() == members.keys()
    assert not sizes or "train" in parts.values()


@pytest.mark.parametrize(
    ("n_rows", "shares", "folds"),
    [
        (0, (1.0, 0.0, 0.0), None),
        (2, (1.0, 0.0, 0.0), None),
        (4, None, 4),
        (300, None, 5),
        (639, None, 5),
        (640, (0.65, 0.1, 0.25), None),
        (1_000, (0.725, 0.1, 0.175), None),
        (1_599, (0.775, 0.1, 0.125), None),
        (1_600, (0.8, 0.1, 0.1), None),
        (20_000, (0.8, 0.1, 0.1), None),
        (20_001, (1 - 2 / 11, 1 / 11, 1 / 11), None),
        (200_000, (0.98, 0.01, 0.01), None),
    ],
)
def test_auto_sizes_the_test_part_by_what_it_must_see(
    n_rows: int, shares: tuple[float, float, float] | None, folds: int | None
) -> None:
    sizes = sizes_for("auto", n_rows, n_rows, where="split")
    assert sizes.folds == folds
    assert sum(sizes.shares) == pytest.approx(1)
    assert sizes.why
    if shares is not None:
        assert sizes.shares == pytest.approx(shares)


def test_rows_split_by_time_are_never_folded() -> None:
    sizes = sizes_for("auto", 100, 100, where="split", foldable=False)
    assert (sizes.folds, sizes.shares) == (None, pytest.approx((0.65, 0.1, 0.25)))
    with pytest.raises(BadInputError, match="time_column"):
        sizes_for("kfold:3", 100, 100, where="split", foldable=False)


@pytest.mark.parametrize(
    "split", [[0.8, 0.1, 0.1], "0.8,0.1,0.1", "[.8, .1, .1]", [1, 0, 0], "kfold:4"]
)
def test_shares_and_folds_can_be_given_as_list_or_text(split: str | list[float]) -> None:
    assert sum(sizes_for(split, 100, 100, where="split").shares) == pytest.approx(1)


@pytest.mark.parametrize(
    "split",
    [
        "", "random", "kfold:1", "kfold:0", "kfold:101", "kfold:x", [0.8, 0.2], [0.8, 0.3, 0.1],
        [0, 0.5, 0.5], [1.2, -0.1, -0.1], [float("nan"), 0.1, 0.1], "0.8,0.1", "80,10,10",
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_is_refused_with_a_next_step(split: str | list[float]) -> None:
    with pytest.raises(BadInputError, match="expected") as error:
        sizes_for(split, 100, 100, where="prepare_data: split")
    assert str(error.value).startswith("prepare_data: split: ")


def test_places_spread_evenly_and_depend_on_name_and_seed_only() -> None:
    places = [place_of(str(number), 3) for number in range(5_000)]
    assert abs(sum(places) / 5_000 - 0.5) < 0.02
    assert place_of("x", 3) == place_of("x", 3) != place_of("x", 4)
