"""The audit log: who did what when, in a chain that shows every later change.

Here: the tool ``verify_audit_log`` (is every record there, in place, and as it was written?).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from finetuning.audit.log import (
    FIRST_PREV,
    MOST_BLOCKS,
    Chained,
    Kind,
    append,
    block_roots,
    block_size,
    canonical,
    check_log,
    root_of,
)
from finetuning.errors import BadInputError
from finetuning.records import Model, NextCall, ToolResult
from finetuning.settings import settings

__all__ = [
    "AuditState",
    "AuditVerification",
    "Checkpoint",
    "append",
    "check_log",
    "state_of_log",
    "verify_audit_log",
]

_WHERE: Final = "verify_audit_log"


class Checkpoint(Model, defer_build=True):
    """Root and block roots of the first ``n_records`` records."""

    format: Literal["fine-tuning-audit-checkpoint-1", "fine-tuning-audit-checkpoint-2"]
    at: str
    n_records: int = Field(ge=0)
    head_digest: str
    merkle_root: str
    block_records: int = Field(ge=1)
    blocks: list[str] = Field(max_length=MOST_BLOCKS)
    sha256: str | None = Field(default=None, description="Digest of the rest; since format 2.")

    def digest(self) -> str:
        """Return the SHA-256 of everything but the digest itself, as RFC 8785 writes it."""
        rest = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(canonical(rest)).hexdigest()


def make_checkpoint(leaves: Sequence[bytes], head_digest: str) -> Checkpoint:
    """Return the checkpoint of a log with these leaves."""
    size = block_size(len(leaves))
    blocks = block_roots(leaves, size)
    made = Checkpoint(
        format="fine-tuning-audit-checkpoint-2",
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        n_records=len(leaves),
        head_digest=head_digest,
        merkle_root=root_of(blocks).hex(),
        block_records=size,
        blocks=[block.hex() for block in blocks],
    )
    return made.model_copy(update={"sha256": made.digest()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it agrees with itself.

    Raises:
        BadInputError: The file is not a checkpoint, or was changed.
    """
    try:
        kept = Checkpoint.model_validate(json.loads(path.read_text(encoding="utf-8")))
        blocks = [bytes.fromhex(block) for block in kept.blocks]
        digest = None if kept.format.endswith("-1") else kept.digest()
    except (ValueError, RecursionError) as error:
        raise _not_one(path, type(error).__name__) from error
    if root_of(blocks).hex() != kept.merkle_root:
        raise _not_one(path, "its root does not follow from its blocks")
    if len(blocks) != -(-kept.n_records // kept.block_records):
        raise _not_one(path, "it holds another number of blocks than its records need")
    if kept.sha256 != digest:
        raise _not_one(path, "its digest does not follow from the rest: it was changed")
    return kept


def _not_one(path: Path, reason: str) -> BadInputError:
    return BadInputError(
        "checkpoint",
        f"{str(path)!r} is not a checkpoint ({reason})",
        "a file that verify_audit_log wrote with write_checkpoint",
        "Name another file, or leave checkpoint out",
    )


class AuditVerification(ToolResult):
    """Whether the audit log is as it was written."""

    valid: bool
    anchored: bool = Field(
        description="A checkpoint kept elsewhere was compared; without one, a log cut short or "
        "rewritten from some record on cannot be told from a true one."
    )
    n_records: int
    first_bad: int | None = Field(
        default=None, description="Number, from 1, of the first record that is not as written."
    )
    kind: Kind | None = None
    head_digest: str = Field(description="Hash of the last record.")
    merkle_root: str
    torn_bytes: int = Field(
        default=0, description="Unfinished last line of a crashed write; the next write mends it."
    )
    checkpoint_file: str | None = Field(default=None, description="Checkpoint that was written.")

    def exit_code(self) -> int:
        """Return 1 for a log that was tampered with."""
        return 0 if self.valid else 1

    def summary(self) -> str:
        """Say valid or not, where, and how sure that is."""
        if not self.valid:
            return f"Tampered: record {self.first_bad} was {self.kind}."
        sure = (
            "a checkpoint confirms it" if self.anchored else "no checkpoint: a cut tail is unseen"
        )
        return f"{self.n_records} records, unbroken ({sure})."


def verify_audit_log(
    path: str | None = None,
    checkpoint: str | None = None,
    write_checkpoint: str | None = None,
) -> AuditVerification:
    """Check that no record of the audit log was edited, removed, moved or added.

    Every record holds the hash of the one before. What that cannot show, a log cut short or
    rewritten to its end, shows against a checkpoint that was kept elsewhere.

    Args:
        path: The log; by default audit.jsonl in FINE_TUNING_HOME.
        checkpoint: File written earlier by write_checkpoint, kept where the log's writer cannot
            change it; the records it covers must be unchanged.
        write_checkpoint: New file that receives a checkpoint of the log as it is now (nothing is
            written if the log is not valid).

    Returns:
        valid, anchored, number of records, and for a bad log the first record that is not as it
        was written and the kind of change. Exit code 1 for a bad log.

    Raises:
        BadInputError: A file is missing, the checkpoint is not one, or its target exists.
        NotAllowedError: A path lies outside the allowed folders.

    Source: https://www.rfc-editor.org/rfc/rfc9162 (checked 2026-11-20);
    knowledge: compliance.md#audit-log
    """
    from finetuning.audit import reading
    from finetuning.files import resolve_read, write_json

    kept = (
        read_checkpoint(resolve_read(checkpoint, where="checkpoint"))
        if checkpoint is not None
        else None
    )
    log_path = _log_path(path, kept)
    target = _new_file(write_checkpoint)
    log = reading.read_log(log_path) if log_path else reading.Log([], [], b"", False)
    fault = reading.fault_of(log, kept)
    last = log.lines[-1] if log.lines else None
    head = last.sha256 if isinstance(last, Chained) else FIRST_PREV
    if fault is None and target is not None:
        write_json(target, make_checkpoint(log.leaves, head).model_dump(mode="json"))
    written = str(target) if fault is None and target is not None else None
    return AuditVerification(
        valid=fault is None,
        anchored=kept is not None,
        n_records=len(log.lines),
        first_bad=fault.first_bad if fault else None,
        kind=fault.kind if fault else None,
        head_digest=head,
        merkle_root=root_of(log.leaves).hex(),
        torn_bytes=len(log.torn),
        checkpoint_file=written,
        next=_next_calls(written),
    )


def _log_path(path: str | None, kept: Checkpoint | None) -> Path | None:
    """Return where the log is; None where it is gone, which a checkpoint of records shows."""
    if path is not None:
        from finetuning.files import resolve_read

        return resolve_read(path, where=_WHERE)
    found = settings().audit_log
    if not found.exists() and kept is not None and kept.n_records:
        return None
    if not found.exists():
        raise BadInputError(
            _WHERE,
            f"{str(found)!r} does not exist: nothing was recorded yet",
            "an audit log",
            "Run a tool first, for example: fine-tuning scan-pii DATA",
        )
    return found


def _new_file(path: str | None) -> Path | None:
    if path is None:
        return None
    from finetuning.files import resolve_write

    target = resolve_write(path, where="write_checkpoint")
    if target.exists():
        raise BadInputError(
            "write_checkpoint",
            f"{path!r} exists",
            "a new file: older checkpoints stay evidence",
            "Choose another name",
        )
    return target


def _next_calls(written: str | None) -> list[NextCall]:
    if written is not None:
        return [
            NextCall(
                tool="verify_audit_log",
                args={"checkpoint": written},
                why="later, with the copy kept elsewhere: shows a cut or rewritten log",
            )
        ]
    return []


class AuditState(Model, defer_build=True):
    """The audit log as it was when a report was written."""

    valid: bool | None = Field(description="Null: there is no log yet.")
    n_records: int
    head_digest: str | None
    kind: str | None = None
    mentions: int = Field(description="Records that name the data or the run.")


def state_of_log(names: Iterable[str], checkpoint: Path) -> AuditState:
    """Verify the log, leave a checkpoint of it, and count the records that hold a name.

    Args:
        names: Digests and ids to look for.
        checkpoint: New file that receives the checkpoint, if the log is valid.
    """
    log = settings().audit_log
    if not log.exists() or not log.stat().st_size:
        return AuditState(valid=None, n_records=0, head_digest=None, mentions=0)
    seen = verify_audit_log(write_checkpoint=str(checkpoint))
    known = [name.encode() for name in names]
    with log.open("rb") as stream:
        mentions = sum(any(name in line for name in known) for line in stream)
    return AuditState(
        valid=seen.valid,
        n_records=seen.n_records,
        head_digest=seen.head_digest,
        kind=seen.kind,
        mentions=mentions,
    )
