"""The tool that chooses how to train, says why, writes it down, and reads it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning import estimate, files
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Finding, Json, NextCall, ToolResult

if TYPE_CHECKING:
    from finetuning.training.config import TrainingConfig
    from finetuning.training.environment import Device
    from finetuning.training.profile import DataProfile

TUNINGS: Final = ("lora", "qlora", "full")
ENGINES: Final = ("local", "torchrun", "ray")
CONFIG_NAME: Final = "training.json"


class TrainingPlan(ToolResult, defer_build=True):
    """A configuration with its reasons, its needs and what speaks against it."""

    config: dict[str, Any]
    why: dict[str, str]
    device: str
    memory_gb: float
    time_seconds: dict[str, float] | None
    fits: bool
    findings: list[Finding]
    files: list[str]

    def exit_code(self) -> int:
        """Return 1 when the run does not fit or was refused, else 0."""
        return 0 if self.files else 1

    def summary(self) -> str:
        """Say in one line whether the run can be launched."""
        if self.files:
            return f"Ready: {self.files[0]} ({self.memory_gb:.2f} GB on {self.device})."
        errors = [finding for finding in self.findings if finding.severity == "error"]
        return f"Refused: {errors[0].message}."


def configure_training(
    base_model: str,
    data: str,
    method: str = "sft",
    tuning: str = "lora",
    engine: str = "local",
    gpu: str | None = None,
    gpu_memory_gb: float | None = None,
    n_gpus: int = 1,
    overrides: dict[str, Any] | None = None,
    goal: str | None = None,
    output_dir: str | None = None,
) -> TrainingPlan:
    """Choose training settings, with reasons, memory, time and a config file.

    Dangerous settings are refused with the mend (no file is written, exit code 1) unless their
    code is listed in overrides.accept_risks; contradictory ones are bad calls.

    Args:
        base_model: Folder of the base model, or the name of one in <home>/bases. A public name
            such as Qwen/Qwen3-8B is planned for, but must be on disk before the launch.
        data: Folder that prepare_data wrote (train.jsonl, validation.jsonl), or a training file.
        method: sft; the other methods are not in this version.
        tuning: lora; the other kinds are not in this version.
        engine: local; the other engines are not in this version.
        gpu: GPU to plan for, such as H100 or L4; absent: the GPU of this machine, else its CPU.
        gpu_memory_gb: Memory of one GPU in GB (10⁹ bytes), where the table does not know it.
        n_gpus: Number of such GPUs, 1 or more.
        overrides: Settings to fix, by name (r, learning_rate, num_train_epochs, max_length …),
            and accept_risks: codes of findings that are accepted on purpose.
        goal: What the run should reach, in a few words; recorded with the run.
        output_dir: Folder for training.json; absent: a new one among the reports.

    Returns:
        The config, why each setting is as it is, memory_gb, time_seconds, fits and findings.

    Raises:
        BadInputError: A path, row format or setting that cannot be used, or not in this version.
        UnknownNameError: An unknown model, setting, method, tuning, engine or GPU.

    Source: tinker_cookbook at 9dfcc3a, LoRA Without Regret, Unsloth and Axolotl guides (checked
    2026-11-20); knowledge: training.md#settings
    """
    from finetuning.training.config import FORMATS, KNOBS
    from finetuning.training.environment import plan_device
    from finetuning.training.hazards import find_risks, refuse_contradictions, shrink_to_fit
    from finetuning.training.knobs import Resolver
    from finetuning.training.profile import profile_data
    from finetuning.training.weights import find_base

    _refuse_unknown(method, tuning, engine, FORMATS)
    given = overrides or {}
    for name in given:
        if name not in KNOBS:
            raise UnknownNameError("configure_training", "setting", name, KNOBS)
    folder = find_base(base_model)
    shape = estimate.read_architecture(folder or base_model)
    device = plan_device(gpu, gpu_memory_gb, n_gpus)
    found = files.data_files(data, where="data")
    train = _train_file(found, data)
    target = files.new_output_folder(output_dir, where="output_dir", name="training")
    profile = profile_data(train, folder, method)
    fixed: dict[str, Json] = {
        "engine": engine,
        "method": method,
        "tuning": tuning,
        "quantisation": "nf4" if tuning == "qlora" else "none",
        "base_model": str(folder or base_model),
        "train_file": str(train),
        "validation_file": _path(found.get("validation")),
        "test_file": _path(found.get("test")),
        "train_sha256": files.sha256_file(train),
        "row_format": profile.row_format,
        "goal": goal,
    }
    resolver = Resolver(shape, profile, device, given)
    config, changed = shrink_to_fit(resolver.resolve(fixed), shape, profile, device, given)
    refuse_contradictions(config, shape, given)
    findings = find_risks(config, shape, profile, float(resolver.proposed["learning_rate"]))
    findings += _place_findings(config, shape, profile, device, folder)
    plan = _plan(config, resolver.why | changed, shape, profile, device, findings)
    if any(finding.severity == "error" for finding in plan.findings):
        return plan
    return _written(plan, target / CONFIG_NAME)


def _refuse_unknown(method: str, tuning: str, engine: str, methods: Iterable[str]) -> None:
    where = "configure_training"
    for kind, value, known in (
        ("method", method, methods),
        ("tuning", tuning, TUNINGS),
        ("engine", engine, ENGINES),
    ):
        if value not in known:
            raise UnknownNameError(where, kind, value, known)


def _train_file(found: dict[str, Path], data: str) -> Path:
    train = found.get("train") or found.get("data")
    if train is None:
        raise BadInputError(
            "data",
            f"{data!r} holds {', '.join(path.name for path in found.values())} but no train.jsonl",
            "a folder with train.jsonl",
            "Run prepare_data, or name the training file",
        )
    return train


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _place_findings(
    config: TrainingConfig,
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    folder: Path | None,
) -> list[Finding]:
    from finetuning.training.hazards import fits, memory_gb
    from finetuning.training.weights import bases_folder

    found: list[Finding] = []
    need = memory_gb(shape, profile, config, device)
    if not fits(need, device):
        found.append(
            Finding(
                code="does_not_fit",
                severity="warning" if "does_not_fit" in config.accept_risks else "error",
                message=f"about {need:.1f} GB are needed, {device.memory_gb:g} GB are there "
                f"({device.name})",
                fix="Shorten max_length, choose a smaller base, or plan for a GPU with more memory",
            )
        )
    if folder is None:
        found.append(
            Finding(
                code="base_not_here",
                severity="warning",
                message=f"{config.base_model} is not on this machine, so tokens are approximate "
                "and the run cannot start here yet",
                fix=f"Download it to {bases_folder() / config.base_model.rpartition('/')[2]}, then "
                "configure again",
            )
        )
    return found


def _plan(
    config: TrainingConfig,
    why: dict[str, str],
    shape: estimate.Architecture,
    profile: DataProfile,
    device: Device,
    findings: list[Finding],
) -> TrainingPlan:
    from finetuning.training.hazards import fits, memory_gb, time_seconds

    need = memory_gb(shape, profile, config, device)
    return TrainingPlan(
        config=config.model_dump(mode="json"),
        why=why,
        device=device.name,
        memory_gb=round(need, 3),
        time_seconds=time_seconds(shape, profile, config, device),
        fits=fits(need, device),
        findings=findings,
        files=[],
        fit_facts={
            "n_examples": profile.rows,
            "training_tokens": profile.total_tokens,
            "params": shape.parameters,
            "base_model": shape.name,
        },
    )


def _written(plan: TrainingPlan, path: Path) -> TrainingPlan:
    files.write_json(path, plan.config)
    launch = NextCall(
        tool="launch_lora", args={"config": str(path)}, why="starts the run with these settings"
    )
    return plan.model_copy(update={"files": [str(path)], "next": [launch]})


def load_config(config: Mapping[str, Json] | str, *, where: str) -> TrainingConfig:
    """Return the configuration from an object or from the file that holds it.

    Raises:
        BadInputError: The file is missing or no JSON object, or a value does not fit.
        UnknownNameError: A setting that does not exist.
    """
    from finetuning.training.config import parse_config

    if not isinstance(config, str):
        return parse_config(config, where=where)
    path = files.resolve_read(config, where=where)
    values = _read_object(path)
    return parse_config(values, where=str(path))


def _read_object(path: Path) -> dict[str, Json]:
    try:
        values: Json = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInputError(
            str(path),
            f"the file is not JSON ({type(error).__name__})",
            "the training.json that configure_training wrote",
            "Run configure_training again",
        ) from error
    if not isinstance(values, dict):
        raise BadInputError(
            str(path),
            f"the file holds a {type(values).__name__}",
            "one JSON object",
            "Run configure_training again",
        )
    return cast("dict[str, Json]", values)
