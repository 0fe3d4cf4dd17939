"""Micro-batches that waste little: rows of similar length together, or rows packed end to end."""

from __future__ import annotations

import bisect
import importlib
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from finetuning.training.worker import Example

torch: Any = importlib.import_module("torch")

if TYPE_CHECKING:

    class DataLoader:
        """The parts of torch.utils.data.DataLoader that are used here."""

        batch_sampler: Any

        def __init__(self, dataset: Any, **named: Any) -> None:
            """Build the loader."""
else:
    DataLoader = torch.utils.data.DataLoader

_JITTER: Final = 0.04
"""Share by which lengths are blurred, so that rows meet others in each epoch."""


def _cut(rows: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut rows in their order into batches of at most ``budget`` padded tokens each."""
    batches: list[list[int]] = []
    longest, size = 0, 0
    for row in rows:
        longest, size = max(longest, lengths[row]), size + 1
        if not batches or longest * size > budget:
            batches.append([])
            longest, size = lengths[row], 1
        batches[-1].append(row)
    return batches


def _split_largest(batches: list[list[int]], lengths: Sequence[int], count: int) -> None:
    """Halve the batches with the most padded tokens until there are ``count``."""
    while len(batches) < count:
        costs = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
        costs = [0 if len(batch) == 1 else cost for cost, batch in zip(costs, batches, strict=True)]
        place = max(range(len(batches)), key=costs.__getitem__)
        largest = batches[place]
        middle = len(largest) // 2
        # with fewer rows than batches a row is seen twice: every process needs one
        batches[place : place + 1] = [largest[:middle] or largest, largest[middle:]]


def token_budget_batches(
    lengths: Sequence[int], count: int, *, seed: int, epoch: int, size: int | None = None
) -> list[list[int]]:
    """Return every row once, in exactly ``count`` batches of about as many padded tokens each.

    Rows of a batch are of similar length: long rows come in small batches, short ones in large.
    The budget is the smallest that needs no more than ``count`` batches.

    Args:
        lengths: Tokens of each row, at least 1.
        count: Batches to make; only when there are fewer rows than that do rows repeat.
        seed: Seed of the run.
        epoch: Each epoch mixes rows anew, and the same way whenever it is asked for.
        size: Rows of each batch instead of a budget of tokens.
    """
    source = random.Random(f"{seed}:{epoch}")
    blurred = [length * (1.0 + _JITTER * source.random()) for length in lengths]
    rows = sorted(range(len(lengths)), key=blurred.__getitem__, reverse=True)
    if size is not None:
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        _split_largest(batches, lengths, count)
        return batches
    least = max(max(lengths), sum(lengths) // count)
    budgets = range(least, least * len(lengths) + 1)
    place = bisect.bisect_left(
        budgets, True, key=lambda each: len(_cut(rows, lengths, each)) <= count
    )
    batches = _cut(rows, lengths, budgets[place])
    _split_largest(batches, lengths, count)
    return batches


class BucketSampler:
    """The micro-batches of one process, in a new order each epoch.

    There are as many as fixed-size batches would make (so settings that count steps hold), and as
    many for each process; those of one step cost every process about the same.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        processes: int = 1,
        process: int = 0,
        same_size: bool = False,
    ) -> None:
        """Plan the batches of rows of these lengths.

        Args:
            lengths: Tokens of each row.
            batch_size: Mean rows of a micro-batch.
            seed: Seed of the run.
            processes: Processes that share the rows.
            process: Which of them this is, from 0.
            same_size: Whether every batch holds ``batch_size`` rows, where a row counts and not
                a token.
        """
        self._lengths, self._seed = lengths, seed
        self._size = batch_size if same_size else None
        self._processes, self._process = processes, process
        self._steps = -(-len(lengths) // (batch_size * processes))
        self._epoch = 0

    @property
    def batch_sampler(self) -> BucketSampler:
        """Itself: transformers looks for ``set_epoch`` one level down (5.23, trainer.py)."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        count = self._steps * self._processes
        batches = token_budget_batches(
            self._lengths, count, seed=self._seed, epoch=self._epoch, size=self._size
        )
        starts = list(range(0, count, self._processes))
        random.Random(f"{self._seed}:{self._epoch}:order").shuffle(starts)
        for start in starts:
            yield batches[start + self._process]


class BucketLoader(DataLoader):
    """A loader of such batches that leaves the random state of training alone."""

    def __init__(self, rows: Any, sampler: BucketSampler, collate: Any, *, pinned: bool) -> None:
        """Load the batches of ``sampler`` from ``rows``."""
        own = torch.Generator().manual_seed(0)
        super().__init__(
            rows, batch_sampler=sampler, collate_fn=collate, pin_memory=pinned, generator=own
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.batch_sampler.set_epoch(epoch)


def pack(examples: Sequence[Example], max_length: int) -> list[list[Example]]:
    """Return examples gathered into rows of at most ``max_length`` tokens, longest first.

    Each goes into the fullest row that still has room for it (best fit, decreasing), so no example
    is cut. The order of rows says nothing; within a row it is that of packing.
    """
    rows: list[list[Example]] = []
    rooms: list[tuple[int, int]] = []
    order = sorted(range(len(examples)), key=lambda at: len(examples[at].input_ids), reverse=True)
    for at in order:
        length = len(examples[at].input_ids)
        place = bisect.bisect_left(rooms, (length, -1))
        if place == len(rooms):
            rows.append([])
            room, row = max_length, len(rows) - 1
        else:
            room, row = rooms.pop(place)
        rows[row].append(examples[at])
        bisect.insort(rooms, (room - length, row))
    return rows
