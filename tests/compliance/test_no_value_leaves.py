"""Every tool called over rows with planted values: what it records, and what it never holds."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finetuning import runs
from finetuning.audit import verify_audit_log
from finetuning.errors import FineTuningError
from finetuning_skill import dispatch
from finetuning_skill.table import UNAUDITED

PLANTED = {
    "email": "quill" + "." + "marrow" + "@" + "harbour-lights" + ".org",
    "phone": "+49 " + "171 " + "55" + "18" + "389",
    "card": "4" + "111 1111 " + "1111 " + "1111",
    "iban": "DE89 " + "3704 0044 " + "0532 0130 00",
    "key": "sk-" + "proj-" + "Zx9Qw8Er7" * 5,
    "password": "hunter" + "7-" + "vellum",
    "id": "529-" + "88-" + "4471",
}
SENTENCE = "the heron counted " + "eleven lanterns " + "below the mill"
KEY_OF_THE_PERSON = "sk-" + "ant-" + "Nn4Mm3" * 6
BROKEN = [
    '{"prompt": "' + PLANTED["email"],
    json.dumps({"prompt": 5, "completion": PLANTED["phone"]}),
    json.dumps([PLANTED["key"]]),
    json.dumps({"messages": [{"role": "user", "content": [PLANTED["card"]]}]}),
    json.dumps({"messages": PLANTED["iban"]}),
    PLANTED["password"],
]
HELD = {"train.jsonl", "validation.jsonl", "test.jsonl"}
ROW_FILES = {
    # written because a person asked for rows there; no other file may hold a value of one
    "plain": HELD,
    "compared": {"report.html"},
}
TEXT_FILES = {"plain": HELD, "masked": HELD | {"review.html"}, "compared": {"report.html"}}
"""Files that may hold text of a row, with nothing left in it where it was masked."""


def row(number: int) -> dict[str, str]:
    """Return a row; every fifth holds all planted values, the rest are of many words."""
    text = f"Order {number} waits at gate {number * 7}: {SENTENCE} on day {number}."
    if number % 5 == 0:
        text += (
            f" Write to {PLANTED['email']} or call {PLANTED['phone']}, card {PLANTED['card']},"
            f" IBAN {PLANTED['iban']}, password: {PLANTED['password']}, SSN {PLANTED['id']},"
            f" key {PLANTED['key']}."
        )
    return {"prompt": f"What about order {number}?", "completion": text}


class Called(NamedTuple):
    """One call, what it said, and what it recorded."""

    name: str
    said: str
    error: str | None
    records: list[dict[str, Any]]


class Lived(NamedTuple):
    """Everything that was said, and where everything was written."""

    calls: list[Called]
    folder: Path
    log: str
    printed: str


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def steps(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield calls of every tool over the planted rows; some of them have to fail."""
    rows = [row(number) for number in range(60)]
    data = write(folder / "rows.jsonl", [json.dumps(one) for one in rows])
    bad = write(folder / "bad.jsonl", [*BROKEN, json.dumps(rows[0])])
    out = {n: str(folder / n) for n in ("masked", "plain", "compared", "report", "settings")}
    answers = [{"id": str(n + 1), "output": one["completion"]} for n, one in enumerate(rows)]
    tuned = write(folder / "tuned.jsonl", [json.dumps(one) for one in answers])
    base = write(
        folder / "base.jsonl", [json.dumps({**one, "output": SENTENCE}) for one in answers]
    )
    history = [{"step": n, "loss": 2 / n, "note": PLANTED["email"]} for n in range(1, 30)]
    state = write(folder / "trainer_state.json", [json.dumps({"log_history": history})])
    config = {"base_model": str(folder), "train_file": data, "learning_rate": 1e-4}
    remote = {"dry_run": True, "price_in_usd_per_mtok": "0.1", "price_out_usd_per_mtok": "0.2"}
    regimes = ["EU", "US", "CN", "soc2", "iso_42001", "nist_ai_rmf"]
    asked = {"base_model": "Qwen/Qwen3-8B", "jurisdictions": regimes}
    split: dict[str, Any] = {
        "target": "trl_prompt_completion", "near_duplicates": False, "split": [0.8, 0.1, 0.1],
        "prompt_column": "prompt", "completion_column": "completion", "force": True,
    }  # fmt: skip
    yield "inspect_environment", {}
    yield "scan_pii", {"path": data, "findings_file": str(folder / "findings.jsonl")}
    for way in ("mask", "pseudonym"):
        target = str(folder / f"{way}.jsonl")
        yield "scan_pii", {"path": data, "mode": "redact", "redact": way, "output": target}
    yield "scan_pii", {"path": bad}
    yield "inspect_data", {"path": data}
    yield "inspect_data", {"path": bad}
    yield "validate_jsonl", {"path": bad, "target": "openai_chat", "findings_file": bad + ".found"}
    yield "prepare_data", {"sources": [data], "output_dir": out["plain"], **split}
    masked = {"sources": [data, bad], "output_dir": out["masked"], "redact": "mask", **split}
    yield "prepare_data", {**masked, "canaries": 2, "review_sample": 3}
    yield "assess_fit", {"facts": {"has_eval": True}, "data": data}
    yield "compare_providers", {"constraints": {"method": "sft", "customer": "new"}}
    yield "estimate_cost", {
        "provider": "together", "model": "Qwen/Qwen3.5-9B", "method": "sft", "data": data
    }  # fmt: skip
    yield "configure_training", {
        "base_model": "Qwen/Qwen3-8B", "data": out["plain"], "method": "sft",
        "output_dir": out["settings"],
    }  # fmt: skip
    yield "launch_lora", {"config": config}
    yield "diagnose_run", {"path": state}
    yield "compare_eval", {
        "data": data, "base": f"recorded:{base}", "tuned": f"recorded:{tuned}",
        "train": f"{out['plain']}/train.jsonl", "output_dir": out["compared"],
    }  # fmt: skip
    yield "compare_eval", {"data": data, "base": "http://models.example/v1#m", **remote}
    yield "capture_outputs", {
        "prompts": data, "model": "http://models.example/v1#m", "output": str(folder / "got.jsonl"),
        **remote,
    }  # fmt: skip
    yield "compliance_report", {
        **asked, "data_sensitivity": "personal", "data": data, "output_dir": out["report"],
        "evaluation": str(folder / "compared" / "result.json"),
    }  # fmt: skip
    run = runs.create_run("launch_lora", arguments={"config": config})
    yield "get_run", {"run_id": run.run_id}
    yield "cancel_run", {"run_id": run.run_id}
    yield "export_adapter", {"run_id": run.run_id, "output_dir": str(folder / "exported")}
    yield "verify_audit_log", {"write_checkpoint": str(folder / "checkpoint.json")}
    yield "verify_audit_log", {"checkpoint": str(folder / "checkpoint.json")}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Call every tool once and more, as an assistant does, and keep what came back."""
    folder = tmp_path_factory.mktemp("planted")
    log, calls = folder / "home" / "audit.jsonl", list[Called]()
    printed = io.StringIO()
    told, shown = contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed)
    with pytest.MonkeyPatch.context() as patch, told, shown:
        patch.setenv("FINE_TUNING_HOME", str(folder / "home"))
        patch.setenv("FINE_TUNING_ROOTS", str(folder))
        patch.setenv("ANTHROPIC_API_KEY", KEY_OF_THE_PERSON)
        patch.delenv("FINE_TUNING_SHOW_CONTENT", raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name, given in steps(folder):
            before = log.read_text(encoding="utf-8").count("\n") if log.exists() else 0
            error = None
            try:
                answer = dispatch.call(name, given, surface="mcp")
                said = answer.model_dump_json() + answer.summary()
            except FineTuningError as refused:
                error, said = type(refused).__name__, str(refused)
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            calls.append(Called(name, said, error, [json.loads(one) for one in lines[before:]]))
        run = dispatch.start("scan_pii", {"path": str(folder / "rows.jsonl")})
        assert runs.wait(run.run_id, 60).status == "succeeded"
        assert verify_audit_log().valid
    return Lived(calls, folder, log.read_text(encoding="utf-8"), printed.getvalue())


def test_every_tool_was_called_and_most_of_them_worked(lived: Lived) -> None:
    assert {one.name for one in lived.calls} == set(dispatch.TOOLS)
    failed = [(one.name, one.said) for one in lived.calls if one.error]
    assert {name for name, _ in failed} <= {"launch_lora", "export_adapter", "cancel_run"}, failed


def test_each_call_that_touches_data_leaves_exactly_one_record(lived: Lived) -> None:
    for one in lived.calls:
        events = [record["event"] for record in one.records]
        checkpoint = one.name == "verify_audit_log" and '"checkpoint_file":"' in one.said
        expected = [f"tool.{one.name}"] if one.name not in UNAUDITED or checkpoint else []
        assert events == expected, one.name
    wrote = [one for one in lived.calls if one.name == "verify_audit_log" and one.records]
    assert len(wrote) == 1
    assert len(wrote[0].records[0]["details"]["head_digest"]) == 64


def test_a_record_says_who_called_with_which_digests_and_what_came_of_it(lived: Lived) -> None:
    digest = hashlib.sha256((lived.folder / "rows.jsonl").read_bytes()).hexdigest()
    for one in lived.calls:
        for record in one.records:
            details = record["details"]
            assert record["by"]
            assert record["at"].endswith("+00:00")
            assert details["surface"] == "mcp"
            assert len(details["arguments_sha256"]) == 64
            assert ("error" in details) == (one.error is not None)
            assert ("exit_code" in details) == (one.error is None)
            if dispatch.tool(one.name).inputs and one.error is None and one.name != "diagnose_run":
                assert one.name == "compare_providers" or details["inputs"]
    reading = {"scan_pii", "inspect_data", "prepare_data", "compare_eval", "compliance_report"}
    seen = {
        one.name
        for one in lived.calls
        for record in one.records
        if digest in record["details"]["inputs"].values()
    }
    assert reading <= seen
    compared = next(one for one in lived.calls if one.name == "compare_eval")
    names = set(compared.records[0]["details"]["inputs"])
    assert {"rows.jsonl", "base.jsonl", "tuned.jsonl", "train.jsonl"} <= names


def test_the_log_holds_nothing_of_a_row(lived: Lived) -> None:
    for value in (*PLANTED.values(), SENTENCE, KEY_OF_THE_PERSON):
        assert value not in lived.log


def test_no_result_and_no_error_holds_a_planted_value(lived: Lived) -> None:
    for one in lived.calls:
        for name, value in (*PLANTED.items(), ("text", SENTENCE), ("own key", KEY_OF_THE_PERSON)):
            assert value not in one.said, f"{name} in the answer of {one.name}"
            assert json.dumps(value)[1:-1] not in one.said


def holders(folder: Path, values: list[str]) -> dict[str, list[str]]:
    """Return file → which of the values stand in it, whatever wraps them."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.parent != folder or path.suffix == ".found"):
            data = path.read_bytes()
            hits = [
                value
                for value in values
                if any(form in data for form in (value.encode(), json.dumps(value)[1:-1].encode()))
            ]
            if hits:
                found[str(path.relative_to(folder))] = hits
    return found


