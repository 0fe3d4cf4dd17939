"""What one detection rule is: a trigger, a pattern, and a check of what the pattern matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from finetuning.pii.kinds import Span

Place = tuple[int, int, float]
"""Start, end and confidence of an accepted match."""

Accept = Callable[[re.Match[str]], Place | None]

LEFT: Final = r"(?<![A-Za-z0-9_])"
"""No ASCII word character on the left (Chinese text may touch a number)."""
RIGHT: Final = r"(?![A-Za-z0-9_])"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to find one type.

    Attributes:
        type: Personal-data type that an accepted match is reported as.
        trigger: Regular expression that must match somewhere in the text for ``pattern`` to be
            tried. It is read by Python and by Rust, so it holds no look-around and no
            back-reference.
        pattern: Pattern of a candidate; group 1, where it has one, is the value.
        accept: Decides on a match: place and confidence, or None.
    """

    type: str
    trigger: str
    pattern: re.Pattern[str]
    accept: Accept

    def find(self, text: str) -> Iterator[Span]:
        """Yield the accepted spans of one text, left to right."""
        for match in self.pattern.finditer(text):
            place = self.accept(match)
            if place is not None:
                yield Span(place[0], place[1], self.type, place[2])


def rule(
    type_: str,
    trigger: str,
    pattern: str,
    confidence: float = 0.9,
    *,
    check: Callable[[str], bool] | None = None,
    accept: Accept | None = None,
    flags: int = 0,
) -> Rule:
    """Build a rule whose value is group 1 (or the whole match) at a fixed confidence.

    Args:
        type_: Personal-data type.
        trigger: See :class:`Rule`.
        pattern: Compiled with ``re.ASCII`` and ``flags``.
        confidence: 0..1, reported for every accepted match.
        check: Says whether the matched value counts (a checksum, say); None accepts all.
        accept: Replaces the whole decision, where place or confidence depend on the match.
        flags: Further flags of :mod:`re`.
    """
    compiled = re.compile(pattern, re.ASCII | flags)
    group = 1 if compiled.groups else 0

    def default(match: re.Match[str]) -> Place | None:
        if check is not None and not check(match.group(group)):
            return None
        return match.start(group), match.end(group), confidence

    return Rule(type_, trigger, compiled, accept or default)


def digits_of(value: str) -> str:
    """Return only the ASCII digits of a value."""
    return "".join(character for character in value if character in "0123456789")
