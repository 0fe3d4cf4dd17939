"""The one way this child says no."""

from __future__ import annotations


class CannotRunError(Exception):
    """The model cannot do what is asked.

    Its arguments are what was wrong, what was expected and the next step, in the words of the
    house's error template.
    """

    def __init__(self, what: str, expected: str, next_step: str) -> None:
        """Keep the three parts (row content never belongs in any of them)."""
        super().__init__(what, expected, next_step)
