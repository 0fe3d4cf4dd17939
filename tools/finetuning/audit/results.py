"""The shape that ``verify_audit_log`` returns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetuning.records import ToolResult

Kind = Literal["edited", "removed", "reordered", "inserted", "truncated"]


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
