from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning_skill import cli, dispatch

GOOD = [
    json.dumps({"prompt": f"question number {i} about a lamp", "completion": f"answer {i}"})
    for i in range(12)
]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.run([str(word) for word in words])
    out = capsys.readouterr()
    return code, out.out, out.err


def run_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code, out, err = run(capsys, *words, "--json")
    assert out, err
    return code, json.loads(out)


@pytest.fixture
def good_file(write_lines: Callable[..., Path]) -> Path:
    return write_lines("good.jsonl", *GOOD)


def test_json_on_stdout_is_exactly_the_tools_result(
    capsys: pytest.CaptureFixture[str], good_file: Path
) -> None:
    arguments = {"path": str(good_file), "target": "trl_prompt_completion"}
    words = ["validate-jsonl", good_file, "--target", "trl_prompt_completion"]
    code, result = run_json(capsys, *words)
    assert code == 0
    assert result == dispatch.call("validate_jsonl", arguments).model_dump(mode="json")


def test_plain_text_starts_with_the_summary_and_ends_with_the_next_calls(
    capsys: pytest.CaptureFixture[str], good_file: Path
) -> None:
    words = ["validate-jsonl", good_file, "--target", "trl_prompt_completion"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "n_rows" in out
    assert "fine-tuning " in out.split("next:")[1]


def test_findings_are_all_printed_unless_limited(
    capsys: pytest.CaptureFixture[str], write_lines: Callable[..., Path]
) -> None:
    path = write_lines("bad.jsonl", *["{broken"] * 120)
    words = ["validate-jsonl", path, "--target", "trl_prompt_completion"]
    code, result = run_json(capsys, *words)
    assert code == 1
    lines = {finding["line"] for finding in result["findings"]}
    assert set(range(1, 121)) <= lines
    _, limited = run_json(capsys, *words, "--limit", "7")
    assert len(limited["findings"]) == 7


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["validate-jsonl", "MISSING", "--target", "openai_chat"], "MISSING"),
        (["validate-jsonl", "FOLDER", "--target", "openai_chat"], "FOLDER"),
        (["inspect-data", "EMPTY"], "EMPTY"),
        (["inspect-data", "BINARY"], "BINARY"),
        (["inspect-data", "HEADER"], "HEADER"),
        (["prepare-data", "MISSING", "--target", "openai_chat", "--output-dir", "OUT"], "MISSING"),
        (["prepare-data", "EMPTY", "--target", "openai_chat", "--output-dir", "OUT"], "EMPTY"),
        (["prepare-data", "HEADER", "--target", "openai_chat", "--output-dir", "OUT"], "HEADER"),
        (
            ["prepare-data", "TABLE", "--target", "trl_prompt_completion", "--output-dir", "OUT",
             "--prompt-column", "questoin", "--completion-column", "answer"],
            "question",
        ),
        (
            ["prepare-data", "TABLE", "--target", "trl_prompt_completion", "--output-dir", "FULL",
             "--prompt-column", "question", "--completion-column", "answer"],
            "FULL",
        ),
        (["scan-pii", "MISSING"], "MISSING"),
        (["compare-eval", "MISSING", "--base", "recorded:MISSING"], "MISSING"),
        (["launch-lora", "MISSING"], "MISSING"),
        (["diagnose-run", "MISSING"], "MISSING"),
        (["get-run", "no-such-run"], "no-such-run"),
        (["assess-fit", "--facts", '{"prompt_score": 92}'], "0.92?"),
        (["no-such-tool"], "no-such-tool"),
        (["validate-jsonl", "TABLE", "--target", "opnai_chat"], "openai_chat"),
        (["estimate-cost", "--provider", "together", "--model", "x/none", "--method", "sft",
          "--training-tokens", "1000"], "x/none"),
        (["approve", "no-such-plan", "--max-usd", "1"], "no-such-plan"),
        (["approve", "no-such-plan", "--max-usd", "much"], "much"),
    ],
)  # fmt: skip
def test_bad_input_gives_the_template_exit_2_and_changes_nothing(
    words: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "EMPTY").write_bytes(b"")
    (tmp_path / "BINARY").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "HEADER").write_text("question,answer\n", encoding="utf-8")
    (tmp_path / "TABLE").write_text("question,answer\nwhat is it,a lamp\n" * 3, encoding="utf-8")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "train.jsonl").write_text("{}\n", encoding="utf-8")
    names = {"MISSING", "EMPTY", "BINARY", "HEADER", "TABLE", "FOLDER", "FULL", "OUT"}
    given = [str(tmp_path / word) if word in names else word for word in words]
    given = [word.replace("recorded:", f"recorded:{tmp_path}/") for word in given]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if "home" not in p.parts}
    code, out, err = run(capsys, *given)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if "home" not in p.parts}
    assert (code, out) == (2, ""), err
    assert text in err
    assert "expected" in err
    assert err.rstrip().endswith(".")
    assert before == after


