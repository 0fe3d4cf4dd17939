"""A launched run lives on its own, and get_run and cancel_run tell and change its true state."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, MissingExtraError, UnknownNameError
from finetuning.training import cancel_run, environment, get_run, launch_lora, newest_valid
from finetuning.training.worker import EXIT_STOPPED, session

Settings = Callable[..., dict[str, Any]]
PATIENCE = 120.0


def until(run_id: str, step: int) -> None:
    """Wait until a run has reported a step."""
    while (get_run(run_id, wait_seconds=0.05).progress or runs.RunProgress()).step is None or (
        runs.read_run(run_id).progress.step or 0
    ) < step:
        row = runs.read_run(run_id)
        assert not row.finished, (row.error, Path(row.log_file).read_text())


def adapter_bytes(state: Any) -> bytes:
    return (Path(state.adapter_dir) / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def reference(settings_for: Settings) -> Iterator[str]:
    """Train without interruption, in this process, and return the run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    config = settings_for(num_train_epochs=16.0, save_steps=4)
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    assert session.main(run_id) == 0
    yield run_id
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of the libraries
def test_a_run_killed_in_the_middle_is_lost_and_resumes_bit_identically(
    settings_for: Settings, reference: str, tmp_path: Path
) -> None:
    config = tmp_path / "training.json"
    config.write_text(json.dumps(settings_for(num_train_epochs=16.0, save_steps=4)))
    killed = launch_lora(str(config))
    assert killed.run_id
    until(killed.run_id, 6)
    pid = runs.read_run(killed.run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    lost = get_run(killed.run_id, wait_seconds=PATIENCE)
    assert (lost.status, lost.exit_code()) == ("lost", 4)
    assert str(lost.log_file) in str(lost.error)
    resume = next(call for call in lost.next if call.tool == "launch_lora")
    resumed = launch_lora(**resume.args)
    assert resumed.run_id
    done = get_run(resumed.run_id, wait_seconds=PATIENCE, limit=None)
    assert done.status == "succeeded", (done.error, Path(str(done.log_file)).read_text())
    whole = get_run(reference, limit=None)
    assert done.parent_run_id == killed.run_id
    assert done.result
    assert done.result["resumed_from_step"] >= 2
    assert runs.steps_of(resumed.run_id) == runs.steps_of(reference), "the curve is whole"
    assert adapter_bytes(done) == adapter_bytes(whole)
    assert "is succeeded at step 64 of 64, loss " in whole.summary()
    log = (Path(os.environ["FINE_TUNING_HOME"]) / "audit.jsonl").read_text(encoding="utf-8")
    ends = [json.loads(line)["details"] for line in log.splitlines() if '"run.finished"' in line]
    assert [end["run_id"] for end in ends] == [reference, resumed.run_id]
    kept = {end["adapter"]["adapter_model.safetensors"] for end in ends}
    assert kept == {hashlib.sha256(adapter_bytes(done)).hexdigest()}


def test_two_processes_that_launch_at_the_same_moment_with_one_key_get_one_run(
    settings_for: Settings, tmp_path: Path
) -> None:
    (tmp_path / "training.json").write_text(json.dumps(settings_for()))
    code = (
        "import sys\nfrom finetuning.training import launch_lora\n"
        "import finetuning.runs.lifecycle\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "print(launch_lora(sys.argv[1], idempotency_key='k').run_id)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "training.json")]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    (run_id,) = {racer.communicate()[0].strip() for racer in racers}
    assert get_run().total == 1
    assert cancel_run(run_id).status == "cancelled"
    assert len([p for p in (tmp_path / "home" / "runs").iterdir() if p.is_dir()]) == 1


@pytest.mark.slow
def test_the_benchmark_of_the_first_step_runs_and_the_launcher_imports_no_torch() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "first_step.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heavy imports of the launching process: none" in done.stdout
    assert "ratio" in done.stdout


def test_one_idempotency_key_starts_one_run(settings_for: Settings) -> None:
    first = launch_lora(settings_for(), idempotency_key="k")
    assert launch_lora(settings_for(), idempotency_key="k").run_id == first.run_id
    with pytest.raises(BadInputError, match="already names"):
        launch_lora(settings_for(r=8), idempotency_key="k")
    assert get_run().total == 1
    assert first.run_id
    assert cancel_run(first.run_id).status == "cancelled"


