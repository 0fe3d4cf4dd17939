from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, RunFailedError, UnknownNameError
from finetuning_skill import dispatch


@pytest.fixture
def rows(write_lines: Callable[..., Path]) -> Path:
    lines = [
        json.dumps({"prompt": f"question {i}", "completion": f"answer {i}"}) for i in range(12)
    ]
    return write_lines("rows.jsonl", *lines)


def arguments(rows: Path) -> dict[str, str]:
    return {"path": str(rows), "target": "trl_prompt_completion"}


def records(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "audit.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", dispatch.TOOLS)
def test_function_model_and_result_of_every_tool_resolve(name: str) -> None:
    assert dispatch.function(name).__name__ == name
    assert dispatch.arguments_of(name).model_json_schema()["additionalProperties"] is False
    assert {"next", "fit_facts"} <= set(dispatch.result_of(name).model_fields)


def test_unknown_tool_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="inspect_data"):
        dispatch.call("inspect_dat", {})


def test_a_call_is_checked_run_and_audited(rows: Path, isolated_environment: Path) -> None:
    result = dispatch.call("validate_jsonl", arguments(rows))
    assert result.exit_code() == 0
    (record,) = records(isolated_environment)
    details = record["details"]
    assert record["event"] == "tool.validate_jsonl"
    assert details["surface"] == "library"
    assert list(details["inputs"]) == ["rows.jsonl"]
    assert details["valid"] is True


def test_a_refused_call_is_audited_with_the_kind_of_error(
    tmp_path: Path, isolated_environment: Path
) -> None:
    with pytest.raises(BadInputError):
        dispatch.call("validate_jsonl", arguments(tmp_path / "none.jsonl"))
    (record,) = records(isolated_environment)
    details = record["details"]
    assert details["error"] == "BadInputError"
    assert details["inputs"] == {}


def test_a_broken_audit_log_stops_a_call_before_it_works(
    rows: Path, isolated_environment: Path
) -> None:
    isolated_environment.mkdir()
    (isolated_environment / "audit.jsonl").write_text("not a record\n", encoding="utf-8")
    out = rows.parent / "findings.jsonl"
    with pytest.raises(RunFailedError, match="verify-audit-log"):
        dispatch.call("validate_jsonl", {**arguments(rows), "findings_file": str(out)})
    assert not out.exists()


def test_a_detached_call_leaves_its_result_in_the_run_store(rows: Path) -> None:
    run = dispatch.start("validate_jsonl", arguments(rows))
    assert runs.wait(run.run_id, 60).status == "succeeded"
    outcome = dispatch.outcome(runs.read_run(run.run_id))
    assert outcome == dispatch.call("validate_jsonl", arguments(rows))


def test_a_detached_call_with_bad_arguments_fails_at_once_and_leaves_no_run() -> None:
    with pytest.raises(UnknownNameError):
        dispatch.start("validate_jsonl", {"path": "x", "target": "nope"})
    assert runs.list_runs() == []


def test_a_detached_call_that_fails_says_why(tmp_path: Path) -> None:
    run = dispatch.start("validate_jsonl", arguments(tmp_path / "none.jsonl"))
    ended = runs.wait(run.run_id, 60)
    assert ended.status == "failed"
    assert "none.jsonl" in str(ended.error)
    with pytest.raises(RunFailedError, match=r"none\.jsonl"):
        dispatch.outcome(ended)


def test_a_run_that_goes_on_is_answered_with_its_handle(rows: Path) -> None:
    run = runs.create_run("validate_jsonl", arguments=arguments(rows))
    handle = dispatch.outcome(run)
    assert isinstance(handle, dispatch.Pending)
    assert handle.next[0].tool == "get_run"
    assert run.run_id in handle.summary()


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("launch_lora", {"config": {"verifier": "os:system"}}),
        (
            "configure_training",
            {"base_model": "x", "data": "y", "overrides": {"verifier": "a.py:f"}},
        ),
    ],
)
def test_an_assistant_cannot_name_code_to_run(tool: str, given: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match="may not say which code runs"):
        dispatch.call(tool, given, surface="mcp")


def test_the_job_reports_progress_and_its_exit_code(
    rows: Path, write_lines: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = runs.create_run("validate_jsonl", arguments=arguments(rows))
    assert dispatch.run_job(good.run_id) == 0
    broken = write_lines("broken.jsonl", "{")
    bad = runs.create_run("validate_jsonl", arguments=arguments(broken))
    assert dispatch.run_job(bad.run_id) == 1
    assert runs.read_run(bad.run_id).status == "succeeded"
    missing = runs.create_run("validate_jsonl", arguments=arguments(rows.parent / "none"))
    monkeypatch.setattr("sys.argv", ["job", missing.run_id])
    assert dispatch.main() == 2


def test_the_jobs_listener_writes_to_the_run(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create_run("validate_jsonl", arguments=arguments(rows))
    real = dispatch.call

    def with_progress(name: str, given: dict[str, str], *, surface: dispatch.Surface) -> object:
        runs.progress(3, 12, "reading")
        return real(name, given, surface=surface)

    monkeypatch.setattr(dispatch, "call", with_progress)
    dispatch.run_job(run.run_id)
    progress = runs.read_run(run.run_id).progress
    assert (progress.step, progress.total_steps, progress.what) == (3, 12, "reading")


def test_a_bug_is_recorded_by_its_kind_only(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a row's own text")

    monkeypatch.setattr(dispatch, "call", broken)
    run = runs.create_run("validate_jsonl", arguments=arguments(rows))
    with pytest.raises(KeyError):
        dispatch.run_job(run.run_id)
    row = runs.read_run(run.run_id)
    assert row.status == "failed"
    assert row.error == "validate_jsonl: KeyError; see the log."
