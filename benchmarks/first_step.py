"""From launch to the first step: ours against a bare TRL script, in turn, on the demo's base.

Run: ``python benchmarks/first_step.py [--rounds 5] [--quick]``. Ours is ``launch_lora`` (checks of
config, base, data and disk; a detached process; run store; pre-flight with the rows that surprise
the base; our trainer) until the run reports its first step. The peer is the shortest script that
does the same training with TRL's own trainer (prompt and completion rows, loss on completions, the
same batch, length and adapter), until its first ``on_step_end``. Both read the same 400 rows; each
starts a fresh interpreter. Wall time, one thread each; the ratio is that of the medians.

It also looks at what the launching process (the MCP server calls the same function) has imported:
neither torch nor any of the training libraries may be there. Exits 1 above 1.3 times the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REACH = 1.3
HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "numpy", "pandas")
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
}

BARE = """
import sys, time
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

base, data, out = sys.argv[1:]

class First(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        print(f"first step {time.time()}", flush=True)
        control.should_training_stop = True

trainer = SFTTrainer(
    model=base,
    args=SFTConfig(
        output_dir=out, learning_rate=4e-3, per_device_train_batch_size=16, max_length=96,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        save_strategy="no", logging_steps=1, disable_tqdm=True,
    ),
    train_dataset=load_dataset("json", data_files=data, split="train"),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    callbacks=[First()],
)
trainer.train()
"""

OURS = """
import json, sys, time
from finetuning.training import launch_lora
run = launch_lora(sys.argv[1])
heavy = [name for name in sys.argv[2].split(",") if name in sys.modules]
print(json.dumps({"run_id": run.run_id, "heavy": heavy}), flush=True)
"""


def write_rows(path: Path, rows: int) -> None:
    """Write rows of the demo's kind."""
    with path.open("w") as stream:
        for number in range(rows):
            item, city = ("tables", "vases", "frames")[number % 3], ("Milan", "Porto")[number % 2]
            prompt = f"Please send {2 + number % 40} red {item} to {city} by Friday."
            answer = json.dumps({"item": item, "quantity": 2 + number % 40, "city": city})
            stream.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")


def bare(base: Path, data: Path, folder: Path) -> float:
    """Return seconds from the start of the bare script to its first step."""
    command = [sys.executable, "-c", BARE, str(base), str(data), str(folder / "out")]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache")}
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [line for line in done.stdout.splitlines() if line.startswith("first step ")]
    if not found:
        raise SystemExit(done.stderr)
    return float(found[0].split()[-1]) - began


def ours(config: Path) -> tuple[float, list[str]]:
    """Return seconds from the start of a launch to the run's first step, and what it imported."""
    from finetuning import runs

    command = [sys.executable, "-c", OURS, str(config), ",".join(HEAVY)]
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    row = runs.wait(found["run_id"], 120.0)
    if row.status != "succeeded" or row.result is None:
        raise SystemExit(f"{row.status}: {row.error}\n{Path(row.log_file).read_text()}")
    created = time.mktime(time.strptime(row.created_at[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    created += float("0" + row.created_at[19:23])
    return created + row.result["seconds_to_first_step"] - began, found["heavy"]


def main() -> int:
    """Print both medians and their ratio; 1 above the reach."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, not judged")
    options = parser.parse_args()
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update({"FINE_TUNING_HOME": f"{name}/home", "FINE_TUNING_ROOTS": name})
        from finetuning.training import demo_base

        base = demo_base()
        if base is None:
            raise SystemExit("the demo's base is not installed")
        data, config = folder / "train.jsonl", folder / "training.json"
        write_rows(data, 400)
        settings = {
            "base_model": str(base),
            "train_file": str(data),
            "row_format": "trl_prompt_completion",
            "learning_rate": 4e-3,
            "num_train_epochs": 0.04,
            "per_device_train_batch_size": 16,
            "max_length": 96,
        }
        config.write_text(json.dumps(settings))
        times: dict[str, list[float]] = {"ours": [], "bare TRL script": []}
        heavy: list[str] = []
        for _ in range(1 if options.quick else options.rounds):
            times["bare TRL script"].append(bare(base, data, folder))
            seconds, heavy = ours(config)
            times["ours"].append(seconds)
    return judge(times, heavy, quick=options.quick)


def judge(times: dict[str, list[float]], heavy: list[str], *, quick: bool) -> int:
    """Print what was measured; 1 above the reach or with a heavy import in the launcher."""
    for name, found in times.items():
        listed = ", ".join(f"{seconds:.2f}" for seconds in found)
        print(f"{name}: median {statistics.median(found):.2f} s to the first step ({listed})")
    ratio = statistics.median(times["ours"]) / statistics.median(times["bare TRL script"])
    print(f"ratio {ratio:.2f} (reach: at most {REACH})")
    print(f"heavy imports of the launching process: {', '.join(heavy) or 'none'}")
    return int(bool(heavy) or (ratio > REACH and not quick))


if __name__ == "__main__":
    sys.exit(main())
