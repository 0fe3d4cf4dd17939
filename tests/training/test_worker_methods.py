"""Every method learns, gives TRL's loss for less, and stops at broken numbers."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, MissingExtraError
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, Example, NotFiniteError, pack
from finetuning.training.worker.job import Job
from finetuning.training.worker.methods import load_model, load_verifier, reward_of, settings_of
from finetuning.training.worker.trainer import TrainerCallback, torch, trl

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",  # the libraries among themselves; the worker silences them too
    "ignore::UserWarning",
    "ignore::DeprecationWarning",
)
FORMS = {
    "sft": "trl_prompt_completion",
    "dpo": "trl_preference",
    "kto": "trl_kto",
    "cpt": "trl_text",
    "grpo": "trl_prompt",
}
VERIFIER = """
def right(prompt, completion, wanted, **columns):
    assert prompt.startswith("Please") and not columns
    return completion.count(wanted) / max(1, len(completion))
"""


def rows_of(method: str, orders: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    for order in orders:
        asked, good = order["prompt"], order["completion"]
        bad = f"no {asked}"
        if method == "sft":
            yield order
        elif method == "dpo":
            yield {"prompt": asked, "chosen": good, "rejected": bad}
        elif method == "kto":
            yield {"prompt": asked, "completion": good, "label": True}
            yield {"prompt": asked, "completion": bad, "label": False}
        elif method == "cpt":
            yield {"text": f"{asked} {good}"}
        else:
            yield {"prompt": asked, "wanted": "e"}


Start = Callable[..., Job]


@pytest.fixture
def start(
    settings_for: Callable[..., dict[str, Any]], tmp_path: Path, orders: list[dict[str, str]]
) -> Start:
    """Return a function that prepares a run of a method on two dozen rows."""

    def begin(method: str, **changes: Any) -> Job:
        path = tmp_path / f"{method}.jsonl"
        lines = (json.dumps(row) + "\n" for row in rows_of(method, orders[:24]))
        path.write_text("".join(lines))
        if method == "grpo":
            (tmp_path / "verifier.py").write_text(VERIFIER)
            changes = {"verifier": f"{tmp_path}/verifier.py:right", **changes}
        config = {
            **settings_for(validation_file=None, test_file=None, save_steps=1000),
            "method": method,
            "row_format": FORMS[method],
            "train_file": str(path),
            "max_completion_length": 12,
            "num_train_epochs": 2.0,
            **changes,
        }
        run = runs.create_run("launch_lora", arguments={"config": config})
        runs.attach(run.run_id)
        job = Job(run.run_id, TrainingConfig.model_validate(config), Path(run.folder), None)
        job.prepare()
        return job

    return begin


def curve(job: Job, name: str) -> list[float]:
    return [row[name] for row in job.trainer.state.log_history if name in row]


def shaken(job: Job) -> Any:
    """Give the adapter weights that matter (a new one adds nothing) and return the trainer."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in job.trainer.trained:
            weight.add_(torch.randn(weight.shape) * 0.01)
    return job.trainer


STOCK = {"sft": trl.SFTTrainer, "cpt": trl.SFTTrainer, "dpo": trl.DPOTrainer, "kto": trl.KTOTrainer}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", list(STOCK))
def test_loss_and_gradients_are_those_of_stock_trl_on_the_same_batch(
    start: Start, method: str, precision: str
) -> None:
    ours: Any = shaken(start(method, precision=precision, num_train_epochs=1.0))
    batch = next(iter(ours.get_train_dataloader()))
    model = load_model(TrainingConfig.model_validate(runs_config(ours, method, precision)))
    stock = STOCK[method](
        model=model,
        args=ours.args,
        train_dataset=ours.train_dataset,
        processing_class=ours.processing_class,
        peft_config=copy.deepcopy(ours.model.peft_config["default"]),
    )
    theirs = [weight for weight in stock.model.parameters() if weight.requires_grad]
    with torch.no_grad():
        for mine, other in zip(ours.trained, theirs, strict=True):
            other.copy_(mine)
    found: list[tuple[float, float]] = []
    for trainer, weights in ((ours, ours.trained), (stock, theirs)):
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        norm = torch.stack([weight.grad.float().norm() for weight in weights]).norm()
        found.append((loss.item(), norm.item()))
    # a margin is a difference of sums over answers, so it holds what bf16 loses twice
    close = {"fp32": 1e-5, "bf16": 1e-2 if method == "dpo" else 1e-3}[precision]
    assert found[0][0] == pytest.approx(found[1][0], rel=close)
    assert found[0][1] == pytest.approx(found[1][1], rel=2e-2 if precision == "bf16" else 1e-4)
    assert {"labelled positions only", "joined adapters"} <= set(ours.fast_paths)


