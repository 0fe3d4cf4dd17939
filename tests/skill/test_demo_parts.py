"""The demo's parts: what it refuses, how it shows its steps, how it stops."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import cast

import pytest

from finetuning import runs
from finetuning.data_prep import PreparedData
from finetuning.errors import BadInputError, MissingExtraError, RunFailedError
from finetuning.training import TrainingPlan
from finetuning_skill import demo, dispatch
from finetuning_skill.demo import ASSETS, DemoResult, run_demo, steps, work
from finetuning_skill.demo.steps import choose_setting


def test_columns_without_a_file_are_refused() -> None:
    with pytest.raises(BadInputError, match="columns were named without a file"):
        run_demo(prompt_column="question")


@pytest.mark.parametrize("name", ["data", "base_model"])
def test_a_missing_path_changes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=f"demo: {name}"):
        run_demo(output_dir=str(tmp_path / "out"), **{name: str(tmp_path / "none")})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_results_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(BadInputError, match="already holds files"):
        run_demo(output_dir=str(tmp_path))
    assert (tmp_path / "kept.txt").read_text(encoding="utf-8") == "kept"


def test_a_file_with_too_few_rows_is_refused_and_nothing_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "few.csv"
    path.write_text("question,answer\nWhat is red?,a colour\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="rows for train, validation and test"):
        run_demo(str(path), "question", "answer", output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert "the demo goes on all the same" in capsys.readouterr().err


def test_a_column_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("question,answer\nWhat is red?,a colour\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="replies"):
        run_demo(str(path), "question", "replies", output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "NEEDED", ("a_package_that_is_not_there",))
    with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[local\]"):
        run_demo(output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_own_base_is_measured_with_the_built_in_pack(tmp_path: Path) -> None:
    own = Path(shutil.copytree(ASSETS / "base", tmp_path / "base"))
    assert choose_setting(None, None, None, str(own)).general(tmp_path) == "builtin"
    rows = Path(choose_setting(None, None, None, None).general(tmp_path))
    assert [set(json.loads(line)) for line in rows.read_text("utf-8").splitlines()] == [
        {"prompt", "completion"}
    ] * 200


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("improved", 0), ("tied", 0), ("worse", 1), ("underpowered", 3), ("invalid", 4)],
)
def test_the_exit_code_follows_the_verdict(verdict: str, code: int) -> None:
    result = DemoResult(
        verdict=verdict,
        ship=None,
        sentence="said",
        fit_verdict="sft",
        metric="json_match",
        base_task_score=0.0,
        base_general_exact_match=None,
        arms=[],
        rows={},
        cost_usd=None,
        steps=[],
        seconds=1.0,
        audit_valid=True,
        audit_records=1,
        audit_head_digest="0",
        report_file="report.html",
        result_file="result.json",
        output_dir="out",
    )
    assert result.exit_code() == code
    assert result.summary() == f"{verdict}: said; report: report.html"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_shows_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    shown = work.Screen(1)
    with shown.step("prepare_data", "why") as note:
        runs.progress(1, None, "reading rows")
        runs.progress(3, 4, "reading rows")
        note("[bold]4 rows[/bold]", 1)
    text = terminal.getvalue()
    assert "[1/1] prepare_data: why" in text
    assert "reading rows" in text
    assert "[bold]4 rows[/bold]" in text  # what a tool says is never markup
    assert shown.steps[0].exit_code == 1


def test_without_a_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(work, "PLAIN_SECONDS", 0.0)
    shown = work.Screen(1)
    with shown.step("prepare_data", "why"):
        runs.progress(1, None, "reading rows")
        monkeypatch.setattr(work, "PLAIN_SECONDS", 1000.0)
        runs.progress(2, 4, "never shown")
    text = capsys.readouterr().err
    assert "reading rows: 1\n" in text
    assert "never shown" not in text


def test_the_thread_count_of_the_person_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with demo.one_thread(wanted=True):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    with demo.one_thread(wanted=True):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_run_that_nobody_works_on_is_ended_as_cancelled() -> None:
    run = runs.create_run("byte_base", arguments={})
    work.end_runs([run.run_id])
    assert runs.read_run(run.run_id).status == "cancelled"


def prepared_with(folder: Path, line: str) -> PreparedData:
    result = cast(
        "PreparedData",
        dispatch.call(
            "prepare_data",
            {
                "sources": [str(ASSETS / "orders.csv")],
                "target": "trl_prompt_completion",
                "output_dir": str(folder / "prepared"),
                "prompt_column": "message",
                "completion_column": "record",
                "split": [0.02, 0.49, 0.49],
            },
        ),
    )
    broken = folder / "broken.jsonl"
    broken.write_text(line + "\n", encoding="utf-8")
    return result.model_copy(update={"files": {**result.files, "test": str(broken)}})


def test_an_invalid_training_file_stops_the_demo(tmp_path: Path) -> None:
    prepared = prepared_with(tmp_path, json.dumps({"prompt": 1}))
    swapped = prepared.model_copy(update={"files": {"train": prepared.files["test"]}})
    with pytest.raises(BadInputError, match="a valid training file"):
        steps.validate(work.Screen(1), swapped)


def test_arms_with_different_test_rows_are_not_compared(tmp_path: Path) -> None:
    other = prepared_with(tmp_path, json.dumps({"prompt": "a", "completion": "b"}))
    same = other.model_copy(
        update={"files": {**other.files, "test": str(tmp_path / "prepared" / "test.jsonl")}}
    )
    with pytest.raises(RunFailedError, match="different test rows"):
        steps.check_prepared({work.WITH: other, work.WITHOUT: same})


def test_a_long_training_is_shortened_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_with(tmp_path, "{}")
    monkeypatch.setattr(work, "MOST_SECONDS", 0.5)
    data = tmp_path / "prepared"
    settings = work.choose_settings(ASSETS / "base", data, tmp_path)
    plans = work.configure(work.Screen(1), settings, ASSETS / "base", data, tmp_path)
    epochs = [plan.config["num_train_epochs"] for plan in plans.values()]
    assert epochs[0] == epochs[1] < 3
    assert f"{epochs[0]:g} epochs instead of more" in capsys.readouterr().err


def test_what_is_priced_are_the_epochs_that_are_trained(tmp_path: Path) -> None:
    prepared_with(tmp_path, "{}")
    data = tmp_path / "prepared"
    settings = work.choose_settings(ASSETS / "base", data, tmp_path)
    assert not settings.shortened
    cost = steps.estimate(work.Screen(1), ASSETS / "base", data, tmp_path, settings.epochs)
    assert cost.training.formula.startswith(f"{settings.epochs:g} epochs × ")


def test_a_refused_configuration_stops_the_demo(tmp_path: Path) -> None:
    prepared_with(tmp_path, "{}")
    with pytest.raises(RunFailedError, match="a run that fits"):
        work.plan_run(
            ASSETS / "base", tmp_path / "prepared", tmp_path / "plan", {"learning_rate": 1e-6}
        )


@pytest.mark.slow
def test_when_one_arm_breaks_the_other_is_ended(tmp_path: Path) -> None:
    prepared_with(tmp_path, "{}")
    good = work.plan_run(ASSETS / "base", tmp_path / "prepared", tmp_path / "good", {})
    base = Path(shutil.copytree(ASSETS / "base", tmp_path / "base"))
    bad = work.plan_run(base, tmp_path / "prepared", tmp_path / "bad", {})
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    plans: dict[str, TrainingPlan] = {work.WITH: bad, work.WITHOUT: good}
    with pytest.raises(RunFailedError, match=r"the arm with replay ended as \w+"):
        work.train(work.Screen(1), plans)
    assert {run.status for run in runs.list_runs()} <= runs.TERMINAL
