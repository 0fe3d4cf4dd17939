"""The facts as rules see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetuning.fit.derived import DERIVED


class View(dict[str, Any]):
    """Absent is None; derived facts are computed once, when first read."""

    def __missing__(self, name: str) -> Any:
        """Compute and keep a derived fact; anything else that is absent is unknown."""
        derive = DERIVED.get(name)
        value = None if derive is None else derive(self)
        self[name] = value
        return value


class TracedView(View):
    """A view that remembers which facts were read.

    A verdict depends on nothing that was not read on the way to it: a fact outside ``read``
    cannot flip it alone.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """Start with nothing read."""
        super().__init__(facts)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Return a fact and note that it was read."""
        self.read.add(name)
        return super().__getitem__(name)
