"""Twins: pairs of rows whose similarity was counted, not estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.data_prep.duplicates.signatures import PERMUTATIONS, candidates, sign
from finetuning.data_prep.duplicates.words import Words
from finetuning.data_prep.examples import Content
from finetuning.data_prep.prepared import Engine
from finetuning.runs import progress

if TYPE_CHECKING:
    from finetuning.data_prep.duplicates.signatures import Pairs, Signatures

_ESTIMATE_MARGIN: Final = 5 * (0.25 / PERMUTATIONS) ** 0.5
"""Five standard errors of the estimate: a pair so far below the threshold is not counted out."""

_BLOCK_PAIRS: Final = 200_000


def jaccard(one: frozenset[int], two: frozenset[int]) -> float:
    """Return the share of word pairs that two rows have in common (0 for two empty rows)."""
    together = len(one | two)
    return len(one & two) / together if together else 0.0


class _Shingles(NamedTuple):
    """Word pairs of a row: without constant text, all of them, and the answer's."""

    own: frozenset[int]
    whole: frozenset[int]
    answer: frozenset[int]


class Comparison:
    """Compares rows pair by pair, exactly."""

    def __init__(self, contents: Sequence[Content], words: Words, threshold: float) -> None:
        """Compare these rows; ``words`` are theirs."""
        self._contents, self._words, self._threshold = contents, words, threshold
        self._seen: dict[int, _Shingles] = {}

    def _shingles(self, row: int) -> _Shingles:
        found = self._seen.get(row)
        if found is None:
            words = self._words
            own, whole = words.shingles(row), words.shingles(row, whole=True)
            found = self._seen[row] = _Shingles(own, whole, words.answer(row))
        return found

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
        first, second = self._shingles(one), self._shingles(two)
        if first.whole == second.whole:
            return True
        if jaccard(first.own, second.own) < self._threshold:
            return False
        if jaccard(first.whole, second.whole) < self._threshold:
            return False
        answered = bool(first.answer or second.answer)
        return not answered or jaccard(first.answer, second.answer) >= self._threshold / 2


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
    if engine == "daft":
        from finetuning.data_prep.duplicates.daft_engine import daft_candidates

        found = daft_candidates(signatures)
    else:
        found = candidates(signatures)
    likely = _likely(found, signatures, threshold)
    compare = Comparison(contents, words, threshold)
    pairs = [(int(one), int(two)) for one, two in likely.tolist()]
    pairs += _same_words(words)
    if wanted is not None:
        pairs = [pair for pair in pairs if wanted(*pair)]
    return [pair for pair in pairs if compare.twins(*pair)], compare
