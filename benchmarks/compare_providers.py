"""``compare_providers``: milliseconds of a call, first and repeated, and no socket.

Run: ``python benchmarks/compare_providers.py [--quick]``. Each run starts a fresh process, opens
no socket (an audit hook ends it otherwise), and times the first call (catalogue parsed, modules
imported from compiled files, as installed ones are) and repeated calls with a workload over every
provider. There is no peer to run beside it: no public tool prices providers offline (costs.md,
checked 2026-11-20); parsing the same files with ``tomli`` alone is printed as the floor. Exits
1 when the median repeated call takes more than 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

REACH_MS = 50.0
CHILD = """
import json, sys, time
from pathlib import Path

def guard(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"a socket was used: {event}")

sys.addaudithook(guard)
from finetuning.providers import compare_providers
import tomli
import finetuning.providers.catalogue as catalogue

repeats = int(sys.argv[1])
texts = [path.read_text("utf-8") for path in sorted(Path(catalogue.__file__).parent.glob("*.toml"))]
started = time.perf_counter()
for text in texts:
    tomli.loads(text)
floor = time.perf_counter() - started
work = {"training_tokens": 2_000_000, "requests_per_month": 100_000, "tokens_in": 800,
        "tokens_out": 200}

def call(number):
    wanted = {"method": ("sft", "dpo")[number % 2], "customer": "new"}
    started = time.perf_counter()
    result = compare_providers(wanted, workload=work, as_of="2026-11-20")
    return (time.perf_counter() - started) * 1000, result.total

first, total = call(0)
again = [call(0)[0] for _ in range(repeats)]
print(json.dumps({"floor": floor * 1000, "first": first, "again": again, "options": total}))
"""


def measure(repeats: int) -> dict[str, object]:
    """Return milliseconds of one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(repeats)],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def main() -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="One run, no reach judged.")
    quick = parser.parse_args().quick
    runs = [measure(3 if quick else 30) for _ in range(1 if quick else 7)]
    first = statistics.median(float(str(run["first"])) for run in runs)
    floor = statistics.median(float(str(run["floor"])) for run in runs)
    again = [value for run in runs for value in json.loads(json.dumps(run["again"]))]
    middle = statistics.median(again)
    print(f"options priced: {runs[0]['options']}")
    print(f"first call of a process: {first:.1f} ms (of it, parsing TOML: {floor:.1f} ms)")
    print(f"repeated call: median {middle:.1f} ms, worst {max(again):.1f} ms; reach {REACH_MS} ms")
    return 0 if quick or middle <= REACH_MS else 1


if __name__ == "__main__":
    sys.exit(main())
