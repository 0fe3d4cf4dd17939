"""The benchmark of training speed runs, and both sides learn the same rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_ours_learns_what_stock_trl_learns() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "training_speed.py"), "--quick"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = dict(re.findall(r"^(\w+) .*held-out loss ([\d.]+)$", done.stdout, re.MULTILINE))
    assert set(found) == {"padding_free", "ours"}
    assert float(found["ours"]) == pytest.approx(float(found["padding_free"]), rel=0.01)
