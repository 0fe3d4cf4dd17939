"""The benchmark of the learning-rate resolver still runs (its figures are judged elsewhere)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_trains_and_measures_in_its_quick_form(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "learning_rate.py"
    run = subprocess.run(
        [sys.executable, str(script), "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "task 0.00 -> 0." in run.stdout
    assert "quick: nothing judged" in run.stdout
