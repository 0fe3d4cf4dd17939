"""The demo: raw file to tuned model, verdict and report, offline, on two CPU cores."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ASSETS: Final = Path(__file__).parent
"""Folder with ``base/``, ``orders.csv``, ``general_replay.jsonl``, ``general_eval.jsonl``."""
