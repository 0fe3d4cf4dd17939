"""The demo as a person runs it: ``fine-tuning demo``, offline, from a raw file to a verdict."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pytest

from finetuning_skill.demo import ASSETS, report, run_demo, steps, work

pytestmark = pytest.mark.slow

STEPS = [
    "assess_fit",
    "prepare_data",
    "validate_jsonl",
    "estimate_cost",
    "configure_training",
    "launch_lora",
    "compare_eval",
    "diagnose_run",
    "verify_audit_log",
]


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with a home of its own and the network shut."""
    return {
        **os.environ,
        "FINE_TUNING_HOME": str(folder / "home"),
        "FINE_TUNING_ROOTS": str(folder),
        "FINE_TUNING_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from finetuning_skill.cli import main; main()", "demo", *words],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(folder: Path) -> list[int]:
    """Return the processes that work for this test's home."""
    mark = f"FINE_TUNING_HOME={folder / 'home'}".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            except OSError:
                continue
            if mark in variables and alive:
                found.append(int(entry.name))
    return found


def left_behind(folder: Path) -> list[int]:
    """Return the processes that do not leave; one that was just killed takes a moment."""
    until = time.monotonic() + 20
    while (found := processes_of(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def small_file(folder: Path, rows: int) -> Path:
    """Write an own file: the shipped messages with another header, so few that it is quick."""
    with (ASSETS / "orders.csv").open(encoding="utf-8", newline="") as source:
        whole = [row for row in csv.DictReader(source) if row["record"]]
    path = folder / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["question", "answer"])
        chosen = random.Random(0).sample(whole, rows)
        writer.writerows((row["message"], row["record"]) for row in chosen)
    return path


@dataclass
class Finished:
    """One run of the command that went to its end."""

    result: dict[str, Any]
    stderr: str
    folder: Path
    audit_log: str

    def arm(self, name: str) -> dict[str, Any]:
        return next(arm for arm in self.result["arms"] if arm["name"] == name)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("demo")
    process = start(folder, "--json", "--output-dir", "out")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    log = (folder / "home" / "audit.jsonl").read_text(encoding="utf-8")
    return Finished(json.loads(out), err, folder, log)


def test_every_step_is_shown_as_it_goes(demo: Finished) -> None:
    shown = re.findall(r"^\[(\d+)/9\] (\w+):", demo.stderr, flags=re.MULTILINE)
    assert shown == [(str(number), name) for number, name in enumerate(STEPS, 1)]
    assert [step["tool"] for step in demo.result["steps"]] == STEPS


def test_both_arms_learn_the_task_from_nothing(demo: Finished) -> None:
    assert demo.result["base_task_score"] == 0.0
    assert demo.result["verdict"] == "improved"
    assert demo.result["ship"] == "yes"
    assert demo.arm("with replay")["task_score"] >= 0.95
    assert demo.arm("without replay")["task_score"] >= 0.95


def test_replay_keeps_what_training_without_it_forgets(demo: Finished) -> None:
    assert demo.result["base_general_exact_match"] >= 0.99
    assert demo.arm("with replay")["general_exact_match"] >= 0.93
    assert demo.arm("without replay")["general_exact_match"] <= 0.3
    assert demo.arm("without replay")["general_verdict"] == "worse"
    assert demo.arm("with replay")["general_verdict"] != "worse"


def test_both_curves_read_as_healthy(demo: Finished) -> None:
    assert {arm["diagnosis"] for arm in demo.result["arms"]} == {"healthy"}


def test_the_faults_of_the_raw_file_are_counted(demo: Finished) -> None:
    rows = demo.result["rows"]
    assert (rows["exact_duplicates"], rows["near_duplicates"], rows["rejected"]) == (32, 40, 5)
    assert rows["redacted"] > 50
    parts = [
        (demo.folder / "out" / "prepared-with-replay" / f"{name}.jsonl").read_text()
        for name in ("train", "validation", "test")
    ]
    assert "@example" not in "".join(parts)
    assert "[EMAIL]" in "".join(parts)


def test_the_report_is_one_file_that_shows_no_row(demo: Finished) -> None:
    page = Path(demo.result["report_file"]).read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=", page)
    assert "<script" not in page
    for part in ("What went in", "Training curves", "What the training forgot", "Cost", "Audit"):
        assert part in page
    assert demo.result["audit_head_digest"] in page
    for word in ("Kind regards", "candles", "Hamburg", "@example"):
        assert word not in page
        assert word not in demo.stderr


def test_the_audit_log_is_unbroken_and_names_every_tool(demo: Finished) -> None:
    assert demo.result["audit_valid"] is True
    *covered, last = demo.audit_log.splitlines()
    assert demo.result["audit_records"] == len(covered)
    assert '"tool.verify_audit_log"' in last, "writing the checkpoint is recorded after it"
    for name in STEPS[:-1]:
        assert f"tool.{name}" in demo.audit_log
    assert "demo.verdict" in demo.audit_log


def test_the_next_calls_can_be_made_as_they_are(
    demo: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning_skill import dispatch

    for name, value in environment(demo.folder).items():
        monkeypatch.setenv(name, value)
    for call in demo.result["next"]:
        assert dispatch.call(call["tool"], call["args"]).exit_code() in {0, 3}


def test_no_process_is_left_behind(demo: Finished) -> None:
    assert left_behind(demo.folder) == []


def test_an_own_file_gets_a_base_made_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "BASE_SECONDS", 1.0)
    monkeypatch.setattr(steps, "MOST_TEST_ROWS", 5)
    monkeypatch.setattr(work, "MOST_SECONDS", 2.0)
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(tmp_path))
    draw, told = report.draw_page, list[report.Story]()

    def keep(story: report.Story) -> str:
        told.append(story)
        return draw(story)

    monkeypatch.setattr(report, "draw_page", keep)
    result = run_demo(
        data=str(small_file(tmp_path, 60)),
        prompt_column="question",
        completion_column="answer",
        output_dir=str(tmp_path / "out"),
    )
    assert [step.tool for step in result.steps] == [*STEPS[:3], "base model", *STEPS[3:]]
    assert result.verdict in {"underpowered", "tied"}  # so little is not learnt in a second
    assert (tmp_path / "out" / "base" / "tokenizer.json").is_file()
    assert "[10/10] verify_audit_log" in capsys.readouterr().err
    assert result.arms[0].general_delta_nll is not None
    assert "What the training forgot" in Path(result.report_file).read_text(encoding="utf-8")
    check_other_outcomes(told[0])


