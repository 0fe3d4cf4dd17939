"""What can be done on this machine, without changing anything or importing anything heavy."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Final

from finetuning.errors import FineTuningError
from finetuning.records import Model, NextCall, ToolResult
from finetuning.settings import SECRET_VARIABLES, settings
from finetuning.training import hardware
from finetuning.training.hardware import CpuInfo, GpuInfo

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "local": ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "safetensors"),
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
    "plots": ("matplotlib",),
    "scale": ("daft", "ray"),
}
"""Extra of pyproject.toml → modules that it brings (a test compares the two)."""


class LocalBase(Model):
    """A base model that lies on this machine."""

    name: str
    path: str
    family: str
    parameters: int


class Environment(ToolResult):
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
    gpus, extras = hardware.list_gpus(), installed_extras()
    facts: dict[str, Any] = {}
    if gpus:
        facts = {"gpu_memory_gb": max(gpu.memory_gb for gpu in gpus), "n_gpus": len(gpus)}
    bases = local_bases()
    return Environment(
        gpus=gpus,
        ram_gb=round(hardware.ram_gb(), 1),
        disk_free_gb=round(hardware.disk_free_gb(here.home), 1),
        cpu=hardware.cpu_info(),
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


def bases_folder() -> Path:
    """Return where this home keeps base models."""
    return settings().home / "bases"


def local_bases() -> list[LocalBase]:
    """Return the base models in ``<home>/bases`` and the one that ships with the demo."""
    folders = sorted(path.parent for path in bases_folder().glob("*/config.json"))
    if (shipped := demo_base()) is not None:
        folders.append(shipped)
    found = [_describe(folder) for folder in folders]
    return [base for base in found if base is not None]


def demo_base() -> Path | None:
    """Return the folder of the base model that ships with the demo, if it is installed."""
    spec = importlib.util.find_spec("finetuning_skill")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "demo" / "base"
        if (folder / "config.json").is_file():
            return folder
    return None


def _describe(folder: Path) -> LocalBase | None:
    from finetuning.estimate import read_architecture

    try:
        shape = read_architecture(folder)
    except FineTuningError:
        return None  # a folder that is no model is not listed
    return LocalBase(
        name="demo" if folder == demo_base() else folder.name,
        path=str(folder),
        family=shape.family,
        parameters=shape.parameters,
    )
