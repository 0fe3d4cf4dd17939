"""One run in several processes: torchrun on this machine, or the workers of a Ray cluster.

``python -m finetuning.training.worker.distributed RUN_ID`` is the run's own process: it starts the
others and watches them without importing torch; one that dies ends the run. torchrun starts the
same module in each. Process 0 alone writes steps, checkpoints and the end; the rest only compute.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning import runs, settings
from finetuning.errors import FineTuningError, RunFailedError, require
from finetuning.training.config import TrainingConfig, parse_config
from finetuning.training.worker import (
    EXIT_FAILED,
    EXIT_STOPPED,
    NotFiniteError,
    StoppedEarly,
    end_early,
    log_failure,
    session,
    unexpected,
)
from finetuning.training.worker.session import StopSignal

if TYPE_CHECKING:
    from finetuning.training.worker.job import Job

SILENCE: Final = timedelta(seconds=300)  # a process that ends is noticed within a second
_SHARE: Final = "share"
_HERE: Final = "finetuning.training.worker.distributed"


def watch(run_id: str, *, module: str = _HERE) -> int:
    """Train a run in the processes it asks for and return the exit code of the run.

    Args:
        run_id: A queued run.
        module: What torchrun starts in each process.
    """
    settings.enforce_offline()
    runs.attach(run_id)
    folder = Path(runs.read_run(run_id).folder)
    try:
        config = parse_config(runs.arguments_of(run_id)["config"], where="config")
        ray = config.engine == "ray"
        code = _with_ray(run_id, config) if ray else _with_torchrun(run_id, config, module)
        if not runs.read_run(run_id).finished:
            runs.finish(run_id, "failed", error=_broken(folder, run_id, code))
    except FineTuningError as error:
        runs.finish(run_id, "failed", error=str(error))
    except Exception as error:
        log_failure(error)
        text = _broken(folder, run_id, None) or str(unexpected(run_id, error))
        runs.finish(run_id, "failed", error=text)
    left = folder / "exit-code"
    return int(left.read_text(encoding="utf-8")) if left.is_file() else EXIT_FAILED


def _with_torchrun(run_id: str, config: TrainingConfig, module: str) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
    command += [f"--nproc-per-node={config.num_processes}", "-m", module, run_id, _SHARE]
    environment = dict(os.environ)
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # inherited by each process: they end when this one is gone
        env=environment,
        process_group=0,
    ) as launcher:

        def ask_to_stop(number: int, frame: object) -> None:
            with contextlib.suppress(BrokenPipeError):  # it is ending already
                os.write(launcher.stdin.fileno() if launcher.stdin else 2, b"s")

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask_to_stop)
        return launcher.wait()


def _broken(folder: Path, run_id: str, code: int | None) -> str:
    """Say why processes ended without a word of process 0: what the first to fail had written."""
    said = sorted(folder.glob("rank-*.txt"), key=lambda path: path.stat().st_mtime_ns)
    if said or code is None:
        return said[0].read_text(encoding="utf-8") if said else ""
    error = RunFailedError(
        "training",
        f"one of the processes ended without a word (the launcher with code {code})",
        "all of them to train to the end",
        f"Read the log of {run_id}; launch_lora(config, resume={run_id!r}) goes on from its last "
        "checkpoint",
    )
    return str(error)


def main(run_id: str) -> int:
    """Train one process's share of a run, as torchrun starts it; return its exit code."""
    settings.enforce_offline()
    stop = StopSignal()
    threading.Thread(target=_listen, args=(False,), daemon=True).start()
    rank = _meet()
    if rank == 0:
        threading.Thread(target=_listen, args=(True,), daemon=True).start()
    return train(run_id, rank, stop)


def _listen(leads: bool) -> None:
    """End with the process that watches; process 0 also takes its wish to stop."""
    (poll := select.poll()).register(0, select.POLLHUP | (select.POLLIN if leads else 0))
    while True:
        poll.poll()
        if not leads or not os.read(0, 1):
            os._exit(EXIT_FAILED)
        os.kill(os.getpid(), signal.SIGTERM)


def _meet() -> int:
    """Join the other processes that the launcher started and return this one's number."""
    torch: Any = importlib.import_module("torch")
    on_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    torch.distributed.init_process_group(backend, timeout=SILENCE)
    rank = int(torch.distributed.get_rank())
    if on_gpu:
        torch.cuda.set_device(rank % torch.cuda.device_count())
    return rank


def train(
    run_id: str, rank: int, stop: Any, tell: Callable[[dict[str, float]], None] | None = None
) -> int:
    """Train one process's share; process 0 records how the run ended.

    Args:
        run_id: The run.
        rank: Number of this process.
        stop: Gets the reporter, to ask it for a stop.
        tell: Gets the numbers of each step.
    """
    folder = Path(runs.read_run(run_id).folder)
    if rank:
        runs.mute()
    try:
        code = _share(run_id, rank, stop, tell)
    except StoppedEarly:
        code = end_early(run_id)
    except Exception as error:
        log_failure(error)
        known = isinstance(error, FineTuningError)
        text = str(error if known else unexpected(run_id, error))
        (folder / f"rank-{rank}.txt").write_text(text, encoding="utf-8")
        code = EXIT_FAILED
    if rank == 0:
        (folder / "exit-code").write_text(str(code), encoding="utf-8")
    return code


