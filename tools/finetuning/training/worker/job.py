"""The work itself: load, audit, try rates, train, save, and what the run has come to.

Rates are each tried for a few dozen steps from the same start and judged on held-out rows; the run
then begins as if nothing had been tried.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any, Final

from finetuning import runs
from finetuning.files import sha256_file
from finetuning.training import preflight, weights
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, MaskAudit, checkpoints
from finetuning.training.worker.methods import build, load_model
from finetuning.training.worker.rows import audit_answers, load_data
from finetuning.training.worker.trainer import (
    Light,
    calm,
    peak_memory_bytes,
    torch,
    transformers,
    versions,
)
from finetuning.training.worker.watch import (
    KeepBest,
    Reporter,
    StoppedInEvaluation,
    best_of,
    metric_of,
)

_PROBE_STEPS: Final = 48
_PROBE_SECONDS: Final = 60.0
"""Steps per rate (no more than half of the run's), and the time after which the first rate stops;
the others then take as many steps as it did."""
_WARM_UP: Final = 0.1


class Job:
    """One LoRA training from its configuration to its adapter."""

    def __init__(
        self, run_id: str, config: TrainingConfig, folder: Path, resume_from: str | None
    ) -> None:
        """Plan the run; ``resume_from`` is the folder of the checkpoints that it goes on from."""
        self.run_id, self.config, self.folder = run_id, config, folder
        self.checkpoint_folder = folder / "checkpoints"
        self.resume_folder = Path(resume_from) if resume_from else None
        self.probe: list[dict[str, float]] | None = None
        self._resumed_step: int | None = None
        self._adapter_step: int | None = None
        self.trainer: Light
        self.reporter: Reporter
        self.judge: KeepBest
        self.audit: MaskAudit

    def prepare(self) -> None:
        """Load the base model and the data, audit the labels and build the trainer."""
        calm(self.config.num_threads)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            self.config.base_model, local_files_only=True
        )
        train, validation, self.audit = load_data(self.run_id, self.config, tokenizer)
        model = load_model(self.config)
        self.reporter = Reporter(
            self.run_id,
            self.folder / "trainer_state.json",
            vocabulary=model.config.get_text_config().vocab_size,
            config=self.config,
        )
        self.trainer = build(
            self.config, self.checkpoint_folder, model, tokenizer, (train, validation)
        )
        audit_answers(self.trainer.train_dataset, self.config, self.audit)
        self.follow()

    def look_ahead(self) -> None:
        """Look at model and rows before the first step (the pre-flight).

        Raises:
            BadInputError: Memory, world size or base are not what the run needs.
        """
        preflight.inspect(self.trainer, self.config, self.folder, self.audit.lines)
        found = preflight.report_of(self.folder) or {}
        if (ended := found.get("ends_with_stop_token_fraction")) == 0.0 and ended is not None:
            self.reporter.alert(
                "answers_do_not_end",
                "no answer ends in a token that stops the model: it would never learn to stop; "
                "check eos_token and the end of the assistant's turn in the chat template",
            )

    def follow(self) -> None:
        """Let the reporter, the guard of the weights and the judge of evaluations listen."""
        self.trainer.remove_callback(transformers.PrinterCallback)
        # PEFT's model card is an empty form, and costs more than the weights of a small adapter
        self.trainer.model.create_or_update_model_card = _no_card
        self.trainer.alert = self.reporter.alert
        self.judge = KeepBest(self.trainer, self.config)
        for callback in (self.reporter, checkpoints.GuardWeights(self.trainer), self.judge):
            self.trainer.add_callback(callback)

    def train(self) -> None:
        """Train from the newest undamaged checkpoint, or from the start."""
        folder = self.resume_folder
        checkpoint = checkpoints.to_resume(self.run_id, folder) if folder is not None else None
        if checkpoint is not None:
            self._resumed_step = weights.step_of(checkpoint)
            self._adopt(checkpoint)
        try:
            self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except StoppedInEvaluation:
            step = self.trainer.state.global_step
            if weights.fault_of(self.checkpoint_folder / f"checkpoint-{step}") is not None:
                self.trainer.save_now()
            self.reporter.on_train_end(None, self.trainer.state, None)

    def _adopt(self, checkpoint: Path) -> None:
        """Take what another run left: its checkpoint, its best one, an evaluation not made."""
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        history: list[dict[str, Any]] = state["log_history"]
        best = best_of(history, self.config)
        steps = {weights.step_of(checkpoint), *([best.step] if best else [])}
        for step in sorted(steps):
            checkpoints.adopt(checkpoint.with_name(f"checkpoint-{step}"), self.checkpoint_folder)
        self._tell_changes(checkpoint.parents[1] / "args.json")
        every = self.trainer.args.eval_steps
        if self.trainer.args.eval_strategy != "no" and state["global_step"] % every == 0:
            last = {name for row in history if row["step"] == state["global_step"] for name in row}
            self.trainer.args.eval_on_start = metric_of(self.config)[0] not in last

    def _tell_changes(self, arguments: Path) -> None:
        """Say which settings differ from those of the run that is gone on with."""
        if not arguments.is_file():
            return
        text = arguments.read_text(encoding="utf-8")
        before = TrainingConfig.model_validate(json.loads(text)["config"]).model_dump()
        now = TrainingConfig.model_validate(runs.arguments_of(self.run_id)["config"]).model_dump()
        changed = sorted(name for name in before if before[name] != now[name])
        if changed:
            self.reporter.alert(
                "settings_changed",
                f"{', '.join(changed)}: not as in the run that is gone on with; learning rate and "
                "optimizer go on as its checkpoint has them",
            )

    def save(self) -> dict[str, Any]:
        """Write the best adapter (else the last) with its tokenizer; return the run's result."""
        state = self.trainer.state
        best = best_of(state.log_history, self.config) if self.config.keep_best else None
        if best is None or best.step == state.global_step:
            self._write_adapter()
            return self.result()
        source = self.checkpoint_folder / f"checkpoint-{best.step}"
        fault = weights.fault_of(source)
        if fault is None:
            self._keep_adapter_of(source)
            return self.result()
        self.reporter.alert(
            "best_checkpoint_missing",
            f"{source.name}, the best by evaluation: {fault}; the last weights are kept instead",
            best.step,
        )
        self._write_adapter()
        return self.result()

    def _write_adapter(self) -> None:
        with weights.whole_folder(self.folder / "adapter") as folder:
            self.trainer.model.save_pretrained(str(folder))
            self.trainer.processing_class.save_pretrained(str(folder))
        self._adapter_step = self.trainer.state.global_step

    def _keep_adapter_of(self, checkpoint: Path) -> None:
        checkpoints.copy_adapter(checkpoint, self.folder / "adapter")
        self._adapter_step = weights.step_of(checkpoint)

    def rescue(self) -> dict[str, Any]:
        """Keep the last good adapter after a number was not finite, and return the result.

        The weights in memory are good when the fault was found before they were updated; else the
        newest undamaged checkpoint is.
        """
        self.reporter.flush()
        self.reporter.write_log(self.trainer.state)
        if self.trainer.state.global_step and self.trainer.weights_are_finite():
            self._write_adapter()
            return self.result()
        found, _ = weights.newest_valid(self.checkpoint_folder)
        if found is not None:
            self._keep_adapter_of(found)
        return {**self.result(), "steps": weights.step_of(found) if found else 0}

    def result(self) -> dict[str, Any]:
        """Return what the run has come to, ready for the run store."""
        history: list[dict[str, Any]] = self.trainer.state.log_history
        best = best_of(history, self.config)
        adapter = self.folder / "adapter"
        trained = sum(w.numel() for w in self.trainer.model.parameters() if w.requires_grad)
        return {
            "base_model": self.config.base_model,
            "adapter_dir": str(adapter) if adapter.is_dir() else None,
            "train_loss": _last(history, "loss"),
            "eval_loss": _last(history, "eval_loss"),
            "steps": self.trainer.state.global_step,
            "adapter_step": self._adapter_step,
            "best_step": best.step if best else None,
            "best_eval": best.value if best else None,
            "stopped_early": self.judge.stopped_early,
            "learning_rate": self.config.learning_rate,
            "probe": self.probe,
            "resumed_from_step": self._resumed_step,
            "seconds": self._since_launch(time.time()),
            "seconds_to_first_step": self._since_launch(self.reporter.first_step_at),
            "trained_parameters": trained,
            "peak_memory_gb": round(peak_memory_bytes() / 1e9, 3),
            "log_file": str(self.reporter.log_file),
            "data_sha256": sha256_file(Path(self.config.train_file)),
            "labels": self.audit.as_dict(),
            "surprising_rows": (preflight.report_of(self.folder) or {}).get("surprising_rows", []),
            "fast_paths": self.trainer.fast_paths or [],
            "versions": versions(),
        }

    def _since_launch(self, moment: float | None) -> float | None:
        created = datetime.datetime.fromisoformat(runs.read_run(self.run_id).created_at)
        return None if moment is None else round(moment - created.timestamp(), 2)


def _no_card(folder: str) -> None:
    """Write no model card."""


def _last(history: list[dict[str, Any]], name: str) -> float | None:
    return next((float(row[name]) for row in reversed(history) if name in row), None)


def try_rates(trainer: Any, rates: list[float]) -> list[dict[str, float]]:
    """Train a few steps at each rate from the same start; leave the trainer as it was.

    Returns, per rate, ``rate``, ``steps``, ``held_out_loss`` (infinite where it diverged).
    """
    states = checkpoints.random_states()
    start = [weight.detach().clone() for weight in trainer.trained]
    each_epoch = -(-len(trainer.train_dataset) // trainer.args.per_device_train_batch_size)
    steps = max(4, min(_PROBE_STEPS, round(each_epoch * trainer.args.num_train_epochs) // 2))
    found: list[dict[str, float]] = []
    for rate in rates:
        done, loss = _try(trainer, rate, steps, math.inf if found else _PROBE_SECONDS)
        found.append({"rate": rate, "steps": done, "held_out_loss": loss})
        steps = done
        with torch.no_grad():
            for weight, value in zip(trainer.trained, start, strict=True):
                weight.copy_(value)
        trainer.model.zero_grad()
        checkpoints.set_random_states(states)
    return found


def _try(made: Any, rate: float, steps: int, seconds: float) -> tuple[int, float]:
    torch.manual_seed(made.args.seed)
    optimizer = torch.optim.AdamW(made.trained, lr=rate, weight_decay=made.args.weight_decay)
    batches = itertools.chain.from_iterable(made.get_train_dataloader() for _ in itertools.count())
    warm_up, until, done = max(1, round(_WARM_UP * steps)), time.monotonic() + seconds, 0
    made.model.train()
    for step, batch in enumerate(itertools.islice(batches, steps)):
        if done >= warm_up and time.monotonic() > until:
            break
        factor = min((step + 1) / warm_up, (steps - step) / (steps - warm_up + 1))
        optimizer.param_groups[0]["lr"] = rate * factor
        with made.compute_loss_context_manager():
            loss = made.compute_loss(made.model, made._prepare_inputs(batch))
        if not torch.isfinite(loss):
            return steps, math.inf
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.trained, made.args.max_grad_norm)
        optimizer.step()
        made.model.zero_grad()
        done += 1
    return done, _held_out_loss(made)


def _held_out_loss(trainer: Any) -> float:
    total, count = 0.0, 0
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader():
        weight = int((batch["labels"][:, 1:] != IGNORED).sum()) if "labels" in batch else 1
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = float(trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)))
        total, count = total + loss * weight, count + weight
    return total / count if math.isfinite(total) and count else math.inf
