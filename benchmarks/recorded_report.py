"""From 1,000 recorded answers of both sides to the page: a fresh process, no network, no key.

Run: ``python benchmarks/recorded_report.py [--quick]``. The rows are drawn here, seeded: prompts,
references, answers with likelihoods, half of them wrong in one word. The child may open no socket
(an attempt ends it). Prints the median of 5 whole processes, start included, and the page's size;
exits 1 above 3 seconds or 300 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REACH_SECONDS, REACH_BYTES = 3.0, 300_000

CHILD = """
import socket, sys
def refuse(*_, **__): raise SystemExit("a socket was opened")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from finetuning.evaluation import compare_eval
folder = sys.argv[1]
result = compare_eval(
    f"{folder}/data.jsonl", f"recorded:{folder}/base.jsonl", f"recorded:{folder}/tuned.jsonl",
    train=f"{folder}/train.jsonl", output_dir=f"{folder}/out",
)
print(result.verdict, result.report_file)
"""


def write_rows(folder: Path, count: int) -> None:
    """Write data, training rows and both sides' answers."""
    draw = random.Random(11)
    rows: list[dict[str, object]] = [
        {
            "id": k,
            "prompt": f"Where is parcel {k}, sent on day {draw.randrange(365)}?",
            "completion": f"Parcel {k} is in {draw.choice(['Leeds', 'York', 'Bath'])} and arrives"
            f" in {draw.randrange(2, 9)} days by {draw.choice(['van', 'train', 'bicycle'])}.",
        }
        for k in range(2 * count)
    ]
    sides = (
        ("base", 0.4, 1.5, "I do not know where it is."),
        ("tuned", 0.8, 0.9, "It has been sent back."),
    )
    parts: dict[str, list[dict[str, object]]] = {"data": rows[:count], "train": rows[count:]}
    for name, right, level, wrong in sides:
        parts[name] = [
            {
                "id": row["id"],
                "output": row["completion"] if draw.random() < right else wrong,
                "nll": draw.gauss(level, 0.2),
            }
            for row in rows[:count]
        ]
    for name, part in parts.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> int:
    """Print the figures; return 1 above a reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    took: list[float] = []
    said = ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, 100 if quick else 1_000)
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        environment |= {"FINE_TUNING_HOME": f"{name}/home", "FINE_TUNING_ROOTS": name}
        for run in range(1 if quick else 5):
            code = CHILD.replace("/out", f"/out{run}")
            began = time.perf_counter()
            child = subprocess.run(
                [sys.executable, "-c", code, name],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            took.append(time.perf_counter() - began)
            if child.returncode:
                print(child.stderr[-2000:], child.stdout)
                return 1
            said = child.stdout.split()[0]
        size = (folder / "out0" / "report.html").stat().st_size
    print(said)
    seconds = statistics.median(took)
    good = seconds <= REACH_SECONDS and size <= REACH_BYTES
    print(f"recorded rows to page: {seconds:.2f} s (reach {REACH_SECONDS:g}), {size:,} bytes")
    print("" if good else "BELOW REACH")
    return int(not good and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
