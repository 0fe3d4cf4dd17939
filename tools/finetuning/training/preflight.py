"""What is looked at and made ready before the first step of a run.

Before the launch: room on the disk. In the run's own process, once model and rows are loaded: the
labels, one example as it is trained on, how answers end, memory, world size, where the base comes
from, and the rows whose answers surprise the base most. And what a resumed run takes over.
Results carry numbers, digests and line numbers; text stays in files of the run's folder.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import random
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning import estimate, files, runs
from finetuning.errors import BadInputError
from finetuning.records import Json
from finetuning.training import weights
from finetuning.training.config import TrainingConfig

REPORT: Final = "preflight.json"
EXAMPLE: Final = "preflight_example.txt"
REPLAY: Final = "replay.jsonl"
SURPRISE_ROWS: Final = 256
SURPRISE_SECONDS: Final = 10.0
"""Most rows, and most time, that the search for surprising rows takes."""
_LISTED: Final = 10
_TOKENS_AT_ONCE: Final = 2048
_HASHED_BYTES: Final = 2 << 30
"""A base up to this size is hashed at each launch (about a second per GB)."""
_IGNORED: Final = -100


def room_for_checkpoints(config: TrainingConfig, base: Path, folder: Path) -> dict[str, float]:
    """Return free and needed gigabytes of all checkpoints that will lie there at once.

    Raises:
        BadInputError: They do not fit.
    """
    shape = estimate.read_architecture(base)
    full = config.tuning == "full"
    trained = shape.parameters if full else estimate.lora_parameters(shape, config.r)
    kept = config.save_total_limit + 1 + config.keep_best  # and the one being written
    need = kept * weights.checkpoint_bytes(trained) + 4 * trained
    free = weights.free_bytes(folder)
    if free < need:
        raise BadInputError(
            "launch_lora",
            f"{free / 1e9:.2f} GB are free where the run is kept",
            f"{need / 1e9:.2f} GB for {kept} checkpoints and the result",
            "Free some space, set FINE_TUNING_HOME to a larger disk, or lower save_total_limit",
        )
    return {"free_gb": round(free / 1e9, 3), "needed_gb": round(need / 1e9, 3)}


def base_facts(config: TrainingConfig) -> dict[str, Json]:
    """Return where the base model comes from: revision, licence, size, digest.

    Raises:
        BadInputError: The base is not the one that the config names by its digest.
    """
    folder = Path(config.base_model)
    parts = sorted(p for p in folder.glob("*") if p.suffix in {".json", ".safetensors"})
    size = sum(path.stat().st_size for path in parts)
    digest = None
    if size <= _HASHED_BYTES or config.base_sha256 is not None:
        digest = files.digest({path.name: files.sha256_file(path) for path in parts})
    if config.base_sha256 not in {None, digest}:
        raise BadInputError(
            "base_model",
            f"the files of {folder.name} have the digest {str(digest)[:12]}…",
            f"{str(config.base_sha256)[:12]}…, which the config names",
            "Fetch the base again, or leave base_sha256 out",
        )
    snapshot = folder.name if folder.parent.name == "snapshots" else None
    return {
        "revision": config.base_revision or snapshot,
        "licence": _licence(folder),
        "bytes": size,
        "sha256": digest,
    }


def _licence(folder: Path) -> str | None:
    """Return the licence that a model card names, or the first line of a licence file."""
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")[:20_000]
        front = text.split("---", 2)[1] if text.startswith("---") else ""
        if found := re.search(r"^license(?:_name)?:\s*[\"']?([\w.+-]+)", front, re.MULTILINE):
            return found.group(1)
    for path in sorted(folder.glob("LICEN[SC]E*")):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[:80] for line in lines if line.strip()), None)
    return None


def inspect(trainer: Any, config: TrainingConfig, folder: Path, lines: Sequence[int]) -> None:
    """Look at a trainer that is ready to train and leave ``preflight.json`` in its folder.

    Args:
        trainer: Model, tokenizer and examples.
        config: The run's settings.
        folder: The run's folder.
        lines: Line in the training file of each of the first examples.

    Raises:
        BadInputError: The world is not of the size that was asked for, the memory does not
            suffice, or the base is not the one that was named.
    """
    _check_world(trainer.args.world_size, config.num_processes)
    report: dict[str, Json] = {
        "world_size": trainer.args.world_size,
        "base": base_facts(config),
        "memory": _memory(trainer, config),
        "disk": {"free_gb": round(weights.free_bytes(folder) / 1e9, 3)},
    }
    if {"input_ids", "labels"} <= set(trainer.train_dataset.column_names):
        report.update(_labels(trainer, folder))
        if config.method == "sft":
            report.update(_surprises(trainer, config, lines))
    with files.atomic_write(folder / REPORT) as file:
        file.write(json.dumps(report, indent=1))


def report_of(folder: Path, *, rows: bool = True) -> dict[str, Any] | None:
    """Return what the pre-flight of a run found (with its ``rows``), None before it was made."""
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return {name: found for name, found in report.items() if rows or name != "surprising_rows"}


def _check_world(found: int, asked: int) -> None:
    if found != asked:
        raise BadInputError(
            "num_processes",
            f"the launcher started a world of {found}",
            f"{asked} processes",
            "Start it with torchrun --nproc-per-node, or set num_processes to 1",
        )


def _memory(trainer: Any, config: TrainingConfig) -> dict[str, Json]:
    from finetuning.training.environment import plan_device

    columns, device = trainer.train_dataset.column_names, plan_device(None, None, 1)
    ids = trainer.train_dataset["input_ids"] if "input_ids" in columns else ()
    longest = max(map(len, ids), default=config.max_length)
    need = estimate.training_memory_gb(
        estimate.read_architecture(Path(config.base_model)),
        tuning=config.tuning,
        r=config.r,
        tokens_per_microbatch=config.per_device_train_batch_size * longest,
        gradient_checkpointing=config.gradient_checkpointing,
        stack=device.stack,
    )
    held = sum(weight.numel() * weight.element_size() for weight in trainer.model.parameters())
    have = device.memory_gb + (held / 1e9 if device.kind == "cpu" else 0.0)
    if need > have and "memory_short" not in config.accept_risks:
        raise BadInputError(
            "memory",
            f"the run needs about {need:.1f} GB and {have:.1f} GB are there",
            "a run that fits",
            "Lower per_device_train_batch_size or max_length, or add overrides={'accept_risks': "
            "['memory_short']} to try it",
        )
    return {"needed_gb": round(need, 3), "available_gb": round(have, 3)}


def _labels(trainer: Any, folder: Path) -> dict[str, Json]:
    """Check how answers end, and write one example with its labels marked."""
    tokenizer, rows = trainer.processing_class, trainer.train_dataset
    stops: set[Any] = {tokenizer.eos_token_id}
    settings = getattr(trainer.model, "generation_config", None)
    found: Any = getattr(settings, "eos_token_id", None)
    stops.update(cast("list[Any]", found) if isinstance(found, list) else [found])
    ended = sum(
        next((label for label in reversed(labels) if label != _IGNORED), None) in stops
        for labels in rows["labels"]
    )
    first = rows[0]
    marked = [
        (tokenizer.decode([token]), label != _IGNORED)
        for token, label in zip(first["input_ids"], first["labels"], strict=True)
    ]
    path = folder / EXAMPLE
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write("The first example, token by token; + is trained on.\n")
        file.writelines(f"{'+' if label else ' '} {token!r}\n" for token, label in marked)
    template = tokenizer.chat_template
    return {
        "example_file": str(path),
        "labelled_in_example": sum(label for _, label in marked),
        "ends_with_stop_token_fraction": round(ended / len(rows), 4),
        "has_chat_template": isinstance(template, str),
    }


def _surprises(trainer: Any, config: TrainingConfig, lines: Sequence[int]) -> dict[str, Json]:
    """Find the rows whose answers the base finds least likely, per labelled token."""
    torch: Any = importlib.import_module("torch")
    rows = trainer.train_dataset
    # packed rows hold several lines, and rows of replay are on no line of the training file
    chosen = [i for i, line in enumerate(lines) if line > 0 and len(lines) == len(rows)]
    if len(chosen) > SURPRISE_ROWS:
        chosen = sorted(random.Random(config.seed).sample(chosen, SURPRISE_ROWS))
    chosen.sort(key=lambda index: len(rows[index]["input_ids"]))
    began, found = time.monotonic(), list[tuple[float, int]]()
    trainer.model.eval()
    while chosen and time.monotonic() - began < SURPRISE_SECONDS:
        many = max(1, _TOKENS_AT_ONCE // len(rows[chosen[0]]["input_ids"]))
        batch, chosen = chosen[:many], chosen[many:]
        with torch.no_grad():
            inputs = trainer.data_collator([rows[index] for index in batch])
            losses = _row_losses(trainer, inputs, torch)
        found += [(loss, lines[i]) for loss, i in zip(losses, batch, strict=True)]
    finite = sorted(((nll, line) for nll, line in found if math.isfinite(nll)), reverse=True)
    return {
        "rows_scored": len(found),
        "median_nll": round(statistics.median([nll for nll, _ in finite]), 4) if finite else None,
        "surprising_rows": [{"line": n, "nll": round(nll, 4)} for nll, n in finite[:_LISTED]],
    }


def _row_losses(trainer: Any, inputs: Any, torch: Any) -> list[float]:
    inputs = trainer._prepare_inputs(inputs)
    labels = inputs.pop("labels")[:, 1:]
    kept = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    logits = trainer.model(**kept, use_cache=False).logits[:, :-1]
    found: list[float] = []
    for scores, wanted in zip(logits, labels, strict=True):
        marked = wanted != _IGNORED
        loss = torch.nn.functional.cross_entropy(scores[marked].float(), wanted[marked])
        found.append(float(loss))
    return found


CURVE: Final = ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_reward", "reward", "epoch")
"""Measured numbers of a step that the run store keeps; a row has at least one of ``JUDGED``."""
JUDGED: Final = frozenset({"loss", "eval_loss", "eval_reward"})


def measured(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the run store keeps of a row of the trainer's log; None: nothing."""
    if JUDGED.isdisjoint(row):
        return None
    return {"step": row["step"], **{name: row[name] for name in CURVE if name in row}}