@pytest.mark.slow
def test_cancelling_saves_a_checkpoint_to_go_on_from(settings_for: Settings) -> None:
    launched = launch_lora(settings_for(num_train_epochs=1000.0, save_steps=100_000))
    assert launched.run_id
    assert launched.summary().startswith(f"Run {launched.run_id}")
    until(launched.run_id, 1)
    state = cancel_run(launched.run_id, grace_seconds=PATIENCE)
    assert (state.status, state.exit_code()) == ("cancelled", 0)
    assert {checkpoint.fault for checkpoint in state.checkpoints} == {None}  # a best one stays too
    assert "resume=" in str(state.error)
    assert state.summary() == f"Run {launched.run_id} is cancelled: {state.error}"
    again = launch_lora(settings_for(num_train_epochs=1000.0), resume=launched.run_id)
    assert again.run_id
    steps = [row["step"] for row in get_run(again.run_id, limit=None).metrics]
    assert steps[-1] == max(each.step for each in state.checkpoints), "the curve is carried over"
    assert cancel_run(again.run_id).status == "cancelled"
    third = _checkpoints_folder(again.run_id)
    assert newest_valid(third)[0] is None
    onwards = launch_lora(settings_for(num_train_epochs=1000.0), resume=again.run_id)
    assert onwards.run_id
    arguments = runs.arguments_of(onwards.run_id)
    assert arguments["resume_from"] == str(_checkpoints_folder(launched.run_id))
    cancel_run(onwards.run_id)
    assert EXIT_STOPPED == 75


def _checkpoints_folder(run_id: str) -> Path:
    return Path(runs.read_run(run_id).folder) / "checkpoints"


def test_a_child_that_does_not_listen_is_killed() -> None:
    code = (
        "import signal, sys, time\nfrom finetuning import runs\nrun_id = sys.argv[1]\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nruns.attach(run_id)\n"
        "runs.record_steps(run_id, [{'step': 1}])\ntime.sleep(600)\n"
    )
    run_id = runs.create_run("prepare_data", arguments={}).run_id
    runs.spawn(run_id, [sys.executable, "-c", code, run_id])
    while not runs.steps_of(run_id):
        runs.wait(run_id, 0.05)
    state = cancel_run(run_id, grace_seconds=0.1)
    assert state.status == "cancelled"
    assert state.next == []
    assert (state.cost_so_far_usd, state.checkpoints, state.test_looks) == (None, [], 0)


def ended(config: dict[str, Any], status: runs.RunStatus, **result: Any) -> str:
    run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
    runs.attach(run_id)
    runs.finish(run_id, status, result=result or None)
    return run_id


def test_metrics_come_newest_first_asked_or_page_by_page(settings_for: Settings) -> None:
    run_id = runs.create_run("launch_lora", arguments={"config": settings_for()}).run_id
    runs.record_steps(run_id, [{"step": step, "loss": 1.0} for step in range(1, 51)])
    newest = get_run(run_id, limit=5)
    assert [row["step"] for row in newest.metrics] == [46, 47, 48, 49, 50]
    assert (newest.metrics_total, newest.next_since_step) == (50, None)
    seen: list[int] = []
    since: int | None = 0
    while since is not None:
        page = get_run(run_id, since_step=since, limit=20)
        seen += [row["step"] for row in page.metrics]
        since = page.next_since_step
    assert seen == list(range(1, 51))
    assert len(get_run(run_id, limit=None).metrics) == 50
    assert get_run(run_id).next[0].args == {"run_id": run_id, "wait_seconds": 30}
    assert get_run(run_id).summary() == f"Run {run_id} is queued."


def test_without_a_run_id_the_newest_runs_are_listed(settings_for: Settings) -> None:
    assert get_run().runs == []
    first = ended(settings_for(), "succeeded")
    second = ended(settings_for(), "failed")
    listed = get_run(limit=1)
    assert [line.run_id for line in listed.runs] == [second]
    assert listed.total == 2
    assert listed.summary() == "1 runs, newest first."
    assert [line.run_id for line in get_run(limit=None).runs] == [second, first]


def test_two_runs_are_set_side_by_side(settings_for: Settings, prepared: Path) -> None:
    mine = ended(settings_for(r=8), "succeeded", train_loss=0.5, best_eval=0.6, best_step=8)
    other = ended(settings_for(), "succeeded", train_loss=0.7, best_eval=0.75, best_step=4)
    fresh = ended(settings_for(validation_file=None), "succeeded", train_loss=0.1)
    found, apart = get_run(mine, compare=[other, fresh]).comparison
    assert found.changed == {"r": [8, 4]}
    assert (found.train_loss, found.eval_loss) == ([0.5, 0.7], [None, None])
    assert (found.best_eval, found.best_step) == ([0.6, 0.75], [8, 4])
    assert found.eval_gain == pytest.approx(0.15), "this run is better on the same held-out rows"
    assert apart.eval_gain is None, "judged on other rows: nothing to say"
    assert found.test_looks == [0, 0]


@pytest.mark.anyio
async def test_a_caller_who_waits_for_a_run_is_told_how_far_it_is(
    settings_for: Settings, anyio_backend: str
) -> None:
    from mcp import Client

    from finetuning_skill import server

    run_id = runs.create_run("launch_lora", arguments={"config": settings_for()}).run_id
    runs.attach(run_id)
    runs.record_progress(run_id, runs.RunProgress(step=3, total_steps=12, what="training"))
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with Client(server.build_server()) as client:
        arguments = {"run_id": run_id, "wait_seconds": 1.1}
        answer = await client.call_tool("get_run", arguments, progress_callback=tell)
    assert told[0] == (3, 12, "training")
    assert answer.structured_content is not None
    assert answer.structured_content["status"] == "running"
    runs.finish(run_id, "cancelled")


