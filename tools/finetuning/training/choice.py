"""A chosen setting: its value, why, and where that is known from."""

from __future__ import annotations

from typing import Any, NamedTuple


class Choice(NamedTuple):
    """One setting with its reason and its source."""

    value: Any
    reason: str
    source: str

    def why(self) -> str:
        """Return reason and source as one line."""
        return f"{self.reason} [{self.source}]"
