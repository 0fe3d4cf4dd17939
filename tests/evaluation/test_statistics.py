"""Paired comparisons: the interval, the p-value and the sample size agree with each other."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.errors import BadInputError
from finetuning.statistics import (
    PairedComparison,
    compare_paired,
    holm,
    mcnemar_p,
    paired_share_interval,
    rows_needed,
    smallest_detectable_difference,
    wilson_interval,
)


def table(wins: int, losses: int, ties: int) -> tuple[list[float], list[float]]:
    base = [0.0] * wins + [1.0] * losses + [1.0] * ties
    tuned = [1.0] * wins + [0.0] * losses + [1.0] * ties
    return base, tuned


def excludes_zero(ends: tuple[float, float]) -> bool:
    return ends[0] > 0 or ends[1] < 0


def agree(result: PairedComparison) -> bool:
    return excludes_zero(result.ci95) == (result.p < 0.05) and excludes_zero(result.ci) == (
        result.p < result.alpha
    )


def test_mcnemar_equals_the_binomial_sum_on_known_tables() -> None:
    assert mcnemar_p(4, 0) == pytest.approx(0.125)  # 10 of 10 against 6 of 10
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(12, 5) == pytest.approx(2 * sum(math.comb(17, k) for k in range(6)) / 2**17)
    assert mcnemar_p(5, 5) == 1.0


def test_ten_of_ten_against_six_of_ten_is_not_a_win() -> None:
    result = compare_paired(*table(4, 0, 6))
    assert result.p == pytest.approx(0.125)
    assert result.ci95[0] <= 0 < result.ci95[1]
    assert (result.wins, result.ties, result.losses) == (4, 6, 0)


def test_random_tables_never_give_an_interval_that_disagrees_with_p() -> None:
    generator = np.random.default_rng(7)
    for _ in range(10_000):
        n = int(generator.integers(5, 501))
        wins, losses, _ = generator.multinomial(n, generator.dirichlet((0.5, 0.5, 1.0)))
        p = mcnemar_p(int(wins), int(losses))
        for alpha in (0.05, 0.1):
            ends = paired_share_interval(int(wins), int(losses), n, alpha)
            assert excludes_zero(ends) == (p < alpha), (n, wins, losses, ends, p)
            assert -1 <= ends[0] <= (wins - losses) / n <= ends[1] <= 1


def test_no_discordant_pair_still_gives_an_interval_with_width() -> None:
    for n in (1, 5, 50, 500):
        low, high = compare_paired(*table(0, 0, n)).ci95
        assert low < 0 < high
        assert high - low > 1 / n


@pytest.mark.parametrize("n", [20, 50, 100, 300])
def test_the_interval_of_paired_shares_covers_the_truth_as_often_as_it_says(n: int) -> None:
    generator = np.random.default_rng(0)
    draws = generator.multinomial(n, (0.10, 0.03, 0.87), size=4_000)
    covered = 0
    for wins, losses, _ in draws:
        low, high = paired_share_interval(int(wins), int(losses), n)
        covered += low <= 0.07 <= high
    assert 0.945 <= covered / 4_000 <= 0.985


def test_the_sign_flip_interval_covers_the_truth_and_rejects_no_more_than_it_may() -> None:
    generator = np.random.default_rng(3)
    covered = rejected = 0
    for seed in range(300):
        shifted = generator.normal(0.3, 1.0, 25)
        result = compare_paired([0.0] * 25, list(map(float, shifted)), seed=seed)
        covered += result.ci95[0] <= 0.3 <= result.ci95[1]
        null = generator.normal(0.0, 1.0, 25)
        rejected += compare_paired([0.0] * 25, list(map(float, null)), seed=seed).p < 0.05
    assert 0.92 <= covered / 300 <= 0.98
    assert rejected / 300 <= 0.085


def test_rows_of_one_cluster_count_as_one_observation() -> None:
    generator = np.random.default_rng(5)
    rejected = naive = 0
    for seed in range(200):
        effects = np.repeat(generator.normal(0, 1, 20), 10) + generator.normal(0, 0.3, 200)
        tuned = list(map(float, effects))
        names = [str(k // 10) for k in range(200)]
        clustered = compare_paired([0.0] * 200, tuned, clusters=names, seed=seed)
        assert clustered.clusters == 20
        assert agree(clustered)
        rejected += clustered.p < 0.05
        naive += compare_paired([0.0] * 200, tuned, seed=seed).p < 0.05
    assert rejected / 200 <= 0.09
    assert naive / 200 > 0.3  # what the cluster column protects from


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.floats(-100, 100, allow_nan=False), st.floats(-100, 100, allow_nan=False)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0.01, 0.05, 0.1, 0.2]),
    st.booleans(),
)
def test_any_scores_give_a_finite_interval_that_agrees_with_p(
    pairs: list[tuple[float, float]], alpha: float, grouped: bool
) -> None:
    base, tuned = [a for a, _ in pairs], [b for _, b in pairs]
    names = [str(k // 3) for k in range(len(pairs))] if grouped else None
    result = compare_paired(base, tuned, alpha=alpha, clusters=names)
    assert agree(result)
    assert all(map(math.isfinite, (*result.ci95, *result.ci, result.mde)))
    assert 0 < result.p <= 1
    assert result.wins + result.ties + result.losses == result.n


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_swapping_the_sides_mirrors_the_answer(pairs: list[tuple[bool, bool]]) -> None:
    base, tuned = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    one, other = compare_paired(base, tuned), compare_paired(tuned, base)
    assert one.p == other.p
    assert one.diff == pytest.approx(-other.diff)
    assert one.ci95 == pytest.approx((-other.ci95[1], -other.ci95[0]))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_so_few_rows_that_nothing_can_be_shown_say_so(n: int) -> None:
    result = compare_paired([0.2] * n, [0.9 - 0.01 * k for k in range(n)])
    assert result.p > 0.05
    assert result.ci95[0] <= 0 < result.ci95[1]
    assert result.mde > 0
    assert result.n_needed is None or result.n_needed >= 6


def test_a_constant_difference_over_many_rows_is_found_and_has_width() -> None:
    result = compare_paired([0.5] * 40, [0.6] * 40)
    assert result.p < 0.05
    assert 0 < result.ci95[0] < 0.1 < result.ci95[1]
    assert result.method == "sign_flip"


def test_few_units_are_enumerated_and_the_p_value_is_exact() -> None:
    result = compare_paired([0.0] * 6, [1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
    assert result.p == pytest.approx(2 / 64)
    assert result.method == "sign_flip_exact"
    assert result.ci95[0] > 0


def test_many_rows_use_the_normal_limit_and_find_the_same_answer() -> None:
    generator = np.random.default_rng(2)
    diffs = generator.normal(0.05, 1.0, 4_000)
    result = compare_paired([0.0] * 4_000, list(map(float, diffs)))
    error = float(diffs.std(ddof=1)) / math.sqrt(4_000)
    assert result.ci95[0] == pytest.approx(float(diffs.mean()) - 1.96 * error, abs=0.15 * error)
    assert result.ci95[1] == pytest.approx(float(diffs.mean()) + 1.96 * error, abs=0.15 * error)
    assert agree(result)


def test_the_same_seed_gives_the_same_answer() -> None:
    base, tuned = [0.1 * k for k in range(30)], [0.1 * k + 0.01 * (k % 7) for k in range(30)]
    assert compare_paired(base, tuned, seed=4) == compare_paired(base, tuned, seed=4)


@pytest.mark.parametrize(
    ("effect", "discordance", "rows"),
    [(0.05, 0.1, 312), (0.05, 0.2, 626), (0.05, 0.3, 940), (0.1, 0.2, 155), (0.02, 0.1, 1960)],
)
def test_rows_needed_equal_the_published_power_table(
    effect: float, discordance: float, rows: int
) -> None:
    assert rows_needed(effect, discordance) == rows


@pytest.mark.parametrize(("n", "points"), [(50, 17.4), (100, 12.4), (200, 8.9), (500, 5.6)])
def test_the_smallest_detectable_difference_equals_the_measured_table(
    n: int, points: float
) -> None:
    assert math.ceil(1000 * smallest_detectable_difference(n)) / 10 == points


def test_the_smallest_detectable_difference_is_one_where_nothing_can_be_seen() -> None:
    assert smallest_detectable_difference(0) == 1.0
    assert smallest_detectable_difference(3) == pytest.approx(1.0)
    assert 0.2 < smallest_detectable_difference(20) < 1.0


def test_no_difference_needs_no_finite_number_of_rows() -> None:
    assert rows_needed(0.0, 0.2) is None
    assert compare_paired([1.0, 0.0], [1.0, 0.0]).n_needed is None
    assert compare_paired([1.0, 0.0] * 9, [1.0, 0.0] * 9, smallest_effect=0.05).n_needed == 155


def test_holm_keeps_order_and_never_lowers_a_p_value() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_stays_in_range(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw <= new <= 1
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    assert [adjusted[k] for k in order] == sorted(adjusted)


def test_wilson_is_sound_at_the_borders() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson_interval(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    low, high = wilson_interval(40, 100)
    assert (low, high) == (pytest.approx(0.3094, abs=1e-4), pytest.approx(0.4980, abs=1e-4))


@pytest.mark.parametrize(
    ("base", "tuned", "options", "named"),
    [
        ([1.0], [1.0, 0.0], {}, "1 base scores, 2 tuned"),
        ([], [], {}, "at least 1"),
        ([math.nan], [1.0], {}, "NaN"),
        ([1.0], [math.inf], {}, "infinite"),
        ([1.0], [1.0], {"alpha": 0.0}, "alpha=0.0"),
        ([1.0], [1.0], {"clusters": []}, "0 cluster names"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(
    base: Sequence[float],
    tuned: Sequence[float],
    options: dict[str, float],
    named: str,
) -> None:
    with pytest.raises(BadInputError, match=named):
        compare_paired(base, tuned, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(BadInputError, match="n=-1"):
        smallest_detectable_difference(-1)
    with pytest.raises(BadInputError, match="5 of 3"):
        wilson_interval(5, 3)


def test_importing_the_package_loads_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, finetuning.statistics as s; print({'numpy','torch','scipy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "set()"


def test_mcnemar_equals_exact_fractions_and_stays_fast_for_many_rows() -> None:
    for wins, losses in ((0, 7), (3, 40), (57, 60), (400, 460)):
        total, fewer = wins + losses, min(wins, losses)
        whole = Fraction(sum(math.comb(total, k) for k in range(fewer + 1)), 2**total)
        assert mcnemar_p(wins, losses) == pytest.approx(min(1.0, float(2 * whole)), rel=1e-10)


def test_the_benchmark_of_the_statistics_runs() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "evaluation_statistics.py"
    run = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True
    )
    agreement = next(line for line in run.stdout.splitlines() if "disagreeing" in line)
    assert agreement.split()[-3:] == ["0", "reach", "0"]
    assert run.stdout.count("reach") >= 20
