"""Tampered, crowded and killed audit logs: is every change found and named, is anything lost?

Run: ``python benchmarks/audit_log.py [--seed 0] [--quick]``. Logs are written here, by a second
implementation of the format (RFC 8785 lines, a chain of SHA-256), each with a checkpoint kept
elsewhere that covers all or most of it, some of more than 1,024 records, where a block of the
checkpoint stands for several. Then:

* 200 each of edits, deletions, reorders, insertions and truncations, and 40 each of harder
  tamperings; ``verify_audit_log`` has to name the kind and the first bad record;
* 100,000 records are verified, against a checkpoint and without;
* 8 processes append 1,000 records each at once;
* a writer gets SIGKILL at 60 random moments, a file is cut inside its last line at 200 places;
  every record whose append returned has to be there, and the next append has to go on.

What is expected, by definition: a record that stands where another was written is ``edited``, also
if the rest of the log was rewritten to fit; a line that stands where none is missing is
``inserted`` (of two equal neighbours the second); otherwise ``removed``, ``reordered``,
``truncated``. Prints each figure with its reach and exits 1 below one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import rfc8785

VERIFY_SECONDS = 2.0
RECORDS = 100_000
EACH = 200
EACH_HARDER = 40
WRITERS, APPENDS = 8, 1000
KILLS, TEARS = 60, 200
Lines = list[bytes]


class Case(NamedTuple):
    """One tampering: the bytes that are left, and what has to be said of them."""

    data: bytes
    first_bad: int
    kind: str


# --- logs, written without the code that is judged ------------------------------------------


def record(seq: int, prev: str, draw: random.Random, event: str = "tool.scan_pii") -> bytes:
    """Return one line with a right hash."""
    body: dict[str, Any] = {
        "at": f"2026-11-{draw.randint(10, 20)}T0{draw.randint(0, 9)}:00:00.000+00:00",
        "by": draw.choice(["ana", "bo", "chen"]),
        "details": {"n": draw.randrange(10**9), "text": "é" * draw.randint(0, 30)},
        "event": event,
        "prev": prev,
        "seq": seq,
    }
    text = rfc8785.dumps(body)
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + b',"sha256":"' + digest.encode() + b'"}\n'


def hash_of(line: bytes) -> str:
    """Return the hash that a line states of itself."""
    return str(json.loads(line)["sha256"])


def chain(count: int, draw: random.Random, start: Lines | None = None) -> Lines:
    """Return a log of ``count`` records, going on from ``start``."""
    lines = list(start or [])
    prev = hash_of(lines[-1]) if lines else "0" * 64
    for seq in range(len(lines) + 1, count + 1):
        lines.append(record(seq, prev, draw))
        prev = hash_of(lines[-1])
    return lines


def rehashed(line: bytes, **changes: Any) -> bytes:
    """Return a record with other contents and the hash that belongs to them."""
    body = {**json.loads(line), **changes}
    del body["sha256"]
    text = rfc8785.dumps(body)
    return text[:-1] + b',"sha256":"' + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


# --- tamperings: (lines, records the checkpoint covers, draw) → what is left, and the truth --


def edit(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Change one record, or several, in one of the ways that keep its place."""
    at = draw.randrange(len(lines) - 1 if kept < len(lines) else len(lines))
    left, line = list(lines), lines[at]
    way = draw.randrange(7)
    if way == 0:  # one byte, the length stays
        place = draw.randrange(len(line) - 1)
        other = draw.choice([b for b in range(32, 127) if b != line[place]])
        left[at] = line[:place] + bytes([other]) + line[place + 1 :]
    elif way == 1:
        left[at] = line.replace(b'"details":{', b'"details":{"extra":1,')
    elif way == 2:  # another hash is stated
        left[at] = line.replace(hash_of(line).encode(), draw.randbytes(32).hex().encode())
    elif way == 3:  # and hashed again: its neighbour, or the checkpoint, disagrees
        left[at] = rehashed(line, by="mallory")
    elif way == 4:
        left[at] = b'{"event":"fake"}\n'
    elif way == 5:  # a copy of another record in its place
        left[at] = draw.choice([other for other in lines if other != line])
    else:
        for later in sorted(draw.sample(range(at, len(lines)), min(3, len(lines) - at))):
            left[later] = left[later].replace(b'"by":"', b'"by":"x')
        at = next(k for k, one in enumerate(left) if one != lines[k])
    return Case(b"".join(left), at + 1, "edited")