def test_looks_at_the_test_file_are_told(settings_for: Settings, prepared: Path) -> None:
    from finetuning.files import sha256_file

    run_id = ended(settings_for(), "succeeded")
    assert get_run(run_id).test_looks == 0
    runs.count_look(sha256_file(prepared / "test.jsonl"))
    assert get_run(run_id).test_looks == 1


@pytest.mark.parametrize(
    ("status", "test", "tools"),
    [
        ("succeeded", True, ["compare_eval", "diagnose_run"]),
        ("succeeded", False, ["diagnose_run"]),
        ("failed", True, ["diagnose_run"]),
        ("cancelled", True, ["launch_lora", "diagnose_run"]),
    ],
)
def test_the_next_step_follows_from_the_end(
    settings_for: Settings, status: runs.RunStatus, test: bool, tools: list[str]
) -> None:
    config = settings_for() if test else settings_for(test_file=None)
    state = get_run(ended(config, status))
    assert [call.tool for call in state.next] == tools
    assert state.exit_code() == (4 if status == "failed" else 0)


@pytest.mark.parametrize("arguments", [{"wait_seconds": -1.0}, {"limit": 0}])
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        get_run(**arguments)
    with pytest.raises(BadInputError):
        cancel_run("x", grace_seconds=601.0)
    with pytest.raises(UnknownNameError):
        cancel_run("x")


def test_a_dry_run_plans_and_starts_nothing(settings_for: Settings) -> None:
    plan = launch_lora(settings_for(), dry_run=True)
    assert plan.run_id is None
    assert plan.plan is not None
    assert (plan.plan.cost_usd, plan.plan.data_leaves_machine) == ("0", False)
    assert "32 rows" in plan.plan.steps[0]
    assert plan.needs_approval is False
    assert "Nothing was started" in plan.summary()
    assert runs.list_runs() == []


@pytest.mark.parametrize("provider", ["openai", "together", "hf_jobs"])
def test_hosted_launches_are_not_in_this_version(settings_for: Settings, provider: str) -> None:
    with pytest.raises(BadInputError, match="hosted launches are not in this version"):
        launch_lora(settings_for(), provider=provider)


def test_an_unknown_provider_names_the_nearest(settings_for: Settings) -> None:
    with pytest.raises(UnknownNameError, match="local"):
        launch_lora(settings_for(), provider="locl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dpo"}, "the rows are trl_prompt_completion"),
        ({"tuning": "half"}, "unknown tuning 'half'"),
        ({"save_total_limit": 10**9}, "lower save_total_limit"),
        ({"r": 0}, "r is 0"),
        ({"r": "many"}, "r is 'many'"),
        ({"learning_rte": 1.0}, "unknown setting 'learning_rte'"),
        ({"train_sha256": "0" * 64}, "has changed since the run was configured"),
        ({"train_file": "missing.jsonl"}, "does not exist"),
        ({"validation_file": "missing.jsonl"}, "does not exist"),
        ({"base_model": "Qwen/Qwen3-8B"}, "is not on this machine"),
    ],
)
def test_a_config_that_cannot_be_used_starts_nothing(
    settings_for: Settings, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        launch_lora(settings_for(**changes))
    assert runs.list_runs() == []


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ("[]", "holds a list"), ("{}", "base_model is")]
)
def test_a_config_file_that_is_no_config_is_refused(
    write_lines: Callable[..., Path], content: str, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        launch_lora(str(write_lines("training.json", content)))


@pytest.mark.parametrize(
    ("part", "message"), [("*.safetensors", "holds no weights"), ("tokenizer*", "no tokenizer")]
)
def test_an_incomplete_base_is_refused(
    settings_for: Settings, base: Path, part: str, message: str
) -> None:
    for path in base.glob(part):
        path.unlink()
    with pytest.raises(BadInputError, match=message):
        launch_lora(settings_for())


def test_only_an_ended_training_run_can_be_resumed(settings_for: Settings) -> None:
    other = runs.create_run("prepare_data", arguments={}).run_id
    queued = runs.create_run("launch_lora", arguments={"config": settings_for()}).run_id
    done = ended(settings_for(), "succeeded")
    for run_id, message in ((other, "a run of prepare_data"), (queued, "queued"), (done, "succee")):
        with pytest.raises(BadInputError, match=message):
            launch_lora(settings_for(), resume=run_id)


def test_without_the_extra_the_pip_line_is_given(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(environment.EXTRAS, "local", ("torch", "no_such_package_here"))
    with pytest.raises(MissingExtraError, match=r"pip install 'fine-tuning-skill\[local\]'"):
        launch_lora(settings_for())
