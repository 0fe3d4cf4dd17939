"""Train in a child process (the only place that imports torch and TRL here).

``python -m finetuning.training.worker.session RUN_ID``; nothing else imports this package.
Here, without torch: how such a process can end other than by finishing, what a row and the audit
of all rows look like, and how rows are gathered into micro-batches that waste little.
"""

from __future__ import annotations

import bisect
import os
import random
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from finetuning import runs, settings
from finetuning.errors import RunFailedError
from finetuning.training.config import TrainingConfig

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


def end_early(run_id: str) -> int:
    """Record that the run was stopped before its first step and return the exit code."""
    runs.finish(run_id, "cancelled", error=stopped(run_id, "before the first step"))
    return EXIT_STOPPED


def stopped(run_id: str, where: str) -> str:
    """Say that the process was asked to stop, and how to go on."""
    return (
        f"{run_id}: the process was asked to stop {where}; expected to run to its end. "
        f"Go on with launch_lora(config, resume={run_id!r})."
    )


def not_finite(
    config: TrainingConfig, error: NotFiniteError, result: dict[str, Any]
) -> RunFailedError:
    """Say what was not finite, what is kept and what to change."""
    kept = result["adapter_dir"]
    step = "Configure again with a lower learning_rate"
    if error.step == 1:
        step = "Check the weights of the base model: the very first step was not finite"
    elif kept:
        step += f"; the adapter of step {result['steps']} is kept in {kept}"
    return RunFailedError(
        "training", f"{error} (learning_rate {config.learning_rate:g})", "finite numbers", step
    )


def unexpected(run_id: str, error: Exception) -> RunFailedError:
    """Say of which kind a fault was, and where; its text may quote data."""
    from finetuning.training.worker.checkpoints import disk_is_full

    if disk_is_full(error):
        return RunFailedError(
            "training",
            "the disk is full; older checkpoints are as they were",
            "room for the adapter",
            f"Free some space; launch_lora(config, resume={run_id!r}) goes on from the newest one",
        )
    return RunFailedError(
        "training",
        f"{type(error).__name__} in {_place(error)}",
        "a run without errors",
        f"Read the log of {run_id}; launch_lora(config, resume={run_id!r}) goes on from its last "
        "checkpoint",
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def log_failure(error: Exception) -> None:
    """Write the way to the fault; its message may quote data, so it needs a person's leave."""
    lines = traceback.format_tb(error.__traceback__)
    message = str(error) if settings.settings().show_content else f"({len(str(error))} characters)"
    sys.stderr.write("".join(lines) + f"{type(error).__name__}: {message}\n")
    sys.stderr.flush()
    os.fsync(sys.stderr.fileno())


# --- rows

IGNORED: Final = -100
"""Label of a position that is not trained on (PyTorch's own number for it)."""


class Example(NamedTuple):
    """One row as token ids and, position by position, its labels."""

    input_ids: list[int]
    labels: list[int]


@dataclass(slots=True)
class MaskAudit:
    """What the labels of a file cover; numbers only, no text."""

    rows: int = 0
    rows_without_labels: int = 0
    rows_truncated: int = 0
    rows_split_at_boundary: int = 0
    tokens: int = 0
    labelled_tokens: int = 0
    longest_row_tokens: int = 0
    damaged_lines: list[int] = field(default_factory=list[int])
    lines: list[int] = field(default_factory=list[int])
    """Line of each example, in the order of the examples."""

    def as_dict(self) -> dict[str, Any]:
        """Return the audit for the run's result."""
        fraction = self.labelled_tokens / self.tokens if self.tokens else 0.0
        return {
            "rows": self.rows,
            "rows_without_labels": self.rows_without_labels,
            "rows_truncated": self.rows_truncated,
            "rows_split_at_boundary": self.rows_split_at_boundary,
            "tokens": self.tokens,
            "labelled_tokens": self.labelled_tokens,
            "labelled_fraction": round(fraction, 4),
            "longest_row_tokens": self.longest_row_tokens,
        }


# --- micro-batches: rows of similar length together, or rows packed end to end

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
