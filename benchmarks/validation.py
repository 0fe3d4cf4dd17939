"""Validation against the OpenAI cookbook's checks and Together's ``check_file``, on one file.

Run: ``python benchmarks/validation.py [--rows 200000] [--rounds 3] [--peer-python PATH]``. Writes
the file of ``chat_rows.py`` and reads it in turn with ours on one core, ours on two, the cookbook's
checks and together's; each in a process of its own, after one call on a small file, best of the
rounds. Then validates a file with known faults (``faulty_rows.py``). Exits 1 below the reach.

The cookbook's checks are written anew from what its notebook describes (seven kinds of faults,
every line decoded with ``json.loads`` into one list); ``--peer-python`` names an interpreter that
has the package together.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

MB_PER_SECOND = {"ours-1": 300.0, "ours-2": 550.0}
TIMES_FASTER = {"cookbook": 3.5, "together": 1.4}
PEAK_MB = 100.0
MOST_FALSE = 5


def _cookbook(path: Path) -> int:
    """Count the seven kinds of faults that the notebook counts."""
    with path.open(encoding="utf-8") as stream:
        dataset: list[Any] = [json.loads(line) for line in stream]
    errors: Counter[str] = Counter()
    for row in dataset:
        if not isinstance(row, dict):
            errors["data_type"] += 1
            continue
        messages: list[Any] = cast("Any", row).get("messages")
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["message_missing_key"] += 1
            known = ("role", "content", "name", "function_call", "weight")
            if any(key not in known for key in message):
                errors["message_unrecognized_key"] += 1
            if message.get("role") not in ("system", "user", "assistant", "function"):
                errors["unrecognized_role"] += 1
            content = message.get("content")
            if (not content and not message.get("function_call")) or not isinstance(content, str):
                errors["missing_content"] += 1
        if not any(message.get("role") == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1
    return len(dataset)


def _together(path: Path) -> int:
    files: Any = importlib.import_module("together.lib.utils.files")
    check: Callable[[Path], dict[str, Any]] = files.check_file
    report = check(path)
    if not report["is_check_passed"]:
        print(f"together refused the file: {report.get('message')}", file=sys.stderr)
    return int(report.get("num_samples") or 0)


_HELPER_PEAKS: dict[str, float] = {}


def _peak_mb(process: str) -> float:
    """Return the most memory that a process held at one time."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    sizes = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(next(sizes, "0")) / 1024


def _look_at_helpers(*_: object) -> None:
    for process in Path("/proc/thread-self/children").read_text(encoding="ascii").split():
        _HELPER_PEAKS[process] = max(_peak_mb(process), _HELPER_PEAKS.get(process, 0.0))


def _ours(path: Path) -> int:
    from finetuning.data_prep import validate_jsonl
    from finetuning.runs import listen

    with listen(_look_at_helpers):
        return validate_jsonl(str(path), "openai_chat", count_tokens=False).n_rows


CHECKS: dict[str, Callable[[Path], int]] = {
    "ours-1": _ours,
    "ours-2": _ours,
    "cookbook": _cookbook,
    "together": _together,
}


def measure(name: str, path: Path, small: Path) -> None:
    """Print rows, seconds and peak memory of one check of a file as JSON."""
    if name == "ours-1":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    CHECKS[name](small)
    started = time.perf_counter()
    rows = CHECKS[name](path)
    seconds = time.perf_counter() - started
    peak = [_peak_mb("self"), *_HELPER_PEAKS.values()]
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_mb": peak}))


