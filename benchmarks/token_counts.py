"""Exact tokens per second of ``validate_jsonl`` on two cores, against tiktoken on one and on two.

Run: ``python benchmarks/token_counts.py [--rows 100000] [--rounds 2]``. Counts the file of
``chat_rows.py`` with every check on, in a process that may open no socket; then tiktoken's
``encode_ordinary`` on one core and ``encode_ordinary_batch`` with two threads count a tenth of the
rows. Compares the counts of that tenth one by one. Exits 1 below 11 million tokens a second, above
150 MB a process, at any other count, or where a socket was opened.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import chat_rows

MTOKENS_PER_SECOND = 11.0
PEAK_MB = 150.0


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event.startswith("socket."):
        raise RuntimeError(f"a socket was used: {event}")


def _peak_mb(process: str) -> float:
    """Return the most memory that a process held at one time."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    sizes = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(next(sizes, "0")) / 1024


def measure(path: Path, small: Path) -> None:
    """Print tokens, seconds and the peaks of all processes as JSON; no socket may be opened."""
    sys.addaudithook(_refuse)
    from finetuning.data_prep import validate_jsonl
    from finetuning.runs import listen

    peaks: dict[str, float] = {}

    def look(*_: object) -> None:
        for child in Path("/proc/thread-self/children").read_text(encoding="ascii").split():
            peaks[child] = max(_peak_mb(child), peaks.get(child, 0.0))

    validate_jsonl(str(small), "openai_chat")
    started = time.perf_counter()
    with listen(look):
        result = validate_jsonl(str(path), "openai_chat")
    seconds = time.perf_counter() - started
    tokens = result.tokens
    assert tokens is not None
    assert tokens.exact
    answer = {
        "tokens": tokens.total,
        "seconds": seconds,
        "peaks": [_peak_mb("self"), *peaks.values()],
    }
    print(json.dumps(answer))


def _texts(path: Path, rows: int) -> list[list[str]]:
    """Return the texts of the first rows, without roles, frames and tools."""
    with path.open(encoding="utf-8") as stream:
        decoded: list[Any] = [
            json.loads(line) for line, _ in zip(stream, range(rows), strict=False)
        ]
    return [[turn["content"] for turn in row["messages"] if turn["content"]] for row in decoded]


def peers(path: Path, rows: int) -> bool:
    """Count with tiktoken and with ours; return whether all counts are the same."""
    from finetuning.tokens import counter_for
    from finetuning.tokens.counting import load_encoding

    texts = [text for row in _texts(path, rows) for text in row]
    encoding, counter = load_encoding("o200k_base"), counter_for()
    assert encoding is not None
    started = time.perf_counter()
    one = [len(encoding.encode_ordinary(text)) for text in texts]
    single = time.perf_counter() - started
    started = time.perf_counter()
    batch = [len(found) for found in encoding.encode_ordinary_batch(texts, num_threads=2)]
    threads = time.perf_counter() - started
    started = time.perf_counter()
    ours = counter.count(texts)
    own = time.perf_counter() - started
    total = sum(one) / 1e6
    print(f"tiktoken, one core     {total / single:6.1f} M tokens/s")
    print(f"tiktoken, two threads  {total / threads:6.1f} M tokens/s")
    print(f"ours, one core         {total / own:6.1f} M tokens/s ({single / own:.1f} times)")
    return one == batch == ours


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description="Exact tokens per second.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a small file; no reach is judged")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(Path(args.one[0]), Path(args.one[1]))
        return 0
    rows, rounds = (2_000, 1) if args.quick else (args.rows, args.rounds)
    best, peak = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "chat.jsonl", Path(folder) / "small.jsonl"
        chat_rows.write_file(path, rows, seed=21)
        chat_rows.write_file(small, 50, seed=22)
        place = {"FINE_TUNING_ROOTS": folder}
        for _ in range(rounds):
            command = [sys.executable, __file__, "--one", str(path), str(small)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | place, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            speed = found["tokens"] / found["seconds"] / 1e6
            best, peak = max(best, speed), max(peak, *found["peaks"])
            peaks = [round(part) for part in found["peaks"]]
            print(f"validate_jsonl, all cores {speed:6.1f} M tokens/s, peaks {peaks} MB, no socket")
        same = peers(path, rows // 10)
    print("counts are those of tiktoken" if same else "OTHER COUNTS than tiktoken's")
    good = same and best >= MTOKENS_PER_SECOND and peak <= PEAK_MB
    if not good:
        print(
            f"BELOW REACH: {best:.1f} of {MTOKENS_PER_SECOND} M tokens/s, {peak:.0f} MB a process"
        )
    return int((not good and not args.quick) or not same)


if __name__ == "__main__":
    sys.exit(main())
