"""Twins: pairs of rows whose similarity was counted, in one set or between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from finetuning.data_prep.duplicates.candidates import (
    PERMUTATIONS,
    candidates,
    daft_candidates,
    sign,
)
from finetuning.data_prep.duplicates.words import Words, many_rows, read_words, run_hashes
from finetuning.data_prep.examples import Content
from finetuning.data_prep.results import Engine, Leakage
from finetuning.runs import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates.candidates import Pairs, Signatures

_ESTIMATE_MARGIN: Final = 5 * (0.25 / PERMUTATIONS) ** 0.5
"""Five standard errors of the estimate: a pair so far below the threshold is not counted out."""

_BLOCK_PAIRS: Final = 200_000

_OTHER_SEED: Final = 1
"""Other permutations than those of the search, so that what it missed can be seen."""

LONG_RUN_WORDS: Final = 13
"""A shared run of so many words counts as contamination, the usual length of such checks."""


def jaccard(one: frozenset[int], two: frozenset[int]) -> float:
    """Return the share of word pairs that two rows have in common (0 for two empty rows)."""
    together = len(one | two)
    return len(one & two) / together if together else 0.0


class Comparison:
    """Compares rows pair by pair, exactly."""

    def __init__(self, contents: Sequence[Content], words: Words, threshold: float) -> None:
        """Compare these rows; ``words`` are theirs."""
        self._contents, self._words, self._threshold = contents, words, threshold
        self._own: dict[int, frozenset[int]] = {}
        self._whole: dict[int, frozenset[int]] = {}
        self._answers: dict[int, frozenset[int]] = {}

    def _own_share(self, one: int, two: int) -> float:
        return jaccard(*(_kept(self._own, row, self._words.shingles) for row in (one, two)))

    def _whole_share(self, one: int, two: int) -> float:
        return jaccard(*(_kept(self._whole, row, self._all_pairs) for row in (one, two)))

    def _all_pairs(self, row: int) -> frozenset[int]:
        if not self._words.has_constant_text(row):
            return _kept(self._own, row, self._words.shingles)
        return self._words.shingles(row, whole=True)

    def _answers_differ(self, one: int, two: int) -> bool:
        first, second = (_kept(self._answers, row, self._words.answer) for row in (one, two))
        return bool(first or second) and jaccard(first, second) < self._threshold / 2

    def comparable(self, one: int, two: int) -> bool:
        """Say whether two rows could be twins at all: same label-like answer, not one family."""
        first, second = self._contents[one], self._contents[two]
        return first.key == second.key and not (first.family and first.family == second.family)

    def twins(self, one: int, two: int) -> bool:
        """Say whether two rows are twins.

        They are when the words that are theirs alone, and all their words, have at least the
        threshold in common, and their answers half of it, so that a long shared prompt does not
        speak for different answers. Rows of constant text only must be the same word for word.
        """
        if not self.comparable(one, two):
            return False
        whole = self._whole_share(one, two)
        if whole == 1:
            return True
        if whole < self._threshold or self._own_share(one, two) < self._threshold:
            return False
        return not self._answers_differ(one, two)


def _kept(
    known: dict[int, frozenset[int]], row: int, find: Callable[[int], frozenset[int]]
) -> frozenset[int]:
    """Return the word pairs of a row, found once."""
    found = known.get(row)
    if found is None:
        found = known[row] = find(row)
    return found


def _likely(pairs: Pairs, signatures: Signatures, threshold: float) -> Pairs:
    """Keep the pairs whose estimated similarity is not far below the threshold."""
    import numpy as np

    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(pairs), _BLOCK_PAIRS):
        part = pairs[start : start + _BLOCK_PAIRS]
        same = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
        kept.append(part[same >= threshold - _ESTIMATE_MARGIN])
    return np.concatenate(kept)


def _same_words(words: Words) -> list[tuple[int, int]]:
    """Return pairs of rows with the same words in the same order: each with the first of them."""
    import xxhash

    first: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for row in range(len(words)):
        part = words.hashes[words.starts[row] : words.starts[row + 1]]
        digest = xxhash.xxh3_128_intdigest(part.tobytes())
        if first.setdefault(digest, row) != row:
            pairs.append((first[digest], row))
    return pairs


def find_twins(
    contents: Sequence[Content],
    words: Words,
    threshold: float,
    *,
    seed: int = 0,
    wanted: Callable[[int, int], bool] | None = None,
    engine: Engine = "local",
) -> tuple[list[tuple[int, int]], Comparison]:
    """Return the pairs of rows that are near duplicates, and the comparison that found them.

    Args:
        contents: The rows.
        words: Their words.
        threshold: Smallest exact Jaccard similarity of word pairs, 0..1.
        seed: Chooses the MinHash permutations.
        wanted: Looks at a pair before it is compared; False leaves it out.
        engine: What groups the bands; the pairs are the same.

    Raises:
        MissingExtraError: The engine's package is not installed.
    """
    progress(0, len(contents), "comparing rows")
    signatures = sign(words, seed=seed)
    found = daft_candidates(signatures) if engine == "daft" else candidates(signatures)
    likely = _likely(found, signatures, threshold)
    compare = Comparison(contents, words, threshold)
    pairs = [(int(one), int(two)) for one, two in likely.tolist()]
    pairs += _same_words(words)
    if wanted is not None:
        pairs = [pair for pair in pairs if wanted(*pair)]
    return [pair for pair in pairs if compare.twins(*pair)], compare


def measure_leakage(
    train: Sequence[Content], held_out: Sequence[Content], threshold: float
) -> Leakage:
    """Count the held-out rows that have a twin in train.

    Args:
        train: Rows to learn from.
        held_out: Rows of validation and test.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    known = {content.exact for content in train}
    exact = sum(content.exact in known for content in held_out)
    fresh = [content for content in held_out if content.exact not in known]
    border = len(train)
    rows = [*train, *fresh]
    pairs, _ = find_twins(
        rows,
        read_words(rows),
        threshold,
        seed=_OTHER_SEED,
        wanted=lambda one, two: one < border <= two,
    )
    return Leakage(exact=exact, near=len({two for _, two in pairs}))


