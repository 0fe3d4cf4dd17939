"""The audit log: records that chain, appends that survive crashes and each other."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from finetuning.audit import append, verify_audit_log
from finetuning.audit import log as chain
from finetuning.errors import BadInputError, RunFailedError
from finetuning.settings import settings

APPENDER = """
import sys
from finetuning.audit import append
for number in range(int(sys.argv[2])):
    append("test.event", {"who": int(sys.argv[1]), "n": number})
"""


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in settings().audit_log.read_text().splitlines()]


def test_a_record_says_who_when_what_and_chains_to_the_one_before() -> None:
    first = append("tool.scan_pii", {"rows": 3, "data": "ab" * 32})
    second = append("plan.approved", {"max_usd": Decimal("5.00"), "path": Path("x/y")})
    one, two = records()
    assert set(one) == {"at", "by", "details", "event", "prev", "seq", "sha256"}
    assert (one["seq"], two["seq"]) == (1, 2)
    assert (one["prev"], one["sha256"]) == ("0" * 64, first)
    assert (two["prev"], two["sha256"]) == (first, second)
    assert two["details"] == {"max_usd": "5.00", "path": "x/y"}
    assert one["at"].endswith("+00:00")
    assert one["by"]


def test_a_line_is_canonical_json_and_its_hash_covers_the_rest() -> None:
    digest = append("x", {"é": 1.5, "a": [None, True, {"b": "\n"}]})
    line = settings().audit_log.read_bytes().rstrip(b"\n")
    record = json.loads(line)
    assert rfc8785.dumps(record) == line
    del record["sha256"]
    assert hashlib.sha256(rfc8785.dumps(record)).hexdigest() == digest


def test_details_are_made_canonical_and_long_text_becomes_a_digest() -> None:
    text = "row text " * 100
    append("x", {"big": 2**60, "nan": float("nan"), "text": text, "bad": "\ud800", "t": (1, {2})})
    assert records()[0]["details"] == {
        "big": str(2**60),
        "nan": "nan",
        "text": {"length": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()},
        "bad": "\\ud800",
        "t": [1, [2]],
    }
    with pytest.raises(BadInputError, match="a detail is a bytes"):
        append("x", {"raw": b"1"})
    assert len(records()) == 1


def test_the_log_is_readable_by_its_owner_only() -> None:
    append("x", {})
    assert stat.S_IMODE(settings().audit_log.stat().st_mode) == 0o600


def test_a_user_without_a_name_is_logged_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    append("x", {})
    assert records()[0]["by"] == "uid 4000000001"


def test_appends_from_several_processes_lose_nothing(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", APPENDER, str(who), "60"], cwd=tmp_path)
        for who in range(4)
    ]
    assert [run.wait() for run in runs] == [0] * 4
    result = verify_audit_log()
    assert (result.valid, result.n_records) == (True, 240)
    for who in range(4):
        mine = [r["details"]["n"] for r in records() if r["details"]["who"] == who]
        assert mine == list(range(60))


def test_appends_from_several_threads_lose_nothing() -> None:
    def work(who: int) -> None:
        for number in range(25):
            append("test.event", {"who": who, "n": number})

    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(work, range(6)))
    result = verify_audit_log()
    assert (result.valid, result.n_records) == (True, 150)


def test_a_killed_writer_leaves_a_log_that_reads_and_goes_on(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", APPENDER, "0", "100000"], cwd=tmp_path)
    log = settings().audit_log
    while not log.exists() or log.stat().st_size < 20_000:
        assert run.poll() is None
        os.sched_yield()
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert verify_audit_log().valid
    append("after.crash", {})
    result = verify_audit_log()
    assert (result.valid, result.torn_bytes) == (True, 0)
    assert records()[-1]["event"] == "after.crash"


@pytest.mark.parametrize("keep", [1, 40, -30, -2])
def test_a_torn_last_line_is_removed_by_the_next_append_which_says_so(keep: int) -> None:
    append("one", {})
    append("two", {})
    log = settings().audit_log
    whole = log.read_bytes()
    first = whole.index(b"\n") + 1
    torn = whole[first:][:keep]
    log.write_bytes(whole[:first] + torn)
    seen = verify_audit_log()
    assert (seen.valid, seen.n_records, seen.torn_bytes) == (True, 1, len(torn))
    append("three", {})
    assert [r["event"] for r in records()] == ["one", "log.torn_line_removed", "three"]
    assert records()[1]["details"] == {
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
    }
    assert verify_audit_log().valid


def test_a_torn_first_line_is_removed_as_well() -> None:
    append("one", {})
    log = settings().audit_log
    log.write_bytes(log.read_bytes()[:50])
    append("two", {})
    assert [r["event"] for r in records()] == ["log.torn_line_removed", "two"]
    assert verify_audit_log().valid


def test_a_record_that_lacks_only_its_line_feed_is_kept() -> None:
    append("one", {})
    log = settings().audit_log
    log.write_bytes(log.read_bytes().removesuffix(b"\n"))
    assert (verify_audit_log().n_records, verify_audit_log().torn_bytes) == (1, 0)
    append("two", {})
    assert [r["event"] for r in records()] == ["one", "two"]
    assert verify_audit_log().valid


def test_records_longer_than_the_read_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_CHUNK", 64)
    for number in range(3):
        append("x", {"n": number, "pad": "p" * 400})
    assert verify_audit_log().n_records == 3


def test_nothing_is_added_behind_a_line_that_is_not_a_record() -> None:
    append("one", {})
    log = settings().audit_log
    log.write_bytes(log.read_bytes() + b'{"event":"fake"}\n')
    before = log.read_bytes()
    with pytest.raises(RunFailedError, match="verify-audit-log"):
        append("two", {})
    assert log.read_bytes() == before


def test_a_home_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    monkeypatch.setenv("FINE_TUNING_HOME", str(blocked / "home"))
    with pytest.raises(RunFailedError, match="could not be written"):
        append("x", {})
