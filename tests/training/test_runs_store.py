"""The run store keeps one true state per run, for several processes at once."""

from __future__ import annotations

import contextvars
import json
import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning import runs
from finetuning.errors import BadInputError, RunFailedError, UnknownNameError
from finetuning.runs import lifecycle, store


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_run_is_queued_and_its_arguments_stay_in_its_folder(
    isolated_environment: Path,
) -> None:
    row = runs.create_run("launch_lora", arguments={"r": 8, "note": "Grüße"})
    assert row.status == "queued"
    assert row.pid is None
    assert not row.finished
    assert runs.arguments_of(row.run_id) == {"r": 8, "note": "Grüße"}
    assert Path(row.folder) == isolated_environment / "runs" / row.run_id
    assert "Grüße".encode() not in (isolated_environment / "runs.sqlite").read_bytes()


def test_only_the_owner_can_read_the_store_and_the_arguments(isolated_environment: Path) -> None:
    row = runs.create_run("t", arguments={})
    with store.connect():  # while a connection is open, -wal and -shm exist as well
        runs.record_steps(row.run_id, [{"step": 1, "loss": 1.0}])
        for path in isolated_environment.glob("runs.*"):
            assert mode(path) == 0o600, path.name
    assert mode(Path(row.folder)) == 0o700
    assert mode(Path(row.folder) / "args.json") == 0o600


def test_one_idempotency_key_names_one_run() -> None:
    first = runs.create_run("t", arguments={"r": 8}, idempotency_key="k")
    assert runs.create_run("t", arguments={"r": 8}, idempotency_key="k") == first
    with pytest.raises(BadInputError, match="already names"):
        runs.create_run("t", arguments={"r": 16}, idempotency_key="k")
    with pytest.raises(BadInputError, match="already names"):
        runs.create_run("other", arguments={"r": 8}, idempotency_key="k")
    assert [row.run_id for row in runs.list_runs()] == [first.run_id]


def test_processes_that_race_for_one_key_get_one_run(isolated_environment: Path) -> None:
    code = (
        "from finetuning import runs\n"
        "print(runs.create_run('t', arguments={'a': 1}, idempotency_key='k').run_id)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ids = {racer.communicate()[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(ids) == 1
    assert [folder.name for folder in (isolated_environment / "runs").iterdir()] == list(ids)


def test_a_thread_that_loses_the_race_for_a_key_leaves_no_folder_behind(
    isolated_environment: Path,
) -> None:
    runs.create_run("t", arguments={})  # the store exists: only the key is contended
    barrier, found = threading.Barrier(8), list[str]()

    def create() -> None:
        barrier.wait()
        found.append(runs.create_run("t", arguments={"a": 1}, idempotency_key="k").run_id)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(list((isolated_environment / "runs").iterdir())) == 2


def test_the_first_ending_stays() -> None:
    row = runs.create_run("t", arguments={})
    runs.attach(row.run_id)
    assert runs.read_run(row.run_id).status == "running"
    assert runs.read_run(row.run_id).pid == os.getpid()
    runs.finish(row.run_id, "succeeded", result={"loss": 0.1})
    runs.finish(row.run_id, "failed", error="later")
    done = runs.read_run(row.run_id)
    assert (done.status, done.result, done.error) == ("succeeded", {"loss": 0.1}, None)
    assert done.finished_at is not None
    with pytest.raises(RunFailedError, match="which is succeeded"):
        runs.attach(row.run_id)


def test_a_run_cannot_end_in_the_middle() -> None:
    row = runs.create_run("t", arguments={})
    with pytest.raises(BadInputError, match="is not an ending"):
        runs.finish(row.run_id, "running")


def test_an_unknown_run_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError):
        runs.read_run("run-1")
    row = runs.create_run("t", arguments={})
    with pytest.raises(UnknownNameError) as caught:
        runs.read_run(row.run_id[:-1] + "x")
    assert row.run_id in str(caught.value)
    with pytest.raises(UnknownNameError):
        runs.create_run("t", arguments={}, parent_run_id="nobody")


def test_a_child_run_knows_its_parent_and_lists_are_newest_first() -> None:
    assert runs.list_runs() == []
    first = runs.create_run("a", arguments={})
    second = runs.create_run("b", arguments={}, parent_run_id=first.run_id)
    assert second.parent_run_id == first.run_id
    assert [row.run_id for row in runs.list_runs()] == [second.run_id, first.run_id]
    assert [row.run_id for row in runs.list_runs(tool="a")] == [first.run_id]
    assert len(runs.list_runs(limit=1)) == 1


