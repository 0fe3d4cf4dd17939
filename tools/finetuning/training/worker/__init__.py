"""Train in a child process (the only place that imports torch and TRL here).

``python -m finetuning.training.worker.session RUN_ID``; nothing else imports this package.
Here stands how such a process can end, other than by finishing.
"""

from __future__ import annotations

from typing import Final

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
