"""Held-out rows with a true twin in train: split by cluster against a random split.

Run: ``python benchmarks/split_leakage.py [--rows 50000] [--quick]``. Rows with known truth
(``twin_rows.py``, seeded) go through ``prepare_data`` twice with ``near_duplicates=false``, so
that near copies stay and only the split keeps them apart; the parts are read back and judged by
the truth. A random split of the same rows stands beside it. Reach: at most 0.5 % of the held-out
rows with a true twin in train, shares within 0.5 points of 80/10/10, the same bytes on the
second run, and no row that moves between validation and test or out of train when a tenth more
rows follow. Exits 1 below.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import twin_rows

REACH_LEAKED, REACH_SHARE = 0.005, 0.005
SHARES = (0.8, 0.1, 0.1)
PARTS = ("train", "validation", "test")


def _text(line: str) -> str:
    """Return what identifies a row: its texts without white space and key order."""
    messages = json.loads(line)["messages"]
    return "\n".join(" ".join(str(turn["content"]).split()) for turn in messages)


def _originals(path: Path) -> dict[str, int]:
    with path.open(encoding="utf-8") as lines:
        truth = twin_rows.read_truth(path)
        return {_text(line): row[0] for line, row in zip(lines, truth, strict=True)}


def _prepare(path: Path, folder: Path) -> tuple[list[list[str]], str]:
    """Prepare a file; return the rows of each part and the digest of all parts."""
    from finetuning.data_prep import prepare_data

    result = prepare_data(
        [str(path)],
        "openai_chat",
        str(folder),
        near_duplicates=False,
        split=list(SHARES),
    )
    parts = [(folder / f"{part}.jsonl").read_text("utf-8").splitlines() for part in PARTS]
    return [[_text(line) for line in part] for part in parts], result.data_sha256


def leaked(parts: Sequence[Sequence[str]], originals: dict[str, int]) -> float:
    """Return the share of held-out rows whose original has a row in train."""
    known = {originals[row] for row in parts[0]}
    held_out = [row for part in parts[1:] for row in part]
    return sum(originals[row] in known for row in held_out) / max(1, len(held_out))


def _random(rows: Sequence[str]) -> list[list[str]]:
    shuffled = random.Random(1).sample(rows, len(rows))
    first, second = round(SHARES[0] * len(rows)), round((SHARES[0] + SHARES[1]) * len(rows))
    return [shuffled[:first], shuffled[first:second], shuffled[second:]]


def _moved(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> int:
    """Return how many rows are in another part than before."""
    place = {row: part for part, rows in enumerate(after) for row in rows}
    return sum(place.get(row, part) != part for part, rows in enumerate(before) for row in rows)


def measure(folder: Path, n_rows: int) -> bool:
    """Split, print the figures, and say whether all are within reach."""
    path, less = folder / "rows.jsonl", folder / "less.jsonl"
    twin_rows.write(path, "mixed", n_rows)
    originals = _originals(path)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    less.write_text("".join(lines[: n_rows * 10 // 11]), "utf-8")
    parts, digest = _prepare(path, folder / "first")
    _, again = _prepare(path, folder / "second")
    before, _ = _prepare(less, folder / "less")
    total = sum(map(len, parts))
    off = max(abs(len(part) / total - due) for part, due in zip(parts, SHARES, strict=True))
    share, naive = (
        leaked(parts, originals),
        leaked(_random(list(itertools.chain(*parts))), originals),
    )
    moved = _moved(before, parts)
    print(
        f"{total} rows after exact copies: {share:.2%} of the held-out rows have a true twin in "
        f"train (random split: {naive:.1%}; reach: {REACH_LEAKED:.1%})\n"
        f"largest distance from 80/10/10: {off:.2%} (reach: {REACH_SHARE:.1%}); second run the "
        f"same: {digest == again}; rows that move when a tenth more follow: {moved}"
    )
    return share <= REACH_LEAKED and off <= REACH_SHARE and digest == again and moved == 0


def main() -> int:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--quick", action="store_true", help="few rows, nothing judged")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["FINE_TUNING_ROOTS"] = os.environ["FINE_TUNING_HOME"] = name
        good = measure(Path(name), 2_200 if given.quick else given.rows)
    return 0 if good or given.quick else 1


if __name__ == "__main__":
    sys.exit(main())