def _own_runs(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the long runs of all rows that hold no constant text, and their rows."""
    import numpy as np

    runs = run_hashes(words.hashes, LONG_RUN_WORDS)
    before = np.concatenate([[0], np.cumsum(words.constant)])
    clean = before[LONG_RUN_WORDS:] == before[:-LONG_RUN_WORDS] if len(runs) else runs == 0
    places = np.flatnonzero(clean)
    rows = np.searchsorted(words.starts, places, side="right") - 1
    return runs[places], rows


def overlapping(
    contents: Sequence[Content], others: Sequence[Content], threshold: float
) -> dict[int, int]:
    """Return the rows that repeat one of the others, each with the first such other.

    A row repeats another when it is the same, asks the same, is a near copy whatever it
    answers, or shares a run of 13 words that is not text common to many rows.

    Args:
        contents: Rows to judge.
        others: Rows that they must not repeat.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    if not contents or not others:
        return {}
    found: dict[int, int] = {}
    exact: dict[int, int] = {}
    asked: dict[int, list[int]] = {}
    for number, other in enumerate(others):
        exact.setdefault(other.exact, number)
        asked.setdefault(other.asked, []).append(number)
    constant = many_rows(len(others))
    for row, content in enumerate(contents):
        same = asked.get(content.asked, [])
        if content.exact in exact:
            found[row] = exact[content.exact]
        elif 0 < len(same) < constant:
            found[row] = same[0]
    left = [row for row in range(len(contents)) if row not in found]
    free = [
        dataclasses.replace(content, key=0, family=0)
        for content in [*(contents[row] for row in left), *others]
    ]
    words, border = read_words(free), len(left)
    pairs, _ = find_twins(free, words, threshold, wanted=lambda one, two: one < border <= two)
    for one, two in [*pairs, *_shared_runs(words, border)]:
        found.setdefault(left[one], two - border)
    return found


def _shared_runs(words: Words, border: int) -> list[tuple[int, int]]:
    """Return pairs of a row below and a row above the border that share a long run."""
    import numpy as np

    runs, rows = _own_runs(words)
    above = rows >= border
    known, first = np.unique(runs[above], return_index=True)
    if not len(known):
        return []
    sought, seekers = runs[~above], rows[~above]
    places = np.minimum(np.searchsorted(known, sought), len(known) - 1)
    hits = np.flatnonzero(known[places] == sought)
    owners = rows[above][first[places[hits]]]
    return list(zip(seekers[hits].tolist(), owners.tolist(), strict=True))
