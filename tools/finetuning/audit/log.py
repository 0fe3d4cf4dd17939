"""The audit log: one line per event, numbered, each holding the hash of the one before.

A line is RFC 8785 canonical JSON with the keys ``at, by, details, event, prev, seq, sha256``;
the last is the SHA-256 of the line without it. Canonical order puts ``sha256`` at the end, so a
record can be checked byte for byte without being parsed. ``prev`` of the first record is 64 zeros.

A Merkle tree over the lines lets one root stand for all of them, and block roots say where. A leaf
is SHA-256(0x00 || line), a node SHA-256(0x01 || left || right): neither can pass for the other.

Source: https://www.rfc-editor.org/rfc/rfc8785 and https://www.rfc-editor.org/rfc/rfc9162 section
2.1 (both checked 2026-11-20); knowledge: compliance.md
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from collections.abc import Generator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

from finetuning.errors import BadInputError, RunFailedError
from finetuning.records import Json
from finetuning.settings import settings

Kind = Literal["edited", "removed", "reordered", "inserted", "truncated"]
"""What can have been done to a record."""

FIRST_PREV: Final = "0" * 64
MOST_BLOCKS: Final = 1024
"""Blocks of a checkpoint at most."""

_LONGEST_TEXT: Final = 500
"""Longer strings are kept as digest and length: details carry ids and counts, never content."""

_LARGEST_EXACT: Final = 2**53 - 1
_END: Final = re.compile(
    rb'"prev":"([0-9a-f]{64})","seq":([1-9][0-9]{0,15}),"sha256":"([0-9a-f]{64})"\}$'
)
_HASH_FIELD: Final = len(',"sha256":"') + 64 + len('"}')
_CHUNK: Final = 1 << 16


class Chained(NamedTuple):
    """What links one record to its neighbours."""

    seq: int
    prev: str
    sha256: str


def read_record(line: bytes) -> Chained | None:
    """Return the links of a line (without its line feed), or None if it is not as written."""
    found = _END.search(line[-220:])
    if found is None:
        return None
    stated = found[3].decode()
    if hashlib.sha256(line[:-_HASH_FIELD] + b"}").hexdigest() != stated:
        return None
    return Chained(int(found[2]), found[1].decode(), stated)


def looks_like_record(line: bytes) -> bool:
    """Say whether a line has the outline of a record, whatever its hash says."""
    return line.startswith(b'{"at":') and b'"sha256":' in line[-120:]


def canonical(value: Mapping[str, Json]) -> bytes:
    """Return RFC 8785 canonical JSON."""
    import rfc8785

    return rfc8785.dumps(cast("Any", value))


def _plain(value: Any) -> Json:
    """Return a value as JSON that RFC 8785 can write; what is too long becomes a digest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_EXACT else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # infinities and NaN are not JSON
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, Decimal | Path):
        return _plain_text(str(value))
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {str(key)[:_LONGEST_TEXT]: _plain(item) for key, item in mapping.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in cast("list[Any]", value)]
    raise BadInputError(
        "audit log",
        f"a detail is a {type(value).__name__}",
        "text, numbers, lists and mappings",
        "Convert it before it is logged",
    )


