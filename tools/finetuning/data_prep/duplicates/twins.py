"""Twins: pairs of rows whose similarity was counted; leakage, the twins across a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from finetuning.data_prep import Engine, Leakage
from finetuning.data_prep.duplicates import (
    PADDING,
    alike_blocks,
    distinct,
    in_threads,
    mix_pairs,
    sorted_sets,
    spans,
    without,
)
from finetuning.data_prep.duplicates.candidates import (
    PERMUTATIONS,
    candidates,
    daft_candidates,
    sign,
    signed_rows,
)
from finetuning.data_prep.duplicates.rows import Rows, Template, as_rows
from finetuning.data_prep.duplicates.words import Words
from finetuning.data_prep.examples import Content
from finetuning.runs import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates import Flags, Hashes, Pairs, Places
    from finetuning.data_prep.duplicates.candidates import Signatures

    Shares = NDArray[np.float64]

_MARGIN_DEVIATIONS: Final = 5
"""A pair whose estimate is so many standard errors below the threshold is not counted out."""

_BLOCK_PAIRS: Final = 1 << 13
_OTHER_SEED: Final = 1
"""Another permutation than that of the search, so that what it missed can be seen."""

_FIRST_VALUES: Final = PERMUTATIONS // 4

Of = Literal["whole", "own", "answer"]
"""Which word pairs of a row: all, those outside constant text, those of its answer."""


def comparable(rows: Rows, pairs: Pairs) -> Flags:
    """Say which pairs could be twins at all: same label-like answer, not one family."""
    one, two = pairs[:, 0], pairs[:, 1]
    related: Flags = (rows.family[one] == rows.family[two]) & (rows.family[one] != 0)
    alike: Flags = rows.key[one] == rows.key[two]
    return alike & ~related


class Comparison:
    """Compares pairs of rows exactly, many at once."""

    def __init__(self, rows: Rows, template: Template, threshold: float) -> None:
        """Compare these rows; ``template`` is of their words."""
        self.rows, self.template, self.threshold = rows, template, threshold

    def twins(self, pairs: Pairs) -> Flags:
        """Say which pairs are twins.

        They are when the words that are theirs alone, and all their words, have at least the
        threshold in common, and their answers half of it, so that a long shared prompt does not
        speak for different answers. Rows of constant text only must be the same word for word.
        """
        import numpy as np

        found = np.zeros(len(pairs), dtype=bool)
        sought = np.flatnonzero(comparable(self.rows, pairs))
        whole = self.shares(pairs[sought], "whole")
        found[sought[whole == 1]] = True
        sought = sought[(whole < 1) & (whole >= self.threshold)]
        sought = sought[self.shares(pairs[sought], "own") >= self.threshold]
        sought = sought[self.shares(pairs[sought], "answer") >= self.threshold / 2]
        found[sought] = True
        return found

    def shares(self, pairs: Pairs, of: Of) -> Shares:
        """Return the Jaccard similarity of each pair's word pairs.

        Two rows without any have 0 in common; two empty answers everything.
        """
        import numpy as np

        starts, counts = self._spans(of)
        shares = np.empty(len(pairs))

        def work(block: Places) -> None:
            one, two = (self._sets(pairs[block, side], starts, counts, of) for side in (0, 1))
            shares[block] = _jaccard(one, two, empty=1.0 if of == "answer" else 0.0)

        in_threads(work, ((block,) for block in alike_blocks(counts[pairs].sum(axis=1))))
        return shares

    def _spans(self, of: Of) -> tuple[Places, Places]:
        """Return where the word pairs of each row start, and how many there are."""
        import numpy as np

        words = self.rows.words
        starts = words.middles if of == "answer" else words.starts[:-1]
        counts = words.starts[1:] - starts - 1
        return starts, np.where(counts > 1, counts, 0) if of == "answer" else counts

    def _sets(self, rows: Places, starts: Places, counts: Places, of: Of) -> Hashes:
        """Return the word pairs of each row as a line of a table."""
        import numpy as np

        hashes, constant = self.rows.words.hashes, self.template.constant
        places, sizes = spans(starts[rows], counts[rows]), counts[rows]
        if of == "own":
            kept = ~(constant[places] & constant[places + 1])
            owners = np.repeat(np.arange(len(rows)), sizes)
            places, sizes = places[kept], np.bincount(owners[kept], minlength=len(rows))
        return sorted_sets(mix_pairs(hashes[places], hashes[places + 1]), sizes)


def _jaccard(one: Hashes, two: Hashes, *, empty: float) -> Shares:
    """Return the similarity of the sets in two tables, line by line."""
    import numpy as np

    both = np.concatenate([one, two], axis=1)
    each = (both != PADDING).sum(axis=1)
    both.sort(axis=1)
    common = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] != PADDING)).sum(axis=1)
    return np.where(each > 0, common / np.maximum(each - common, 1), empty)


def _likely(pairs: Pairs, signatures: Signatures, threshold: float) -> Pairs:
    """Keep the pairs whose estimated similarity is not far below the threshold.

    Args:
        pairs: Numbers of two lines each.
        signatures: All values or the first ones of each line, line after line in memory.
        threshold: Smallest similarity of twins.
    """
    import numpy as np

    n_values = signatures.shape[1]
    least = (threshold - _MARGIN_DEVIATIONS * (0.25 / n_values) ** 0.5) * n_values
    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(pairs), _BLOCK_PAIRS):
        part = pairs[start : start + _BLOCK_PAIRS]
        one, two = (signatures.take(part[:, side], axis=0) for side in (0, 1))
        same = np.bitwise_count(np.packbits(one == two, axis=1).view(np.uint32)).sum(axis=1)
        kept.append(part[same >= least])
    return np.concatenate(kept)


def _same_words(words: Words, rows: Places) -> Pairs:
    """Return pairs of rows with the same words in the same order: each with the first of them."""
    import numpy as np
    import xxhash

    first: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for row in rows.tolist():
        part = words.hashes[words.starts[row] : words.starts[row + 1]]
        digest = xxhash.xxh3_128_intdigest(part.tobytes())
        if first.setdefault(digest, row) != row:
            pairs.append((first[digest], row))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


class Search:
    """Rows with their signatures, ready to be searched for twins again as rows go."""

    def __init__(
        self,
        rows: Rows,
        threshold: float,
        *,
        seed: int = 0,
        engine: Engine = "local",
        gone: Places | None = None,
        template: Template | None = None,
    ) -> None:
        """Sign all rows.

        Args:
            rows: The rows.
            gone: Rows that are there no more.
            template: The text that many of them share, where it is known.
            threshold: Smallest exact Jaccard similarity of word pairs, 0..1.
            seed: Chooses the MinHash permutation.
            engine: What groups the bands; the pairs are the same.
        """
        import numpy as np

        progress(0, len(rows), "comparing rows")
        self.rows, self.seed = rows, seed
        self._pair = daft_candidates if engine == "daft" else candidates
        gone = np.empty(0, np.int64) if gone is None else gone
        self.template = template or Template(rows.words, gone)
        self.compare = Comparison(rows, self.template, threshold)
        self.signatures = sign(rows.words, self.template.constant, seed=seed)

    def without(self, gone: Places) -> Places:
        """Leave out some rows; return those that look different now."""
        changed = self.template.without(gone)
        if len(changed):
            words = self.rows.words
            places = spans(words.starts[changed], words.starts[changed + 1] - words.starts[changed])
            constant = self.template.constant[places]
            self.signatures[changed] = sign(words.take(changed), constant, seed=self.seed)
        return changed

    def twins(
        self,
        among: Places,
        wanted: Callable[[Pairs], Flags] | None = None,
        changed: Places | None = None,
    ) -> Pairs:
        """Return the pairs of rows that are near duplicates.

        Args:
            among: The rows to look at, in rising order.
            wanted: Looks at pairs before they are compared and says which to compare.
            changed: Only pairs with one of these rows.

        Raises:
            MissingExtraError: The engine's package is not installed.
        """
        import numpy as np

        signed = signed_rows(self.signatures, among)
        signatures = self.signatures.T.take(signed, axis=1).T  # column after column in memory
        first = np.ascontiguousarray(signatures[:, :_FIRST_VALUES])
        chosen = np.ones(len(self.rows), dtype=bool)
        if changed is not None:
            chosen[:] = False
            chosen[changed] = True

        def look(pairs: Pairs) -> Flags:
            met: Flags = chosen[pairs[:, 0]] | chosen[pairs[:, 1]]
            return met if wanted is None else met & wanted(pairs)

        def keep(pairs: Pairs) -> Pairs:
            return _likely(pairs[look(signed[pairs])], first, self.compare.threshold)

        only = None if changed is None else chosen[signed]
        found = self._pair(signatures, self.rows.key[signed], keep, only)
        met, places = np.unique(found, return_inverse=True)
        every = np.ascontiguousarray(signatures[met])
        found = _likely(places.reshape(-1, 2), every, self.compare.threshold)
        found = signed[met[found]]
        same = _same_words(self.rows.words, without(among, signed, len(self.rows)))
        pairs = np.concatenate([found, same[look(same)]])
        return pairs[self.compare.twins(pairs)]


def measure_leakage(
    train: Rows | Sequence[Content], held_out: Rows | Sequence[Content], threshold: float
) -> Leakage:
    """Count the held-out rows that have a twin in train.

    Args:
        train: Rows to learn from.
        held_out: Rows of validation and test.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
    """
    import numpy as np

    rows = Rows.join([as_rows(train), as_rows(held_out)])
    return leakage_of(rows, every := np.arange(len(rows)), every >= len(train), threshold)


def leakage_of(
    rows: Rows, among: Places, held: Flags, threshold: float, template: Template | None = None
) -> Leakage:
    """Count the rows held out that have a twin among the others.

    Args:
        rows: All rows.
        among: Those that count, in rising order.
        held: One flag per row: it is held out.
        threshold: Smallest exact Jaccard similarity of near copies, 0..1.
        template: The text that many of ``among`` share, where it is known.
    """
    import numpy as np

    kept, known = among[~held[among]], among[held[among]]
    shared = kept[np.isin(rows.exact[kept, 0], rows.exact[known, 0])]
    names: set[tuple[int, ...]] = {tuple(name) for name in rows.exact[shared].tolist()}
    same = known[[tuple(name) in names for name in rows.exact[known].tolist()]]
    search = Search(rows, threshold, seed=_OTHER_SEED, template=template)
    pairs = search.twins(
        without(among, same, len(rows)), lambda pairs: held[pairs[:, 0]] != held[pairs[:, 1]]
    )
    near = np.where(held[pairs[:, 0]], pairs[:, 0], pairs[:, 1])
    return Leakage(exact=len(same), near=len(distinct(near)))
