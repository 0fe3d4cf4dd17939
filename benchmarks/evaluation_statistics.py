"""The statistics behind a verdict: coverage, false alarms, agreement, power and speed.

Run: ``python benchmarks/evaluation_statistics.py [--quick]``. Data are drawn here, seeded; the
code under test sees scores alone. The peer of the timing is scipy.stats.bootstrap (percentile,
10,000 resamples of the same differences, in the same process); without scipy that line is skipped
and said so. Prints every figure with its reach; exits 1 when one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from finetuning.statistics import compare_paired, holm, mcnemar_p, paired_share_interval

COVERAGE, FALSE_ALARMS, POWER = (0.945, 0.985), 0.057, 0.80
SECONDS_OF_TEN, MS_OF_ONE, IMPORT_SECONDS, TIMES_SCIPY = 1.0, 5.0, 0.3, 100.0
ROWS = 10_000


class Judge:
    """Prints figures beside their reach and remembers whether one was missed."""

    def __init__(self) -> None:
        """Start with nothing missed."""
        self.missed = 0

    def show(self, what: str, figure: str, good: bool, reach: str) -> None:
        """Print one line."""
        self.missed += not good
        print(f"{what:<58} {figure:>14}   reach {reach}{'' if good else '   BELOW REACH'}")


def excludes_zero(ends: tuple[float, float]) -> bool:
    """Tell whether an interval leaves out zero."""
    return ends[0] > 0 or ends[1] < 0


def coverage(judge: Judge, draws: int) -> None:
    """Count how often the 95 % interval of paired shares holds the true difference."""
    for up, down in ((0.10, 0.03), (0.05, 0.05), (0.30, 0.10)):
        for n in (20, 50, 100, 300):
            generator = np.random.default_rng(1000 * n + int(100 * up))
            tables = generator.multinomial(n, (up, down, 1 - up - down), size=draws)
            ends = [paired_share_interval(int(a), int(b), n) for a, b, _ in tables]
            held = statistics.fmean(low <= up - down <= high for low, high in ends)
            judge.show(
                f"coverage, n = {n}, wins {up:.0%}, losses {down:.0%}",
                f"{held:.3f}",
                COVERAGE[0] <= held <= COVERAGE[1] or ((up, down) != (0.10, 0.03) and held >= 0.93),
                ".945-.985" if (up, down) == (0.10, 0.03) else ">= .93 (beside the issue's case)",
            )


def _one_binary(generator: np.random.Generator) -> float:
    truth = generator.random(200) < 0.7
    flips = generator.random((2, 200)) < 0.1
    base, tuned = ((truth ^ flip).astype(float) for flip in flips)
    return compare_paired(base.tolist(), tuned.tolist()).p


def _one_clustered(generator: np.random.Generator) -> float:
    sizes = generator.integers(1, 9, size=40)
    names = [str(k) for k, size in enumerate(sizes) for _ in range(size)]
    shift = np.repeat(generator.normal(0, 0.5, size=40), sizes)
    noise = generator.normal(0, 1, size=len(names))
    return compare_paired([0.0] * len(names), (shift + noise).tolist(), clusters=names).p


def _eight_metrics(generator: np.random.Generator) -> float:
    common = generator.normal(size=150)
    values: list[float] = []
    for k in range(8):
        if k % 2:
            base = (common + generator.normal(size=150) > 0).astype(float)
            tuned = (common + generator.normal(size=150) > 0).astype(float)
        else:
            base, tuned = (common + generator.normal(size=150) for _ in range(2))
        values.append(compare_paired(base.tolist(), tuned.tolist(), seed=k).p)
    return min(holm(values))


def false_alarms(judge: Judge, runs: int) -> None:
    """Compare two equal models many times: how often is a difference claimed?"""
    kinds: tuple[tuple[str, Callable[[np.random.Generator], float], int], ...] = (
        ("binary, n = 200", _one_binary, runs),
        ("40 clusters of 1 to 8 rows", _one_clustered, runs),
        ("Holm over 8 metrics, n = 150", _eight_metrics, runs),
    )
    for name, draw, times in kinds:
        generator = np.random.default_rng(len(name))
        found = statistics.fmean(draw(generator) < 0.05 for _ in range(times))
        slack = 0.0 if times >= 5000 else 2.6 * (0.05 * 0.95 / times) ** 0.5
        judge.show(
            f"false alarms, {name}, {times} A/A runs",
            f"{found:.4f}",
            found <= FALSE_ALARMS + slack,
            f"<= {FALSE_ALARMS}",
        )


def agreement(judge: Judge, tables: int) -> None:
    """Compare interval and p-value on random tables."""
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(tables):
        n = int(generator.integers(5, 501))
        wins, losses, _ = (int(x) for x in generator.multinomial(n, generator.dirichlet((1, 1, 2))))
        ends = paired_share_interval(wins, losses, n)
        wrong += excludes_zero(ends) != (mcnemar_p(wins, losses) < 0.05)
    judge.show(f"interval against p, {tables} tables, disagreeing", str(wrong), wrong == 0, "0")
    flat = [paired_share_interval(0, 0, n) for n in (5, 50, 500)]
    judge.show(
        "narrowest interval without a discordant pair",
        f"{min(high - low for low, high in flat):.4f}",
        all(low < 0 < high for low, high in flat),
        "> 0",
    )


def gate(judge: Judge, runs: int) -> None:
    """Find a regression of 5 points among 1,000 rows, and none where there is none."""
    generator = np.random.default_rng(5)
    for drop, what in ((0.05, "a 5-point regression found"), (0.0, "false alarms of the gate")):
        worse = 0
        for _ in range(runs):
            up, down = 0.05 - drop / 2, 0.05 + drop / 2
            wins, losses, _ = (int(x) for x in generator.multinomial(1000, (up, down, 0.9)))
            _, high = paired_share_interval(wins, losses, 1000)
            worse += high < 0
        share = worse / runs
        good = share >= POWER if drop else share <= 0.05
        reach = f">= {POWER}" if drop else "<= .05"
        judge.show(f"{what}, n = 1,000, {runs} runs", f"{share:.3f}", good, reach)


def speed(judge: Judge, repeats: int, resamples: int) -> None:
    """Time ours and scipy's bootstrap on the same differences, in turn."""
    generator = np.random.default_rng(3)
    base = [generator.random(ROWS).tolist() for _ in range(10)]
    tuned = [(np.asarray(side) + generator.normal(0.01, 0.1, ROWS)).tolist() for side in base]
    binary = [(generator.random(ROWS) < 0.8).astype(float).tolist() for _ in range(2)]
    ten: list[float] = []
    one: list[float] = []
    few: list[float] = []
    for _ in range(repeats):
        began = time.process_time()
        for k in range(10):
            compare_paired(base[k], tuned[k], seed=k)
        ten.append(time.process_time() - began)
        began = time.process_time()
        compare_paired(*binary)
        one.append(1000 * (time.process_time() - began))
        began = time.process_time()
        compare_paired(base[0], tuned[0])
        few.append(time.process_time() - began)
    took = statistics.median(ten)
    judge.show(
        f"10 metrics, n = {ROWS}, 9,999 draws each, s",
        f"{took:.3f}",
        took <= SECONDS_OF_TEN,
        "<= 1",
    )
    took = statistics.median(one)
    judge.show(f"one binary metric, n = {ROWS}, ms", f"{took:.2f}", took <= MS_OF_ONE, "<= 5")
    ours = (took / 1000, statistics.median(few))
    _against_scipy(judge, binary, (max(1, repeats // 4), resamples), ours)


def _mean_difference(first: Any, second: Any, axis: int = -1) -> Any:
    return np.mean(second - first, axis=axis)


def _against_scipy(
    judge: Judge, binary: list[list[float]], size: tuple[int, int], ours: tuple[float, float]
) -> None:
    if importlib.util.find_spec("scipy") is None:
        print("scipy is not installed: the ratio to its bootstrap was not measured")
        return
    stats: Any = importlib.import_module("scipy.stats")

    sides = tuple(np.asarray(side) for side in binary)
    took: dict[str, list[float]] = {"paired": [], "differences": []}
    for _ in range(size[0]):
        began = time.process_time()
        stats.bootstrap(
            sides, _mean_difference, paired=True, vectorized=True,
            n_resamples=size[1], batch=500, method="percentile",
        )  # fmt: skip
        took["paired"].append(time.process_time() - began)
        began = time.process_time()
        stats.bootstrap(
            (sides[1] - sides[0],), np.mean, n_resamples=size[1], batch=500, method="percentile"
        )
        took["differences"].append(time.process_time() - began)
    for name, seconds in took.items():
        scipys = statistics.median(seconds)
        ratio = scipys / ours[0]
        judge.show(
            f"scipy's bootstrap ({name}) {scipys:.2f} s against ours, binary",
            f"{ratio:.0f}x",
            ratio >= TIMES_SCIPY,
            f">= {TIMES_SCIPY:.0f}x",
        )
    ratio = statistics.median(took["paired"]) / ours[1]
    print(f"{'the same against ours on scores of any size':<58} {ratio:>13.0f}x   reported")


def imports(judge: Judge) -> None:
    """Time the import in fresh processes and look for what it must not load."""
    code = (
        "import sys, time; began = time.perf_counter(); import finetuning.statistics; import numpy;"
        "print(time.perf_counter() - began, sorted({'scipy', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(7)]
    took = statistics.median(float(run.stdout.split()[0]) for run in runs)
    judge.show(
        "importing the module and numpy, s",
        f"{took:.3f}",
        took <= IMPORT_SECONDS and runs[0].stdout.split(maxsplit=1)[1].strip() == "[]",
        "<= .3, no scipy, no torch",
    )


def main() -> int:
    """Print every figure; return 1 when a reach is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws: shows that it runs")
    quick = parser.parse_args().quick
    judge = Judge()
    coverage(judge, 400 if quick else 4_000)
    agreement(judge, 500 if quick else 10_000)
    gate(judge, 200 if quick else 4_000)
    false_alarms(judge, 60 if quick else 5_000)
    speed(judge, 1 if quick else 8, 200 if quick else 10_000)
    imports(judge)
    return int(judge.missed > 0 and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
