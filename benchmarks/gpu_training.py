"""Ours, stock TRL and (where installed) Unsloth on the same rows and settings, on one GPU.

``python benchmarks/gpu_training.py --base FOLDER`` prints tokens per second, peak memory and final
loss of each, side by side; ours must not be slower than stock TRL at a loss within 1 %. Each one
trains in a process of its own, in turn. Without a GPU it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REACH = 1.0
"""Ours ÷ stock TRL, tokens per second."""
LOSS_WITHIN = 0.01
WORDS = "a good answer names the part, the price, the place, and the day it was ordered on".split()


def write_rows(path: Path, count: int, seed: int) -> None:
    """Write chats of mixed length as rows of messages."""
    source = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            turns: list[dict[str, str]] = []
            for role in ("user", "assistant") * source.choice((1, 1, 2, 3)):
                words = source.choices(WORDS, k=source.randint(8, 180))
                turns.append({"role": role, "content": " ".join(words)})
            file.write(json.dumps({"messages": turns}) + "\n")


def settings(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Return the settings that all of them are given."""
    return {
        "base_model": str(Path(options.base).resolve()),
        "train_file": str(data),
        "row_format": "trl_messages",
        "r": 16,
        "lora_alpha": 32,
        "learning_rate": 2e-4,
        "num_train_epochs": 1.0,
        "per_device_train_batch_size": options.batch,
        "max_length": 2048,
        "precision": "bf16",
        "assistant_only_loss": False,
        "gradient_checkpointing": True,
        "early_stopping_patience": None,
        "seed": 7,
    }


def report(tokens: float, seconds: float, loss: float) -> None:
    """Print what one contender measured, as the last line of its process."""
    torch: Any = importlib.import_module("torch")
    peak = torch.cuda.max_memory_allocated() / 1e9
    row = {"tokens_per_second": tokens / seconds, "peak_gb": peak, "loss": loss}
    print("\n" + json.dumps(row))


def run_ours(config: dict[str, Any]) -> None:
    """Train through launch_lora's own worker."""
    from finetuning import runs
    from finetuning.training.worker import session

    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    runs.attach(run_id)
    job = session.job_of(run_id)
    session.get_ready(job)
    started = time.perf_counter()
    job.train()
    seconds = time.perf_counter() - started
    losses = [row["loss"] for row in job.trainer.state.log_history if "loss" in row]
    report(job.audit.tokens, seconds, sum(losses[-10:]) / len(losses[-10:]))
    runs.finish(run_id, "succeeded", result={})


def run_stock(config: dict[str, Any], *, unsloth: bool = False) -> None:
    """Train with TRL as its documents show it, on a model that Unsloth has patched if asked."""
    fast: Any = None
    if unsloth:  # first of all: it patches the others
        fast = importlib.import_module("unsloth").FastLanguageModel
    datasets: Any = importlib.import_module("datasets")
    peft: Any = importlib.import_module("peft")
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    trl: Any = importlib.import_module("trl")

    base = config["base_model"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    rows = datasets.load_dataset("json", data_files=config["train_file"], split="train")
    adapter = {"r": config["r"], "lora_alpha": config["lora_alpha"]}
    model: Any = base
    peft_config: Any = peft.LoraConfig(
        **adapter, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    if fast is not None:
        model, tokenizer = fast.from_pretrained(base, max_seq_length=2048, load_in_4bit=False)
        model = fast.get_peft_model(model, **adapter, use_gradient_checkpointing="unsloth")
        peft_config = None
    arguments = trl.SFTConfig(
        output_dir=tempfile.mkdtemp(),
        learning_rate=config["learning_rate"],
        num_train_epochs=1,
        per_device_train_batch_size=config["per_device_train_batch_size"],
        max_length=config["max_length"],
        bf16=True,
        gradient_checkpointing=fast is None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=config["seed"],
        model_init_kwargs={"dtype": torch.bfloat16} if fast is None else None,
    )
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    report(tokens, seconds, sum(losses[-10:]) / len(losses[-10:]))


def measure(name: str, config: dict[str, Any]) -> dict[str, float]:
    """Run one contender in a process of its own and return what it measured."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FINE_TUNING_HOME": home, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, "--contender", name, "--config", json.dumps(config)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def contenders() -> list[str]:
    """Return what can run here."""
    from importlib.util import find_spec

    return ["ours", "trl", *(["unsloth"] if find_spec("unsloth") else [])]


def compare(options: argparse.Namespace) -> int:
    """Measure each contender, print the table and judge."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.jsonl"
        write_rows(data, 64 if options.quick else 2000, seed=11)
        config = settings(options, data)
        os.environ["FINE_TUNING_ROOTS"] = os.pathsep.join([folder, config["base_model"]])
        found = {name: measure(name, config) for name in contenders()}
    print(f"{'':10}{'tokens/s':>12}{'peak GB':>10}{'final loss':>12}")
    for name, row in found.items():
        print(f"{name:10}{row['tokens_per_second']:12.0f}{row['peak_gb']:10.2f}{row['loss']:12.4f}")
    if "unsloth" not in found:
        print("unsloth: not installed here, not compared")
    ratio = found["ours"]["tokens_per_second"] / found["trl"]["tokens_per_second"]
    apart = abs(found["ours"]["loss"] / found["trl"]["loss"] - 1)
    print(f"ours ÷ stock TRL: {ratio:.2f} (reach {REACH}); losses {apart:.2%} apart (reach 1 %)")
    return int(not options.quick and (ratio < REACH or apart > LOSS_WITHIN))


def main() -> int:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="models/base", help="folder of a chat model, 0.5B to 8B")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="64 rows, nothing judged")
    parser.add_argument("--contender", choices=("ours", "trl", "unsloth"))
    parser.add_argument("--config", type=json.loads)
    options = parser.parse_args()
    if options.contender:
        run = {"ours": run_ours, "trl": run_stock, "unsloth": run_stock}[options.contender]
        run(options.config, **({"unsloth": True} if options.contender == "unsloth" else {}))
        return 0
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        print("gpu_training: skipped, there is no GPU here (torch finds none)")
        return 0
    if not (Path(options.base) / "config.json").is_file():
        print(f"gpu_training: skipped, {options.base} is no base model; name one with --base")
        return 0
    return compare(options)


if __name__ == "__main__":
    sys.exit(main())
