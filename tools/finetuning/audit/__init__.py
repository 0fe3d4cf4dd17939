"""The audit log: who did what when, in a chain that shows every later change.

Here: the tool ``verify_audit_log`` (is every record there, in place, and as it was written?).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field

from finetuning.audit.log import FIRST_PREV, Chained, Kind, append, check_log, root_of
from finetuning.errors import BadInputError
from finetuning.records import NextCall, ToolResult
from finetuning.settings import settings

__all__ = ["AuditVerification", "append", "check_log", "verify_audit_log"]

_WHERE: Final = "verify_audit_log"


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
    from finetuning.files import resolve_read

    log_path = _log_path(path)
    kept = (
        reading.read_checkpoint(resolve_read(checkpoint, where="checkpoint"))
        if checkpoint is not None
        else None
    )
    target = _new_file(write_checkpoint)
    log = reading.read_log(log_path)
    fault = reading.fault_of(log, kept)
    last = log.lines[-1] if log.lines else None
    head = last.sha256 if isinstance(last, Chained) else FIRST_PREV
    if fault is None and target is not None:
        reading.write_checkpoint(target, reading.make_checkpoint(log.leaves, head))
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


def _log_path(path: str | None) -> Path:
    if path is not None:
        from finetuning.files import resolve_read

        return resolve_read(path, where=_WHERE)
    found = settings().audit_log
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
