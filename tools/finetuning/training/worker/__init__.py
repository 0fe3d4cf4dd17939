"""Train in a child process (the only place that imports torch and TRL here).

``python -m finetuning.training.worker.session RUN_ID``; nothing else imports this package.
Here: how such a process can end other than by finishing, and what a row and the audit of all rows
look like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

EXIT_FAILED: Final = 1
EXIT_NOT_FINITE: Final = 65
"""A loss, gradient or weight was NaN or infinite; the last good adapter is kept."""
EXIT_STOPPED: Final = 75
"""Stopped on request with a checkpoint saved; the run can be resumed."""


class StoppedEarly(BaseException):
    """Somebody asked the process to stop before training began."""


class NotFiniteError(ArithmeticError):
    """A number of the training is NaN or infinite."""

    def __init__(self, what: str, step: int) -> None:
        """Remember what was not finite, and in which step."""
        super().__init__(f"the {what} is not finite at step {step}")
        self.what, self.step = what, step


IGNORED: Final = -100
"""Label of a position that is not trained on (PyTorch's own number for it)."""


class Example(NamedTuple):
    """One row as token ids and, position by position, its labels."""

    input_ids: list[int]
    labels: list[int]


@dataclass(slots=True)
class MaskAudit:
    """What the labels of a file cover; numbers only, no text."""

    rows: int = 0
    rows_without_labels: int = 0
    rows_truncated: int = 0
    rows_split_at_boundary: int = 0
    tokens: int = 0
    labelled_tokens: int = 0
    longest_row_tokens: int = 0
    damaged_lines: list[int] = field(default_factory=list[int])
    lines: list[int] = field(default_factory=list[int])
    """Line of each example, in the order of the examples."""

    def as_dict(self) -> dict[str, Any]:
        """Return the audit for the run's result."""
        fraction = self.labelled_tokens / self.tokens if self.tokens else 0.0
        return {
            "rows": self.rows,
            "rows_without_labels": self.rows_without_labels,
            "rows_truncated": self.rows_truncated,
            "rows_split_at_boundary": self.rows_split_at_boundary,
            "tokens": self.tokens,
            "labelled_tokens": self.labelled_tokens,
            "labelled_fraction": round(fraction, 4),
            "longest_row_tokens": self.longest_row_tokens,
        }
