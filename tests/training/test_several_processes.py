"""One run in several processes: the steps of one process, and no silence when one of them ends."""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.training import cancel_run, get_run, launch_lora, newest_valid, weights
from finetuning.training.worker import EXIT_FAILED, distributed, session

Settings = Callable[..., dict[str, Any]]
PATIENCE = 120.0

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def in_this_process(config: dict[str, Any], resume_from: Path | None = None) -> str:
    arguments = {"config": config, "resume_from": resume_from and str(resume_from)}
    run_id = runs.create_run("launch_lora", arguments=arguments).run_id
    assert session.main(run_id) == 0, runs.read_run(run_id).error
    return run_id


def losses_of(run_id: str) -> dict[int, float]:
    rows = [row for row in runs.steps_of(run_id) if "loss" in row]
    found = {int(row["step"]): float(row["loss"]) for row in rows}
    assert len(found) == len(rows), "each step is written once"
    return found


def stopped_at(run_id: str, step: int) -> str:
    """Return a run that looks as if this one had been stopped after a step."""
    arguments = runs.arguments_of(run_id)
    copy = runs.create_run("launch_lora", arguments={**arguments, "copy": step})
    name = f"checkpoints/checkpoint-{step}"
    shutil.copytree(Path(runs.read_run(run_id).folder) / name, Path(copy.folder) / name)
    runs.finish(copy.run_id, "cancelled")
    return copy.run_id


@pytest.mark.slow
def test_a_run_goes_from_one_process_to_two_and_back_with_the_same_losses(
    settings_for: Settings,
) -> None:
    config = settings_for(
        num_train_epochs=16.0,
        save_steps=8,
        save_total_limit=9,
        eval_steps=500,
        length_buckets=False,
    )
    whole = in_this_process(config)
    expected = losses_of(whole)
    assert len(expected) == 64

    two = {"engine": "torchrun", "num_processes": 2, "per_device_train_batch_size": 4}
    run_id = launch_lora({**config, **two}, resume=stopped_at(whole, 8)).run_id
    assert run_id
    while (runs.read_run(run_id).progress.step or 0) < 14:
        state = get_run(run_id, wait_seconds=0.05)
        assert state.status in {"queued", "running"}, Path(str(state.log_file)).read_text()
    cancel_run(run_id)
    state = get_run(run_id, wait_seconds=PATIENCE)
    log = Path(str(state.log_file)).read_text()
    assert state.status == "cancelled", log
    assert "with a checkpoint" in str(state.error), log
    found = losses_of(run_id)
    assert min(found) == 1, "the curve up to the checkpoint is carried over"
    assert found == pytest.approx({step: expected[step] for step in found}, rel=1e-3)
    folder = Path(runs.read_run(run_id).folder)
    last, skipped = newest_valid(folder / "checkpoints")
    assert last is not None
    assert weights.step_of(last) == max(found) >= 14
    assert skipped == {}
    assert json.loads((folder / "preflight.json").read_text())["world_size"] == 2
    assert not list(folder.glob("rank-*"))

    back = in_this_process(config, folder / "checkpoints")
    after = losses_of(back)
    assert (min(after), max(after)) == (max(found) + 1, 64)
    assert after == pytest.approx({step: expected[step] for step in after}, rel=1e-3, abs=1e-4)