def _run(name: str, path: Path, small: Path, python: str) -> dict[str, Any] | None:
    command = [python, __file__, "--one", name, str(path), str(small)]
    place = {"FINE_TUNING_ROOTS": str(path.parent), "FINE_TUNING_HOME": str(path.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | place)
    if done.returncode:
        print(f"{name}: not run ({done.stderr.strip().splitlines()[-1]})")
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def speeds(folder: Path, rows: int, rounds: int, peer_python: str) -> list[str]:
    """Measure all checks in turn; return what is below its reach."""
    import chat_rows

    path, small = folder / "chat.jsonl", folder / "small.jsonl"
    megabytes = chat_rows.write_file(path, rows) / 1e6
    chat_rows.write_file(small, max(20, rows // 40), seed=12)
    best: dict[str, float] = {}
    short: list[str] = []
    for _ in range(rounds):
        for name in CHECKS:
            python = peer_python if name == "together" else sys.executable
            result = _run(name, path, small, python)
            if result is None:
                continue
            assert result["rows"] == rows, f"{name} read {result['rows']} rows"
            speed = megabytes / result["seconds"]
            best[name] = max(best.get(name, 0.0), speed)
            peak = [round(part) for part in result["peak_mb"] if part]
            print(f"{name:9} {speed:7.0f} MB/s  {result['seconds']:6.2f} s  peak {peak} MB")
            if name.startswith("ours") and sum(peak) > PEAK_MB:
                short.append(f"{name} peak {sum(peak)} MB in all, reach {PEAK_MB}")
    short += [
        f"{name} {best.get(name, 0.0):.0f} MB/s, reach {reach}"
        for name, reach in MB_PER_SECOND.items()
        if best.get(name, 0.0) < reach
    ]
    for name, reach in TIMES_FASTER.items():
        if name in best and "ours-1" in best:
            ratio = best["ours-1"] / best[name]
            print(f"ours on one core is {ratio:.2f} times as fast as {name} (reach {reach})")
            if ratio < reach:
                short.append(f"{ratio:.2f} times {name}, reach {reach}")
    print(f"{megabytes:.0f} MB, {rows} rows; best of {rounds}")
    return short


def faults(folder: Path, rows: int) -> list[str]:
    """Validate a file with known faults; return what was missed or wrongly named."""
    import faulty_rows

    os.environ["FINE_TUNING_ROOTS"] = os.environ["FINE_TUNING_HOME"] = str(folder)
    from finetuning.data_prep import validate_jsonl

    path = folder / "faulty.jsonl"
    truth = faulty_rows.write_file(path, rows)
    result = validate_jsonl(str(path), "openai_chat", count_tokens=False, max_findings=None)
    codes: dict[int, set[str]] = {}
    for finding in result.findings:
        if finding.line is not None:
            codes.setdefault(finding.line, set()).add(finding.code)
    missed = [line for line in truth if line not in codes]
    unnamed = [
        f"{kind} at {line}: {sorted(codes[line])}"
        for line, kind in truth.items()
        if line in codes and not codes[line] & faulty_rows.FAULTS[kind][1]
    ]
    false = sorted(codes.keys() - truth.keys())
    print(f"faults: {len(truth)} of {len(set(truth.values()))} kinds in {rows} rows; "
          f"missed {len(missed)}, named otherwise {len(unnamed)}, false {len(false)}")  # fmt: skip
    for line in unnamed[:5]:
        print(f"  {line}")
    for line in missed[:5]:
        print(f"  missed {truth[line]} at {line}")
    for line in false[:5]:
        print(f"  false at {line}: {sorted(codes[line])}")
    short = [f"{len(missed)} faults missed"] if missed else []
    short += [f"{len(unnamed)} faults named otherwise"] if unnamed else []
    return short + ([f"{len(false)} false findings"] if len(false) > MOST_FALSE else [])


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description="Validation speed against two peers.")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small file; no reach is judged")
    parser.add_argument("--peer-python", default=sys.executable, help="has the package together")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], Path(args.one[1]), Path(args.one[2]))
        return 0
    rows, rounds = (3_000, 1) if args.quick else (args.rows, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        short = faults(Path(folder), rows)
        short += speeds(Path(folder), rows, rounds, args.peer_python)
    for line in short:
        print(f"BELOW REACH: {line}")
    return int(bool(short) and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