def _share(run_id: str, rank: int, stop: Any, tell: Callable[..., None] | None) -> int:
    torch: Any = importlib.import_module("torch")
    job = session.job_of(run_id)
    if rank == 0:
        session.get_ready(job)
        torch.distributed.barrier()
        _train_together(job, torch, rank, tell)
        return session.follow_through(job, stop)
    with tempfile.TemporaryDirectory(prefix="fine-tuning-rank-") as folder:
        torch.distributed.barrier()
        # what process 0 has prepared serves as an earlier run's would; nothing is written there
        resumed, own = job.resume_folder, job.checkpoint_folder
        job.folder, job.checkpoint_folder = Path(folder), Path(folder) / "checkpoints"
        job.resume_folder = own
        session.get_ready(job)
        job.resume_folder = resumed
        _train_together(job, torch, rank, tell)
        with contextlib.suppress(NotFiniteError):  # process 0 meets the same number and says so
            job.train()
    return 0


def _train_together(job: Job, torch: Any, rank: int, tell: Callable[..., None] | None) -> None:
    """Make the processes stop at the same step, and each step's random numbers its own."""
    base: Any = importlib.import_module("transformers").TrainerCallback
    reporter, seed = job.reporter, job.config.seed

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        # from seed, step and process alone: a resumed run draws as the uninterrupted one does
        torch.manual_seed((seed << 32) + (state.global_step << 8) + rank)

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        wish = torch.tensor(float(rank == 0 and reporter.stop_requested))
        torch.distributed.broadcast(wish, src=0)
        if wish:
            control.should_training_stop = True

    def on_log(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        given: dict[str, Any] = logs or {}
        numbers = {k: float(v) for k, v in given.items() if isinstance(v, int | float)}
        if tell is not None and numbers:
            tell({**numbers, "step": float(state.global_step)})

    methods = {"on_step_begin": on_step_begin, "on_step_end": on_step_end, "on_log": on_log}
    together: Any = type("Together", (base,), methods)()
    trainer: Any = job.trainer
    trainer.callback_handler.callbacks.insert(0, together)
    # it sums over processes whenever a checkpoint is written, which process 0 does alone
    trainer.store_flos = lambda: None
    if rank:
        trainer.remove_callback(type(reporter))


# --- Ray ----------------------------------------------------------------------------------------


def _wait_for_the_workers(number: int, frame: object) -> None:
    """Do nothing at a signal that the store has told already."""


class _Flag:
    """In Ray's thread no signal arrives: a stop comes by the run store."""

    reporter: Any = None


def _with_ray(run_id: str, config: TrainingConfig) -> int:
    """Train in the workers of a Ray cluster (the one of RAY_ADDRESS, else one on this machine).

    The workers need this environment and the run's folders under the same paths.
    """
    ray: Any = require("ray", feature="engine=ray", extra="scale")
    train_api: Any = importlib.import_module("ray.train")
    torch_api: Any = importlib.import_module("ray.train.torch")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    kept = ("FINE_TUNING_", "HF_", "OMP_", "MKL_", "TRANSFORMERS_", "TOKENIZERS_")
    environment = {name: v for name, v in os.environ.items() if name.startswith(kept)}
    ray.init(include_dashboard=False)
    # after Ray, which sets its own; the workers read the wish to stop in the run store
    signal.signal(signal.SIGTERM, _wait_for_the_workers)
    gpus = bool(ray.cluster_resources().get("GPU"))
    folder = Path(runs.read_run(run_id).folder).resolve()
    trainer = torch_api.TorchTrainer(
        in_ray,
        train_loop_config={"run_id": run_id, "environment": environment},
        torch_config=torch_api.TorchConfig(
            backend="nccl" if gpus else "gloo", timeout_s=int(SILENCE.total_seconds())
        ),
        scaling_config=train_api.ScalingConfig(num_workers=config.num_processes, use_gpu=gpus),
        run_config=train_api.RunConfig(name="ray", storage_path=str(folder)),
    )
    result = trainer.fit()
    (folder / "ray.json").write_text(json.dumps(result.metrics), encoding="utf-8")
    return 0


def in_ray(given: dict[str, Any]) -> None:
    """Train one worker's share inside Ray and report each step to it.

    Raises:
        RunFailedError: This process could not train.
    """
    os.environ.update(given["environment"])
    api: Any = importlib.import_module("ray.train")
    rank, last = api.get_context().get_world_rank(), dict[str, float]()

    def tell(numbers: dict[str, float]) -> None:
        last.update(numbers)
        api.report(numbers)

    code = train(given["run_id"], rank, _Flag(), tell)
    adapter = Path(runs.read_run(given["run_id"]).folder) / "adapter"
    whole = rank == 0 and adapter.is_dir()
    # Ray keeps the numbers of reports that carry files (Ray Train 2.60): the adapter goes along
    api.report(last, checkpoint=api.Checkpoint.from_directory(str(adapter)) if whole else None)
    if code not in {0, EXIT_STOPPED}:
        raise RunFailedError(
            "training", f"process {rank} ended with {code}", "0", "Read the log of the run"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit((main if _SHARE in sys.argv else watch)(sys.argv[1]))