def runs_config(trainer: Any, method: str, precision: str) -> dict[str, Any]:
    run = runs.list_runs(1)[0]
    config: dict[str, Any] = dict(runs.arguments_of(run.run_id)["config"])
    assert (config["method"], config["precision"]) == (method, precision)
    return config


def test_preferences_widen_the_margin(start: Start) -> None:
    job = start("dpo")
    job.train()
    margins = curve(job, "rewards/margins")
    assert margins[0] == pytest.approx(0.0, abs=1e-3)
    assert margins[-1] > 2.0
    assert curve(job, "loss")[0] == pytest.approx(math.log(2), abs=1e-3)
    assert job.result()["labels"]["labelled_fraction"] > 0.5
    assert "entropy" not in job.trainer.state.log_history[0], "not measured, so not logged"


def test_a_token_across_the_border_is_not_quoted_in_the_log(
    start: Start,
    orders: list[dict[str, str]],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    orders[0] = {"prompt": "send 1", "completion": "8 vases"}
    start("dpo", num_train_epochs=1.0)
    assert "send" not in capfd.readouterr().err + caplog.text


def test_single_judgements_lower_the_loss(start: Start) -> None:
    job = start("kto")
    job.train()
    losses = curve(job, "loss")
    assert losses[0] == pytest.approx(0.5, abs=0.01)
    assert losses[-1] < 0.1


def test_a_verifier_raises_the_reward_within_twenty_steps(start: Start) -> None:
    job = start("grpo", per_device_train_batch_size=32, learning_rate=1e-2, num_generations=8)
    job.train()
    rewards = curve(job, "reward")
    assert len(rewards) <= 20
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1


@pytest.mark.parametrize("packing", [False, True])
def test_texts_are_learned_whole_packed_or_not(start: Start, packing: bool) -> None:
    job = start("cpt", packing=packing, num_train_epochs=4.0 if packing else 2.0)
    job.train()
    losses = curve(job, "loss")
    assert losses[-1] < 0.8 * losses[0]
    labels = job.result()["labels"]
    assert labels["labelled_fraction"] == 1.0
    assert labels["rows_without_labels"] == 0


def test_all_weights_are_trained_without_an_adapter(start: Start) -> None:
    job = start("sft", tuning="full", learning_rate=2e-3)
    assert not hasattr(job.trainer.model, "peft_config")
    job.train()
    losses = curve(job, "loss")
    assert losses[-1] < 0.5 * losses[0]
    assert job.result()["trained_parameters"] == sum(
        weight.numel() for weight in job.trainer.model.parameters()
    )


class Spoil(TrainerCallback):
    """Breaks a weight before the second step."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            with torch.no_grad():
                self._trainer.trained[0].view(-1)[0] = math.nan


@pytest.mark.parametrize("method", ["dpo", "kto", "cpt"])
def test_every_method_stops_at_a_broken_number(start: Start, method: str) -> None:
    job = start(method)
    job.trainer.add_callback(Spoil(job.trainer))
    with pytest.raises(NotFiniteError, match="step 2"):
        job.train()
    assert job.trainer.state.global_step == 1


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_a_run_resumed_in_mid_epoch_ends_bit_by_bit_as_the_whole_one(
    start: Start, method: str
) -> None:
    changes = {"save_steps": 2, "num_train_epochs": 2.0 if method == "dpo" else 0.25}
    whole = start(method, **changes)
    whole.train()
    steps = whole.trainer.state.global_step
    shutil.rmtree(whole.checkpoint_folder / f"checkpoint-{steps}")
    resumed = start(method, **changes)
    resumed.resume_folder = whole.checkpoint_folder
    resumed.train()
    assert resumed.result()["resumed_from_step"] == steps - 2 > 0
    for ours, theirs in zip(resumed.trainer.trained, whole.trainer.trained, strict=True):
        assert torch.equal(ours, theirs)
    assert curve(resumed, "loss") == curve(whole, "loss")


def test_packed_texts_do_not_see_each_other(start: Start) -> None:
    packed: Any = shaken(start("cpt", packing=True))
    alone: Any = shaken(start("cpt"))
    batch = next(iter(packed.get_train_dataloader()))
    singles = alone.data_collator(list(alone.train_dataset))
    with torch.no_grad():
        whole = packed.compute_loss(packed.model, dict(batch), num_items_in_batch=1)
        parts = alone.compute_loss(alone.model, dict(singles), num_items_in_batch=1)
    assert batch["input_ids"].shape[0] == 1, "all texts in one row"
    assert whole.item() == pytest.approx(parts.item(), rel=1e-5)


def test_packing_fills_rows_and_cuts_nothing() -> None:
    examples = [Example([n] * n, [n] * n) for n in (9, 1, 5, 5, 3, 7, 10, 2)]
    rows = pack(examples, 10)
    assert sorted(len(part.input_ids) for row in rows for part in row) == [1, 2, 3, 5, 5, 7, 9, 10]
    sizes = [sum(len(part.input_ids) for part in row) for row in rows]
    assert max(sizes) <= 10
    assert len(rows) == 5, "42 tokens need no more rows of 10"


def test_evaluation_is_the_mean_over_tokens_whatever_the_batches(
    start: Start, prepared: Path
) -> None:
    held_out = str(prepared / "validation.jsonl")
    found: list[float] = []
    for size in (1, 8):
        job = start("sft", validation_file=held_out, per_device_train_batch_size=size)
        found.append(shaken(job).evaluate()["eval_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    trainer: Any = job.trainer
    whole = trainer.data_collator(list(trainer.eval_dataset))
    with torch.no_grad():
        assert trainer.compute_loss(trainer.model, whole).item() == pytest.approx(
            found[0], rel=1e-5
        )


def test_unequal_micro_batches_of_a_step_are_one_mean_over_its_tokens(start: Start) -> None:
    trainer: Any = shaken(start("sft", per_device_train_batch_size=4))
    rows = list(trainer.train_dataset)[:8]
    one, two = (trainer.data_collator(part) for part in (rows[:3], rows[3:]))
    count = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in (one, two))
    total = 0.0
    for batch in (one, two):
        total += trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count).item()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()
    assert total == pytest.approx(loss, rel=1e-5)


def test_a_verifier_is_named_by_file_or_module_and_returns_numbers(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text(
        "def by_length(prompt, completion, wanted):\n    return len(completion) == wanted\n"
        "def word(prompt, completion):\n    return 'good'\n"
        "def broken(prompt, completion):\n    return float('nan')\n"
    )
    reward = reward_of(load_verifier(f"{path}:by_length"))
    answers: list[Any] = ["abc", [{"role": "assistant", "content": "ab"}]]
    scores = reward(["p", "q"], answers, wanted=[3, 3], completion_ids=[[1], [2]], log_extra=print)
    assert scores == [1.0, 0.0]
    assert load_verifier("math:dist") is math.dist
    for name in (f"{path}:missing", f"{tmp_path}/none.py:f", "no_such_module:f", "judge"):
        with pytest.raises(BadInputError, match="cannot be loaded"):
            load_verifier(name)
    with pytest.raises(BadInputError, match="it returned str"):
        reward_of(load_verifier(f"{path}:word"))(["p"], ["c"])
    with pytest.raises(NotFiniteError, match="reward"):
        reward_of(load_verifier(f"{path}:broken"))(["p"], ["c"])


def test_what_cannot_run_is_refused_with_the_mend(
    settings_for: Callable[..., dict[str, Any]], start: Start, tmp_path: Path
) -> None:
    def config(**changes: Any) -> TrainingConfig:
        return TrainingConfig.model_validate(settings_for(**changes))

    with pytest.raises((BadInputError, MissingExtraError), match=r"GPU|bitsandbytes"):
        load_model(config(tuning="qlora"))
    uneven = config(method="grpo", row_format="trl_prompt", per_device_train_batch_size=6)
    with pytest.raises(BadInputError, match="6 answers a step are no multiple"):
        settings_of(uneven, tmp_path, 8, 0)
    with pytest.raises(BadInputError, match="nothing says what is right"):
        start("grpo", verifier=None)
    with pytest.raises(BadInputError, match="cut the answer off in all 24 rows"):
        start("dpo", max_length=4)