def delete(lines: Lines, _: int, draw: random.Random) -> Case:
    """Remove one record, a stretch or several, never the last one."""
    way, end = draw.randrange(3), len(lines) - 1
    if way == 0:
        gone = {draw.randrange(end)}
    elif way == 1:
        start = draw.randrange(end)
        gone = set(range(start, min(end, start + draw.randint(2, 9))))
    else:
        gone = set(draw.sample(range(end), 3))
    left = [line for k, line in enumerate(lines) if k not in gone]
    return Case(b"".join(left), min(gone) + 1, "removed")


def reorder(lines: Lines, _: int, draw: random.Random) -> Case:
    """Swap, move, reverse, rotate or shuffle records."""
    one, other = sorted(draw.sample(range(len(lines)), 2))
    way, left = draw.randrange(5), list(lines)
    if way == 0:
        left[one], left[other] = left[other], left[one]
    elif way == 1:
        left.insert(other, left.pop(one))
    elif way == 2:
        left.insert(one, left.pop(other))
    elif way == 3:
        left[one : other + 1] = reversed(left[one : other + 1])
    else:
        part = left[one : other + 1]
        while part == left[one : other + 1]:
            draw.shuffle(part)
        left[one : other + 1] = part
    first = next(k for k, line in enumerate(left) if line != lines[k])
    return Case(b"".join(left), first + 1, "reordered")