DEAD = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit(9)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_as_failed(
    settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_that_dies.py").write_text(DEAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = settings_for(engine="torchrun", num_processes=2)
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    assert distributed.watch(run_id, module="one_that_dies") == EXIT_FAILED
    run = runs.read_run(run_id)
    assert run.status == "failed"
    assert "one of the processes ended without a word" in str(run.error)
    assert f"resume={run_id!r}" in str(run.error)


def test_what_a_process_had_to_say_is_the_runs_error(
    settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for(engine="torchrun", num_processes=2)
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    (Path(runs.read_run(run_id).folder) / "rank-1.txt").write_text("training: the reason.")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert distributed.watch(run_id) == EXIT_FAILED
    assert runs.read_run(run_id).error == "training: the reason."


def test_ray_is_asked_for_by_its_extra(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = settings_for(engine="ray", num_processes=2)
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    assert distributed.watch(run_id) == EXIT_FAILED
    assert "pip install 'fine-tuning-skill[scale]'" in str(runs.read_run(run_id).error)


@pytest.fixture
def world_of_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be process 0 of 1, as a launcher that starts too few would leave this one."""
    accelerate: Any = importlib.import_module("accelerate.state")
    torch: Any = importlib.import_module("torch")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**place, "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    torch.distributed.init_process_group("gloo")
    yield
    torch.distributed.destroy_process_group()
    accelerate.AcceleratorState._reset_state(reset_partial_state=True)


class Nobody:
    """Asks for no stop."""

    reporter: Any = None


@pytest.mark.usefixtures("world_of_one")
def test_a_launcher_that_starts_too_few_processes_is_an_error(settings_for: Settings) -> None:
    config = settings_for(engine="torchrun", num_processes=2)
    run = runs.create_run("launch_lora", arguments={"config": config})
    runs.attach(run.run_id)
    assert distributed.train(run.run_id, 0, Nobody()) == EXIT_FAILED
    said = (Path(run.folder) / "rank-0.txt").read_text()
    assert "the launcher started a world of 1; expected 2 processes" in said
    runs.finish(run.run_id, "failed")


@pytest.mark.usefixtures("world_of_one")
def test_process_0_writes_the_run_and_tells_each_step(settings_for: Settings) -> None:
    config = settings_for(engine="torchrun", num_train_epochs=1.0)
    run = runs.create_run("launch_lora", arguments={"config": config})
    runs.attach(run.run_id)
    told: list[dict[str, float]] = []
    assert distributed.train(run.run_id, 0, Nobody(), told.append) == 0
    assert runs.read_run(run.run_id).status == "succeeded"
    assert [row["loss"] for row in told if "loss" in row] == list(losses_of(run.run_id).values())
    assert (Path(run.folder) / "exit-code").read_text() == "0"


class Cluster:
    """As much of Ray's interface as is called, with one worker in this process."""

    told: list[dict[str, float]]
    kept: Path
    work: Callable[[], None]

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = []
        names = ("ray", "ray.train", "ray.train.torch")
        ray, train, torch_part = (types.ModuleType(name) for name in names)
        for module, parts in (
            (ray, {"init": self.init, "cluster_resources": dict, "train": train}),
            (train, {"get_context": lambda: self, "report": self.report, "torch": torch_part}),
            (train, {"ScalingConfig": dict, "RunConfig": dict, "Checkpoint": self}),
            (torch_part, {"TorchConfig": dict, "TorchTrainer": self.trainer}),
        ):
            for name, part in parts.items():
                setattr(module, name, part)
        for module in (ray, train, torch_part):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def init(self, *, include_dashboard: bool) -> None:
        assert not include_dashboard

    def get_world_rank(self) -> int:
        return 0

    def from_directory(self, folder: str) -> Path:
        return Path(folder)

    def report(self, numbers: dict[str, float], checkpoint: Path | None = None) -> None:
        self.told.append(dict(numbers))
        self.kept = checkpoint or Path()

    def trainer(self, loop: Callable[[Any], None], **given: Any) -> Cluster:
        assert given["scaling_config"] == {"num_workers": 1, "use_gpu": False}
        assert "FINE_TUNING_HOME" in given["train_loop_config"]["environment"]
        self.work = lambda: loop(given["train_loop_config"])
        return self

    def fit(self) -> Cluster:
        self.work()
        return self

    @property
    def metrics(self) -> dict[str, float]:
        return self.told[-1]


@pytest.mark.usefixtures("world_of_one")
def test_a_cluster_is_given_the_run_and_gives_back_its_numbers(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(monkeypatch)
    config = settings_for(engine="ray", num_train_epochs=1.0)
    run = runs.create_run("launch_lora", arguments={"config": config})
    assert distributed.watch(run.run_id) == 0
    assert runs.read_run(run.run_id).status == "succeeded"
    metrics = json.loads((Path(run.folder) / "ray.json").read_text())
    assert metrics["loss"] == losses_of(run.run_id)[4]
    assert cluster.kept == Path(run.folder) / "adapter"


@pytest.mark.usefixtures("world_of_one")
def test_a_worker_that_cannot_train_tells_the_cluster(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cluster(monkeypatch)
    config = settings_for(engine="ray", base_model="/nowhere")
    run = runs.create_run("launch_lora", arguments={"config": config})
    assert distributed.watch(run.run_id) == EXIT_FAILED
    assert runs.read_run(run.run_id).status == "failed"


def test_a_step_keeps_its_rows_when_the_number_of_processes_changes(
    settings_for: Settings,
) -> None:
    config = settings_for()
    earlier = runs.create_run("launch_lora", arguments={"config": config})
    runs.finish(earlier.run_id, "cancelled")
    two = settings_for(engine="torchrun", num_processes=2)
    with pytest.raises(BadInputError, match=r"held 8 rows, with this config it would hold 16") as e:
        launch_lora(two, resume=earlier.run_id, dry_run=True)
    assert e.value.next_step == "Set per_device_train_batch_size to 4"
    launch_lora({**two, "per_device_train_batch_size": 4}, resume=earlier.run_id, dry_run=True)


def test_a_muted_process_writes_nothing_about_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = runs.create_run("launch_lora", arguments={}).run_id
    monkeypatch.setattr(runs, "_muted", False)
    runs.mute()
    runs.record_steps(run_id, [{"step": 1, "loss": 1.0}])
    runs.record_alert(run_id, code="x", message="y")
    runs.record_progress(run_id, runs.RunProgress(step=1))
    assert runs.steps_of(run_id) == []
    assert runs.alerts_of(run_id) == []
    assert runs.read_run(run_id).progress.step is None


def test_the_gpu_benchmark_says_plainly_that_it_cannot_run_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "gpu_training.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--base", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "gpu_training: skipped, " in capsys.readouterr().out
