"""What this machine has and can do, and the device that a run is planned for."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any, Final, Literal

from finetuning import estimate
from finetuning.errors import FineTuningError
from finetuning.records import Model, NextCall, ToolResult
from finetuning.settings import SECRET_VARIABLES, settings


class GpuInfo(Model, defer_build=True):
    """One GPU as its driver names it."""

    name: str
    memory_gb: float


class CpuInfo(Model, defer_build=True):
    """The processor, as far as training cares."""

    name: str
    cores: int
    bf16: bool


def list_gpus() -> list[GpuInfo]:
    """Return the NVIDIA GPUs of this machine, as nvidia-smi lists them; none without it."""
    import shutil
    import subprocess

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
    import shutil

    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(nearest).free / 1e9


EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "local": ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "safetensors"),
    "gpu": ("bitsandbytes",),
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "bedrock": ("boto3",),
    "google": ("google.genai",),
    "together": ("together",),
    "fireworks": ("fireworks",),
    "tinker": ("tinker",),
    "offline-tokens": ("bpe_openai",),
    "pii": ("scrubadub", "presidio_analyzer"),
    "eval": ("sacrebleu", "rapidfuzz", "jsonschema", "lm_eval"),
    "semantic": ("semhash",),
    "plots": ("resvg_py",),
    "scale": ("daft", "ray"),
}
"""Extra of pyproject.toml → modules that it brings (a test compares the two)."""


class LocalBase(Model, defer_build=True):
    """A base model that lies on this machine."""

    name: str
    path: str
    family: str
    parameters: int


class Environment(ToolResult, defer_build=True):
    """What this machine has and what is installed on it."""

    gpus: list[GpuInfo]
    ram_gb: float
    disk_free_gb: float
    cpu: CpuInfo
    extras: dict[str, bool]
    keys_present: list[str]
    local_bases: list[LocalBase]
    offline: bool
    home: str
    roots: list[str]

    def summary(self) -> str:
        """Say in one line where a model could be trained."""
        gpus = ", ".join(f"{gpu.name} {gpu.memory_gb:g} GB" for gpu in self.gpus) or "no GPU"
        local = "ready" if self.extras["local"] else "not installed"
        return (
            f"{gpus}, {self.cpu.cores} cores, {self.ram_gb:.0f} GB memory; local training {local}"
        )


def inspect_environment() -> Environment:
    """List GPUs, memory, installed extras, key names and local base models.

    Reads only: nothing is imported that is heavy, no connection is opened, and of keys only the
    names of the variables that are set are returned.

    Returns:
        Facts of this machine; ``fit_facts`` holds those that assess_fit uses.
    """
    here = settings()
    gpus, extras = list_gpus(), installed_extras()
    facts: dict[str, Any] = {}
    if gpus:
        facts = {"gpu_memory_gb": max(gpu.memory_gb for gpu in gpus), "n_gpus": len(gpus)}
    bases = local_bases()
    return Environment(
        gpus=gpus,
        ram_gb=round(ram_gb(), 1),
        disk_free_gb=round(disk_free_gb(here.home), 1),
        cpu=cpu_info(),
        extras=extras,
        keys_present=[name for name in SECRET_VARIABLES if os.environ.get(name)],
        local_bases=bases,
        offline=here.offline,
        home=str(here.home),
        roots=[str(root) for root in here.roots],
        fit_facts=facts,
        next=[
            NextCall(
                tool="assess_fit",
                args={"facts": facts},
                why="decides whether to fine-tune at all",
            )
        ],
    )


def installed_extras() -> dict[str, bool]:
    """Return, for each extra, whether all its packages can be found (none is imported)."""
    return {extra: all(map(is_installed, modules)) for extra, modules in EXTRAS.items()}


def is_installed(module: str) -> bool:
    """Tell whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is missing
        return False


def local_bases() -> list[LocalBase]:
    """Return the base models in ``<home>/bases`` and the one that ships with the demo."""
    from finetuning.training.weights import bases_folder, demo_base

    folders = sorted(path.parent for path in bases_folder().glob("*/config.json"))
    if (shipped := demo_base()) is not None:
        folders.append(shipped)
    found = [_describe(folder, shipped) for folder in folders]
    return [base for base in found if base is not None]


def _describe(folder: Path, shipped: Path | None) -> LocalBase | None:
    try:
        shape = estimate.read_architecture(folder)
    except FineTuningError:
        return None  # a folder that is no model is not listed
    return LocalBase(
        name="demo" if folder == shipped else folder.name,
        path=str(folder),
        family=shape.family,
        parameters=shape.parameters,
    )


class Device(Model, defer_build=True):
    """Where training is planned: what it is called, its memory and, where known, its speed."""

    kind: Literal["cpu", "gpu"]
    name: str
    memory_gb: float
    flops: float | None
    count: int = 1
    mfu: tuple[float, float, float] = (0.25, 0.35, 0.45)  # estimate.MFU_RANGE

    @property
    def stack(self) -> estimate.Stack:
        """How memory is used there."""
        return "local_cpu" if self.kind == "cpu" else "trl"


def plan_device(gpu: str | None, gpu_memory_gb: float | None, n_gpus: int) -> Device:
    """Return the device that the caller named, else the one this machine has.

    Args:
        gpu: Name of a GPU, or None.
        gpu_memory_gb: Memory of one GPU; decides over the table.
        n_gpus: GPUs of that kind.

    Raises:
        UnknownNameError: ``gpu`` is not in the table and no memory was given.
    """
    if gpu is None and gpu_memory_gb is None:
        return _own_device()
    known = _known_gpu(gpu, must=gpu_memory_gb is None)
    return Device(
        kind="gpu",
        name=gpu if gpu and gpu_memory_gb else known.name if known else "GPU",
        memory_gb=gpu_memory_gb or (known.memory_gb if known else 0.0),
        flops=known.flops if known else None,
        count=n_gpus,
        mfu=known.mfu if known else estimate.MFU_RANGE,
    )


def _known_gpu(gpu: str | None, *, must: bool = False) -> estimate.Gpu | None:
    try:
        return estimate.find_gpu(gpu) if gpu else None
    except ValueError:
        if must:
            raise
        return None


def _own_device() -> Device:
    gpus = list_gpus()
    if gpus:
        largest = max(gpus, key=lambda gpu: gpu.memory_gb)
        known = _known_gpu(largest.name)
        return Device(
            kind="gpu",
            name=largest.name,
            memory_gb=largest.memory_gb,
            flops=known.flops if known else None,
        )
    return Device(
        kind="cpu",
        name=cpu_info().name,
        memory_gb=round(free_ram_gb(), 2),
        flops=estimate.CPU_THREAD_FLOPS,
    )
