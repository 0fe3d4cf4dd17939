"""Estimate: what a model is made of, and the memory and time that training it takes.

Names are imported when they are used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning.errors import lazy

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
else:  # type checkers see the imports above, and so every wrong name
    __getattr__ = lazy(
        __name__,
        architecture="Architecture Targets known_models lora_parameters read_architecture",
        devices="CPU_THREAD_FLOPS GPUS Gpu MeasuredPoint find_gpu measured_points "
        "nearest_measured_point training_flops training_time_seconds",
        memory="MEMORY_ERROR_FRACTIONS Quantisation Stack Tuning memory_terms training_memory_gb",
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
