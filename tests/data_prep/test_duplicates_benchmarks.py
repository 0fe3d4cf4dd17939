"""The benchmarks of copies and splits run, and their generator tells the truth."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("near_duplicates.py", "precision 1.0000"),
        ("signatures_10m.py", "of the copies found"),
        ("split_leakage.py", "second run the same: True"),
    ],
)
def test_benchmark_runs_on_few_rows(name: str, says: str) -> None:
    command = [sys.executable, str(BENCHMARKS / name), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.fixture
def twin_rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("twin_rows", BENCHMARKS / "twin_rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "twin_rows", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["mixed", "instruction", "calls"])
def test_generator_repeats_itself_and_copies_what_it_says(
    name: str, tmp_path: Path, twin_rows: ModuleType
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    truth = twin_rows.write(one, name, 400)
    assert twin_rows.write(two, name, 400) == truth
    assert one.read_bytes() == two.read_bytes()
    texts = [
        " ".join(turn["content"] for turn in row["messages"]).split()
        for row in twin_rows.read_texts(one)
    ]
    rows = twin_rows.read_truth(one)
    first = {original: row for row, (original, kind, _) in enumerate(rows) if kind == "original"}
    for row, (original, kind, _) in enumerate(rows):
        if kind == "exact":
            assert texts[row] == texts[first[original]]
        elif kind == "near":
            assert texts[row] != texts[first[original]]
    assert len({" ".join(texts[row]) for row in first.values()}) == len(first)


def test_score_counts_right_and_wrong_removals(twin_rows: ModuleType) -> None:
    score = twin_rows.score({1: 0, 3: 2}, [5, 5, 6, 7, 6])
    assert (score.removed, score.right, score.wanted) == (2, 1, 2)
    assert (score.precision, score.recall) == (0.5, 0.5)