def test_help_and_version_need_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "assess-fit" in out
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.strip()[0].isdigit()


def test_command_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(["scan-pii", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "--mode" in out
    assert "example:" in out


def test_no_wait_returns_a_run_that_get_run_brings_to_its_end(
    capsys: pytest.CaptureFixture[str], good_file: Path
) -> None:
    words = ["validate-jsonl", good_file, "--target", "trl_prompt_completion", "--no-wait"]
    code, started = run_json(capsys, *words)
    assert code == 0
    follow = started["next"][0]["args"]
    code, state = run_json(capsys, "get-run", follow["run_id"], "--wait-seconds", 60)
    assert code == 0
    assert state["status"] == "succeeded"
    assert state["result"]["valid"] is True


def test_an_installed_command_answers_in_another_folder_with_a_relative_path(
    tmp_path: Path, good_file: Path
) -> None:
    program = Path(sys.executable).parent / "fine-tuning"
    words = [program, "validate-jsonl", good_file.name, "--target", "trl_prompt_completion"]
    environment = {**os.environ, "FINE_TUNING_ROOTS": ""}
    done = subprocess.run(
        [*words, "--json"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_rows"] == len(GOOD)


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "fine-tuning"
    command = f"'{program}' --help | true"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr


def test_audit_log_gains_one_record_per_call_that_reads_data(
    capsys: pytest.CaptureFixture[str], good_file: Path, isolated_environment: Path
) -> None:
    run(capsys, "validate-jsonl", good_file, "--target", "trl_prompt_completion")
    run(capsys, "inspect-environment")
    log = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in log]
    assert len(records) == 1
    assert "question number" not in log[0]
    code, verified = run_json(capsys, "verify-audit-log")
    assert code == 0
    assert verified["valid"] is True
    assert verified["n_records"] == 1


def test_a_bug_is_named_by_kind_and_place_without_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, good_file: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a row's own text")

    monkeypatch.setattr(dispatch, "call", broken)
    code, out, err = run(capsys, "validate-jsonl", good_file, "--target", "openai_chat")
    assert (code, out) == (4, "")
    assert "KeyError at " in err
    assert "in broken" in err
    assert "own text" not in err


def test_ctrl_c_ends_with_its_own_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, good_file: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "call", interrupted)
    code, out, err = run(capsys, "validate-jsonl", good_file, "--target", "openai_chat")
    assert (code, out) == (130, "")
    assert "interrupted" in err


def test_a_person_approves_a_plan_and_the_log_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, isolated_environment: Path
) -> None:
    rows = [json.dumps({"prompt": f"What is {i}?", "completion": str(i)}) for i in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows), encoding="utf-8")
    words = ["compare-eval", tmp_path / "t.jsonl", "--base", "http://model.example/v1#m"]
    prices = ["--price-in-usd-per-mtok", "1000", "--price-out-usd-per-mtok", "1000"]
    code, planned = run_json(capsys, *words, "--general", "none", *prices)
    assert (code, planned["needs_approval"]) == (0, True)
    code, out, _ = run(capsys, "approve", planned["plan_id"], "--max-usd", "50")
    assert code == 0
    assert "may spend up to $50" in out
    log = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8")
    assert '"event":"plan.approved"' in log
