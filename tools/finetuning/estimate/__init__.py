"""Estimate: what a model is made of, and the memory and time that training it takes."""

from __future__ import annotations

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