def checkpoints_of(run_id: str) -> str:
    """Return the folder of checkpoints that a run which ended is gone on with from.

    Raises:
        BadInputError: It is no training run, goes on, or succeeded.
    """
    run = runs.read_run(run_id)
    if run.tool != "launch_lora":
        raise BadInputError(
            "resume", f"{run_id} is a run of {run.tool}", "a training run", "Name another run"
        )
    if not run.finished or run.status == "succeeded":
        raise BadInputError(
            "resume",
            f"{run_id} is {run.status}",
            "a run that was lost, cancelled or failed",
            f"Read it with: fine-tuning get-run {run_id}",
        )
    folder = Path(run.folder) / "checkpoints"
    earlier = runs.arguments_of(run_id).get("resume_from")
    if weights.newest_valid(folder)[0] is None and earlier:
        return str(earlier)  # it ended before its own first checkpoint
    return str(folder)


def carry_over(run_id: str) -> None:
    """Give a resumed run the measured steps up to its checkpoint, so that its curve is whole.

    They come from the checkpoint itself: a killed process may have told the store less.
    """
    folder = runs.arguments_of(run_id).get("resume_from")
    found = weights.newest_valid(Path(str(folder)))[0] if folder else None
    if found is None:
        return
    state = json.loads((found / "trainer_state.json").read_text(encoding="utf-8"))
    rows = [kept for row in state["log_history"] if (kept := measured(row)) is not None]
    runs.record_steps(run_id, rows, unless_any=True)
