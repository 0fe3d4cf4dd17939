"""What goes wrong while a run trains: full disk, stop in an evaluation, a curve that turns bad."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.training import get_run, weights
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import EXIT_FAILED, EXIT_STOPPED, session
from finetuning.training.worker.checkpoints import adopt, disk_is_full, read_state, write_state
from finetuning.training.worker.job import Job
from finetuning.training.worker.trainer import TrainerCallback, torch
from finetuning.training.worker.watch import best_of, judge

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",  # the libraries among themselves; the worker silences them too
    "ignore::UserWarning",
    "ignore::DeprecationWarning",
)

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """Give a real file system of 2 MB where this process may mount one, else None."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    program = shutil.which("mount")
    mounted = program is not None and not subprocess.run(command, capture_output=True).returncode
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def files_up_to(size: int) -> Generator[None]:
    """Let no file of this process grow beyond ``size`` bytes: writes fail as on a full disk."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def job_of(config: dict[str, Any], *callbacks: Any, folder: Path | None = None, **more: Any) -> Job:
    run = runs.create_run("launch_lora", arguments={"config": config, **more})
    runs.attach(run.run_id)
    place = folder or Path(run.folder)
    earlier = more.get("resume_from")
    job = Job(run.run_id, TrainingConfig.model_validate(config), place, earlier)
    job.prepare()
    for callback in callbacks:
        job.trainer.add_callback(callback)
    return job


def codes(job: Job) -> list[str]:
    return [alert["code"] for alert in runs.alerts_of(job.run_id)]


class At(TrainerCallback):
    """Does something when a step ends."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            self.act()


# --- disk ---------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_costs_the_new_checkpoint_and_never_an_old_one(
    settings_for: Settings, small_disk: Path | None, tmp_path: Path
) -> None:
    config = settings_for(validation_file=None, save_total_limit=1)
    job = job_of(config, folder=small_disk or tmp_path / "run")
    trainer: Any = job.trainer
    trainer._last_bytes = 1  # as if there had been room a moment ago
    with contextlib.ExitStack() as stack:

        def fill() -> None:
            if small_disk is None:
                stack.enter_context(files_up_to(50_000))
                return
            rest = weights.free_bytes(small_disk) - 30_000
            (small_disk / "other").write_bytes(b"x" * rest)
            trainer._last_bytes = 1

        job.trainer.add_callback(At(5, fill))
        job.train()
        assert job.trainer.state.global_step == 12, "training went on"
        (saved,) = weights.list_checkpoints(job.checkpoint_folder)
        assert (weights.step_of(saved), weights.fault_of(saved)) == (4, None)
        assert not list(job.checkpoint_folder.glob(".*")), "nothing half-written stays"
        with pytest.raises(Exception, match=r"os error|left on device|too large") as caught:
            job.save()
        assert disk_is_full(caught.value)
    alerts = runs.alerts_of(job.run_id)
    assert {alert["code"] for alert in alerts} == {"checkpoint_not_saved"}
    assert [alert["step"] for alert in alerts] == [6, 8, 10, 12]
    assert "checkpoint-4 is kept" in alerts[0]["message"]
    runs.finish(job.run_id, "failed")


def test_a_full_disk_under_the_run_store_holds_no_training_back_and_loses_no_step(
    settings_for: Settings,
) -> None:
    job = job_of(settings_for(num_train_epochs=3.0))
    job.reporter.flush_seconds = 0.0
    with contextlib.ExitStack() as stack:
        job.trainer.add_callback(At(5, lambda: stack.enter_context(files_up_to(500))))
        job.trainer.add_callback(At(9, stack.close))
        job.train()
    steps = [row["step"] for row in runs.steps_of(job.run_id) if "loss" in row]
    assert steps == list(range(1, 13))
    written = [weights.step_of(path) for path in weights.list_checkpoints(job.checkpoint_folder)]
    assert max(written) == 12
    assert 6 not in written
    runs.finish(job.run_id, "succeeded")


def test_too_little_room_is_seen_before_a_save(settings_for: Settings) -> None:
    job = job_of(settings_for(validation_file=None, num_train_epochs=0.5))
    trainer: Any = job.trainer
    trainer._last_bytes = 10**18
    job.train()
    (alert,) = runs.alerts_of(job.run_id)
    assert "MB are free and it needs 1000000000000.0 MB; there is no older one" in alert["message"]
    assert weights.list_checkpoints(job.checkpoint_folder) == []
    assert job.save()["adapter_step"] == 2
    runs.finish(job.run_id, "succeeded")


def test_a_run_that_cannot_write_its_adapter_says_why_and_how_to_go_on(
    settings_for: Settings,
) -> None:
    config = settings_for(validation_file=None, num_train_epochs=0.5)
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    with files_up_to(60_000):
        assert session.main(run_id) == EXIT_FAILED
    assert [alert["code"] for alert in runs.alerts_of(run_id)] == ["checkpoint_not_saved"]
    error = str(runs.read_run(run_id).error)
    assert "the disk is full" in error
    assert f"resume={run_id!r}" in error


