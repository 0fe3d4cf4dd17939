"""The shapes of a run, and the words for its states."""

from __future__ import annotations

from typing import Any, Final, Literal

from finetuning.records import Model

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled", "lost"})


class RunProgress(Model):
    """How far a run has come; a field that is not known yet is None."""

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eta_seconds: float | None = None
    what: str = ""


class RunRow(Model):
    """One run as the store knows it (times are ISO 8601 in UTC)."""

    run_id: str
    tool: str
    status: RunStatus
    created_at: str
    updated_at: str
    finished_at: str | None = None
    pid: int | None = None
    parent_run_id: str | None = None
    config_digest: str | None = None
    folder: str
    log_file: str
    progress: RunProgress = RunProgress()
    error: str | None = None
    result: dict[str, Any] | None = None
    idempotency_key: str | None = None

    @property
    def finished(self) -> bool:
        """True when no process will change this run any more."""
        return self.status in TERMINAL
