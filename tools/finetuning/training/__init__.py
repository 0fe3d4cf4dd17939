"""Training: look at the machine, choose settings, start a run, follow and stop it.

Names are imported when they are used first, and what a tool needs when it is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning.training.config import TrainingConfig
    from finetuning.training.configure import TrainingPlan, configure_training, load_config
    from finetuning.training.environment import Environment, inspect_environment
    from finetuning.training.follow import RunState, cancel_run, get_run
    from finetuning.training.launch import Launch, launch_lora
    from finetuning.training.weights import demo_base, list_checkpoints, newest_valid

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

_HOMES: Final = {
    "config": ["TrainingConfig"],
    "configure": ["TrainingPlan", "configure_training", "load_config"],
    "environment": ["Environment", "inspect_environment"],
    "follow": ["RunState", "cancel_run", "get_run"],
    "launch": ["Launch", "launch_lora"],
    "weights": ["demo_base", "list_checkpoints", "newest_valid"],
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