def insert(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Put one line in, or two, at any place; the records themselves stay."""
    at, way = draw.randrange(len(lines)), draw.randrange(5)
    prev = hash_of(lines[at - 1]) if at else "0" * 64
    if way == 0:
        new = draw.choice([b"\n", b'{"event":"fake"}\n', b"\xff\xfe\x00\n", b"null\n"])
    elif way == 1:
        new = draw.choice(lines)
    elif way == 2:
        new = record(at + 1, prev, draw, "fake")  # fits the record before
    elif way == 3:
        new = record(draw.randrange(1, 99), draw.randbytes(32).hex(), draw, "fake")
    else:
        new = lines[max(at - 1, 0)]
    if at == len(lines) - 1 and kept < len(lines):
        at = kept - 1  # behind the checkpoint nobody can tell which of the last two is true
    left = [*lines[:at], new, *lines[at:]]
    while at + 1 < len(left) and left[at + 1] == new:
        at += 1
    return Case(b"".join(left), at + 1, "inserted")


def truncate(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Cut the file between two records or inside one, down to nothing."""
    left = draw.randrange(kept)
    data = b"".join(lines[:left])
    if draw.random() < 0.5:
        data += lines[left][: draw.randrange(len(lines[left]) - 1)]
    return Case(data, left + 1, "truncated")


def rewrite(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Rewrite everything from one record on, with hashes that fit."""
    at = draw.randrange(kept)
    # cut inside a block of the checkpoint, the rest of that block cannot be told: only the cut
    shortest = min(len(lines), (at // 4 + 1) * 4)
    length = draw.choice([len(lines), shortest, draw.randint(shortest, len(lines) + 5)])
    return Case(b"".join(chain(length, draw, lines[:at])), at + 1, "edited")


def renumber(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Take one record out and make the rest fit again."""
    at = draw.randrange(kept - 1)
    left = lines[:at]
    for line in lines[at + 1 :]:
        prev = hash_of(left[-1]) if left else "0" * 64
        left.append(rehashed(line, seq=len(left) + 1, prev=prev))
    return Case(b"".join(left), at + 1, "edited")


def swap_over_the_checkpoint(lines: Lines, kept: int, draw: random.Random) -> Case:
    """Swap a record that the checkpoint covers with one behind it."""
    left, one = list(lines), draw.randrange(kept)
    other = draw.randrange(kept, len(lines)) if kept < len(lines) else (one + 1) % kept
    left[one], left[other] = left[other], left[one]
    return Case(b"".join(left), min(one, other) + 1, "reordered")


def lose_the_first(lines: Lines, _: int, draw: random.Random) -> Case:
    """Remove the first record, or the first few."""
    return Case(b"".join(lines[draw.randint(1, 5) :]), 1, "removed")


def empty(*_: object) -> Case:
    """Put an empty file in its place."""
    return Case(b"", 1, "truncated")


def another(lines: Lines, _: int, draw: random.Random) -> Case:
    """Put another whole log of the same length in its place."""
    return Case(b"".join(chain(len(lines), draw)), 1, "edited")


MAIN = {"edit": edit, "delete": delete, "reorder": reorder, "insert": insert, "truncate": truncate}
HARDER = {
    "tail rewritten": rewrite, "removed and rewritten": renumber,
    "swapped over the checkpoint": swap_over_the_checkpoint, "first records removed":
    lose_the_first, "emptied": empty, "another log": another,
}  # fmt: skip


# --- judging ---------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A log, and its checkpoint elsewhere."""

    lines: Lines
    covered: int
    checkpoint: Path


def originals(folder: Path, draw: random.Random, sizes: list[int]) -> list[Kept]:
    """Write logs and keep a checkpoint of each, of the whole or of most of it."""
    from finetuning.audit import verify_audit_log

    found: list[Kept] = []
    for number, size in enumerate(sizes):
        lines = chain(size, draw)
        covered = size if number % 2 else size - draw.randint(1, size // 3)
        part, kept = folder / f"{number}.jsonl", folder / f"{number}.checkpoint.json"
        part.write_bytes(b"".join(lines[:covered]))
        verify_audit_log(str(part), write_checkpoint=str(kept))
        found.append(Kept(lines, covered, kept))
    return found


def in_the_block(case: Case, kept: Kept) -> set[int]:
    """Return what may be named: the record, or the block's first one where no chain is broken."""
    size = json.loads(kept.checkpoint.read_text())["block_records"]
    return {case.first_bad, (case.first_bad - 1) // size * size + 1}


def judge(
    name: str, make: Callable[..., Case], times: int, logs: list[Kept], draw: random.Random
) -> bool:
    """Tamper, verify and print how many were found, named and placed."""
    from finetuning.audit import verify_audit_log

    found = named = placed = unanchored = 0
    wrong: list[str] = []
    path = logs[0].checkpoint.with_name("tampered.jsonl")
    for number in range(times):
        kept = logs[number % len(logs)]
        case = make(kept.lines, kept.covered, draw)
        path.write_bytes(case.data)
        seen = verify_audit_log(str(path), checkpoint=str(kept.checkpoint))
        alone = verify_audit_log(str(path))
        exact = {case.first_bad} if not alone.valid else in_the_block(case, kept)
        found += not seen.valid
        named += seen.kind == case.kind
        placed += seen.first_bad in exact
        unanchored += not alone.anchored
        if (seen.kind, seen.first_bad in exact) != (case.kind, True) and len(wrong) < 3:
            wrong.append(f"{seen.kind} at {seen.first_bad}, not {case[1:]} of {len(kept.lines)}")
    whole = found == named == placed == unanchored == times
    print(
        f"{name:28} found {found}, kind right {named}, record right {placed} of {times}"
        f"  {'' if whole else 'BELOW: ' + '; '.join(wrong)}"
    )
    return whole


def altered_checkpoints(logs: list[Kept], draw: random.Random, times: int) -> bool:
    """Change the checkpoint itself: an error that says so, never a verdict on the log."""
    from finetuning.audit import verify_audit_log
    from finetuning.errors import BadInputError

    refused = 0
    for number in range(times):
        kept = logs[number % len(logs)]
        log = kept.checkpoint.with_name("whole.jsonl")
        log.write_bytes(b"".join(kept.lines))
        text = kept.checkpoint.read_text()
        value = json.loads(text)
        changed, other = value, text
        while changed == value:
            place = draw.randrange(len(text))
            other = text[:place] + chr(draw.randint(32, 126)) + text[place + 1 :]
            try:
                changed = json.loads(other)
            except ValueError:
                changed = None
        bad = kept.checkpoint.with_name("altered.json")
        bad.write_text(other)
        try:
            verify_audit_log(str(log), checkpoint=str(bad))
        except BadInputError:
            refused += 1
    print(f"{'checkpoint altered':28} refused {refused} of {times}")
    return refused == times


def verify_many(folder: Path, count: int, *, reach: bool) -> bool:
    """Verify a long log in this process; the best of three, as others share the machine."""
    from finetuning.audit import verify_audit_log

    log, kept = folder / "long.jsonl", folder / "long.checkpoint.json"
    log.write_bytes(b"".join(chain(count, random.Random(1))))
    verify_audit_log(str(log), write_checkpoint=str(kept))
    ok = True
    for name, checkpoint in (("alone", None), ("against a checkpoint", str(kept))):
        took: list[float] = []
        for _ in range(3):
            start = time.perf_counter()
            assert verify_audit_log(str(log), checkpoint=checkpoint).valid
            took.append(time.perf_counter() - start)
        print(f"{count:,} records {name}: {min(took):.2f} s (reach {VERIFY_SECONDS:g} s)")
        ok &= min(took) <= VERIFY_SECONDS
    return ok or not reach


# --- several writers, and killed ones --------------------------------------------------------


def forked(work: Callable[[], object]) -> int:
    """Do the work in a child of its own and return its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def lines_of(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log."""
    for line in log.read_bytes().splitlines():
        yield json.loads(line)


def crowd(home: Path, writers: int, appends: int) -> bool:
    """Append from several processes at once; every record has to be there, in a whole chain."""
    from finetuning.audit import append, verify_audit_log

    os.environ["FINE_TUNING_HOME"] = str(home)

    def work(who: int) -> None:
        for n in range(appends):
            append("crowd", {"who": who, "n": n})

    start = time.perf_counter()
    children = [forked(lambda who=who: work(who)) for who in range(writers)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    seconds = time.perf_counter() - start
    seen = verify_audit_log()
    there: dict[int, list[int]] = {}
    for one in lines_of(home / "audit.jsonl"):
        there.setdefault(one["details"]["who"], []).append(one["details"]["n"])
    lost = writers * appends - sum(len(numbers) for numbers in there.values())
    in_order = all(numbers == list(range(appends)) for numbers in there.values())
    print(
        f"{writers} processes x {appends} appends: {lost} lost, chain "
        f"{'whole' if seen.valid else 'BROKEN'} ({writers * appends / seconds:,.0f} appends/s)"
    )
    return lost == 0 and seen.valid and in_order and ends == [0] * writers


def killed(home: Path, draw: random.Random, kills: int) -> bool:
    """Kill a writer at random moments; what it was told is written has to be there."""
    from finetuning.audit import append, verify_audit_log

    os.environ["FINE_TUNING_HOME"] = str(home)
    log, torn, lost, broken, expected = home / "audit.jsonl", 0, 0, 0, 0
    for number in range(kills):
        reads, writes = os.pipe()
        pad = ["p" * 400] * (draw.choice([0, 1, 3000]))

        def work(number: int = number, pad: list[str] = pad, writes: int = writes) -> None:
            for n in range(10**6):
                append("writer", {"kill": number, "n": n, "pad": pad})
                os.write(writes, b".")

        child = forked(work)
        os.close(writes)
        os.read(reads, 1)
        time.sleep(draw.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = 1
        while part := os.read(reads, 1 << 16):
            told += len(part)
        os.close(reads)
        seen = verify_audit_log()
        torn += seen.torn_bytes > 0
        broken += not seen.valid
        append("next", {"kill": number})
        broken += not verify_audit_log().valid
        mine = [r for r in lines_of(log) if r["details"].get("kill") == number]
        written = [r["details"]["n"] for r in mine if r["event"] == "writer"]
        # one more than was told may stand there: killed between the write and the answer
        lost += written[:told] != list(range(told)) or len(written) > told + 1
        broken += mine[-1]["event"] != "next"
        expected += told
        log.unlink()
    print(
        f"kill -9 at {kills} random moments ({torn} tore a line): {lost} lost a record of "
        f"{expected:,} whose append had returned, {broken} left a log that does not go on"
    )
    return lost == broken == 0


def torn_writes(home: Path, draw: random.Random, tears: int) -> bool:
    """Cut the last line at any place: only it is missing, and the next append goes on."""
    from finetuning.audit import append, verify_audit_log

    os.environ["FINE_TUNING_HOME"] = str(home)
    log, wrong = home / "audit.jsonl", 0
    home.mkdir(parents=True, exist_ok=True)
    lines = chain(5, draw)
    for _ in range(tears):
        keep = draw.randrange(len(lines[-1]))
        log.write_bytes(b"".join(lines[:-1]) + lines[-1][:keep])
        seen = verify_audit_log()
        wrong += not seen.valid or seen.n_records != 4 + (keep == len(lines[-1]) - 1)
        append("next", {})
        after = verify_audit_log()
        there = log.read_bytes().splitlines(keepends=True)
        wrong += not after.valid or there[:4] != lines[:4] or b'"next"' not in there[-1]
    print(f"last line cut at {tears} places: {wrong} left a log that does not go on")
    return wrong == 0


def main() -> int:
    """Print every figure; return 1 if one is below its reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small input; no time is judged")
    options = parser.parse_args()
    quick, draw = options.quick, random.Random(options.seed)
    ok = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.environ["FINE_TUNING_ROOTS"] = str(folder)
        os.environ["FINE_TUNING_HOME"] = str(folder / "home")
        sizes = [12, 30, 61, 200] if quick else [12, 30, 61, 200, 333, 1024, 1500, 3000]
        logs = originals(folder, draw, sizes)
        for kind, make in MAIN.items():
            ok &= judge(kind, make, 12 if quick else EACH, logs, draw)
        for kind, make in HARDER.items():
            ok &= judge(kind, make, 8 if quick else EACH_HARDER, logs, draw)
        ok &= altered_checkpoints(logs, draw, 12 if quick else EACH)
        ok &= verify_many(folder, 2000 if quick else RECORDS, reach=not quick)
        ok &= crowd(folder / "crowd", *((3, 30) if quick else (WRITERS, APPENDS)))
        ok &= killed(folder / "killed", draw, 3 if quick else KILLS)
        ok &= torn_writes(folder / "torn", draw, 10 if quick else TEARS)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
