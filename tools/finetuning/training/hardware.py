"""What this machine has: GPUs, memory, processor. Looks, never imports torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from finetuning.records import Model


class GpuInfo(Model):
    """One GPU as its driver names it."""

    name: str
    memory_gb: float


class CpuInfo(Model):
    """The processor, as far as training cares."""

    name: str
    cores: int
    bf16: bool


def list_gpus() -> list[GpuInfo]:
    """Return the NVIDIA GPUs of this machine, as nvidia-smi lists them; none without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer cannot train either
    return parse_gpus(found.stdout)


def parse_gpus(listing: str) -> list[GpuInfo]:
    """Read ``name, MiB`` lines as nvidia-smi prints them; lines of another form are left out."""
    matches = (re.fullmatch(r"\s*(.+?),\s*(\d+)\s*", line) for line in listing.splitlines())
    return [
        GpuInfo(name=match.group(1), memory_gb=round(int(match.group(2)) * 2**20 / 1e9, 1))
        for match in matches
        if match
    ]


def ram_gb() -> float:
    """Return the memory of this machine in GB (10⁹ bytes)."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def free_ram_gb(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Return the memory that can be used now, in GB; all of it where that is not known."""
    try:
        text = meminfo.read_text(encoding="ascii")
    except OSError:
        return ram_gb()
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 / 1e9 if match else ram_gb()


def cpu_info(cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuInfo:
    """Return the processor's name, usable cores and whether it multiplies bf16 in hardware."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    words = set(flags.group(1).split()) if flags else set[str]()
    return CpuInfo(
        name=name.group(1).strip() if name else os.uname().machine,
        cores=usable_cores(),
        bf16=bool(words & {"avx512_bf16", "amx_bf16"}),
    )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # pragma: no cover - macOS has no affinity
        return os.cpu_count() or 1


def disk_free_gb(folder: Path) -> float:
    """Return the free space where ``folder`` is, or would be, in GB (10⁹ bytes)."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(nearest).free / 1e9
