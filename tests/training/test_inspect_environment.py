"""inspect_environment reports what is there and reads no secret."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from finetuning.training import environment, inspect_environment


def test_it_reports_this_machine(isolated_environment: Path) -> None:
    found = inspect_environment()
    assert found.ram_gb > 0.5
    assert found.disk_free_gb > 0
    assert found.cpu.cores >= 1
    assert found.home == str(isolated_environment)
    assert not isolated_environment.exists(), "looking creates nothing"
    assert found.exit_code() == 0
    assert "cores" in found.summary()
    assert found.next[0].tool == "assess_fit"


def test_the_base_of_the_demo_is_listed_as_demo() -> None:
    (base,) = inspect_environment().local_bases
    assert base.name == "demo"
    assert base.family == "llama"
    assert base.parameters < 400_000


def test_bases_of_the_home_are_listed_and_broken_folders_are_not(
    isolated_environment: Path, base: Path
) -> None:
    bases = isolated_environment / "bases"
    bases.mkdir(parents=True)
    base.rename(bases / "mine")
    (bases / "broken").mkdir()
    (bases / "broken" / "config.json").write_text("{")
    assert [found.name for found in inspect_environment().local_bases] == ["mine", "demo"]


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "-".join(["sk", "never", "shown"])
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    found = inspect_environment()
    assert found.keys_present == ["OPENAI_API_KEY"]
    assert secret not in found.model_dump_json()


def test_the_extras_are_those_of_the_distribution() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(environment.EXTRAS) == set(declared) - {"all"}
    distributions = importlib.metadata.packages_distributions()
    for extra, modules in environment.EXTRAS.items():
        wanted = {re.split(r"[<>=]", line)[0].lower() for line in declared[extra]}
        assert len(modules) == len(wanted), extra
        for module in modules:
            names = {
                name.lower().replace("_", "-")
                for name in distributions.get(module.split(".")[0], [])
            }
            assert not names or names & wanted, module


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "from finetuning.training import inspect_environment\n"
        "inspect_environment()\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "transformers", "peft", "trl", "numpy", "polars", "tokenizers"}


def test_a_package_whose_parent_is_missing_counts_as_not_installed() -> None:
    assert environment.installed_extras()["local"]
    assert not environment.is_installed("no_such_package.inside")


def test_gpus_are_read_as_nvidia_smi_prints_them() -> None:
    listing = "NVIDIA H200, 143771\nNVIDIA A100-SXM4-40GB, 40960\n[N/A]\n"
    found = environment.parse_gpus(listing)
    assert [(gpu.name, gpu.memory_gb) for gpu in found] == [
        ("NVIDIA H200", 150.8),
        ("NVIDIA A100-SXM4-40GB", 42.9),
    ]


@pytest.mark.parametrize(
    ("script", "names"),
    [("echo 'NVIDIA L4, 23034'", ["NVIDIA L4"]), ("exit 9", [])],
)
def test_gpus_come_from_the_driver_and_a_dead_driver_means_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = inspect_environment()
    assert [gpu.name for gpu in found.gpus] == names
    assert ("gpu_memory_gb" in found.fit_facts) == bool(names)


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert environment.list_gpus() == []


def test_processor_and_memory_are_read_from_proc(tmp_path: Path) -> None:
    cpuinfo, meminfo = tmp_path / "cpuinfo", tmp_path / "meminfo"
    cpuinfo.write_text("model name\t: Some CPU\nflags\t\t: fpu avx512_bf16 sse\n")
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:  1000000 kB\n")
    assert environment.cpu_info(cpuinfo).name == "Some CPU"
    assert environment.cpu_info(cpuinfo).bf16
    assert environment.free_ram_gb(meminfo) == pytest.approx(1.024)
    missing = tmp_path / "missing"
    assert not environment.cpu_info(missing).bf16
    assert environment.free_ram_gb(missing) == environment.ram_gb()
    meminfo.write_text("nothing known\n")
    assert environment.free_ram_gb(meminfo) == environment.ram_gb()
