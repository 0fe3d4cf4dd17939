"""Training in this process: TRL's loss for less, guards, checkpoints and true endings."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.runs import store
from finetuning.training import weights
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import (
    EXIT_FAILED,
    EXIT_NOT_FINITE,
    EXIT_STOPPED,
    NotFiniteError,
    StoppedEarly,
    end_early,
    not_finite,
    session,
)
from finetuning.training.worker.job import Job
from finetuning.training.worker.trainer import TrainerCallback, torch

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",  # the libraries among themselves; the worker silences them too
    "ignore::UserWarning",
    "ignore::DeprecationWarning",
)


Settings = Callable[..., dict[str, Any]]


def queue(config: dict[str, Any], **arguments: Any) -> str:
    return runs.create_run("launch_lora", arguments={"config": config, **arguments}).run_id


def job_of(config: dict[str, Any], *callbacks: Any) -> Job:
    run = runs.create_run("launch_lora", arguments={"config": config})
    runs.attach(run.run_id)
    job = Job(run.run_id, TrainingConfig.model_validate(config), Path(run.folder), None)
    job.prepare()
    for callback in callbacks:
        job.trainer.add_callback(callback(job))
    return job


class Poison(TrainerCallback):
    """Breaks the adapter after the update of step 3, as an overflow would."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            with torch.no_grad():
                self.job.trainer.trained[0][0, 0] = math.nan


