"""Training: look at the machine, choose settings, start a run, follow and stop it."""

from __future__ import annotations

from finetuning.training.checkpoints import list_checkpoints, newest_valid
from finetuning.training.config import TrainingConfig, load_config
from finetuning.training.configure import TrainingPlan, configure_training
from finetuning.training.environment import Environment, demo_base, inspect_environment
from finetuning.training.follow import RunState, cancel_run, get_run
from finetuning.training.launch import Launch, launch_lora

__all__ = [
    "Environment",
    "Launch",
    "RunState",
    "TrainingConfig",
    "TrainingPlan",
    "cancel_run",
    "configure_training",
    "demo_base",
    "get_run",
    "inspect_environment",
    "launch_lora",
    "list_checkpoints",
    "load_config",
    "newest_valid",
]
