"""verify_audit_log: every change is found and named; what cannot be seen is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as rules_of_the_game
from hypothesis import strategies as st

from finetuning.audit import (
    AuditVerification,
    append,
    make_checkpoint,
    reading,
    verify_audit_log,
)
from finetuning.audit import log as chain
from finetuning.errors import BadInputError, NotAllowedError
from finetuning.settings import settings

COUNT = 12


def forge(event: str, last: chain.Chained | None) -> bytes:
    """Make a record with a right hash at any place, as somebody who knows the format would."""
    line, _ = chain._record(event, {}, last)  # pyright: ignore[reportPrivateUsage]
    return line


def links(line: bytes) -> chain.Chained:
    found = chain.read_record(line.rstrip(b"\n"))
    assert found is not None
    return found


class Kept:
    """A log of twelve records, its lines, and a checkpoint kept elsewhere."""

    def __init__(self, folder: Path) -> None:
        for number in range(COUNT):
            append("test.event", {"n": number, "text": "é"})
        self.log = settings().audit_log
        self.lines = self.log.read_bytes().splitlines(keepends=True)
        self.checkpoint = folder / "elsewhere" / "checkpoint.json"
        assert verify_audit_log(write_checkpoint=str(self.checkpoint)).valid

    def verdict(self, data: bytes | list[bytes], *, anchored: bool = True) -> AuditVerification:
        self.log.write_bytes(data if isinstance(data, bytes) else b"".join(data))
        return verify_audit_log(checkpoint=str(self.checkpoint) if anchored else None)

    def found(self, data: bytes | list[bytes], *, anchored: bool = True) -> tuple[Any, Any]:
        result = self.verdict(data, anchored=anchored)
        assert (result.valid, result.exit_code()) == (False, 1)
        assert str(result.kind) in result.summary()
        return result.first_bad, result.kind


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


PLACES = st.integers(0, COUNT - 1)
MANY = rules_of_the_game(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(st.data())
@MANY
def test_any_changed_byte_is_found_as_an_edit_of_its_record(kept: Kept, data: Any) -> None:
    whole = b"".join(kept.lines)
    place: int = data.draw(st.integers(0, len(whole) - 1))
    byte: int = data.draw(st.integers(0, 255))
    assume(byte != whole[place])
    changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
    record = whole.count(b"\n", 0, place) + 1
    assert kept.found(changed) == (record, "edited")


@given(PLACES)
@MANY
def test_a_removed_record_is_found(kept: Kept, place: int) -> None:
    rest = kept.lines[:place] + kept.lines[place + 1 :]
    kind = "truncated" if place == COUNT - 1 else "removed"
    assert kept.found(rest) == (place + 1, kind)


@given(PLACES, PLACES)
@MANY
def test_two_swapped_records_are_found(kept: Kept, one: int, other: int) -> None:
    assume(one != other)
    lines = list(kept.lines)
    lines[one], lines[other] = lines[other], lines[one]
    assert kept.found(lines, anchored=False) == (min(one, other) + 1, "reordered")


@given(PLACES, PLACES)
@MANY
def test_a_moved_record_is_found(kept: Kept, start: int, end: int) -> None:
    assume(start != end)
    lines = list(kept.lines)
    lines.insert(end, lines.pop(start))
    assert kept.found(lines)[1] == "reordered"


INSERTS: list[Callable[[Kept, int], bytes]] = [
    lambda kept, place: b'{"event":"fake"}\n',
    lambda kept, place: b"\n",
    lambda kept, place: kept.lines[(place + 5) % COUNT],
    lambda kept, place: kept.lines[max(place - 1, 0)],
    lambda kept, place: forge("fake", links(kept.lines[place - 1]) if place else None),
]


@given(PLACES, st.sampled_from(INSERTS))
@MANY
@example(0, INSERTS[-1])
@example(COUNT - 1, INSERTS[-1])
def test_an_inserted_line_is_found(
    kept: Kept, place: int, make: Callable[[Kept, int], bytes]
) -> None:
    lines = [*kept.lines[:place], make(kept, place), *kept.lines[place:]]
    first_bad, kind = kept.found(lines)
    assert kind == "inserted"
    assert abs(first_bad - (place + 1)) <= 1  # of two equal lines either may be the stranger


def test_a_forged_line_is_told_from_the_true_one_by_the_record_that_follows(kept: Kept) -> None:
    lines = [*kept.lines[:4], forge("fake", links(kept.lines[3])), *kept.lines[4:]]
    assert kept.found(lines, anchored=False) == (5, "inserted")
    lines = [*kept.lines[:5], forge("fake", links(kept.lines[3])), *kept.lines[5:]]
    assert kept.found(lines, anchored=False) == (6, "inserted")


@given(st.integers(0, 10_000))
@MANY
def test_any_truncation_is_found_against_the_checkpoint(kept: Kept, place: int) -> None:
    whole = b"".join(kept.lines)
    assume(place < len(whole) - 1)
    lines = whole[:place].count(b"\n") + (whole[place : place + 1] == b"\n")
    assert kept.found(whole[:place]) == (lines + 1, "truncated")


def test_a_cut_tail_is_unseen_without_a_checkpoint_and_the_result_says_so(kept: Kept) -> None:
    result = kept.verdict(kept.lines[:-3], anchored=False)
    assert (result.valid, result.anchored, result.n_records) == (True, False, COUNT - 3)
    assert "no checkpoint" in result.summary()


def test_an_edited_record_hashed_again_breaks_its_neighbour_and_is_named_itself(
    kept: Kept,
) -> None:
    lines = list(kept.lines)
    lines[4] = forge("fake", links(lines[3]))
    assert kept.found(lines, anchored=False) == (5, "edited")
    lines = list(kept.lines)
    lines[-2] = forge("fake", links(lines[-3]))
    assert kept.found(lines, anchored=False) == (COUNT - 1, "edited")


def test_a_record_linked_to_another_history_is_named(kept: Kept) -> None:
    lines = list(kept.lines)
    seq = links(lines[5]).seq
    lines[5] = forge("fake", chain.Chained(seq - 1, "f" * 64, "f" * 64))
    assert kept.found(lines, anchored=False) == (6, "edited")
    lines = [forge("fake", chain.Chained(0, "f" * 64, "f" * 64)), *kept.lines[1:]]
    assert kept.found(lines, anchored=False) == (1, "edited")


def test_a_history_rewritten_to_its_end_shows_against_the_checkpoint(kept: Kept) -> None:
    lines = kept.lines[:6]
    while len(lines) < COUNT + 2:
        lines.append(forge("rewritten", links(lines[-1])))
    assert kept.verdict(lines, anchored=False).valid
    assert kept.found(lines) == (7, "edited")
    assert kept.found(lines[:8]) == (7, "edited")


def test_a_last_line_replaced_by_another_is_an_edit_if_the_checkpoint_counts_it(
    kept: Kept,
) -> None:
    made_up = [*kept.lines[:-1], b'{"event":"fake"}\n']
    assert kept.found(made_up, anchored=False) == (COUNT, "inserted")
    assert kept.found(made_up) == (COUNT, "edited")
    edited = [*kept.lines[:-1], kept.lines[-1].replace(b"test.event", b"best.event")]
    assert kept.found(edited, anchored=False) == (COUNT, "edited")
    behind = [*kept.lines, b'{"event":"fake"}\n']
    assert kept.found(behind) == (COUNT + 1, "inserted")


def test_records_added_after_the_checkpoint_are_fine(kept: Kept) -> None:
    append("later", {})
    result = verify_audit_log(checkpoint=str(kept.checkpoint))
    assert (result.valid, result.anchored, result.n_records) == (True, True, COUNT + 1)
    assert "a checkpoint confirms it" in result.summary()


def test_no_checkpoint_is_written_of_a_log_that_is_not_valid(kept: Kept, tmp_path: Path) -> None:
    kept.log.write_bytes(b"".join(kept.lines[1:]))
    target = tmp_path / "new.json"
    result = verify_audit_log(write_checkpoint=str(target))
    assert (result.valid, result.checkpoint_file) == (False, None)
    assert not target.exists()


def test_checkpoints_are_never_overwritten_and_name_the_next_call(kept: Kept) -> None:
    with pytest.raises(BadInputError, match="exists"):
        verify_audit_log(write_checkpoint=str(kept.checkpoint))
    again = kept.checkpoint.with_name("second.json")
    result = verify_audit_log(write_checkpoint=str(again))
    assert result.checkpoint_file == str(again)
    assert verify_audit_log(**result.next[0].args).anchored


@pytest.mark.parametrize(
    "change",
    [
        {"merkle_root": "0" * 64},
        {"n_records": 99},
        {"blocks": ["zz"]},
        {"blocks": None},
        {"unknown": 1},
    ],
)
def test_a_damaged_checkpoint_is_an_error_not_a_verdict(kept: Kept, change: Any) -> None:
    value = json.loads(kept.checkpoint.read_text()) | change
    kept.checkpoint.write_text(json.dumps(value))
    with pytest.raises(BadInputError, match="not a checkpoint"):
        verify_audit_log(checkpoint=str(kept.checkpoint))


def test_missing_logs_and_forbidden_places_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing was recorded yet"):
        verify_audit_log()
    with pytest.raises(BadInputError, match="does not exist"):
        verify_audit_log(str(tmp_path / "no.jsonl"))
    with pytest.raises(NotAllowedError):
        verify_audit_log("/etc/hostname")


def test_an_empty_log_and_a_log_elsewhere_can_be_checked(kept: Kept, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    result = verify_audit_log(str(empty))
    assert (result.valid, result.n_records, result.head_digest) == (True, 0, "0" * 64)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join(kept.lines))
    result = verify_audit_log(str(copy), checkpoint=str(kept.checkpoint))
    assert (result.valid, result.anchored) == (True, True)
    assert result.head_digest == links(kept.lines[-1]).sha256


def recursive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162 section 2.1.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else chain.root_of([])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = recursive_root(leaves[:split]), recursive_root(leaves[split:])
    return chain.hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 13, 100, 1025])
def test_the_tree_is_the_one_of_the_rfc_also_from_its_blocks(count: int) -> None:
    leaves = [chain.leaf_hash(str(number).encode()) for number in range(count)]
    root = chain.root_of(leaves)
    assert root == recursive_root(leaves)
    for size in (1, 2, 8, 1024):
        assert chain.root_of(chain.block_roots(leaves, size)) == root


def test_long_logs_get_blocks_and_a_difference_names_its_block() -> None:
    leaves = [chain.leaf_hash(str(number).encode()) for number in range(3000)]
    kept = make_checkpoint(leaves, "f" * 64)
    assert (kept.block_records, len(kept.blocks)) == (4, 750)
    assert reading.first_difference(leaves, kept) is None
    assert reading.first_difference([*leaves, b"more"], kept) is None
    assert reading.first_difference(leaves[:2001], kept) is None
    changed = [*leaves[:1001], b"x" * 32, *leaves[1002:]]
    assert reading.first_difference(changed, kept) == 1001
