"""Real text that nobody here wrote, from a CSV file to a verdict: stdlib docstrings.

Prompt: a docstring of the installed standard library; completion: its top-level module.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import random
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from finetuning.data_prep import PreparedData, ValidationResult
from finetuning.evaluation import EvalComparison
from finetuning.files import write_jsonl
from finetuning.training import Launch, RunState, TrainingPlan
from finetuning.training.weights import build_byte_base
from finetuning_skill import dispatch

pytestmark = pytest.mark.slow

CLASSES = 22
MOST_PER_CLASS = 90
MOST_CHARACTERS = 240
BASE_STEPS = 260
EPOCHS = 4.0
SKIPPED_FOLDERS = {"test", "tests", "site-packages", "dist-packages", "lib-dynload", "idlelib"}


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield every short docstring of the installed standard library with its top module."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        module = parts[0].removesuffix(".py")
        if module.startswith("_") or SKIPPED_FOLDERS & set(parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # files that are meant to be broken
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node, clean=False)
                if text and 20 <= len(text) <= MOST_CHARACTERS:
                    yield text, module


def real_rows() -> list[tuple[str, str]]:
    by_module: dict[str, list[str]] = defaultdict(list)
    for text, module in docstrings():
        by_module[module].append(text)
    largest = sorted(by_module, key=lambda name: (-len(by_module[name]), name))[:CLASSES]
    rng = random.Random(0)
    rows = [
        (text, module)
        for module in largest
        for text in rng.sample(by_module[module], min(MOST_PER_CLASS, len(by_module[module])))
    ]
    rng.shuffle(rows)
    return rows


@dataclass
class Prepared:
    """One CSV file after prepare_data and validate_jsonl."""

    result: PreparedData
    folder: Path
    valid: ValidationResult

    def rows(self, part: str) -> list[dict[str, str]]:
        lines = Path(self.result.files[part]).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module", autouse=True)
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the home of the trained models over the tests of this file."""
    folder = tmp_path_factory.mktemp("real-text")
    wanted = {
        "FINE_TUNING_HOME": str(folder / "home"),
        "FINE_TUNING_ROOTS": str(folder),
        "FINE_TUNING_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    yield folder
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def prepare(folder: Path, name: str, rows: list[tuple[str, str]]) -> Prepared:
    source = folder / f"{name}.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["docstring", "module"])
        writer.writerows(rows)
    arguments = {
        "sources": [str(source)],
        "target": "trl_prompt_completion",
        "output_dir": str(folder / name),
        "prompt_column": "docstring",
        "completion_column": "module",
    }
    result = cast("PreparedData", dispatch.call("prepare_data", arguments))
    checked = dispatch.call(
        "validate_jsonl",
        {"path": result.files["train"], "target": "trl_prompt_completion"},
    )
    return Prepared(result, folder / name, cast("ValidationResult", checked))


@dataclass
class Experiment:
    """The true and the shuffled file, the base made from the true one, and both verdicts."""

    true: Prepared
    shuffled: Prepared
    true_verdict: EvalComparison
    shuffled_verdict: EvalComparison


def launch(base: Path, prepared: Prepared) -> str:
    arguments = {
        "base_model": str(base),
        "data": str(prepared.folder),
        "method": "sft",
        "overrides": {"num_train_epochs": EPOCHS},
    }
    plan = cast("TrainingPlan", dispatch.call("configure_training", arguments))
    launched = cast("Launch", dispatch.call("launch_lora", {"config": plan.files[0]}))
    assert launched.run_id is not None
    return launched.run_id


def ended(run_id: str) -> RunState:
    while True:
        state = dispatch.call("get_run", {"run_id": run_id, "wait_seconds": 30, "limit": 1})
        if cast("RunState", state).status not in {"queued", "running"}:
            return cast("RunState", state)


def compare(base: Path, prepared: Prepared, run_id: str) -> EvalComparison:
    answers = Counter(row["completion"] for row in prepared.rows("train"))
    commonest = answers.most_common(1)[0][0]
    recorded = prepared.folder.with_name(f"{prepared.folder.name}-majority.jsonl")
    count = len(prepared.rows("test"))
    write_jsonl(recorded, [{"id": str(n + 1), "output": commonest} for n in range(count)])
    arguments = {
        "data": str(prepared.folder),
        "base": f"local:{base}",
        "tuned": f"run:{run_id}",
        "arms": [{"name": "majority class", "target": f"recorded:{recorded}"}],
        "general": "none",
        "max_tokens": 16,
    }
    return cast("EvalComparison", dispatch.call("compare_eval", arguments))


@pytest.fixture(scope="module")
def experiment(one_home: Path) -> Experiment:
    rows = real_rows()
    answers = [module for _, module in rows]
    random.Random(1).shuffle(answers)
    true = prepare(one_home, "true", rows)
    shuffled = prepare(
        one_home, "shuffled", list(zip([text for text, _ in rows], answers, strict=True))
    )
    texts = one_home / "texts.jsonl"
    write_jsonl(texts, [{"text": row["prompt"]} for row in true.rows("train")])
    base = Path(build_byte_base(texts, one_home / "base", steps=BASE_STEPS).folder)
    started = [launch(base, prepared) for prepared in (true, shuffled)]
    states = [ended(run_id) for run_id in started]
    assert [state.status for state in states] == ["succeeded", "succeeded"], states
    verdicts = [
        compare(base, prepared, run_id)
        for prepared, run_id in zip((true, shuffled), started, strict=True)
    ]
    return Experiment(true, shuffled, *verdicts)


def test_the_file_has_the_quirks_of_real_text(experiment: Experiment) -> None:
    rows = [row for part in ("train", "validation", "test") for row in experiment.true.rows(part)]
    assert len({row["completion"] for row in rows}) >= 20
    prompts = "".join(row["prompt"] for row in rows)
    assert all(quirk in prompts for quirk in ('"', "\n", ",", "\\", "'"))
    assert experiment.true.result.rows.exact_duplicates > 0
    assert experiment.true.result.rows.near_duplicates > 0
    assert experiment.true.result.leakage.exact == experiment.true.result.leakage.near == 0
    assert experiment.true.valid.valid, experiment.true.valid.counts


def test_the_tuned_model_beats_the_base_with_an_interval_above_zero(
    experiment: Experiment,
) -> None:
    found = experiment.true_verdict
    assert found.verdict == "improved"
    assert found.task[0].ci95[0] > 0.0, found.sentence


def test_the_tuned_model_beats_the_majority_class_with_an_interval_above_zero(
    experiment: Experiment,
) -> None:
    arm = experiment.true_verdict.arms[0]
    assert arm.tuned_ci95 is not None
    assert arm.tuned_ci95[0] > 0.0, (arm.score, arm.tuned_ci95)


def test_with_shuffled_completions_the_same_path_does_not_say_improved(
    experiment: Experiment,
) -> None:
    assert experiment.shuffled_verdict.verdict != "improved", experiment.shuffled_verdict.sentence
    assert experiment.shuffled_verdict.ship != "yes"