def check_other_outcomes(story: report.Story) -> None:
    """Draw the page of runs that came out otherwise."""
    found = story.comparison
    assert found.general is not None
    answers_long = found.general.model_copy(update={"exact_match": None, "ci95": None})
    arm = found.arms[0].model_copy(update={"general": answers_long})
    cases: list[dict[str, Any]] = [
        {"verdict": "worse", "ship": "no", "general": None, "cautions": [], "reasons": []},
        {"verdict": "improved", "ship": "yes", "general": answers_long, "arms": [arm]},
    ]
    bad, good = (
        report.draw_page(replace(story, comparison=found.model_copy(update=case))) for case in cases
    )
    assert 'class="banner bad"' in bad
    assert "What the training forgot" not in bad
    assert 'class="banner good"' in good
    assert "General rows answered exactly" not in good
    own_base = replace(story.setting, base=Path("models/own"))
    assert "built-in pack" in report.draw_page(replace(story, setting=own_base))


def read_until(stream: IO[str], mark: str) -> str:
    text = ""
    for line in stream:
        text += line
        if mark in line:
            return text
    pytest.fail(f"{mark!r} was never shown: {text}")


@pytest.mark.parametrize(
    ("mark", "number"),
    [
        ("[1/9] assess_fit", signal.SIGINT),
        ("[2/9] prepare_data", signal.SIGTERM),
        ("training (loss", signal.SIGINT),
        ("[7/9] compare_eval", signal.SIGINT),
    ],
)
def test_a_stop_at_any_step_leaves_no_file_and_no_process(
    tmp_path: Path, mark: str, number: signal.Signals
) -> None:
    own = small_file(tmp_path, 60)
    words = ["--data", str(own), "--prompt-column", "question", "--completion-column", "answer"]
    words += ["--base-model", "base", "--output-dir", "out"]
    (tmp_path / "base").symlink_to(ASSETS / "base")
    process = start(tmp_path, *words)
    assert process.stderr is not None
    read_until(process.stderr, mark)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted" in err
    assert left_behind(tmp_path) == []
    assert not (tmp_path / "out").exists()
    left = [path.name for path in tmp_path.rglob("*") if re.search(r"\.tmp|^\.", path.name)]
    assert left == []
