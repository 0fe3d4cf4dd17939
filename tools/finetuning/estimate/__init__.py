"""Estimate: what a model is made of, and the memory and time that training it takes.

Names are imported when they are used first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuning.estimate.architecture import (
        KNOWN_MODELS,
        Architecture,
        lora_parameters,
        read_architecture,
    )
    from finetuning.estimate.resources import (
        CPU_THREAD_FLOPS,
        GPUS,
        MEMORY_ERROR_FRACTIONS,
        Gpu,
        Stack,
        find_gpu,
        memory_terms,
        training_flops,
        training_memory_gb,
        training_time_seconds,
    )

__all__ = [
    "CPU_THREAD_FLOPS",
    "GPUS",
    "KNOWN_MODELS",
    "MEMORY_ERROR_FRACTIONS",
    "Architecture",
    "Gpu",
    "Stack",
    "find_gpu",
    "lora_parameters",
    "memory_terms",
    "read_architecture",
    "training_flops",
    "training_memory_gb",
    "training_time_seconds",
]

_OF_A_MODEL = {"KNOWN_MODELS", "Architecture", "lora_parameters", "read_architecture"}

if not TYPE_CHECKING:  # type checkers see the imports above, and so every wrong name

    def __getattr__(name: str) -> Any:
        """Import a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = "architecture" if name in _OF_A_MODEL else "resources"
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
