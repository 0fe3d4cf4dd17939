"""The tool that chooses how to train, says why, writes it down, and reads it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning import estimate, files
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.providers import PROVIDER_IDS
from finetuning.records import Finding, Json, NextCall, ToolResult

if TYPE_CHECKING:
    from finetuning.training.config import TrainingConfig
    from finetuning.training.environment import Device
    from finetuning.training.profile import DataProfile

WHERE: Final = "configure_training"
METHODS: Final = ("sft", "dpo", "kto", "rft", "grpo", "cpt")
TUNINGS: Final = ("lora", "qlora", "full")
OWN: Final = ("local", "torchrun", "ray")
"""Engines that launch_lora starts."""
CONFIG_NAME: Final = "training.json"


class TrainingPlan(ToolResult, defer_build=True):
    """A configuration with its reasons, its needs and what speaks against it."""

    engine: str
    config: dict[str, Any]
    why: dict[str, str]
    base: dict[str, Any]
    device: str
    memory_gb: float
    time_seconds: dict[str, float] | None
    fits: bool
    findings: list[Finding]
    files: list[str]
    command: str | None = None

    def exit_code(self) -> int:
        """Return 1 when the run does not fit or was refused, else 0."""
        return 0 if self.files else 1

    def summary(self) -> str:
        """Say in one line whether the run can be launched."""
        if self.files:
            need = f" ({self.memory_gb:.2f} GB on {self.device})" if self.memory_gb else ""
            return f"Ready: {self.files[0]}{need}."
        errors = [finding for finding in self.findings if finding.severity == "error"]
        return f"Refused: {errors[0].message}."


class _Asked(NamedTuple):
    """The call, as far as its arguments go on into the answer."""

    arguments: dict[str, Json]
    engine: str
    mirror: str | None
    given: dict[str, Any]

    @property
    def emitted(self) -> bool:
        return self.engine not in OWN


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
        base_model: Folder of the base model, the name of one in <home>/bases, or its id on the
            hub (overrides.base_revision, say main, asks it for the commit). With a hosted
            provider: the model's id there.
        data: Folder that prepare_data wrote (train.jsonl, validation.jsonl), or a training file.
        method: sft, dpo, kto, grpo or cpt (rft with a hosted provider); the rows must be its own.
        tuning: lora, qlora (4-bit base, needs a GPU) or full.
        engine: local, torchrun or ray (launch_lora starts them); trl, axolotl, llama_factory,
            ms_swift, unsloth, skypilot, hf_jobs (files to run elsewhere); or a provider's id.
        gpu: GPU to plan for, such as H100 or L4; absent: the GPU of this machine, else its CPU.
        gpu_memory_gb: Memory of one GPU in GB (10⁹ bytes), where the table does not know it.
        n_gpus: Number of such GPUs, 1 or more; several need another engine than local.
        overrides: Settings to fix, by name (r, learning_rate, num_train_epochs, max_length …),
            accept_risks (codes of findings accepted on purpose), mirror (modelscope or a URL:
            where a script elsewhere gets the base).
        goal: What the run should reach, in a few words; recorded with the run.
        output_dir: Folder for the files; absent: a new one among the reports.

    Returns:
        The config, why each setting is as it is, the base's commit and licence, memory_gb,
        time_seconds, fits, findings, the files and the command that starts the training.

    Raises:
        BadInputError: A path, row format or setting that cannot be used, or a closed provider.
        UnknownNameError: An unknown model, setting, method, tuning, engine or GPU.

    Source: tinker_cookbook at 9dfcc3a, LoRA Without Regret, Unsloth and Axolotl guides (checked
    2026-11-20); knowledge: training.md#settings
    """
    from finetuning.training.config import check_names
    from finetuning.training.engines import EMITTED
    from finetuning.training.environment import plan_device

    engines = (*OWN, *EMITTED, *PROVIDER_IDS)
    asked_for = (("method", method, METHODS), ("tuning", tuning, TUNINGS))
    for kind, value, known in (*asked_for, ("engine", engine, engines)):
        if value not in known:
            raise UnknownNameError(WHERE, kind, value, known)
    given = dict(overrides or {})
    mirror = given.pop("mirror", None)
    check_names(given, where=WHERE)
    train, found = _data_files(data)
    target = files.new_output_folder(output_dir, where="output_dir", name="training")
    arguments: dict[str, Json] = {"base_model": base_model, "data": data, "engine": engine}
    arguments |= {"method": method, "tuning": tuning, "overrides": dict(overrides or {})}
    fixed: dict[str, Json] = {
        "method": method,
        "tuning": tuning,
        "train_file": str(train),
        "validation_file": _path(found.get("validation")),
        "test_file": _path(found.get("test")),
        "train_sha256": files.sha256_file(train),
        "goal": goal,
    }
    asked = _Asked(arguments, engine, mirror, given)
    if engine not in (*OWN, *EMITTED):
        return _hosted(asked, fixed, target)
    if method == "rft":
        raise BadInputError(
            WHERE, "method 'rft' is the hosted kind", "grpo on your own machines", "Use grpo"
        )
    device = plan_device(gpu, gpu_memory_gb, n_gpus)
    return _own(asked, fixed, device, target)


