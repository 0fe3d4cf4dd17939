"""Capturing a model's answers: resumed after a crash, paid once, noted with their terms."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finetuning import approval, runs
from finetuning.errors import BadInputError, NotAllowedError, RunFailedError
from finetuning.evaluation import CapturedOutputs, capture_outputs, compare_eval
from finetuning.evaluation.capture import terms_of
from finetuning.evaluation.capturing import agreement_of
from finetuning.evaluation.targets import parse_target
from finetuning_skill import dispatch

NO_HEADERS: dict[str, str] = {}
PRICES: dict[str, Any] = {
    "price_in_usd_per_mtok": Decimal(1),
    "price_out_usd_per_mtok": Decimal(2),
    "max_tokens": 16,
}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.jsonl", 12)


def write_prompts(path: Path, count: int) -> Path:
    rows = [{"id": f"q{k}", "prompt": f"say word{k}"} for k in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def approved(prompts: Path, output: Path, model: str = "openai:m", **options: Any) -> str:
    """Plan, approve as a person would, and return the plan's id."""
    plan = capture_outputs(str(prompts), model, str(output), **{**PRICES, **options})
    assert plan.needs_approval
    approval.approve_plan(str(plan.plan_id), Decimal(1))
    return str(plan.plan_id)


def run(
    prompts: Path, output: Path, plan: str, model: str = "openai:m", **o: Any
) -> CapturedOutputs:
    options = {**PRICES, **o}
    return capture_outputs(str(prompts), model, str(output), dry_run=False, plan_id=plan, **options)


def loopback(vendor: Any, model: str = "m") -> str:
    return f"{vendor.address}/v1#{model}"


def test_a_dry_run_is_the_default_and_sends_nothing(vendor: Any, prompts: Path) -> None:
    output = prompts.parent / "out.jsonl"
    plan = capture_outputs(str(prompts), "openai:m", str(output), **PRICES)
    assert (plan.needs_approval, plan.exit_code(), plan.run_id) == (True, 0, None)
    assert plan.plan is not None
    assert plan.plan.steps == [
        "send 12 requests to 127.0.0.1",
        "the answers are a closed model's: its terms may forbid training on them",
    ]
    assert plan.cost_usd is not None
    # 12 answers of at most 16 tokens at $2 per million are 0.000384; the rest is what is read
    assert Decimal("0.0004") <= plan.cost_usd <= Decimal("0.0008")
    assert vendor.requests == []
    assert not output.exists()
    with pytest.raises(NotAllowedError, match="not approved"):
        run(prompts, output, str(plan.plan_id))
    assert vendor.requests == []


def test_answers_carry_their_terms_and_can_be_compared_as_recorded(
    vendor: Any, prompts: Path
) -> None:
    output = prompts.parent / "out" / "teacher.jsonl"
    result = run(prompts, output, approved(prompts, output))
    assert (result.n_prompts, result.n_done, result.n_failed, result.exit_code()) == (12, 12, 0, 0)
    # 12 x (7 tokens read at $1 and 2 written at $2 per million)
    assert result.cost_usd == Decimal("0.000132")
    rows = read(output)
    assert [row["output"] for row in sorted(rows, key=lambda row: int(row["id"][1:]))] == [
        f"word{k}" for k in range(12)
    ]
    assert {row["output_terms"] for row in rows} == {"closed:openai:m"}
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert result.fit_facts == {"n_teacher_outputs": 12, "teacher_closed_api": True}
    assert "word" not in result.model_dump_json().replace("word_", "")
    assert runs.read_run(str(result.run_id)).status == "succeeded"
    data = prompts.parent / "data.jsonl"
    with data.open("w") as stream:
        for k in range(12):
            row = {"id": f"q{k}", "prompt": f"say word{k}", "completion": f"word{k}"}
            stream.write(json.dumps(row) + "\n")
    assert compare_eval(str(data), f"recorded:{output}").task[0].base == 1.0


def test_the_same_call_again_sends_and_costs_nothing(vendor: Any, prompts: Path) -> None:
    output = prompts.parent / "out.jsonl"
    plan = approved(prompts, output)
    run(prompts, output, plan)
    before = output.read_bytes()
    again = run(prompts, output, plan)
    assert (again.n_done, again.cost_usd) == (12, Decimal("0.000000"))
    assert output.read_bytes() == before
    other = prompts.parent / "other.jsonl"  # lost the file: the answers are still there
    copied = run(prompts, other, approved(prompts, other))
    assert (copied.n_done, copied.n_known, copied.cost_usd) == (12, 12, Decimal("0.000000"))
    assert len(vendor.requests) == 12


