"""Batches of rows of like length, padded on the left so that answers end in one column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from finetuning.evaluation.local.encoding import Encoded

MOST_ROWS = 192
MOST_TOKENS = 32_768


class Row(NamedTuple):
    """One row of a batch: which side is asked which question."""

    side: str
    item: Encoded


def batches_of(
    items: Sequence[Encoded], sides: Sequence[str], *, together: bool, extra: int
) -> Iterator[list[Row]]:
    """Yield batches, longest questions first.

    Args:
        items: The questions.
        sides: Sides that all get them.
        together: Whether the sides of one question share its batch (and so its padding).
        extra: Tokens added to each row while it is processed.
    """
    groups = [list(sides)] if together else [[side] for side in sides]
    ordered = sorted(items, key=lambda item: (-len(item.prompt) - len(item.reference), item.id))
    for group in groups:
        start = 0
        while start < len(ordered):
            width = len(ordered[start].prompt) + len(ordered[start].reference) + extra
            fitting = min(MOST_ROWS, max(1, MOST_TOKENS // width)) // len(group)
            chunk = ordered[start : start + max(1, fitting)]
            yield [Row(side, item) for item in chunk for side in group]
            start += len(chunk)


def pad_left(
    rows: Sequence[list[int]], filler: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, shape (rows, longest)."""
    longest = max(1, *map(len, rows))
    ids = torch.full((len(rows), longest), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        if row:
            ids[number, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[number, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)
