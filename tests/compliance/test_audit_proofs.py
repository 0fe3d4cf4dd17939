"""The log's tree against the RFC's own words, its benchmark, and its reader against any bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as rules_of_the_game
from hypothesis import strategies as st

from finetuning.audit import append, make_checkpoint, verify_audit_log
from finetuning.audit import log as chain
from finetuning.errors import BadInputError, RunFailedError
from finetuning.settings import settings

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "audit_log.py"
MANY = rules_of_the_game(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_the_benchmark_of_the_log_runs_and_finds_everything() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("found 12, kind right 12, record right 12 of 12") == 5
    assert "checkpoint altered           refused 12 of 12" in done.stdout


# --- RFC 9162 section 2.1, written down a second time ------------------------------------------


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def split(count: int) -> int:
    """Return the largest power of two below a number."""
    return 1 << (count - 1).bit_length() - 1


def tree(entries: list[bytes]) -> bytes:
    """Return the Merkle tree hash of entries (section 2.1.1)."""
    if not entries:
        return sha()
    if len(entries) == 1:
        return sha(b"\x00", entries[0])
    k = split(len(entries))
    return sha(b"\x01", tree(entries[:k]), tree(entries[k:]))


def consistency(first: int, entries: list[bytes], whole: bool = True) -> list[bytes]:
    """Return the proof that the first entries are the head of all of them (section 2.1.4.1)."""
    if first == len(entries):
        return [] if whole else [tree(entries)]
    k = split(len(entries))
    if first <= k:
        return [*consistency(first, entries[:k], whole), tree(entries[k:])]
    return [*consistency(first - k, entries[k:], False), tree(entries[:k])]


def consistent(first: int, second: int, old: bytes, new: bytes, proof: list[bytes]) -> bool:
    """Say whether a proof joins two roots (section 2.1.4.2)."""
    if first == second:
        return old == new and not proof
    path = [old, *proof] if first & (first - 1) == 0 else list(proof)
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    one = other = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            one, other = sha(b"\x01", step, one), sha(b"\x01", step, other)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            other = sha(b"\x01", other, step)
        node, last = node >> 1, last >> 1
    return last == 0 and (one, other) == (old, new)


def test_the_root_is_that_of_the_certificate_transparency_vectors() -> None:
    """The eight entries that the reference implementation of RFC 6962 is tested with."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    entries.append("606162636465666768696a6b6c6d6e6f")
    leaves = [chain.leaf_hash(bytes.fromhex(entry)) for entry in entries]
    assert chain.root_of(leaves).hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )
    assert leaves[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert chain.root_of([]).hex() == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("count", range(1, 71))
def test_every_tree_and_every_step_of_its_growth_is_the_one_of_the_rfc(count: int) -> None:
    entries = [f"entry {number}".encode() for number in range(count)]
    leaves = [chain.leaf_hash(entry) for entry in entries]
    root = chain.root_of(leaves)
    assert root == tree(entries)
    for first in range(1, count + 1):
        older = chain.root_of(leaves[:first])
        proof = consistency(first, entries)
        assert consistent(first, count, older, root, proof)
        assert not consistent(first, count, sha(b"other"), root, proof)


def test_a_leaf_never_passes_for_a_node() -> None:
    left, right = (chain.leaf_hash(entry) for entry in (b"a", b"b"))
    root = chain.root_of([left, right])
    assert chain.root_of([chain.leaf_hash(left + right)]) != root
    assert chain.leaf_hash(b"\x01" + left + right) != root


def test_two_checkpoints_of_one_log_are_consistent_and_both_verify_it(tmp_path: Path) -> None:
    for number in range(5):
        append("test.event", {"n": number})
    old, new = (str(tmp_path / name) for name in ("old.json", "new.json"))
    first = verify_audit_log(write_checkpoint=old)
    for number in range(6):
        append("test.event", {"n": number})
    second = verify_audit_log(write_checkpoint=new)
    entries = settings().audit_log.read_bytes().splitlines()
    roots = [bytes.fromhex(one.merkle_root) for one in (first, second)]
    assert consistent(5, 11, roots[0], roots[1], consistency(5, entries))
    assert all(verify_audit_log(checkpoint=kept).anchored for kept in (old, new))
    entries[2] = b"another"
    assert not consistent(5, 11, roots[0], tree(entries), consistency(5, entries))


# --- what else can happen to a log and its checkpoint -----------------------------------------


def write_log(count: int) -> list[bytes]:
    for number in range(count):
        append("test.event", {"n": number})
    return settings().audit_log.read_bytes().splitlines(keepends=True)


def test_a_log_that_is_gone_was_truncated_if_a_checkpoint_knows_of_records(tmp_path: Path) -> None:
    write_log(3)
    kept = str(tmp_path / "kept.json")
    verify_audit_log(write_checkpoint=kept)
    settings().audit_log.unlink()
    found = verify_audit_log(checkpoint=kept)
    assert (found.valid, found.first_bad, found.kind, found.n_records) == (False, 1, "truncated", 0)
    with pytest.raises(BadInputError, match="nothing was recorded yet"):
        verify_audit_log()


def test_a_checkpoint_of_the_first_format_still_counts(tmp_path: Path) -> None:
    write_log(4)
    kept = tmp_path / "kept.json"
    verify_audit_log(write_checkpoint=str(kept))
    value = json.loads(kept.read_text())
    assert value["format"] == "fine-tuning-audit-checkpoint-2"
    del value["sha256"]
    kept.write_text(json.dumps(value | {"format": "fine-tuning-audit-checkpoint-1"}))
    assert verify_audit_log(checkpoint=str(kept)).anchored
    for field in ("at", "head_digest"):
        changed = json.dumps(value | {field: "0" * 64, "sha256": "0" * 64})
        kept.write_text(changed)
        with pytest.raises(BadInputError, match="it was changed"):
            verify_audit_log(checkpoint=str(kept))


def test_in_a_long_log_the_chain_still_names_the_record_itself(tmp_path: Path) -> None:
    """Above 1,024 records a block of the checkpoint stands for several."""
    lines: list[bytes] = []
    last: chain.Chained | None = None
    for _ in range(1500):
        line, digest = chain._record("test.event", {}, last)  # pyright: ignore[reportPrivateUsage]
        lines.append(line)
        last = chain.Chained(len(lines), "", digest)
    log, kept = tmp_path / "long.jsonl", str(tmp_path / "kept.json")
    log.write_bytes(b"".join(lines))
    verify_audit_log(str(log), write_checkpoint=kept)

    def found(left: list[bytes]) -> tuple[int | None, str | None]:
        log.write_bytes(b"".join(left))
        seen = verify_audit_log(str(log), checkpoint=kept)
        return seen.first_bad, seen.kind

    assert found([*lines[:700], *lines[701:]]) == (701, "removed")
    assert found([*lines[:-1], b'{"event":"fake"}\n']) == (1500, "edited")
    assert found(lines[:1001]) == (1002, "truncated")
    later, _ = chain._record("fake", {}, last)  # pyright: ignore[reportPrivateUsage]
    assert found([*lines, later]) == (None, None)
    other = lines[:1498]
    for number in (1499, 1500):
        link = chain.read_record(other[-1].rstrip(b"\n"))
        other.append(chain._record("fake", {"n": number}, link)[0])  # pyright: ignore[reportPrivateUsage]
    assert found(other) == (1499, "edited")


def test_a_number_of_its_own_makes_a_forged_line_no_moved_record(tmp_path: Path) -> None:
    lines = write_log(9)
    kept = str(tmp_path / "kept.json")
    verify_audit_log(write_checkpoint=kept)
    log = settings().audit_log

    def found(left: list[bytes]) -> list[tuple[int | None, str | None]]:
        log.write_bytes(b"".join(left))
        both = [verify_audit_log(), verify_audit_log(checkpoint=kept)]
        return [(one.first_bad, one.kind) for one in both]

    def forge(seq: int) -> bytes:
        stranger = chain.Chained(seq - 1, "", "f" * 64)
        return chain._record("fake", {}, stranger)[0]  # pyright: ignore[reportPrivateUsage]

    assert found([*lines[:3], forge(40), *lines[3:]]) == [(4, "inserted")] * 2
    assert found([*lines[:3], forge(9), *lines[3:]]) == [(4, "inserted")] * 2
    assert found([*lines[:3], forge(4), *lines[3:]]) == [(4, "inserted")] * 2
    assert found([*lines[:3], forge(7), *lines[4:]]) == [(4, "edited")] * 2
    assert found([*lines[:3], lines[6], *lines[4:]]) == [(4, "edited")] * 2
    assert found([*lines[:8], lines[2]])[1] == (9, "edited")
    assert found([forge(1), *lines]) == [(1, "inserted")] * 2
    last = chain.read_record(lines[7].rstrip(b"\n"))
    rival = chain._record("fake", {}, last)[0]  # pyright: ignore[reportPrivateUsage]
    assert found([*lines[:3], rival, *lines[3:]]) == [(4, "inserted")] * 2
    assert found([*lines, rival]) == [(10, "inserted")] * 2


# --- any bytes at all --------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, str, bytes]:
    """Return a log to be changed, a checkpoint of it, and its bytes."""
    lines = write_log(8)
    kept = str(tmp_path / "kept.json")
    verify_audit_log(write_checkpoint=kept)
    return settings().audit_log, kept, b"".join(lines)


def read_everything(log: Path, kept: str, data: bytes) -> None:
    """Read a log in every way; only the errors that the functions name may come."""
    log.write_bytes(data)
    alone, anchored = verify_audit_log(), verify_audit_log(checkpoint=kept)
    for seen in (alone, anchored):
        assert seen.valid == (seen.kind is None) == (seen.first_bad is None)
        assert seen.first_bad is None or 1 <= seen.first_bad <= max(seen.n_records + 1, 9)
    assert alone.valid or not anchored.valid
    try:
        append("next", {})
    except RunFailedError:
        return
    assert verify_audit_log().n_records >= 1


@given(st.binary(max_size=400))
@MANY
@example(b"")
@example(b"\n" * 5)
@example(b'"}\n' * 3)
@example(b'{"at":"sha256":"}')
def test_any_bytes_are_read_as_a_log_without_an_exception(places: Any, data: bytes) -> None:
    read_everything(places[0], places[1], data)


@given(st.data())
@MANY
def test_any_mixture_of_a_logs_own_pieces_is_read_without_an_exception(
    places: Any, data: st.DataObject
) -> None:
    log, kept, whole = places
    end = st.integers(0, len(whole))
    mixed = b""
    for _ in range(data.draw(st.integers(1, 5))):
        start, stop = sorted((data.draw(end), data.draw(end)))
        mixed += whole[start:stop] + data.draw(st.binary(max_size=6))
    read_everything(log, kept, mixed)
    lines = whole.splitlines(keepends=True)
    order = data.draw(st.lists(st.integers(0, 7), max_size=14))
    read_everything(log, kept, b"".join(lines[k] for k in order))


@given(st.one_of(st.binary(max_size=200), st.data()))
@MANY
@example(b"[" * 100_000)
@example(b'{"n_records": ' + b"9" * 5000 + b"}")
def test_any_bytes_as_a_checkpoint_are_refused_and_named(places: Any, data: Any) -> None:
    kept = Path(places[1])
    changed = kept.with_name("changed.json")
    if isinstance(data, bytes):
        changed.write_bytes(data)
    else:
        value = json.loads(kept.read_text())
        field = data.draw(st.sampled_from(sorted(value)))
        other = data.draw(st.one_of(st.none(), st.integers(), st.text(), st.just(["\ud800"])))
        changed.write_text(json.dumps(value | {field: other}))
        if value[field] == other:
            return
    with pytest.raises(BadInputError, match="is not a checkpoint"):
        verify_audit_log(checkpoint=str(changed))


HOSTILE: list[Callable[[int], bytes]] = [
    lambda size: b"x" * size,
    lambda size: b"\n" * (size // 100),
    lambda size: b'"prev":"' * (size // 8),
    lambda size: (b'{"at":' + b"a" * 60 + b'"sha256":"' + b"0" * 64 + b'"}\n') * (size // 143),
    lambda size: b"".join(write_log(3)[::-1]) * (size // 900),
]


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_logs_are_read_in_linear_time(make: Callable[[int], bytes], tmp_path: Path) -> None:
    """Ten times the bytes take ten times the CPU time; quadratic work would take a hundred."""
    log = tmp_path / "hostile.jsonl"

    def cost(size: int) -> float:
        log.write_bytes(make(size))
        found: list[float] = []
        for _ in range(3):
            start = time.process_time()
            verify_audit_log(str(log))
            found.append(time.process_time() - start)
        return min(found)

    assert cost(2_000_000) < 40 * max(cost(200_000), 0.001)


def test_an_endless_last_line_is_mended_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(1)
    log = settings().audit_log
    whole = log.read_bytes()
    read: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    log.write_bytes(whole + b"t" * 3_000_000)
    append("next", {})
    assert sum(read) < 4_000_000
    assert verify_audit_log().n_records == 3


def test_a_checkpoint_knows_whether_it_is_one_of_a_given_log() -> None:
    leaves = [chain.leaf_hash(b"%d" % number) for number in range(5)]
    made = make_checkpoint(leaves, "f" * 64)
    assert made.sha256 == made.digest()
    assert made.blocks == [leaf.hex() for leaf in leaves]
