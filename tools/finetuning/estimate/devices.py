"""Peak speed and memory of devices that training is planned for."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from finetuning.errors import UnknownNameError


class Gpu(NamedTuple):
    """A GPU: dense 16-bit tensor throughput without sparsity, and memory."""

    name: str
    flops: float
    memory_gb: float


GPUS: Final[dict[str, Gpu]] = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 65e12, 16),
        Gpu("L4", 121e12, 24),
        Gpu("A10", 125e12, 24),
        Gpu("L40S", 362e12, 48),
        Gpu("RTX 3090", 71e12, 24),
        Gpu("RTX 4090", 165e12, 24),
        Gpu("A100 40GB", 312e12, 40),
        Gpu("A100 80GB", 312e12, 80),
        Gpu("H100", 989e12, 80),
        Gpu("H200", 989e12, 141),
        Gpu("B200", 2250e12, 180),
    )
}
"""Dense 16-bit peak (half of the figure printed with sparsity) and memory, from NVIDIA's product
data sheets (checked 2026-11-20)."""

CPU_THREAD_FLOPS: Final = 110e9
"""Peak fp32 matrix multiply of one thread, AMD EPYC with AVX-512 (measured 2026-11)."""


_PATTERNS: Final = (
    ("a100.*40", "A100 40GB"),
    ("a100", "A100 80GB"),
    ("l40s", "L40S"),
    ("h100", "H100"),
    ("h200", "H200"),
    ("b200", "B200"),
    ("4090", "RTX 4090"),
    ("3090", "RTX 3090"),
    (r"\bl4\b", "L4"),
    (r"\ba10g?\b", "A10"),
    (r"\bt4\b", "T4"),
)


def find_gpu(name: str) -> Gpu:
    """Return a GPU of the table by a name as people and drivers write it.

    Args:
        name: For example ``H100``, ``a100-80gb`` or ``NVIDIA A100-SXM4-80GB``; an A100 without a
            size counts as the 80 GB one.

    Raises:
        UnknownNameError: No such GPU in the table; the nearest are named.
    """
    for pattern, key in _PATTERNS:
        if re.search(pattern, name.lower().replace("_", "-")):
            return GPUS[key]
    raise UnknownNameError("gpu", "GPU", name, GPUS)