def _own(asked: _Asked, fixed: dict[str, Json], device: Device, target: Path) -> TrainingPlan:
    """Choose the settings of a run on machines of one's own, and write them down."""
    from finetuning.training import bases, fitting, hazards
    from finetuning.training.config import finding
    from finetuning.training.knobs import Resolver
    from finetuning.training.profile import profile_data

    base = bases.find_out(
        str(asked.arguments["base_model"]), asked.given.pop("base_revision", None)
    )
    folder = None if base.folder is None else Path(base.folder)
    shape = estimate.read_architecture(folder or base.name)
    profile = profile_data(Path(str(fixed["train_file"])), folder, str(fixed["method"]))
    fixed |= {
        "engine": asked.engine if asked.engine in OWN else "local",
        "quantisation": "nf4" if fixed["tuning"] == "qlora" else "none",
        "base_model": base.folder or base.name,
        "base_revision": base.revision,
        "base_sha256": base.sha256,
        "row_format": profile.row_format,
    }
    resolver = Resolver(shape, profile, device, asked.given)
    config = resolver.resolve(fixed, emitted=asked.emitted)
    config, changed = fitting.shrink_to_fit(
        config, shape, profile, device, asked.given, asked.engine
    )
    hazards.refuse_contradictions(config, shape, asked.given, device, asked.engine)
    findings = hazards.find_risks(config, shape, profile, float(resolver.proposed["learning_rate"]))
    findings += bases.findings_of(base, asked.engine, elsewhere=asked.emitted)
    if device.count > 1 and asked.engine == "local":
        findings.append(finding("gpus_idle", count=device.count))
    need = fitting.memory_gb(shape, profile, config, device, asked.engine)
    plan = TrainingPlan(
        engine=asked.engine,
        config=config.model_dump(mode="json"),
        why=resolver.why | changed,
        base=base.model_dump(mode="json", exclude_none=True, exclude={"gated"}),
        device=device.name,
        memory_gb=round(need, 3),
        time_seconds=fitting.time_seconds(shape, profile, config, device),
        fits=fitting.fits(need, device),
        findings=findings,
        files=[],
        fit_facts={
            "n_examples": profile.rows,
            "training_tokens": profile.total_tokens,
            "params": shape.parameters,
            "base_model": shape.name,
        },
    )
    if not plan.fits:
        named, calls = fitting.advise(
            asked.arguments, plan.memory_gb, config, shape, profile, device, asked.engine
        )
        found = [*plan.findings, *hazards.accepted([named], config)]
        plan = plan.model_copy(update={"findings": found, "next": calls})
    if any(finding.severity == "error" for finding in plan.findings):
        return plan
    return _written(plan, asked, config, device, profile, target)


def _hosted(asked: _Asked, fixed: dict[str, Json], target: Path) -> TrainingPlan:
    """Write down the hyperparameters of a hosted job; whose machines it runs on is not ours."""
    from finetuning.training.rules import plan_hosted

    model = str(asked.arguments["base_model"])
    found = plan_hosted(asked.engine, model, fixed, asked.given)
    plan = TrainingPlan(
        engine=asked.engine,
        config=found.config,
        why=found.why,
        base={"name": model},
        device=f"{asked.engine} (hosted)",
        memory_gb=0.0,
        time_seconds=None,
        fits=True,
        findings=found.findings,
        files=[],
        fit_facts={"provider": asked.engine, "provider_model": model, **found.facts},
        next=found.next,
    )
    path = target / f"{asked.engine}.json"
    files.write_json(path, plan.config)
    return plan.model_copy(update={"files": [str(path)]})


def _data_files(data: str) -> tuple[Path, dict[str, Path]]:
    found = files.data_files(data, where="data")
    train = found.get("train") or found.get("data")
    if train is None:
        raise BadInputError(
            "data",
            f"{data!r} holds {', '.join(path.name for path in found.values())} but no train.jsonl",
            "a folder with train.jsonl",
            "Run prepare_data, or name the training file",
        )
    return train, found


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _written(
    plan: TrainingPlan,
    asked: _Asked,
    config: TrainingConfig,
    device: Device,
    profile: DataProfile,
    target: Path,
) -> TrainingPlan:
    """Write the files of the engine and say what starts it."""
    from finetuning.training.config import finding
    from finetuning.training.engines import emit
    from finetuning.training.hazards import total_steps

    path, update = target / CONFIG_NAME, dict[str, Any]()
    written: list[str] = []
    if not asked.emitted:
        files.write_json(path, plan.config)
        written.append(str(path))
        why = "starts the run with these settings"
        update["next"] = [NextCall(tool="launch_lora", args={"config": str(path)}, why=why)]
        update["command"] = f"fine-tuning launch-lora {path}"
    if asked.engine not in {"local", "ray"}:
        hours = None if plan.time_seconds is None else plan.time_seconds["p90"] / 3600
        made = emit(
            asked.engine,
            config,
            steps=total_steps(config, profile),
            device=device,
            hours=hours,
            mirror=asked.mirror,
            message_columns=profile.message_columns,
        )
        for name, text in made.files.items():
            files.write_text(target / name, text)
            written.append(str(target / name))
        update.setdefault("command", made.command)
        named = finding(
            "not_checked_here",
            file=", ".join(made.files),
            engine=asked.engine,
            version=made.version,
            checked=made.checked,
            check=made.check,
        )
        update["findings"] = [*plan.findings, named]
    return plan.model_copy(update={**update, "files": written})
