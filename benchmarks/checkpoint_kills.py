"""``kill -9`` at random moments of a training, each followed by a resume: is every curve the same?

Run: ``python benchmarks/checkpoint_kills.py [--kills 100] [--seed 0] [--quick] [--log FILE]``.
One run on the demo's base goes uninterrupted. Then, per attempt, the same run is started, its
process gets SIGKILL at a random moment (every second one as soon as a checkpoint is being written,
after a random delay within that), it reads as lost, and a second run resumes it to its end.

Each pair must end with the uninterrupted curve, bit by bit: every loss, gradient norm, learning
rate and evaluation, the bytes of the adapter and of the optimizer's last state. A kill counts as
inside a write when the temporary folder of a checkpoint is still there afterwards.

Importing torch and TRL takes seconds, so this process imports them once and forks a child per
attempt; a child is what ``launch_lora`` starts, from the claim on the run to its end. Exits 1
unless all resumes are identical and a fifth of the kills land inside a write.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

CITIES = ("Milan", "Porto", "Rome", "Madrid", "Lisbon")
COLOURS = ("red", "green", "white", "grey")
ITEMS = ("tables", "vases", "frames", "baskets")
DAYS = ("Friday", "Monday", "Sunday", "Tuesday")
INSIDE_SHARE = 0.2
PATIENCE = 60.0


class Kill(NamedTuple):
    """One attempt: when it was killed, what was left, and how the resumed run compares."""

    number: int
    aimed_at_a_write: bool
    after_seconds: float
    inside_a_write: bool
    resumed_from_step: int | None
    identical: bool


def write_rows(folder: Path, seed: int) -> dict[str, str]:
    """Write the rows to train and to validate on."""
    draw = random.Random(seed)
    paths: dict[str, str] = {}
    for name, count in (("train", 32), ("validation", 8)):
        path = folder / f"{name}.jsonl"
        lines: list[str] = []
        for _ in range(count):
            city, colour, item = draw.choice(CITIES), draw.choice(COLOURS), draw.choice(ITEMS)
            number, day = draw.randint(2, 49), draw.choice(DAYS)
            prompt = f"Please send {number} {colour} {item} to {city} by {day}."
            answer = {"item": item, "colour": colour, "quantity": number, "city": city, "day": day}
            lines.append(json.dumps({"prompt": prompt, "completion": json.dumps(answer)}) + "\n")
        path.write_text("".join(lines))
        paths[f"{name}_file"] = str(path)
    return paths


def settings(folder: Path, seed: int, epochs: float) -> dict[str, Any]:
    """Return a small run with dropout, evaluations and many checkpoints."""
    from finetuning.training import demo_base

    return {
        "base_model": str(demo_base()),
        **write_rows(folder, seed),
        "row_format": "trl_prompt_completion",
        "r": 4,
        "lora_dropout": 0.05,
        "learning_rate": 2e-2,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": 8,
        "max_length": 96,
        "save_steps": 2,
        "eval_steps": 4,
        "early_stopping_patience": None,
    }


def fork(run_id: str) -> int:
    """Start the child of a run and return its process number."""
    pid = os.fork()
    if pid == 0:
        _child(run_id)
    return pid


def _child(run_id: str) -> NoReturn:
    code = 70
    try:
        from finetuning import runs
        from finetuning.training.worker import session

        os.setsid()
        log = Path(runs.run_folder(run_id)) / "log.txt"
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = session.main(run_id)
    finally:
        os._exit(code)


def being_written(folder: Path) -> bool:
    """Tell whether a half-written checkpoint lies below ``folder``."""
    try:
        with os.scandir(folder) as entries:
            return any(e.name.startswith(".checkpoint-") for e in entries)
    except FileNotFoundError:
        return False


class Bench:
    """The uninterrupted run, and attempts to end up anywhere else."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        """Train without interruption and remember what came of it."""
        self.config, self.draw = config, random.Random(seed)
        began = time.monotonic()
        self.reference = self._queue()
        self._finish(fork(self.reference), self.reference)
        self.seconds = time.monotonic() - began
        self.expected = self._outcome(self.reference)
        self.steps = self.expected["last"]

    def _queue(self, lost: str | None = None) -> str:
        from finetuning import runs
        from finetuning.training import preflight

        folder = None if lost is None else preflight.checkpoints_of(lost)
        arguments: dict[str, Any] = {"config": self.config, "resume_from": folder}
        run = runs.create_run("launch_lora", arguments=arguments, parent_run_id=lost)
        preflight.carry_over(run.run_id)
        return run.run_id

    def _finish(self, pid: int, run_id: str) -> None:
        from finetuning import runs

        _, status = os.waitpid(pid, 0)
        row = runs.read_run(run_id)
        if status or row.status != "succeeded":
            log = Path(row.log_file).read_text()
            raise SystemExit(f"{run_id} is {row.status} ({status}): {row.error}\n{log}")

    def _outcome(self, run_id: str) -> dict[str, Any]:
        from finetuning import runs
        from finetuning.training import list_checkpoints

        row = runs.read_run(run_id)
        result: dict[str, Any] = row.result or {}
        newest = list_checkpoints(Path(row.folder) / "checkpoints")[-1]
        return {
            "curve": runs.steps_of(run_id),
            "last": result["steps"],
            "best": (result["best_step"], result["best_eval"], result["adapter_step"]),
            "adapter": (Path(result["adapter_dir"]) / "adapter_model.safetensors").read_bytes(),
            "optimizer": (newest / "optimizer.safetensors").read_bytes(),
            "random": (newest / "random.safetensors").read_bytes(),
        }

    def attempt(self, number: int) -> Kill:
        """Start, kill, resume, compare."""
        from finetuning import runs

        run_id = self._queue()
        folder = runs.run_folder(run_id) / "checkpoints"
        aim = number % 2 == 1
        began = time.monotonic()
        pid = fork(run_id)
        if aim:
            self._until_a_write(folder, pid)
        else:
            time.sleep(self.draw.uniform(0.0, self.seconds))
        os.kill(pid, signal.SIGKILL)
        after = time.monotonic() - began
        _, status = os.waitpid(pid, 0)
        inside = being_written(folder)
        row = runs.read_run(run_id)
        ended = row.status == "succeeded" and not status
        if ended or row.status == "queued":  # it had ended, or not begun: no kill, another try
            return self.attempt(number)
        if row.status != "lost":
            raise SystemExit(f"{run_id} was killed and is {row.status} ({status}): {row.error}")
        resumed = self._queue(run_id)
        self._finish(fork(resumed), resumed)
        identical = self._outcome(resumed) == self.expected
        result = runs.read_run(resumed).result or {}
        return Kill(number, aim, after, inside, result["resumed_from_step"], identical)

    def _until_a_write(self, folder: Path, pid: int) -> None:
        """Wait for a random one of the run's writes, and a random moment within it."""
        skipped = self.draw.randrange(self.steps // 2)
        until = time.monotonic() + PATIENCE
        before = False
        while time.monotonic() < until and Path(f"/proc/{pid}/fd").exists():
            now = being_written(folder)
            if now and not before:
                skipped -= 1
            if now and skipped < 0:
                time.sleep(self.draw.uniform(0.0, 0.012))
                return
            before = now
            time.sleep(0.0003)
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return


def main() -> int:
    """Print each kill and the sums, and return 1 below the reach."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="5 kills of a shorter run")
    parser.add_argument("--log", type=Path, help="write each kill there as a line of JSON")
    options = parser.parse_args()
    kills, epochs = (5, 2.0) if options.quick else (options.kills, options.epochs)
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"})
    with tempfile.TemporaryDirectory() as name:
        os.environ.update({"FINE_TUNING_HOME": f"{name}/home", "FINE_TUNING_ROOTS": name})
        began = time.monotonic()
        for module in ("environment", "worker.job", "worker.session"):  # once for all children
            importlib.import_module(f"finetuning.training.{module}")
        loaded = time.monotonic() - began
        bench = Bench(settings(Path(name), options.seed, epochs), options.seed)
        print(
            f"imports {loaded:.1f} s; uninterrupted: {bench.steps} steps in {bench.seconds:.2f} s"
        )
        found: list[Kill] = []
        for number in range(kills):
            found.append(bench.attempt(number))
            if options.log:
                options.log.write_text("".join(json.dumps(k._asdict()) + "\n" for k in found))
        seconds = time.monotonic() - began
    return judge(found, seconds, quick=options.quick)


def judge(found: list[Kill], seconds: float, *, quick: bool) -> int:
    """Print the sums; 1 when a resume differs or too few kills landed inside a write."""
    inside = sum(kill.inside_a_write for kill in found)
    same = sum(kill.identical for kill in found)
    fresh = sum(kill.resumed_from_step is None for kill in found)
    steps = sorted({kill.resumed_from_step or 0 for kill in found})
    print(
        f"{len(found)} kills in {seconds:.0f} s: {inside} inside a checkpoint write, {fresh} before"
    )
    print(f"the first checkpoint; resumed from steps {steps}")
    print(f"bit-identical to the uninterrupted run: {same} of {len(found)}")
    for kill in found:
        if not kill.identical:
            print(f"  differs: {kill}")
    enough = inside >= INSIDE_SHARE * len(found) or quick
    return 0 if same == len(found) and enough else 1


if __name__ == "__main__":
    sys.exit(main())
