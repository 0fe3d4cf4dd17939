"""Estimate: what a model is made of, and the memory and time that training it takes."""

from __future__ import annotations

from finetuning.estimate.architecture import Architecture, lora_parameters, read_architecture
from finetuning.estimate.devices import CPU_THREAD_FLOPS, GPUS, Gpu, find_gpu
from finetuning.estimate.known import KNOWN_MODELS
from finetuning.estimate.memory import (
    MEMORY_ERROR_FRACTIONS,
    Stack,
    memory_terms,
    training_memory_gb,
)
from finetuning.estimate.time import training_flops, training_time_seconds

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
