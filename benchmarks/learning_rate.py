"""Does the configuration that configure_training proposes teach the demo task, and keep the rest?

The shipped base (0.35 M parameters) and orders.csv; general replay rows as shipped. Per seed the
split is the same, the run's own seed differs; every setting else is configure_training's own.
Task: exact match on the held-out rows; general: exact match on the shipped general questions.

    python benchmarks/learning_rate.py [--seeds 0 1 2 3 4] [--quick]

Reach, for each seed: task 0.00 → at least 0.95, general at least 0.93. Exit code 1 below it.
``--quick`` trains one seed for a few steps and judges nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

TASK_REACH: Final = 0.95
GENERAL_REACH: Final = 0.93
SEEDS: Final = (0, 1, 2, 3, 4)
WAIT_SECONDS: Final = 20
MOST_ROWS: Final = {False: 200, True: 8}
ANSWER_TOKENS: Final = 64
QUICK_LINES: Final = 120


def train(base: Path, prepared: Path, overrides: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Train once with the proposed settings; return the run's id and its configuration."""
    from finetuning.training import configure_training, get_run, launch_lora

    plan = configure_training(str(base), str(prepared), overrides=overrides)
    if not plan.files:
        raise SystemExit(plan.summary())
    launch = launch_lora(plan.files[0])
    assert launch.run_id is not None
    state = get_run(launch.run_id, wait_seconds=WAIT_SECONDS)
    while state.status in {"queued", "running"}:
        state = get_run(launch.run_id, wait_seconds=WAIT_SECONDS)
    if state.status != "succeeded":
        raise SystemExit(f"seed {overrides['seed']}: {state.status}: {state.error}")
    return launch.run_id, {**plan.config, **(state.result or {})}


def tried(config: dict[str, Any]) -> str:
    """Return the rates that the run tried on held-out loss, each with that loss."""
    probed: list[dict[str, float]] = config.get("probe") or []
    return ", ".join(f"{row['rate']:g} ({row['held_out_loss']:.3f})" for row in probed) or "-"


def prepare(folder: Path, *, quick: bool) -> Path:
    """Split orders.csv once (its first rows where quick), general rows mixed into training."""
    from finetuning.data_prep import Replay, prepare_data
    from finetuning_skill.demo.steps import ASSETS, REPLAY_FRACTION, general_file

    lines = (ASSETS / "orders.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "orders.csv").write_text("".join(lines[:QUICK_LINES] if quick else lines))
    prepared = prepare_data(
        [str(folder / "orders.csv")],
        "trl_prompt_completion",
        str(folder / "prepared"),
        prompt_column="message",
        completion_column="record",
        redact="mask",
        replay=Replay(path=str(general_file("replay", folder)), fraction=REPLAY_FRACTION),
    )
    return Path(prepared.files["train"]).parent


def measure(base: Path, prepared: Path, adapter: str, folder: Path, most: int) -> tuple[float, ...]:
    """Return task and general exact match, of the base and of the tuned model.

    Args:
        base: Folder of the base model.
        prepared: Folder with the held-out rows.
        adapter: The tuned model, as an evaluation target.
        folder: Folder for what is written.
        most: Rows of each file at most.
    """
    from finetuning.evaluation import compare_eval
    from finetuning_skill.demo.steps import general_file

    for source in (prepared / "test.jsonl", general_file("eval", folder)):
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / source.name).write_text("".join(lines[:most]), encoding="utf-8")
    found = compare_eval(
        data=str(folder / "test.jsonl"),
        base=f"local:{base}",
        tuned=adapter,
        metrics=["exact_match"],
        general=str(folder / "general_eval.jsonl"),
        max_tokens=ANSWER_TOKENS,
        output_dir=str(folder / adapter.replace(":", "-")),
    )
    general = found.general.exact_match if found.general else None
    assert general is not None
    task = found.task[0]
    return (
        float(task.base),
        float(task.tuned or 0.0),
        float(general.base),
        float(general.tuned or 0.0),
    )


def main(arguments: list[str]) -> int:
    """Train and measure each seed; return 0 when every one reaches both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="learning-rate-") as name:
        folder = Path(name)
        os.environ.update(FINE_TUNING_HOME=str(folder / "home"), FINE_TUNING_ROOTS=str(folder))
        from finetuning.training import demo_base

        base = demo_base()
        assert base is not None
        prepared = prepare(folder, quick=chosen.quick)
        reached = True
        for seed in chosen.seeds[:1] if chosen.quick else chosen.seeds:
            overrides: dict[str, Any] = {"seed": seed}
            if chosen.quick:
                overrides |= {"num_train_epochs": 0.5, "probe_learning_rates": None}
            started = time.monotonic()
            run_id, config = train(base, prepared, overrides)
            seconds = time.monotonic() - started
            task_base, task, general_base, general = measure(
                base, prepared, f"run:{run_id}", folder, MOST_ROWS[chosen.quick]
            )
            reached &= task_base == 0.0 and task >= TASK_REACH and general >= GENERAL_REACH
            print(
                f"seed {seed}: learning_rate {config['learning_rate']:g} (tried, held-out "
                f"loss: {tried(config)}), "
                f"{config['num_train_epochs']:g} epochs, {config['steps']} steps, "
                f"{seconds:.0f} s; task {task_base:.2f} -> {task:.2f} (reach {TASK_REACH}), "
                f"general {general_base:.2f} -> {general:.2f} (reach {GENERAL_REACH})",
                flush=True,
            )
    if chosen.quick:
        print("quick: nothing judged")
        return 0
    print("reached" if reached else "NOT reached")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
