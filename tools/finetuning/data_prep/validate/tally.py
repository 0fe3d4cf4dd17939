"""Counts every finding, keeps one page of them and writes all to a file, at flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import IO

from finetuning.records import Finding


class FindingTally:
    """All findings of a file pass through here, in order."""

    def __init__(self, limit: int | None, offset: int, stream: IO[bytes] | None) -> None:
        """Start at nothing.

        Args:
            limit: Most findings to keep; None keeps all.
            offset: Findings to skip before keeping.
            stream: Takes every finding as a JSON line, if given.
        """
        self._first = offset
        self._end = None if limit is None else offset + limit
        self._stream = stream
        self.counts: Counter[str] = Counter()
        self.n_errors = 0
        self.n_warnings = 0
        self.kept: list[Finding] = []

    @property
    def total(self) -> int:
        """Findings so far."""
        return self.n_errors + self.n_warnings

    @property
    def next_offset(self) -> int | None:
        """Offset of the next page, None where there is none."""
        return self._end if self._end is not None and self._end < self.total else None

    def add(self, found: Iterable[Finding]) -> None:
        """Count findings, keep those of the page, write all."""
        for item in found:
            if self._first <= self.total and (self._end is None or self.total < self._end):
                self.kept.append(item)
            self.counts[item.code] += 1
            if item.severity == "error":
                self.n_errors += 1
            else:
                self.n_warnings += 1
            if self._stream is not None:
                self._stream.write(item.model_dump_json().encode() + b"\n")
