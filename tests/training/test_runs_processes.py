"""Runs in real child processes: they outlive, get lost, are cancelled, and are found out."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from finetuning import runs
from finetuning.errors import RunFailedError
from finetuning.runs import store

PATIENCE = 30.0


def child(body: str) -> list[str]:
    code = "import os, signal, sys, time\nfrom finetuning import runs\nrun_id = sys.argv[1]\n"
    return [sys.executable, "-c", code + textwrap.dedent(body)]


HANG = """
    runs.attach(run_id)
    runs.record_steps(run_id, [{"step": 1, "loss": 1.0}])
    time.sleep(600)
"""


def start(body: str, **environment: str) -> str:
    run_id = runs.create_run("t", arguments={}).run_id
    assert runs.spawn(run_id, [*child(body), run_id], env=environment)
    return run_id


def until_step(run_id: str) -> int:
    """Wait until the child has reported its first step and return its pid."""
    while not runs.steps_of(run_id):
        row = runs.wait(run_id, 0.05)
        assert not row.finished, (row, Path(row.log_file).read_text())
    pid = runs.read_run(run_id).pid
    assert pid is not None
    return pid


def test_a_child_reports_its_end_and_its_output_is_private() -> None:
    run_id = start(
        """
        runs.attach(run_id)
        print("hello", os.environ["WORD"])
        runs.finish(run_id, "succeeded", result={"pid": os.getpid(), "sid": os.getsid(0)})
        """,
        WORD="there",
    )
    row = runs.wait(run_id, PATIENCE)
    assert row.status == "succeeded"
    assert row.result == {"pid": row.pid, "sid": row.pid}, "a session of its own"
    log = Path(row.log_file)
    assert log.read_text() == "hello there\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_run_is_started_once_however_often_it_is_asked_for() -> None:
    run_id = start(HANG)
    assert not runs.spawn(run_id, [*child(HANG), run_id])
    until_step(run_id)
    with pytest.raises(RunFailedError, match="which is running"):
        runs.attach(run_id)
    runs.request_cancel(run_id)
    assert runs.wait(run_id, PATIENCE).status == "cancelled"


def test_a_killed_child_reads_as_lost_and_names_its_log() -> None:
    run_id = start(HANG)
    os.kill(until_step(run_id), signal.SIGKILL)
    row = runs.wait(run_id, PATIENCE)
    assert row.status == "lost"
    assert row.log_file in str(row.error)
    assert runs.steps_of(run_id) == [{"step": 1, "loss": 1.0}], "what it reported is kept"
    runs.finish(run_id, "succeeded")
    assert runs.read_run(run_id).status == "lost", "nobody else may say that it succeeded"


def test_a_child_outlives_the_process_that_started_it() -> None:
    starter = (
        "import sys\nfrom finetuning import runs\n"
        "run_id = runs.create_run('t', arguments={}).run_id\n"
        "runs.spawn(run_id, [sys.executable, '-c', sys.argv[1], run_id])\n"
        "print(run_id, flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter, child(HANG)[2]], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL
    run_id = done.stdout.strip()
    until_step(run_id)
    assert runs.read_run(run_id).status == "running"
    runs.kill_run(run_id)
    assert runs.wait(run_id, PATIENCE).status == "lost"


def test_a_run_whose_creator_died_before_starting_it_is_lost() -> None:
    code = "from finetuning import runs; print(runs.create_run('t', arguments={}).run_id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    row = runs.read_run(done.stdout.strip())
    assert row.status == "lost"
    assert row.pid is None


def test_a_child_may_take_a_run_that_looked_lost_before_it_attached() -> None:
    code = "from finetuning import runs; print(runs.create_run('t', arguments={}).run_id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    run_id = done.stdout.strip()
    assert runs.read_run(run_id).status == "lost"
    runs.attach(run_id)
    assert runs.read_run(run_id).status == "running"
    with store.transaction() as connection:  # as a reader without /proc might conclude in error
        connection.execute("UPDATE runs SET status = 'lost', error = 'x'")
    runs.finish(run_id, "succeeded")
    row = runs.read_run(run_id)
    assert (row.status, row.error) == ("succeeded", None)


def test_a_cancelled_child_can_save_and_say_so() -> None:
    run_id = start(
        """
        runs.attach(run_id)
        def stop(*_):
            assert runs.cancel_requested(run_id)
            runs.finish(run_id, "cancelled", result={"saved": True})
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        runs.record_steps(run_id, [{"step": 1}])
        time.sleep(600)
        """
    )
    until_step(run_id)
    assert not runs.cancel_requested(run_id)
    runs.request_cancel(run_id)
    row = runs.wait(run_id, PATIENCE)
    assert (row.status, row.result) == ("cancelled", {"saved": True})


def test_a_child_that_ignores_the_request_is_killed_and_counts_as_cancelled() -> None:
    run_id = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + textwrap.dedent(HANG))
    until_step(run_id)
    runs.request_cancel(run_id)
    assert not runs.wait(run_id, 0.2).finished
    runs.kill_run(run_id)
    assert runs.wait(run_id, PATIENCE).status == "cancelled"


def test_the_whole_process_group_of_a_run_gets_the_signal() -> None:
    run_id = start(
        """
        import subprocess
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        runs.attach(run_id)
        runs.record_steps(run_id, [{"step": 1, "pid": grandchild.pid}])
        time.sleep(600)
        """
    )
    until_step(run_id)
    grandchild = runs.steps_of(run_id)[0]["pid"]
    runs.request_cancel(run_id)
    assert runs.wait(run_id, PATIENCE).status == "cancelled"
    stat_file = Path("/proc") / str(grandchild) / "stat"
    while stat_file.exists() and stat_file.read_text().rpartition(")")[2].split()[0] not in "ZX":
        os.sched_yield()


def test_a_queued_run_is_cancelled_at_once_and_cannot_be_taken_or_started() -> None:
    run_id = runs.create_run("t", arguments={}).run_id
    runs.request_cancel(run_id)
    assert runs.read_run(run_id).status == "cancelled"
    assert not runs.spawn(run_id, child(HANG))
    with pytest.raises(RunFailedError, match="which is cancelled"):
        runs.attach(run_id)


def test_cancelling_a_finished_run_changes_nothing() -> None:
    run_id = runs.create_run("t", arguments={}).run_id
    runs.attach(run_id)
    runs.finish(run_id, "succeeded")
    runs.request_cancel(run_id)
    runs.kill_run(run_id)
    assert runs.read_run(run_id).status == "succeeded"
    assert not runs.cancel_requested(run_id)


def test_a_run_inside_this_process_is_never_signalled() -> None:
    run_id = runs.create_run("t", arguments={}).run_id
    runs.attach(run_id)
    with store.transaction() as connection:
        connection.execute("UPDATE runs SET group_leader = 0")
    runs.request_cancel(run_id)
    assert runs.cancel_requested(run_id)
    assert runs.read_run(run_id).status == "running"
    runs.finish(run_id, "cancelled")


def test_a_program_that_cannot_start_fails_the_run(tmp_path: Path) -> None:
    run_id = runs.create_run("t", arguments={}).run_id
    with pytest.raises(RunFailedError, match="could not start"):
        runs.spawn(run_id, [str(tmp_path / "missing")])
    row = runs.read_run(run_id)
    assert row.status == "failed"
    assert "could not start" in str(row.error)


def test_children_killed_while_they_write_leave_a_store_that_reads() -> None:
    writing = """
        runs.attach(run_id)
        for step in range(1, 100000):
            runs.record_steps(run_id, [{"step": step, "loss": 1.0}, {"step": step, "eval_loss": 1}])
    """
    ids = [start(writing) for _ in range(3)]
    for run_id in ids:
        until_step(run_id)
        runs.kill_run(run_id)
        assert runs.wait(run_id, PATIENCE).status == "lost"
        found = runs.steps_of(run_id)
        assert [row["step"] for row in found] == [1 + i // 2 for i in range(len(found))]
    with store.connect() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