def _child(prompts: Path, output: Path, plan: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from decimal import Decimal as D; "
        "from finetuning.evaluation import capture_outputs as c; "
        "c(sys.argv[1], 'openai:m', sys.argv[2], dry_run=False, plan_id=sys.argv[3],"
        " price_in_usd_per_mtok=D(1), price_out_usd_per_mtok=D(2), max_tokens=16, at_once=4)"
    )
    command = [sys.executable, "-c", code, str(prompts), str(output), plan]
    return subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL)


def test_killed_at_any_moment_it_goes_on_and_pays_for_nothing_twice(
    vendor: Any, tmp_path: Path
) -> None:
    prompts, output = write_prompts(tmp_path / "many.jsonl", 60), tmp_path / "out.jsonl"
    plan = approved(prompts, output)
    vendor.hold_after = 40  # the next requests hang without a reply
    with _child(prompts, output, plan) as child:
        held = [vendor.held.acquire(timeout=60) for _ in range(4)]  # all connections wait
        child.send_signal(signal.SIGKILL)
    assert all(held)
    vendor.hold_after = None
    first = len(vendor.requests)
    with output.open("ab") as stream:
        stream.write(b'{"id": "q9", "sam')  # and the last line was torn
    cut = capture_outputs(str(prompts), "openai:m", str(output), **PRICES)
    assert cut.plan is not None
    assert any(step.startswith("leave out 4 requests") for step in cut.plan.steps)
    result = run(prompts, output, plan)
    asked = Counter(body["messages"][-1]["content"] for _, _, body in vendor.requests)
    assert max(asked.values()) == 1
    assert first == 44
    assert len(vendor.requests) == 60
    assert (result.n_done, result.n_failed, result.n_unsure) == (56, 0, 4)
    assert result.exit_code() == 1
    rows = read(output)
    assert len({row["id"] for row in rows}) == len(rows) == 56
    with pytest.raises(NotAllowedError, match="an argument changed"):
        run(prompts, output, plan, retry_unsure=True)
    more = approved(prompts, output, retry_unsure=True)
    assert run(prompts, output, more, retry_unsure=True).n_done == 60


def test_a_plan_cut_off_is_not_resumed_beyond_what_was_approved(vendor: Any, prompts: Path) -> None:
    output = prompts.parent / "out.jsonl"
    plan = capture_outputs(str(prompts), "openai:m", str(output), **PRICES)
    approval.approve_plan(str(plan.plan_id), plan.cost_usd or Decimal(0))
    vendor.script = dict.fromkeys(range(3, 99), (400, NO_HEADERS))
    run(prompts, output, str(plan.plan_id))
    rows = read(output)
    assert len(rows) == 2
    for row in rows:  # as if two answers had been very long
        row["tokens_out"] = 10_000_000
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vendor.script = {}
    with pytest.raises(NotAllowedError, match="the rest costs"):
        run(prompts, output, str(plan.plan_id))


def test_several_samples_measure_the_models_agreement_with_itself(
    vendor: Any, prompts: Path
) -> None:
    output = prompts.parent / "out.jsonl"
    vendor.moods = ["", "!"]  # every other answer ends differently
    result = capture_outputs(
        str(prompts), loopback(vendor), str(output), samples=4, dry_run=False, max_tokens=16,
        at_once=1,
    )  # fmt: skip
    assert (result.n_done, len(read(output))) == (12, 48)
    assert {body["temperature"] for _, _, body in vendor.requests} == {1.0}
    assert result.agreement == pytest.approx(1 / 3)  # 2 of 6 pairs of each prompt
    assert {row["sample"] for row in read(output)} == {0, 1, 2, 3}


def test_agreement_is_the_chance_of_two_equal_samples() -> None:
    assert agreement_of({"a": ["x", "x", "y"], "b": ["z", "z"]}) == pytest.approx(2 / 3, abs=1e-6)
    assert agreement_of({"a": ["x"]}) is None