def test_steps_come_back_in_order_and_after_a_step() -> None:
    row = runs.create_run("t", arguments={})
    runs.record_steps(row.run_id, [{"step": 1, "loss": 2.0}, {"step": 2, "loss": math.nan}])
    runs.record_steps(row.run_id, [{"step": 2, "eval_loss": 1.5}, {"step": 3, "loss": -math.inf}])
    assert runs.steps_of(row.run_id) == [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": "nan"},
        {"step": 2, "eval_loss": 1.5},
        {"step": 3, "loss": "-inf"},
    ]
    assert [found["step"] for found in runs.steps_of(row.run_id, since_step=2)] == [3]


def test_a_batch_of_steps_is_stored_whole_or_not_at_all() -> None:
    row = runs.create_run("t", arguments={})
    with pytest.raises(TypeError):
        runs.record_steps(row.run_id, [{"step": 1}, {"step": 2, "loss": object()}])
    assert runs.steps_of(row.run_id) == []


@given(st.floats())
def test_any_number_survives_as_valid_json(value: float) -> None:
    text = json.dumps(runs.plain(value), allow_nan=False)
    assert math.isnan(value) or float(json.loads(text)) == value


def test_progress_and_alerts_are_kept() -> None:
    row = runs.create_run("t", arguments={})
    runs.record_progress(row.run_id, runs.RunProgress(step=1, total_steps=4, loss=math.inf))
    runs.record_alert(row.run_id, code="nan", message="loss is not finite", step=1)
    assert runs.read_run(row.run_id).progress == runs.RunProgress(step=1, total_steps=4)
    (alert,) = runs.alerts_of(row.run_id)
    assert (alert["code"], alert["step"]) == ("nan", 1)


def test_looks_at_a_test_file_are_counted_per_digest() -> None:
    assert runs.looks_of("a") == 0
    assert [runs.count_look("a"), runs.count_look("a"), runs.count_look("b")] == [1, 2, 1]
    assert runs.looks_of("a") == 2
    assert runs.looks_of("c") == 0


def test_progress_reaches_the_listener_of_its_own_context_only() -> None:
    heard: list[tuple[int, int | None, str]] = []

    def hear(done: int, total: int | None, what: str) -> None:
        heard.append((done, total, what))

    runs.progress(1, 2, "nobody listens")
    with runs.listen(hear):
        runs.progress(1, None, "reading")
        contextvars.Context().run(runs.progress, 9, 9, "elsewhere")
    runs.progress(2, 2, "after")
    assert heard == [(1, None, "reading")]


def test_a_store_of_a_newer_version_is_refused(isolated_environment: Path) -> None:
    runs.create_run("t", arguments={})
    with sqlite3.connect(isolated_environment / "runs.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunFailedError, match="version 99"):
        runs.list_runs()


def test_an_empty_store_file_gets_its_tables(isolated_environment: Path) -> None:
    isolated_environment.mkdir()
    (isolated_environment / "runs.sqlite").touch()  # a process died between file and tables
    assert runs.create_run("t", arguments={}).status == "queued"


def test_a_failing_transaction_changes_nothing() -> None:
    row = runs.create_run("t", arguments={})

    def rename_and_fail() -> None:
        with store.transaction() as connection:
            connection.execute("UPDATE runs SET tool = 'x'")
            raise KeyError

    with pytest.raises(KeyError):
        rename_and_fail()
    assert runs.read_run(row.run_id).tool == "t"


def test_a_heartbeat_is_written_and_a_damaged_store_is_let_be() -> None:
    row = runs.create_run("t", arguments={})
    runs.attach(row.run_id)
    with store.connect() as connection:
        connection.execute("UPDATE runs SET heartbeat = 0")
        lifecycle.beat_once(connection, row.run_id, os.getpid())
        assert connection.execute("SELECT heartbeat FROM runs").fetchone()[0] > 0
        connection.execute("DROP TABLE runs")
        lifecycle.beat_once(connection, row.run_id, os.getpid())


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = store.owner()
    assert store.is_alive(me, 0.0)
    assert not store.is_alive(store.Owner(me.pid, "1", me.machine), 0.0)


def test_without_proc_a_process_counts_by_number_and_heartbeat(tmp_path: Path) -> None:
    proc = tmp_path / "no-proc"
    me = store.owner(proc=proc)
    now = 4e9  # a heartbeat of the future is fresh
    assert me.started is None
    assert store.is_alive(me, now, proc)
    assert not store.is_alive(me, 0.0, proc)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not store.is_alive(store.Owner(gone.pid, None, me.machine), now, proc)


def test_a_process_of_another_machine_counts_by_its_heartbeat() -> None:
    other = store.Owner(1, "5", "another boot")
    assert store.is_alive(other, 4e9)
    assert not store.is_alive(other, 0.0)
