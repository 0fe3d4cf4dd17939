"""The demo: raw file to tuned model, verdict and report, offline, on two CPU cores."""

from __future__ import annotations

from finetuning_skill.demo.command import run_demo
from finetuning_skill.demo.setting import ASSETS, DemoArm, DemoResult, DemoStep

__all__ = ["ASSETS", "DemoArm", "DemoResult", "DemoStep", "run_demo"]