def test_failed_requests_are_counted_and_asked_again_by_the_next_call(
    vendor: Any, prompts: Path
) -> None:
    output = prompts.parent / "out.jsonl"
    vendor.script = dict.fromkeys(range(1, 4), (400, NO_HEADERS))
    target = loopback(vendor)
    options: dict[str, Any] = {"dry_run": False, "max_tokens": 16}
    first = capture_outputs(str(prompts), target, str(output), **options)
    assert (first.n_done, first.n_failed, first.exit_code()) == (9, 3, 1)
    second = capture_outputs(str(prompts), target, str(output), **options)
    assert (second.n_done, second.n_failed, second.exit_code()) == (12, 0, 0)
    assert len(vendor.requests) == 15
    vendor.script = dict.fromkeys(range(1, 99), (403, NO_HEADERS))
    none = capture_outputs(
        str(prompts), loopback(vendor, "x"), str(prompts.parent / "none.jsonl"), **options
    )
    assert (none.n_done, none.exit_code()) == (0, 4)
    assert "status 403" in none.summary()


def test_prompts_with_personal_data_go_nowhere_unless_a_person_approved_that(
    vendor: Any, tmp_path: Path
) -> None:
    prompts, output = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    mail = "@".join(["ana.muster", "example.org"])
    prompts.write_text(json.dumps({"prompt": f"write to {mail} word0"}) + "\n")
    plan = capture_outputs(str(prompts), "openai:m", str(output), **PRICES)
    assert plan.personal_data == {"email": 1}
    assert plan.plan is not None
    assert "REFUSED for personal data in the prompts: 1 email" in plan.plan.steps
    assert mail not in plan.model_dump_json()
    approval.approve_plan(str(plan.plan_id), Decimal(1))
    with pytest.raises(NotAllowedError, match="personal data"):
        run(prompts, output, str(plan.plan_id))
    assert vendor.requests == []
    allowed = approved(prompts, output, allow_personal_data=True)
    assert run(prompts, output, allowed, allow_personal_data=True).n_done == 1
    here = capture_outputs(str(prompts), loopback(vendor), str(tmp_path / "h.jsonl"), dry_run=False)
    assert here.n_done == 1  # this machine needs no leave


def test_offline_mode_refuses_before_any_connection(
    vendor: Any, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = prompts.parent / "out.jsonl"
    plan = approved(prompts, output)
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    with pytest.raises(NotAllowedError, match="FINE_TUNING_OFFLINE=1"):
        run(prompts, output, plan)
    assert vendor.requests == []


def test_the_output_of_another_call_is_not_mixed_in(vendor: Any, prompts: Path) -> None:
    output = prompts.parent / "out.jsonl"
    capture_outputs(str(prompts), loopback(vendor), str(output), dry_run=False)
    with pytest.raises(BadInputError, match="12 rows of another call"):
        capture_outputs(str(prompts), loopback(vendor, "b"), str(output), dry_run=False)
    again = capture_outputs(
        str(prompts), loopback(vendor, "b"), str(output), dry_run=False, overwrite=True
    )
    assert again.n_done == 12
    assert {row["model"] for row in read(output)} == {loopback(vendor, "b")}
    output.write_text("not ours\n")
    with pytest.raises(BadInputError, match="other rows of another call"):
        capture_outputs(str(prompts), loopback(vendor), str(output), dry_run=False)


def test_two_processes_do_not_write_one_output(vendor: Any, prompts: Path) -> None:
    import fcntl

    output = prompts.parent / "out.jsonl"
    with output.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match="another process"):
            capture_outputs(str(prompts), loopback(vendor), str(output), dry_run=False)
    assert vendor.requests == []
    assert runs.list_runs()[0].status == "failed"


def test_chats_are_asked_without_their_last_answer(vendor: Any, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "say word7"},
        {"role": "assistant", "content": "the answer of a person"},
    ]
    prompts = tmp_path / "chats.jsonl"
    prompts.write_text(json.dumps({"messages": turns}) + "\n")
    output = tmp_path / "out.jsonl"
    capture_outputs(str(prompts), loopback(vendor), str(output), dry_run=False)
    assert vendor.requests[0][2]["messages"] == turns[:1]
    assert read(output)[0]["output"] == "word7"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "no prompt"}, "holds a prompt"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "holds a prompt"),
    ],
)
def test_rows_without_a_prompt_are_refused(tmp_path: Path, row: dict[str, Any], what: str) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps(row) + "\n")
    with pytest.raises(BadInputError, match=what):
        capture_outputs(str(prompts), "http://127.0.0.1:9/v1#m", str(tmp_path / "o.jsonl"))


def test_ids_must_be_unique(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"id": 1, "prompt": "a"}) + "\n" + '{"id": "1", "prompt": "b"}\n')
    with pytest.raises(BadInputError, match="line 2 repeats an id of line 1"):
        capture_outputs(str(prompts), "http://127.0.0.1:9/v1#m", str(tmp_path / "o.jsonl"))


