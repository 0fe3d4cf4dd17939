"""10,000 draws of a break-even: ours against the script that an assistant would write.

Run: ``python benchmarks/cost_draws.py [--runs 9] [--quick]``. Both answer the same question (months
to break-even, P10, P50, P90, share within the horizon, net present value) from the same numbers,
in turn: first inside one process, where the peer loops in plain Python, and again with numpy
already imported; then each in a fresh process, imports included, where numpy's import counts.
Also timed: the whole ``estimate_cost`` with every alternative, the page and the chart, and that it
loads no numpy. Prints medians of CPU time and the ratios; exits 1 above the reach: 150 ms for the
draws, 1.0 times the loop, or numpy loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

REACH_MS = 150.0
DRAWS = 10_000
NUMBERS = {
    "training": 50.0, "cycles": 3, "labour": 5000.0, "requests": 400_000.0, "now": 0.0045,
    "tuned": 0.00015, "fixed": 900.0, "horizon": 24, "first": 15, "every": 15, "rate": 0.10,
}  # fmt: skip

LOOP = """
import json, random, sys
n = json.loads(sys.argv[1])
def simulate(seed=0, draws=10_000):
    rng = random.Random(seed)
    months, values = [], []
    for _ in range(draws):
        traffic = rng.triangular(0.6, 1.6, 1.0)
        serving = rng.triangular(0.85, 1.25, 1.0)
        training = n["training"] * n["cycles"] * rng.triangular(0.8, 1.4, 1.0)
        labour = n["labour"] * rng.triangular(0.7, 1.6, 1.0)
        one_off = training + labour
        saving = traffic * n["requests"] * (n["now"] - serving * n["tuned"]) - serving * n["fixed"]
        gained, paid, value = -one_off, None, -one_off
        for month in range(1, 121):
            gained += saving
            if month >= n["first"] and (month - n["first"]) % n["every"] == 0:
                gained -= one_off / n["cycles"]
                if month <= n["horizon"]:
                    value -= one_off / n["cycles"] / (1 + n["rate"]) ** (month / 12)
            if month <= n["horizon"]:
                value += saving / (1 + n["rate"]) ** (month / 12)
            if paid is None and gained >= 0:
                paid = month
            if paid is not None and month >= n["horizon"]:
                break
        months.append(paid if paid is not None else float("inf"))
        values.append(value)
    months.sort()
    values.sort()
    pick = lambda xs: [xs[int(q * (draws - 1))] for q in (0.1, 0.5, 0.9)]
    return pick(months), sum(m <= n["horizon"] for m in months) / draws, pick(values)
"""
VECTORS = """
import json, sys
import numpy as np
n = json.loads(sys.argv[1])
def simulate(seed=0, draws=10_000):
    rng = np.random.default_rng(seed)
    traffic = rng.triangular(0.6, 1.0, 1.6, draws)
    serving = rng.triangular(0.85, 1.0, 1.25, draws)
    training = n["training"] * n["cycles"] * rng.triangular(0.8, 1.0, 1.4, draws)
    one_off = training + n["labour"] * rng.triangular(0.7, 1.0, 1.6, draws)
    saving = traffic * n["requests"] * (n["now"] - serving * n["tuned"]) - serving * n["fixed"]
    month = np.arange(1, 121)
    due = (month >= n["first"]) & ((month - n["first"]) % n["every"] == 0)
    again = one_off[:, None] / n["cycles"] * np.cumsum(due)
    gained = -one_off[:, None] + saving[:, None] * month - again
    paid = np.where((gained >= 0).any(axis=1), (gained >= 0).argmax(axis=1) + 1, np.inf)
    worth = (1 + n["rate"]) ** (-month[: n["horizon"]] / 12)
    value = saving * worth.sum() - one_off * (1 + (worth * due[: n["horizon"]]).sum() / n["cycles"])
    quantiles = [0.1, 0.5, 0.9]
    return (
        np.quantile(paid, quantiles).tolist(), float((paid <= n["horizon"]).mean()),
        np.quantile(value, quantiles).tolist(),
    )