def _plain_text(value: str) -> Json:
    text = value.encode("utf-8", "backslashreplace").decode()
    if len(text) <= _LONGEST_TEXT:
        return text
    return {"length": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _who() -> str:
    """Return the login name behind the process, or its number where there is none."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _record(event: str, details: Json, last: Chained | None) -> tuple[bytes, str]:
    body: dict[str, Json] = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "by": _who(),
        "details": details,
        "event": event,
        "prev": last.sha256 if last else FIRST_PREV,
        "seq": last.seq + 1 if last else 1,
    }
    text = canonical(body)
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + b',"sha256":"' + digest.encode() + b'"}\n', digest


@contextlib.contextmanager
def locked(path: Path, *, write: bool) -> Generator[int]:
    """Open the log under a lock that other processes honour; it ends with the process.

    Args:
        path: The log.
        write: Exclusive, and created (0600) where missing; else shared and read-only.
    """
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if write else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock


def _tail(descriptor: int) -> tuple[bytes, bytes]:
    """Return the last whole line, and the bytes after its line feed (a torn write)."""
    size = os.fstat(descriptor).st_size
    parts: list[bytes] = []
    feeds = 0
    while size > 0 and feeds < 2:
        step = min(_CHUNK, size)
        size -= step
        parts.append(os.pread(descriptor, step, size))
        feeds += parts[-1].count(b"\n")
    whole, _, torn = b"".join(reversed(parts)).rpartition(b"\n")
    return whole.rpartition(b"\n")[2], torn


def _recover(descriptor: int, last: Chained | None, torn: bytes, path: Path) -> Chained | None:
    """Mend what a crash in the middle of a write left behind; say so in the log."""
    record = read_record(torn)
    if record is not None:  # only the line feed is missing
        _write(descriptor, b"\n")
        return record
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(torn))
    details = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
    line, digest = _record("log.torn_line_removed", details, last)
    _write(descriptor, line)
    return Chained(last.seq + 1 if last else 1, last.sha256 if last else FIRST_PREV, digest)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def append(event: str, details: Mapping[str, Json]) -> str:
    """Add one record to the audit log and return its hash, after it reached the disk.

    Safe from several processes at once. A line that a crash tore is removed first, which is
    itself recorded.

    Args:
        event: What happened, for example ``tool.scan_pii``.
        details: Ids, counts, digests, decisions; never row text (strings of more than 500
            characters are replaced by their digest).

    Raises:
        BadInputError: A detail is not a JSON value.
        RunFailedError: The log cannot be written, or its last line is not a record.
    """
    path = settings().audit_log
    clean = _plain(dict(details))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, write=True) as descriptor:
            data, digest = _record(event, clean, _end(descriptor, path))
            _write(descriptor, data)
            os.fsync(descriptor)
    except OSError as error:
        raise _unwritable(path, error) from error
    return digest


def check_log() -> None:
    """Make sure that the next event can be recorded, before the work that it will describe.

    Raises:
        RunFailedError: The log cannot be written, or its last line is not a record.
    """
    path = settings().audit_log
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, write=True) as descriptor:
            _end(descriptor, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _end(descriptor: int, path: Path) -> Chained | None:
    """Return the last record's links, after mending what a crash tore; None in an empty log."""
    line, torn = _tail(descriptor)
    last = read_record(line) if line else None
    if line and last is None:
        raise _broken_tail(path)
    return _recover(descriptor, last, torn, path) if torn else last


def _unwritable(path: Path, error: OSError) -> RunFailedError:
    return RunFailedError(
        "audit log",
        f"{str(path)!r} could not be written ({error.strerror})",
        "a FINE_TUNING_HOME that may be written",
        "Free some space or set FINE_TUNING_HOME to another folder",
    )


def _broken_tail(path: Path) -> RunFailedError:
    return RunFailedError(
        "audit log",
        f"the last line of {str(path)!r} is not a record as it was written",
        "an unchanged log",
        "Run: fine-tuning verify-audit-log, then move the file away; a new log begins with the "
        "next call",
    )


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of a leaf: one line of the log without its line feed."""
    return hashlib.sha256(b"\x00" + line).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves (or of complete subtrees of one size).

    The tree of RFC 9162 splits at the largest power of two; pairing neighbours level by level
    and passing an odd last one up gives the same tree.
    """
    level = list(hashes)
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest()
            for i in range(0, len(level) - 1, 2)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def block_size(count: int) -> int:
    """Return the smallest power of two that cuts ``count`` leaves into at most 1,024 blocks."""
    size = 1
    while size * MOST_BLOCKS < count:
        size *= 2
    return size


def block_roots(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """Return the root of each block of ``size`` leaves; the last one may be shorter."""
    return [root_of(leaves[start : start + size]) for start in range(0, len(leaves), size)]
