"""Estimate: what a model is made of, and the memory and time that training it takes.

Names are imported when they are used first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuning.estimate.architecture import (
        Architecture,
        Targets,
        known_models,
        lora_parameters,
        read_architecture,
    )
    from finetuning.estimate.devices import (
        CPU_THREAD_FLOPS,
        GPUS,
        Gpu,
        MeasuredPoint,
        find_gpu,
        measured_points,
        nearest_measured_point,
        training_flops,
        training_time_seconds,
    )
    from finetuning.estimate.memory import (
        MEMORY_ERROR_FRACTIONS,
        Quantisation,
        Stack,
        Tuning,
        memory_terms,
        training_memory_gb,
    )

__all__ = [
    "CPU_THREAD_FLOPS",
    "GPUS",
    "MEMORY_ERROR_FRACTIONS",
    "Architecture",
    "Gpu",
    "MeasuredPoint",
    "Quantisation",
    "Stack",
    "Targets",
    "Tuning",
    "find_gpu",
    "known_models",
    "lora_parameters",
    "measured_points",
    "memory_terms",
    "nearest_measured_point",
    "read_architecture",
    "training_flops",
    "training_memory_gb",
    "training_time_seconds",
]

_OF_A_MODEL = {"Architecture", "Targets", "known_models", "lora_parameters", "read_architecture"}
_OF_MEMORY = {
    "MEMORY_ERROR_FRACTIONS",
    "Quantisation",
    "Stack",
    "Tuning",
    "memory_terms",
    "training_memory_gb",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = "memory" if name in _OF_MEMORY else "devices"
        home = "architecture" if name in _OF_A_MODEL else home
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