@pytest.mark.parametrize(
    "options",
    [{"samples": 0}, {"samples": 65}, {"at_once": 0}, {"max_tokens": 0}, {"temperature": 3.0}],
)
def test_numbers_out_of_range_are_refused(prompts: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=r"samples 1\.\.64"):
        capture_outputs(str(prompts), "openai:m", "out.jsonl", **options)


def test_recorded_answers_and_samples_of_a_greedy_model_are_refused(prompts: Path) -> None:
    with pytest.raises(BadInputError, match="recorded answers are there already"):
        capture_outputs(str(prompts), f"recorded:{prompts}", "out.jsonl")


@pytest.mark.parametrize(
    ("target", "terms"),
    [
        ("openai:gpt-6-luna", "closed:openai:gpt-6-luna"),
        ("anthropic:any", "closed:anthropic:any"),
        ("azure:gpt-4.1", "closed:azure:gpt-4.1"),
        ("vertex:gemini-3.5-flash", "closed:vertex:gemini-3.5-flash"),
        ("bedrock:amazon.nova-pro-v1:0", "closed:bedrock:amazon.nova-pro-v1:0"),
        ("http://127.0.0.1:1/v1#Qwen/Qwen3-8B", "open:apache-2.0:Qwen/Qwen3-8B"),
        ("http://127.0.0.1:1/v1#mystery", "unknown:mystery"),
        ("azure:mystery", "unknown:mystery"),
        ("https://api.openai.com/v1#ft:gpt-4.1:o::i", "closed:openai:ft:gpt-4.1:o::i"),
    ],
)
def test_terms_are_closed_open_with_a_licence_or_unknown(target: str, terms: str) -> None:
    assert terms_of(parse_target(target, where="model")) == terms


@pytest.mark.slow
def test_a_local_model_is_captured_too(tiny: Any, tmp_path: Path) -> None:
    prompts, output = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": r["prompt"]}) + "\n" for r in tiny.rows[:4]))
    target = f"local:{tiny.base}+{tiny.good}"
    plan = capture_outputs(str(prompts), target, str(output), max_tokens=8)
    assert (plan.needs_approval, plan.cost_usd) == (False, Decimal(0))
    result = capture_outputs(str(prompts), target, str(output), max_tokens=8, dry_run=False)
    assert (result.n_done, result.cost_usd) == (4, Decimal(0))
    assert {row["output_terms"] for row in read(output)} == {"unknown:base"}
    with pytest.raises(BadInputError, match="decodes greedily"):
        capture_outputs(str(prompts), target, str(output), samples=2)


def test_a_broken_local_model_fails_its_run(
    tmp_path: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunFailedError):
        capture_outputs(str(prompts), f"local:{base}", str(tmp_path / "o.jsonl"), dry_run=False)
    assert runs.list_runs()[0].status == "failed"


def test_the_next_call_of_a_plan_works_as_it_stands_through_the_tool_table(
    vendor: Any, prompts: Path
) -> None:
    output = prompts.parent / "out.jsonl"
    arguments = {
        "prompts": str(prompts),
        "model": "openai:m",
        "output": str(output),
        "price_in_usd_per_mtok": "1.0",
        "price_out_usd_per_mtok": 2,
        "samples": 2,
    }
    plan = dispatch.call("capture_outputs", arguments, surface="mcp")
    assert isinstance(plan, CapturedOutputs)
    assert len(plan.model_dump_json()) < 4000
    approval.approve_plan(str(plan.plan_id), Decimal(1))
    following = plan.next[0]
    result = dispatch.call(following.tool, following.args, surface="mcp")
    assert isinstance(result, CapturedOutputs)
    assert (result.n_done, result.samples, result.agreement) == (12, 2, 1.0)
    assert "12 of 12 prompts answered" in result.summary()
    assert "dry run: send 24 requests" in plan.summary()
    assert result.next[0].tool == "compare_eval"


def test_a_plan_that_was_never_begun_is_not_resumed(vendor: Any, prompts: Path) -> None:
    plan = approval.create_plan(
        "capture_outputs",
        arguments={"model": "openai:m"},
        files=[prompts],
        steps=["x"],
        cost_usd=Decimal(1),
        data_leaves_machine=True,
    )
    approval.approve_plan(plan.plan_id, Decimal(1))
    with pytest.raises(NotAllowedError, match="was never begun"):
        approval.resume_plan(
            plan.plan_id,
            "capture_outputs",
            arguments={"model": "openai:m"},
            files=[prompts],
            spent_usd=Decimal(0),
            rest_usd=Decimal(1),
        )
