"""How long ``assess_fit`` takes: its first call in a fresh process, and those after it.

Run: ``python benchmarks/assess_fit.py [--quick]``. Each round starts a new interpreter, imports
what a started server has imported, and times the calls in CPU milliseconds; sockets are refused
throughout. Reach: the median of the first calls is at most 50 ms, and no call opens a socket. The
same is printed, not judged, for a program that has imported nothing but the function: its first
call also imports what the answer needs. Exit code 1 below reach. Nobody else offers such a call,
so there is no peer; one question of each kind is asked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

REACH_MS = 50.0
ROUNDS = 9
CASES: dict[str, dict[str, object]] = {
    "nothing known": {},
    "classifier without an eval": {
        "task_kind": "classification",
        "failure_modes": ["inconsistency"],
        "has_eval": False,
        "prompt_score": 0.86,
        "target_score": 0.95,
        "n_examples": 300,
        "prompts_tried": ["zero_shot"],
    },
    "cost at volume": {
        "task_kind": "extraction",
        "has_eval": True,
        "quality_ok": True,
        "failure_modes": ["cost"],
        "requests_per_month": 20_000_000,
        "tokens_in": 900,
        "tokens_out": 120,
        "price_in_usd_per_mtok": "2.50",
        "price_out_usd_per_mtok": "10",
        "cheap_base_score": 0.74,
        "target_score": 0.92,
        "n_teacher_outputs": 60_000,
    },
    "closing provider": {
        "task_kind": "extraction",
        "has_eval": True,
        "failure_modes": ["inconsistency"],
        "prompt_score": 0.86,
        "target_score": 0.94,
        "prompts_tried": ["few_shot", "prompt_optimiser"],
        "n_examples": 3_000,
        "label_agreement": 0.95,
        "provider": "openai",
        "provider_customer": "new",
        "provider_model": "gpt-4.1-mini-2025-04-14",
    },
}
CHILD = """
import json, socket, sys, time
if sys.argv[2] == "server":
    from finetuning_skill import dispatch, server
    tools = [server.wire_tool(name) for name in dispatch.TOOLS]
from finetuning.fit import assess_fit
class Refused(socket.socket):
    def __init__(self, *a, **k):
        raise SystemExit("assess_fit opened a socket")
socket.socket = Refused
facts = {"as_of": "2026-11-20", **json.loads(sys.argv[1])}
times = []
for _ in range(4):
    start = time.process_time()
    assess_fit(facts)
    times.append((time.process_time() - start) * 1000)
print(json.dumps(times))
"""


def measure(facts: dict[str, object], where: str) -> list[float]:
    """Return the CPU milliseconds of four calls in a fresh process."""
    command = [sys.executable, "-c", CHILD, json.dumps(facts), where]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in json.loads(done.stdout)]


def main() -> int:
    """Print the medians of each case; 0 when the reach is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two cases, one round, no judging")
    quick = parser.parse_args().quick
    worst = 0.0
    for name, facts in list(CASES.items())[: 2 if quick else None]:
        rounds = [measure(facts, "server") for _ in range(1 if quick else ROUNDS)]
        alone = [measure(facts, "library") for _ in range(1 if quick else ROUNDS)]
        first = statistics.median(times[0] for times in rounds)
        later = statistics.median(statistics.median(times[1:]) for times in rounds)
        library = statistics.median(times[0] for times in alone)
        worst = max(worst, first)
        print(
            f"{name}: first call {first:.1f} ms, later calls {later:.1f} ms; "
            f"first call of a bare program {library:.1f} ms (CPU, medians)"
        )
    print(f"slowest first call {worst:.1f} ms; reach {REACH_MS:.0f} ms; no socket was opened")
    return 0 if quick or worst <= REACH_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