def named(files: dict[str, set[str]]) -> set[str]:
    """Return the paths of files by folder."""
    return {f"{folder}/{name}" for folder, names in files.items() for name in names}


def test_no_file_holds_a_planted_value_but_those_that_are_meant_to_hold_rows(lived: Lived) -> None:
    values = [*PLANTED.values(), KEY_OF_THE_PERSON]
    assert set(holders(lived.folder, values)) <= named(ROW_FILES)
    assert "plain/train.jsonl" in holders(lived.folder, values)


def test_no_file_holds_text_of_a_row_but_those_that_are_meant_to(lived: Lived) -> None:
    assert set(holders(lived.folder, [SENTENCE])) <= named(TEXT_FILES)
    assert "masked/train.jsonl" in holders(lived.folder, [SENTENCE])


def test_nothing_that_was_printed_holds_a_planted_value(lived: Lived) -> None:
    for value in (*PLANTED.values(), SENTENCE, KEY_OF_THE_PERSON):
        assert value not in lived.printed


def test_findings_and_redacted_copies_hold_none_of_the_values(lived: Lived) -> None:
    for name in ("findings.jsonl", "mask.jsonl", "pseudonym.jsonl", "checkpoint.json"):
        text = (lived.folder / name).read_text(encoding="utf-8")
        for kind, value in PLANTED.items():
            assert value not in text, f"{kind} in {name}"


