"""The names of fields: personal data in them is replaced, and reported once per name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from finetuning.pii.kinds import TYPES, RedactMode, Span
from finetuning.pii.leaves import Leaf, step_of
from finetuning.pii.rounds import redact_leaves
from finetuning.records import Json

# In keys only what carries its own proof counts: a column may well be called "Christian Name".
_KEY_TYPES: Final = tuple(
    name
    for name in TYPES
    if name not in {"person_name", "postal_address", "date_of_birth", "password", "bank_account"}
)


class KeyNames:
    """The keys met so far, with personal data in them replaced."""

    def __init__(self, mode: RedactMode = "mask", types: Sequence[str] | None = None) -> None:
        """Start empty; ``mode`` and ``types`` say what is replaced, and how."""
        self._mode: RedactMode = mode
        self._types = [t for t in _KEY_TYPES if types is None or t in types]
        self._safe: dict[str, str] = {}
        self._found: list[tuple[str, str, Span]] = []

    def safe(self, key: str, parent: str) -> str:
        """Return the key without personal data, and note where it was met first.

        Args:
            key: The key as it stands in the row.
            parent: JSON Pointer of what holds it.
        """
        known = self._safe.get(key)
        if known is not None:
            return known
        place: dict[str, Json] = {"key": key}
        leaf = Leaf(place, "key", "", "", key)
        spans = [span for _, span, _ in redact_leaves([leaf], self._mode, types=self._types)]
        safe = self._safe[key] = str(place["key"])
        self._found.extend((f"{parent}/{step_of(safe)}", key, span) for span in spans)
        return safe

    def take_found(self) -> list[tuple[str, str, Span]]:
        """Return pointer, key and span of what was met since the last call."""
        found, self._found = self._found, []
        return found
