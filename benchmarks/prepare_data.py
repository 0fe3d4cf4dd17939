"""The whole of ``prepare_data`` on 200,000 chat rows, and a plain script that does less, in turn.

Run: ``python benchmarks/prepare_data.py [--quick]``. The file is made by ``chat_rows.py`` (seed
below): 5 % exact copies, 5 % near copies with 1 to 12 % of the words changed, 2 % of the rows
with a mail address. Ours validates, redacts, finds exact and near duplicates, splits by cluster,
writes, validates and counts the tokens of what was written, and measures the leakage. The plain
script is what one types in two minutes: json, a dictionary for exact copies, two patterns for
mail and phone, tiktoken, a random split; no near duplicates, no validation.

Prints seconds and the peak memory of each process; exits 1 when ours takes more than 15 s.
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

from chat_rows import Shares, write_file

REACH_SECONDS = 15.0
ROWS, QUICK_ROWS = 200_000, 2_000
SEED = 31
SHARES = Shares(exact=0.05, near=0.05, personal=0.02)
PEAK = """
from pathlib import Path
def peak_mb(process):
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return int(next((line.split()[1] for line in lines if line.startswith("VmHWM")), 0)) / 1024
"""
OURS = (
    PEAK
    + """
import json, sys
from finetuning.data_prep import prepare_data
from finetuning import runs
import time
started, last, helpers = time.perf_counter(), [""], {}
def show(done, total, what):
    for process in Path("/proc/thread-self/children").read_text().split():
        helpers[process] = max(peak_mb(process), helpers.get(process, 0.0))
    if what != last[0]:
        print(f"    {time.perf_counter() - started:6.2f} s {what}", file=sys.stderr)
        last[0] = what
with runs.listen(show):
    result = prepare_data([sys.argv[1]], "openai_chat", sys.argv[2], redact="mask")
rows = result.rows
print(json.dumps({"rows": rows.model_dump(), "tokens": result.tokens.train.total,
                  "leakage": result.leakage.model_dump(), "errors": result.validation.n_errors,
                  "peak_mb": [peak_mb("self"), *helpers.values()]}))
"""
)
PLAIN = (
    PEAK
    + """
import json, random, re, sys
from finetuning.tokens import counter_for  # tiktoken's own encoder, read without a network
count = counter_for(None).count
mail = re.compile(r"[\\w.+-]+@[\\w-]+\\.[\\w.]+")
phone = re.compile(r"\\+?\\d[\\d ().-]{8,}\\d")
random.seed(0)
seen, tokens = set(), 0
out = Path(sys.argv[2])
out.mkdir()
files = {name: (out / f"{name}.jsonl").open("w") for name in ("train", "validation", "test")}
for line in open(sys.argv[1]):
    row = json.loads(line)
    for turn in row["messages"]:
        if turn.get("content"):
            turn["content"] = phone.sub("[PHONE]", mail.sub("[EMAIL]", turn["content"]))
    text = json.dumps(row, sort_keys=True)
    if hash(text) in seen:
        continue
    seen.add(hash(text))
    tokens += sum(count([turn["content"] for turn in row["messages"] if turn.get("content")]))
    part = random.choices(("train", "validation", "test"), (0.8, 0.1, 0.1))[0]
    files[part].write(json.dumps(row) + "\\n")
for file in files.values():
    file.close()
print(json.dumps({"rows": len(seen), "tokens": tokens, "peak_mb": [peak_mb("self")]}))
"""
)


def measure(code: str, source: Path, out: Path) -> tuple[float, dict[str, object]]:
    """Return the seconds of a fresh process that runs ``code``, and what it printed."""
    environment = {**os.environ, "FINE_TUNING_ROOTS": str(source.parent)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(out)],
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    seconds = time.perf_counter() - started
    answer: dict[str, object] = json.loads(done.stdout)
    return seconds, answer


def main() -> int:
    """Run both in turn; return 1 where ours is slower than the reach."""
    parser = argparse.ArgumentParser(description="Measure prepare_data.")
    parser.add_argument("--quick", action="store_true", help="a small file, no reach judged")
    parser.add_argument("--file", type=Path, help="where the generated file is kept")
    args = parser.parse_args()
    count = QUICK_ROWS if args.quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        source = args.file or Path(folder) / "chat.jsonl"
        if not source.exists():
            write_file(source, count, SEED, shares=SHARES)
        megabytes = source.stat().st_size / 1e6
        print(f"{count} rows, {megabytes:.1f} MB")
        ours, answer = measure(OURS, source, source.parent / f"ours-{os.getpid()}")
        print(f"ours  {ours:7.2f} s, {megabytes / ours:6.1f} MB/s: {json.dumps(answer)}")
        plain, answer = measure(PLAIN, source, source.parent / f"plain-{os.getpid()}")
        print(f"plain {plain:7.2f} s, {megabytes / plain:6.1f} MB/s: {json.dumps(answer)}")
    print(f"plain / ours {plain / ours:.2f}; reach {REACH_SECONDS:.0f} s")
    return 0 if args.quick or ours <= REACH_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