class Overflow(TrainerCallback):
    """Makes the update of step 4 infinite, after loss and gradient were fine."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            self.job.trainer.trained[0].grad[0, 0] = math.inf


def test_models_with_their_own_logits_and_outputs_go_through_trl(settings_for: Settings) -> None:
    trainer: Any = job_of(settings_for()).trainer
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=10)
    loss, outputs = trainer.compute_loss(trainer.model, dict(batch), True, 10)
    assert loss.item() == pytest.approx(ours.item(), rel=1e-5)
    assert outputs.logits.ndim == 3


def test_a_run_succeeds_and_its_adapter_is_sealed_and_loads(
    settings_for: Settings, base: Path
) -> None:
    run_id = queue(settings_for())
    assert session.main(run_id) == 0
    run = runs.read_run(run_id)
    assert run.status == "succeeded"
    assert run.result is not None
    adapter = Path(run.result["adapter_dir"])
    assert weights.fault_of(adapter) is None
    assert {"adapter_model.safetensors", "tokenizer.json"} <= {p.name for p in adapter.iterdir()}
    assert not list(Path(run.folder).rglob("*.bin"))
    steps = runs.steps_of(run_id)
    losses = [row["loss"] for row in steps if "loss" in row]
    assert len(losses) == run.result["steps"] == 12
    assert losses[-1] < losses[0]
    assert len([row for row in steps if "eval_loss" in row]) == 3
    assert run.progress.step == run.progress.total_steps == 12
    log = json.loads(Path(run.result["log_file"]).read_text())
    assert [row["loss"] for row in log["log_history"] if "loss" in row] == losses
    peft: Any = importlib.import_module("peft")
    transformers: Any = importlib.import_module("transformers")
    model = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base), str(adapter)
    )
    assert sum(abs(w).sum() for n, w in model.named_parameters() if "lora_B" in n) > 0


def test_no_row_text_reaches_the_store_or_the_log(
    settings_for: Settings, isolated_environment: Path
) -> None:
    run_id = queue(settings_for(num_train_epochs=1.0))
    assert session.main(run_id) == 0
    for path in isolated_environment.rglob("*"):
        if path.is_file() and path.name not in {"tokenizer.json"}:
            assert b"Please send" not in path.read_bytes(), path


@pytest.mark.parametrize(("fault", "what"), [(Poison, "loss"), (Overflow, "adapter")])
def test_a_number_that_is_not_finite_stops_within_one_step_and_keeps_the_last_good_adapter(
    settings_for: Settings, fault: type[Any], what: str
) -> None:
    job = job_of(settings_for(), fault)
    with pytest.raises(NotFiniteError) as caught:
        job.train()
    assert (caught.value.what, caught.value.step) == (what, 4)
    result = job.rescue()
    assert result["steps"] == 2, "the newest checkpoint; the weights in memory are spoilt"
    safetensors: Any = importlib.import_module("safetensors.torch")
    weights = safetensors.load_file(Path(result["adapter_dir"]) / "adapter_model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    runs.finish(job.run_id, "failed")


class SpoiltGradient(TrainerCallback):
    """Makes the gradient of step 4 not a number; the weights stay as step 3 left them."""

    def __init__(self, job: Job) -> None:
        job.trainer.trained[0].register_hook(self._spoil)
        self._job = job

    def _spoil(self, gradient: Any) -> Any:
        return gradient * math.nan if self._job.trainer.state.global_step == 3 else gradient


def test_a_gradient_that_is_not_finite_is_never_applied(settings_for: Settings) -> None:
    job = job_of(settings_for(), SpoiltGradient)
    with pytest.raises(NotFiniteError, match="gradient norm is not finite at step 4"):
        job.train()
    assert job.trainer.weights_are_finite()
    assert job.rescue()["steps"] == 3, "the weights in memory are the last good ones"
    runs.finish(job.run_id, "failed")


def test_a_base_with_broken_weights_fails_at_step_1_with_its_own_exit_code(
    settings_for: Settings, base: Path
) -> None:
    safetensors: Any = importlib.import_module("safetensors.torch")
    weights = safetensors.load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    safetensors.save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    run_id = queue(settings_for())
    assert session.main(run_id) == EXIT_NOT_FINITE
    run = runs.read_run(run_id)
    assert run.status == "failed"
    assert "the loss is not finite at step 1" in str(run.error)
    assert "Check the weights of the base model" in str(run.error)
    assert run.result is not None
    assert run.result["adapter_dir"] is None


def test_the_fault_names_the_kept_adapter_and_the_rate(settings_for: Settings) -> None:
    config = TrainingConfig.model_validate(settings_for())
    error = not_finite(
        config, NotFiniteError("loss", 9), {"adapter_dir": "runs/x/adapter", "steps": 8}
    )
    assert "learning_rate 0.004" in str(error)
    assert "the adapter of step 8 is kept in runs/x/adapter" in str(error)
    bare = not_finite(config, NotFiniteError("loss", 9), {"adapter_dir": None})
    assert str(bare).endswith("Configure again with a lower learning_rate.")


class Terminate(TrainerCallback):
    """Sends this process SIGTERM in the middle of step 3."""

    def __init__(self, job: Job | None = None) -> None:
        pass

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_saves_within_the_step_and_exits_with_its_own_code(settings_for: Settings) -> None:
    run_id = queue(settings_for(save_steps=100))
    stop = session.StopSignal()
    runs.attach(run_id)
    job = session.job_of(run_id)
    job.prepare()
    job.trainer.add_callback(Terminate())
    assert session.follow_through(job, stop) == EXIT_STOPPED
    run = runs.read_run(run_id)
    assert run.status == "cancelled"
    assert f"resume={run_id!r}" in str(run.error)
    (saved,) = weights.list_checkpoints(Path(run.folder) / "checkpoints")
    assert weights.step_of(saved) == 3
    assert weights.fault_of(saved) is None


def test_a_stop_before_the_first_step_ends_at_once(settings_for: Settings) -> None:
    run_id = queue(settings_for())
    stop = session.StopSignal()
    with pytest.raises(StoppedEarly):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.reporter is None
    assert end_early(run_id) == EXIT_STOPPED
    assert runs.read_run(run_id).status == "cancelled"


class Flag(TrainerCallback):
    """Sets the run's cancel flag in step 2, as a reader on another machine would."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            with store.transaction() as connection:
                connection.execute("UPDATE runs SET cancel_requested = 1")


def test_a_cancel_flag_alone_also_stops_the_run(settings_for: Settings) -> None:
    job = job_of(settings_for(), Flag)
    job.reporter.flush_seconds = 0.0
    job.train()
    assert job.reporter.stop_requested
    assert job.trainer.state.global_step == 3, "seen when step 2 was logged, obeyed after the next"
    runs.finish(job.run_id, "cancelled")


def test_a_faulty_file_fails_the_run_with_the_command_that_finds_the_fault(
    settings_for: Settings, prepared: Path
) -> None:
    (prepared / "train.jsonl").write_text('{"prompt": "my secret", "completion": 5}\n')
    run_id = queue(settings_for())
    assert session.main(run_id) == EXIT_FAILED
    run = runs.read_run(run_id)
    assert run.status == "failed"
    assert "validate-jsonl" in str(run.error)
    assert "secret" not in str(run.error)