"""
OURS = """
import json, sys
from decimal import Decimal
from finetuning.costs.economics import Case, Spread
from finetuning.costs.payback import draw_outcomes, months_percentiles, share_within
n = json.loads(sys.argv[1])
case = Case(
    training=Decimal(n["training"]), training_spread=Spread(Decimal("0.8"), Decimal("1.4")),
    cycles=n["cycles"], labour=Decimal(n["labour"]), requests=Decimal(n["requests"]),
    now_request=Decimal(str(n["now"])), tuned_request=Decimal(str(n["tuned"])),
    tuned_fixed=Decimal(n["fixed"]), horizon=n["horizon"], rate=Decimal(str(n["rate"])),
    retrain_first=n["first"], retrain_every=n["every"],
)
def simulate(seed=0):
    draws = draw_outcomes(case, seed)
    months, value = months_percentiles(draws.months), draws.net_present_values()
    assert months is not None
    return (
        [float(m) if m is not None else float("inf") for m in (months.p10, months.p50, months.p90)],
        share_within(draws.months, case.horizon),
        [float(value.p10), float(value.p50), float(value.p90)],
    )
"""
TIMED = """
import time
from finetuning.costs import payback
spent = []
for seed in range(int(sys.argv[2])):
    started = time.process_time()
    answer = simulate(seed)
    spent.append((time.process_time() - started) * 1000)
print(json.dumps([sorted(spent)[len(spent) // 2], max(spent), answer]))
"""
WHOLE = """
import json, sys, time
from finetuning.costs import estimate_cost
def ask(seed):
    return estimate_cost(
        "together", "Qwen/Qwen3.5-9B", "sft", training_tokens=2_000_000, as_of="2026-11-20",
        serving={"requests_per_month": 1_000_000, "tokens_in": 300, "tokens_out": 150},
        current={"model": "gpt-6-luna", "tokens_in": 1500, "tokens_out": 150}, seed=seed,
    )
ask(0)
spent = []
for seed in range(1, int(sys.argv[2]) + 1):
    started = time.process_time()
    ask(seed)
    spent.append((time.process_time() - started) * 1000)
print(json.dumps([sorted(spent)[len(spent) // 2], "numpy" in sys.modules]))
"""


def run(source: str, runs: int) -> list[object]:
    """Run a script in a fresh process and return what it prints as JSON."""
    argv = [sys.executable, "-c", source, json.dumps(NUMBERS), str(runs)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    answer: list[object] = json.loads(done.stdout)
    return answer


def fresh(source: str, runs: int) -> float:
    """Return the median seconds of CPU of whole processes, imports included, in milliseconds."""
    spent: list[float] = []
    for _ in range(runs):
        before = os.times()
        run(source + "\nprint(json.dumps(simulate()))", 1)
        after = os.times()
        spent.append((after[2] + after[3] - before[2] - before[3]) * 1000)
    return statistics.median(spent)


def in_turn(
    runs: int, measure: Callable[[str], float], sources: dict[str, str]
) -> dict[str, float]:
    """Measure each source in turn, several times over, and return the medians."""
    found: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(runs):
        for name, source in sources.items():
            found[name].append(measure(source))
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> int:
    """Print every figure; return 1 when one is below its reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="One run each; no reach is judged.")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    sources = {"ours": OURS, "loop": LOOP, "numpy": VECTORS}
    answers: dict[str, object] = {}

    def inside(source: str) -> float:
        median, _, answer = run(source + TIMED, 3)
        answers[source] = answer
        assert isinstance(median, float)
        return median

    draws = in_turn(runs, inside, sources)
    whole = in_turn(runs, lambda source: fresh(source, 1), sources)
    with tempfile.TemporaryDirectory() as home:
        os.environ["FINE_TUNING_HOME"] = home
        tool, numpy_loaded = run(WHOLE, max(3, runs))
    for name, source in sources.items():
        print(f"{name:>5}: {draws[name]:8.1f} ms for {DRAWS:,} draws, {whole[name]:7.0f} ms as a "
              f"process; months, share, value: {answers[source]}")  # fmt: skip
    print(f"draws: {draws['loop'] / draws['ours']:.1f} times as fast as the loop (reach 1.0), "
          f"{draws['numpy'] / draws['ours']:.2f} times numpy with its import free; "
          f"{draws['ours']:.1f} ms (reach {REACH_MS:.0f})")  # fmt: skip
    print(f"process: {whole['loop'] / whole['ours']:.2f} times as fast as the loop, "
          f"{whole['numpy'] / whole['ours']:.2f} times as numpy")  # fmt: skip
    print(f"estimate_cost with its page: {tool:.1f} ms; numpy loaded: {numpy_loaded}")
    good = draws["ours"] <= REACH_MS and draws["loop"] >= draws["ours"] and not numpy_loaded
    return 0 if good or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
