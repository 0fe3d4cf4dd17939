"""The benchmarks of validation and tokens run, and their small runs name every fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _quick(name: str) -> str:
    script = ROOT / "benchmarks" / name
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def test_validation_benchmark_finds_every_fault_of_its_small_file() -> None:
    text = _quick("validation.py")
    assert "missed 0, named otherwise 0, false 0" in text
    assert "ours on one core is" in text


def test_token_benchmark_counts_what_tiktoken_counts() -> None:
    text = _quick("token_counts.py")
    assert "counts are those of tiktoken" in text
    assert "no socket" in text