def test_layers_may_be_named_and_an_unknown_one_fails_the_run(settings_for: Settings) -> None:
    run_id = queue(settings_for(target_modules=["no_such_layer"]))
    assert session.main(run_id) == EXIT_FAILED
    assert "unknown layer 'no_such_layer'; expected one of" in str(runs.read_run(run_id).error)
    job = job_of(settings_for(target_modules="q_proj"))
    assert {weight.shape for weight in job.trainer.trained} == {(4, 128), (128, 4)}
    assert len(job.trainer.trained) == 4
    runs.finish(job.run_id, "cancelled")


@pytest.mark.parametrize("shown", [False, True])
def test_an_unexpected_fault_is_logged_by_place_and_its_text_only_on_a_persons_word(
    settings_for: Settings,
    base: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shown: bool,
) -> None:
    if shown:
        monkeypatch.setenv("FINE_TUNING_SHOW_CONTENT", "1")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    run_id = queue(settings_for())
    assert session.main(run_id) == EXIT_FAILED
    error = str(runs.read_run(run_id).error)
    assert "SafetensorError in" in error
    assert f"resume={run_id!r}" in error
    log = capfd.readouterr().err
    assert "job.py" in log
    assert ("characters)" in log) != shown


def test_rows_without_labels_and_a_large_validation_file_are_dealt_with(
    settings_for: Settings,
) -> None:
    job = job_of(settings_for(max_length=24, max_validation_rows=3, num_train_epochs=1.0))
    trainer: Any = job.trainer
    assert len(trainer.eval_dataset) == 3
    assert job.audit.rows_truncated
    (alert,) = [a for a in runs.alerts_of(job.run_id) if a["code"] == "rows_without_labels"] or [{}]
    assert bool(alert) == bool(job.audit.rows_without_labels)
    runs.finish(job.run_id, "cancelled")


def test_resuming_after_damage_uses_the_checkpoint_before_and_says_so(
    settings_for: Settings,
) -> None:
    config = settings_for(num_train_epochs=2.0)
    whole = queue(config)
    assert session.main(whole) == 0
    folder = Path(runs.read_run(whole).folder) / "checkpoints"
    newest = folder / "checkpoint-8" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    resumed = queue({**config, "weight_decay": 0.0, "goal": "x"}, resume_from=str(folder))
    assert session.main(resumed) == 0
    alert, changed = runs.alerts_of(resumed)
    assert changed["code"] == "settings_changed"
    assert changed["message"].startswith("goal: not as in the run")
    assert alert["code"] == "checkpoint_skipped"
    assert "optimizer.safetensors has changed" in alert["message"]
    result, reference = runs.read_run(resumed).result, runs.read_run(whole).result
    assert result is not None
    assert reference is not None
    assert result["resumed_from_step"] == 6
    assert adapter_bytes(result) == adapter_bytes(reference), "bit-identical to the whole run"
    late = [row for row in runs.steps_of(whole) if row["step"] > 6]
    assert runs.steps_of(resumed) == late


def adapter_bytes(result: dict[str, Any]) -> bytes:
    return (Path(result["adapter_dir"]) / "adapter_model.safetensors").read_bytes()


def test_resuming_without_any_checkpoint_starts_anew_and_says_so(
    settings_for: Settings, tmp_path: Path
) -> None:
    run_id = queue(settings_for(num_train_epochs=1.0), resume_from=str(tmp_path / "nothing"))
    assert session.main(run_id) == 0
    assert [alert["code"] for alert in runs.alerts_of(run_id)] == ["no_checkpoint"]


def test_a_loss_far_above_chance_and_a_dead_loss_raise_alerts(settings_for: Settings) -> None:
    job = job_of(settings_for(validation_file=None, num_train_epochs=1.0))
    trainer: Any = job.trainer
    for step, loss in enumerate((99.0, 0.0, 0.0), start=1):
        trainer.state.global_step = step
        trainer.log({"loss": loss, "grad_norm": 0.0, "learning_rate": 1e-3})
    codes = [alert["code"] for alert in runs.alerts_of(job.run_id)]
    assert codes == ["worse_than_random_start", "zero_loss"]
    runs.finish(job.run_id, "cancelled")