def test_a_call_that_is_interrupted_is_recorded_too(
    tmp_path: Path, isolated_environment: Path
) -> None:
    data = write(tmp_path / "rows.jsonl", [json.dumps(row(n)) for n in range(50)])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), runs.listen(interrupt):
        dispatch.call("inspect_data", {"path": data})
    lines = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["tool.inspect_data"]
    details = json.loads(lines[0])["details"]
    assert details["error"] == "KeyboardInterrupt"
    assert set(details["inputs"]) == {"rows.jsonl"}


def test_files_of_one_name_keep_a_digest_each(tmp_path: Path, isolated_environment: Path) -> None:
    paths: list[str] = []
    for number, folder in enumerate(("one", "two", "three")):
        (tmp_path / folder).mkdir()
        rows = [json.dumps(row(n)) for n in range(20 + number % 2)]
        paths.append(write(tmp_path / folder / "rows.jsonl", rows))
    dispatch.call(
        "prepare_data",
        {
            "sources": paths, "target": "trl_prompt_completion", "force": True,
            "output_dir": str(tmp_path / "prepared"),
        },
    )  # fmt: skip
    line = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    inputs = json.loads(line)["details"]["inputs"]
    assert set(inputs) == {"rows.jsonl", "rows.jsonl#2"}
    assert len(set(inputs.values())) == 2