# --- stopping -----------------------------------------------------------------------------------


class StopInEvaluation(TrainerCallback):
    """Sends this process SIGTERM in the middle of an evaluation."""

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_in_an_evaluation_saves_and_the_resumed_run_makes_it_up(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for(lora_dropout=0.05, num_train_epochs=2.0, per_device_train_batch_size=4)
    whole = job_of(config)
    whole.train()
    expected = whole.save()
    runs.finish(whole.run_id, "succeeded", result=expected)

    stop = session.StopSignal()
    job = job_of(config)
    job.trainer.callback_handler.callbacks.insert(0, StopInEvaluation())
    assert session.follow_through(job, stop) == EXIT_STOPPED
    assert runs.read_run(job.run_id).status == "cancelled"
    newest, _ = weights.newest_valid(job.checkpoint_folder)
    assert newest is not None
    assert weights.step_of(newest) == 8
    assert not [row for row in runs.steps_of(job.run_id) if "eval_loss" in row]
    pickles = [p.name for p in newest.iterdir() if p.suffix in {".pt", ".pth", ".bin", ".pkl"}]
    assert pickles == []

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was loaded")

    monkeypatch.setattr(torch, "load", refuse)
    resumed = job_of(config, resume_from=str(job.checkpoint_folder))
    resumed.train()
    result = resumed.save()
    made = runs.steps_of(resumed.run_id)
    assert made == [row for row in runs.steps_of(whole.run_id) if row["step"] > 8 or len(row) == 3]
    for name in ("best_step", "best_eval", "train_loss", "eval_loss"):
        assert result[name] == expected[name]
    files = [Path(each["adapter_dir"]) / "adapter_model.safetensors" for each in (result, expected)]
    assert files[0].read_bytes() == files[1].read_bytes()
    runs.finish(resumed.run_id, "succeeded")


# --- the best checkpoint ------------------------------------------------------------------------


class Worsen(TrainerCallback):
    """Spoils the adapter a little more after each step from the sixth on."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > 5:
            with torch.no_grad():
                for weight in self._job.trainer.trained:
                    weight.mul_(1.5)


def test_the_best_checkpoint_is_kept_by_evaluation_and_a_run_that_gets_worse_ends(
    settings_for: Settings,
) -> None:
    config = settings_for(
        eval_steps=1, save_steps=100, save_total_limit=1, num_train_epochs=8.0, max_grad_norm=100.0
    )
    job = job_of(config)
    job.trainer.add_callback(Worsen(job))
    job.train()
    result = job.save()
    best = result["best_step"]
    assert 1 <= best < result["steps"] < 32, "it stopped early"
    assert result["stopped_early"]
    assert result["adapter_step"] == best
    assert result["steps"] == best + 3, "three evaluations without improvement"
    steps = [weights.step_of(path) for path in weights.list_checkpoints(job.checkpoint_folder)]
    assert best in steps, "the best one stays, though newer ones came"
    kept = job.checkpoint_folder / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert (Path(result["adapter_dir"]) / kept.name).read_bytes() == kept.read_bytes()
    assert weights.fault_of(Path(result["adapter_dir"])) is None
    assert "tokenizer.json" in {path.name for path in Path(result["adapter_dir"]).iterdir()}
    assert not list(Path(result["adapter_dir"]).glob("optimizer.*"))
    assert {"stopped_early", "rising_eval_loss"} <= set(codes(job))
    runs.finish(job.run_id, "succeeded", result=result)
    assert get_run(job.run_id).adapter_dir == result["adapter_dir"]

    shutil.rmtree(kept.parent)
    assert job.save()["adapter_step"] == result["steps"], "without it the last weights are kept"
    assert "best_checkpoint_missing" in codes(job)


def test_without_keep_best_and_patience_the_last_weights_are_the_result(
    settings_for: Settings,
) -> None:
    config = settings_for(
        eval_steps=1, num_train_epochs=3.0, keep_best=False, early_stopping_patience=None
    )
    job = job_of(config)
    job.trainer.add_callback(Worsen(job))
    job.train()
    result = job.save()
    assert result["best_step"] < result["steps"] == result["adapter_step"] == 12
    assert not result["stopped_early"]
    runs.finish(job.run_id, "succeeded")


# --- alerts -------------------------------------------------------------------------------------

CONFIG = TrainingConfig(
    base_model="b", train_file="t", row_format="trl_prompt_completion", learning_rate=1e-3
)


def found_in(rows: list[dict[str, float]], chance: float = 5.0, **changes: Any) -> list[str]:
    config = CONFIG.model_copy(update=changes)
    history: list[dict[str, Any]] = []
    found: list[str] = []
    for number, row in enumerate(rows, start=1):
        history.append({"step": number, **row})
        found += [code for code, _ in judge(history, chance, config) if code not in found]
    return found


def test_a_healthy_curve_raises_no_alert() -> None:
    rows = [
        {"loss": 4.0 / (1 + step / 5), "grad_norm": 2.0 + math.sin(step)} for step in range(200)
    ]
    assert found_in(rows) == []
    assert found_in([{"eval_loss": value} for value in (2.0, 1.5, 1.501, 1.4, 1.41)]) == []


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{"loss": 8.0}], "worse_than_random_start"),
        ([{"loss": 0.0}], "zero_loss"),
        ([{"loss": 1.0}, {"loss": 3.0}, {"loss": 3.1}, {"loss": 3.2}], "loss_diverged"),
        ([{"grad_norm": 1.0}] * 20 + [{"grad_norm": 30.0}], "exploding_gradient"),
        ([{"eval_loss": 1.0}, {"eval_loss": 1.1}, {"eval_loss": 1.2}], "rising_eval_loss"),
    ],
)
def test_a_curve_that_turns_bad_raises_its_alert(rows: list[dict[str, float]], code: str) -> None:
    assert found_in(rows) == [code]
    assert found_in(rows[:-1]) == []


def test_the_gradient_is_judged_by_the_median_so_one_spike_hides_no_second_one() -> None:
    calm = [{"grad_norm": 1.0}] * 20
    spike = {"grad_norm": 1000.0}
    assert found_in([*calm, spike, spike]) == ["exploding_gradient"]
    late = [{"grad_norm": 1e-4}] * 20 + [{"grad_norm": 1e-2}]
    assert found_in(late) == [], "below the clipping threshold nothing has exploded"


def test_rewards_are_judged_upwards_and_pairs_against_even_odds() -> None:
    rewards: list[dict[str, Any]] = [
        {"step": step, "eval_reward": value} for step, value in enumerate((0.1, 0.5, 0.4))
    ]
    grpo = CONFIG.model_copy(update={"method": "grpo"})
    assert best_of(rewards, grpo) == (1, 0.5, 1)
    assert best_of([{"step": 1, "eval_reward": math.nan}], grpo) is None
    assert found_in([{"loss": 0.0}], method="grpo") == []


def test_every_alert_is_explained_in_the_knowledge_file() -> None:
    root = Path(__file__).parents[2]
    pattern = (
        r'(?:alert\(|record_alert\([^)]*?code=|_tell\(\s*job,|yield \(?)\s*"([a-z]+(?:_[a-z]+)+)"'
    )
    sources = sorted((root / "tools" / "finetuning" / "training").rglob("*.py"))
    codes = {code for path in sources for code in re.findall(pattern, path.read_text("utf-8"))}
    assert {"zero_loss", "checkpoint_skipped", "replay_made", "stopped_early"} <= codes
    told = (root / "training.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in told} == set()


# --- the files of a checkpoint ------------------------------------------------------------------


def test_nested_state_comes_back_as_it_was_and_holds_no_pickle(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "state": {0: {"step": torch.tensor(3.0), "m": torch.ones(2, 3, dtype=torch.bfloat16)}},
        "groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "fused": None, "params": [0]}],
        "words": (3, (1, 2), None),
        "none": {},
    }
    write_state(tmp_path, "optimizer", state)
    back = read_state(tmp_path, "optimizer")
    assert torch.equal(back["state"][0]["m"], state["state"][0]["m"])
    assert back["state"][0]["step"] == 3.0
    assert {**back, "state": 0} == {**state, "state": 0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["optimizer.json", "optimizer.safetensors"]


def test_only_an_undamaged_checkpoint_is_adopted(tmp_path: Path) -> None:
    good = tmp_path / "old" / "checkpoint-2"
    with weights.whole_folder(good) as inside:
        (inside / "adapter_model.safetensors").write_bytes(b"weights")
    bad = Path(shutil.copytree(good, tmp_path / "old" / "checkpoint-3"))
    (bad / "adapter_model.safetensors").write_bytes(b"cut")
    for source in (good, bad, tmp_path / "old" / "checkpoint-9", good):
        adopt(source, tmp_path / "new")
    assert [path.name for path in weights.list_checkpoints(tmp_path / "new")] == ["checkpoint-2"]
    assert weights.fault_of(tmp_path / "new" / "checkpoint-2") is None


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("I/O error: (os error 13)"), False),
        (ValueError("x"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults(error: Exception, full: bool) -> None:
    assert disk_is_full(error) is full
    wrapped = RuntimeError("cannot write")
    wrapped.__cause__ = error if isinstance(error, OSError) else None
    assert disk_is_full(wrapped) is (full and isinstance(error, OSError))


@pytest.mark.slow
def test_the_kill_benchmark_runs_and_finds_all_resumes_identical(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "checkpoint_kills.py"
    log = tmp_path / "kills.jsonl"
    command = [sys.executable, str(script), "--quick", "--log", str(log)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = [json.loads(line) for line in log.read_text().splitlines()]
    assert [kill["identical"] for kill in kills] == [True] * len(kills)
    assert any(kill["inside_a_write"] for kill in kills)
