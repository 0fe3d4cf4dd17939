"""Training: look at the machine, choose settings, start a run, follow and stop it.

Here: the tool that starts a run in a process of its own. The other names are imported when they
are used first, and what a tool needs when it is called.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning import estimate, files, runs
from finetuning.errors import BadInputError, MissingExtraError, UnknownNameError, lazy
from finetuning.providers import PROVIDER_IDS
from finetuning.records import Model, NextCall, ToolResult
from finetuning.runs import RunStatus

if TYPE_CHECKING:
    from finetuning.training.config import TrainingConfig, load_config
    from finetuning.training.configure import TrainingPlan, configure_training
    from finetuning.training.environment import Environment, inspect_environment
    from finetuning.training.export import Export, export_adapter
    from finetuning.training.follow import RunState, cancel_run, get_run
    from finetuning.training.weights import demo_base, list_checkpoints, newest_valid
else:
    __getattr__ = lazy(
        __name__,
        config="TrainingConfig load_config",
        configure="TrainingPlan configure_training",
        environment="Environment inspect_environment",
        export="Export export_adapter",
        follow="RunState cancel_run get_run",
        weights="demo_base list_checkpoints newest_valid",
    )

__all__ = [
    "Environment",
    "Export",
    "Launch",
    "RunState",
    "TrainingConfig",
    "TrainingPlan",
    "cancel_run",
    "configure_training",
    "demo_base",
    "export_adapter",
    "get_run",
    "inspect_environment",
    "launch_lora",
    "list_checkpoints",
    "load_config",
    "newest_valid",
]

HOSTED: Final = tuple(name for name in PROVIDER_IDS if name != "local")

QUIET_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ACCELERATE_DISABLE_RICH": "1",
}
"""Environment of the training process: it opens no connection and reports to nobody."""


class LaunchPlan(Model, defer_build=True):
    """What a launch would do."""

    steps: list[str]
    cost_usd: str
    data_leaves_machine: bool
    memory_gb: float
    time_seconds: dict[str, float] | None


class Launch(ToolResult, defer_build=True):
    """A started run, or with dry_run the plan of one."""

    dry_run: bool
    needs_approval: bool = False
    plan: LaunchPlan | None = None
    run_id: str | None = None
    status: RunStatus | None = None
    log_file: str | None = None

    def summary(self) -> str:
        """Say in one line what was started."""
        if self.run_id is None:
            return "Nothing was started: this is the plan."
        return f"Run {self.run_id} is {self.status}; follow it with get_run."


def launch_lora(
    config: dict[str, Any] | str,
    provider: str = "local",
    dry_run: bool | None = None,
    resume: str | None = None,
    parent_run_id: str | None = None,
    idempotency_key: str | None = None,
) -> Launch:
    """Start a LoRA training run on this machine and return its run_id at once.

    The run is a process of its own: it survives the host, writes whole checkpoints, and get_run
    tells its state. Nothing is sent anywhere and nothing is spent.

    Args:
        config: The file that configure_training wrote, or its config object.
        provider: local; hosted launches are not in this version.
        dry_run: true returns the plan without starting anything; absent means false for local.
        resume: run_id of an ended run to go on with, from its newest undamaged checkpoint.
        parent_run_id: run_id of an earlier run that this one is a further cycle of.
        idempotency_key: A second launch with the same key and config returns the first run.

    Returns:
        run_id, status and log_file; with dry_run the plan.

    Raises:
        BadInputError: The config, base model or data cannot be used, or the run to resume is
            still going.
        UnknownNameError: An unknown setting, run or provider.
        MissingExtraError: The extra `local` is not installed.

    Knowledge: training.md#the-path-of-a-run
    """
    from finetuning.training.config import load_config
    from finetuning.training.environment import EXTRAS, installed_extras
    from finetuning.training.preflight import checkpoints_of, room_for_checkpoints

    _refuse_hosted(provider)
    settings = load_config(config, where="launch_lora")
    base = _check_base(settings)
    _check_data(settings)
    checkpoints = None if resume is None else checkpoints_of(resume)
    moved = resume is not None and _changes_world(settings, resume)
    room_for_checkpoints(settings, base, runs.run_folder("RUN_ID"))
    if dry_run:
        return _plan(settings, base)
    if not installed_extras()["local"]:
        raise MissingExtraError(
            "launch_lora",
            f"not all of {', '.join(EXTRAS['local'])} are installed",
            "the extra 'local'",
            "Run: pip install 'fine-tuning-skill[local]'",
        )
    arguments = {"config": settings.model_dump(mode="json"), "resume_from": checkpoints}
    run = runs.create_run(
        "launch_lora",
        arguments=arguments,
        parent_run_id=resume or parent_run_id,
        idempotency_key=idempotency_key,
    )
    if moved and settings.length_buckets:
        message = "rows group otherwise in another number of processes: in the epoch under way "
        message += "some may be seen twice and some not at all"
        runs.record_alert(run.run_id, code="world_changed", message=message)
    _start(run.run_id, settings)
    return _launched(runs.read_run(run.run_id))


def _refuse_hosted(provider: str) -> None:
    if provider == "local":
        return
    if provider in HOSTED:
        raise BadInputError(
            "launch_lora",
            f"provider={provider!r}: hosted launches are not in this version",
            "provider='local'",
            "Train locally, or start the hosted job by the steps in providers.md",
        )
    raise UnknownNameError("launch_lora", "provider", provider, ("local", *HOSTED))


def _check_base(settings: TrainingConfig) -> Path:
    from finetuning.training.weights import find_base

    folder = find_base(settings.base_model)
    if folder is None:
        raise BadInputError(
            "base_model",
            f"{settings.base_model!r} is not on this machine",
            "the folder of a base model",
            "Download it into a folder, then run configure_training with that folder",
        )
    estimate.read_architecture(folder)
    for pattern, what in (("*.safetensors", "weights"), ("tokenizer*.json", "tokenizer")):
        if next(folder.glob(pattern), None) is None:
            raise BadInputError(
                "base_model",
                f"{str(folder)!r} holds no {what} ({pattern})",
                "config.json, safetensors weights and a tokenizer",
                "Download the whole model; weights stored as pickles are not loaded",
            )
    return folder


def _check_data(settings: TrainingConfig) -> None:
    train = files.resolve_read(settings.train_file, where="train_file")
    if settings.validation_file is not None:
        files.resolve_read(settings.validation_file, where="validation_file")
    if settings.train_sha256 not in {None, files.sha256_file(train)}:
        raise BadInputError(
            "train_file",
            f"{train.name} has changed since the run was configured",
            f"the file with SHA-256 {str(settings.train_sha256)[:12]}…",
            "Run configure_training again",
        )


def _plan(settings: TrainingConfig, base: Path) -> Launch:
    from finetuning.training.environment import plan_device
    from finetuning.training.fitting import memory_gb, time_seconds
    from finetuning.training.profile import profile_data

    shape = estimate.read_architecture(base)
    profile = profile_data(Path(settings.train_file), base)
    device = plan_device(None, None, 1)
    return Launch(
        dry_run=True,
        plan=LaunchPlan(
            steps=[
                f"train a rank-{settings.r} adapter of {shape.name} on {profile.rows} rows, "
                f"{settings.num_train_epochs:g} epochs, on {device.name}",
                f"write checkpoints and the adapter below {runs.run_folder('RUN_ID')}",
            ],
            cost_usd="0",
            data_leaves_machine=False,
            memory_gb=round(memory_gb(shape, profile, settings, device), 3),
            time_seconds=time_seconds(shape, profile, settings, device),
        ),
    )


def _start(run_id: str, settings: TrainingConfig) -> None:
    from finetuning.training.preflight import carry_over

    carry_over(run_id)
    threads = str(settings.num_threads)
    entry = "session" if settings.engine == "local" else "distributed"
    runs.spawn(
        run_id,
        [sys.executable, "-m", f"finetuning.training.worker.{entry}", run_id],
        env={**QUIET_OFFLINE, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )


def _changes_world(settings: TrainingConfig, resume: str) -> bool:
    """Say whether a run goes on in another number of processes; its steps must stay as they are.

    Raises:
        BadInputError: A step would no longer hold as many rows.
    """
    earlier = runs.arguments_of(resume)["config"]
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_processes")
    before = math.prod(int(earlier.get(name) or 1) for name in names)
    now = math.prod(int(getattr(settings, name)) for name in names)
    if before != now:
        others = now // settings.per_device_train_batch_size
        raise BadInputError(
            "resume",
            f"a step of {resume} held {before} rows, with this config it would hold {now}",
            "the same number, so that the run goes on where it stopped",
            f"Set per_device_train_batch_size to {max(1, before // others)}",
        )
    return int(earlier.get("num_processes") or 1) != settings.num_processes


def _launched(run: runs.RunRow) -> Launch:
    return Launch(
        dry_run=False,
        run_id=run.run_id,
        status=run.status,
        log_file=run.log_file,
        next=[
            NextCall(
                tool="get_run",
                args={"run_id": run.run_id, "wait_seconds": 30},
                why="returns progress, and the adapter when the run has ended",
            ),
            NextCall(tool="cancel_run", args={"run_id": run.run_id}, why="stops it gracefully"),
        ],
    )
