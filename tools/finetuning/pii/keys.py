"""The names of fields: personal data in them is replaced, and reported once per name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, cast

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
        self._spans: dict[str, list[Span]] = {}
        self._found: list[tuple[str, str, Span]] = []

    def learn(self, rows: Sequence[Mapping[str, Json]]) -> None:
        """Look at all keys of the rows that were not met before."""
        new: dict[str, Json] = {}
        stack: list[Json] = list(rows)
        while stack:
            value = stack.pop()
            if isinstance(value, Mapping):
                mapping = cast("Mapping[str, Json]", value)
                new.update((key, key) for key in mapping if key not in self._safe)
                stack.extend(mapping.values())
            elif isinstance(value, list):
                stack.extend(cast("list[Json]", value))
        if not new:
            return
        leaves = [Leaf(new, key, "", "", key) for key in new]
        spans: dict[str, list[Span]] = defaultdict(list)
        for number, span, _ in redact_leaves(leaves, self._mode, types=self._types):
            spans[leaves[number].text].append(span)
        self._safe.update(new)
        self._spans.update(spans)

    def safe(self, key: str, pointer: str) -> str:
        """Return the key without personal data, and note where it was met first."""
        for span in self._spans.pop(key, ()):
            self._found.append((f"{pointer}/{step_of(self._safe[key])}", key, span))
        return self._safe[key]

    def take_found(self) -> list[tuple[str, str, Span]]:
        """Return pointer, key and span of what was met since the last call."""
        found, self._found = self._found, []
        return found
