"""Pairs of rows that may be copies: by MinHash, banded here or on Daft."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep.duplicates import distinct, in_threads, pair_hashes
from finetuning.data_prep.duplicates.words import Words
from finetuning.errors import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.data_prep.duplicates import Flags, Hashes, Long, Pairs, Places

    Signatures = NDArray[np.uint16]

PERMUTATIONS: Final = 128
"""Values of a signature: one permutation, cut into so many bins; an empty bin borrows from a
full one. Source: Shrivastava, Optimal Densification for Fast and Accurate Minwise Hashing,
arXiv 1703.04664 (checked 2026-11-20)."""

NO_SIGNATURE: Final = 2**16 - 1
"""Every value of a row without a word pair of its own."""

_BIN_BITS: Final = 7
_EMPTY: Final = 2**32 - 1
_PROBES: Final = 1024
_ODD: Final = 0x9E3779B97F4A7C15
_FACTOR: Final = 0xD6E8FEB86659FD93

_WIDTHS: Final = ((400_000, 3), (8_000_000, 4))
"""Rows up to which bands are so wide: 42 bands of 3 find a pair of Jaccard .5 with probability
.996, of .1 with .04; 32 bands of 4 find one of .6 with .99, of .5 with .87, of .1 with .003.
Beyond, 25 bands of 5."""

_WIDEST: Final = 5
_PACKED: Final = 4
"""So many values of a signature fit into one number."""

_CROWD: Final = 24
"""In a bucket of more rows than this each is paired with the first and the next only."""


@functools.cache
def _permutation(seed: int) -> tuple[np.uint32, np.uint32, Places]:
    """Return a turn, an odd factor, and for each probe the bin that each bin looks into."""
    import numpy as np

    draw = np.random.default_rng(seed)
    turn, factor = draw.integers(0, 2**32, size=2, dtype=np.uint32)
    return turn, factor | np.uint32(1), draw.integers(0, PERMUTATIONS, (_PROBES, PERMUTATIONS))


def _borrow(bins: Hashes, probes: Places) -> Hashes:
    """Fill every empty bin from a full one of its row; bins of two rows probe alike."""
    import numpy as np

    source = bins.ravel()
    flat, none = source.copy(), np.uint32(_EMPTY)
    empty = np.flatnonzero(source == none)
    row, column = empty & ~(PERMUTATIONS - 1), empty & (PERMUTATIONS - 1)
    for probe in probes:
        found: Hashes = source[row + probe[column]]
        flat[empty] = found
        left = np.flatnonzero(found == none)
        if not len(left):
            break
        empty, row, column = empty[left], row[left], column[left]
    else:  # one bin in 3,000 where a row has a single word pair
        flat[empty] = bins.min(axis=1)[row >> _BIN_BITS]
    return flat.reshape(bins.shape)


def _sign_block(words: Words, constant: Flags, first: int, end: int, seed: int) -> Signatures:
    import numpy as np

    turn, factor, probes = _permutation(seed)
    start, stop = int(words.starts[first]), int(words.starts[end])
    shingles = pair_hashes(words.hashes[start:stop])
    shingles ^= turn
    shingles *= factor
    lengths = np.diff(words.starts[first : end + 1])
    places = np.repeat(np.arange(end - first) << _BIN_BITS, lengths)[:-1]
    places += shingles >> np.uint32(32 - _BIN_BITS)
    shingles &= np.uint32(_EMPTY >> _BIN_BITS)  # the bin says the rest, and none is _EMPTY
    flags = constant[start:stop]
    np.putmask(shingles, flags[:-1] & flags[1:], np.uint32(_EMPTY))
    bins = np.full((end - first, PERMUTATIONS), _EMPTY, dtype=np.uint32)
    np.minimum.at(bins.reshape(-1), places, shingles)
    signed = (bins != np.uint32(_EMPTY)).any(axis=1)
    filled = _borrow(bins[signed], probes) & np.uint32(NO_SIGNATURE)
    values = np.full(bins.shape, NO_SIGNATURE, dtype=np.uint16)
    values[signed] = np.minimum(filled, np.uint32(NO_SIGNATURE - 1))
    return values


def sign(words: Words, constant: Flags, *, seed: int = 0) -> Signatures:
    """Return one MinHash signature per row.

    Args:
        words: The rows.
        constant: Words that do not count (see ``Template``).
        seed: Chooses the permutation.

    Returns:
        Array of shape (rows, 128), one column after the other in memory; rows without any
        word pair of their own hold :data:`NO_SIGNATURE` only.
    """
    import numpy as np

    _permutation(seed)
    signatures = np.empty((PERMUTATIONS, len(words)), dtype=np.uint16).T

    def work(first: int, end: int) -> None:
        signatures[first:end] = _sign_block(words, constant, first, end, seed)

    in_threads(work, words.blocks())
    return signatures


def signed_rows(signatures: Signatures, rows: Places) -> Places:
    """Return those of some rows that have a signature."""
    signed: Places = rows[signatures[rows, 0] != NO_SIGNATURE]
    return signed


def n_bands(n_rows: int) -> int:
    """Return into how many bands the signatures of so many rows are cut."""
    return PERMUTATIONS // _width(n_rows)


def _width(n_rows: int) -> int:
    return next((width for most, width in _WIDTHS if n_rows <= most), _WIDEST)


def band_keys(signatures: Signatures, keys: Long, band: int) -> Long:
    """Return one key per row for a band: equal keys make two rows candidates.

    Args:
        signatures: Of the rows that are compared; their number says how wide bands are.
        keys: Per row; rows with different ones are never candidates.
        band: Number of the band, from 0.

    Returns:
        Keys whose lowest bits are free for the number of a row.
    """
    import numpy as np

    width = _width(len(signatures))
    made = np.zeros(len(signatures), dtype=np.uint64)
    for place in range(band * width, (band + 1) * width):
        made *= np.uint64(_ODD if width > _PACKED else 2**16)
        made += signatures[:, place]
    made += keys * np.uint64(_FACTOR)
    made *= np.uint64(_ODD)
    made ^= made >> np.uint64(32)
    made *= np.uint64(_FACTOR)
    return made & ~_low(len(signatures))


def _low(n_rows: int) -> np.uint64:
    """Return the bits of a band key that hold the row."""
    import numpy as np

    return np.uint64(2 ** max(20, n_rows.bit_length()) - 1)


def candidates(
    signatures: Signatures,
    keys: Long,
    keep: Callable[[Pairs], Pairs] = lambda pairs: pairs,
    only: Flags | None = None,
) -> Pairs:
    """Return the pairs of rows that share a band, each once, smaller number first.

    Args:
        signatures: Of the rows; each has one.
        keys: Per row; rows with different ones are in no pair.
        keep: Returns those of some pairs that are wanted; called once per band.
        only: Flags of rows; other pairs are of no interest, but may be among the result.
    """
    import numpy as np

    own = np.arange(len(signatures), dtype=np.uint64)
    low = _low(len(signatures))

    def pairs(band: int) -> Places:
        made = band_keys(signatures, keys, band)
        made |= own
        made = made[_not_alone(made, only)]
        made.sort()
        members = (made & low).astype(np.int64)
        made &= ~low
        edges = np.flatnonzero(np.concatenate([[True], made[1:] != made[:-1], [True]]))
        return coded(keep(pairs_of_buckets(members, edges)), len(signatures))

    if len(signatures) < 2:
        return np.empty((0, 2), dtype=np.int64)
    return decoded(
        in_threads(pairs, ((band,) for band in range(n_bands(len(signatures))))), len(signatures)
    )


def _not_alone(keys: Long, only: Flags | None) -> Flags:
    """Say which rows could share a bucket (with one of ``only``): all that do, and a few more."""
    import numpy as np

    bits = min(24, len(keys).bit_length() + 3)
    places = (keys >> np.uint64(64 - bits)).astype(np.int64)
    if only is None:
        counts = np.zeros(1 << bits, dtype=np.uint32)
        np.add.at(counts, places, np.uint32(1))  # smaller numbers than those of bincount
        crowded: Flags = counts.take(places) > 1
        return crowded
    met = np.zeros(1 << bits, dtype=bool)
    met[places[only]] = True
    return met[places]


def coded(pairs: Pairs, n_rows: int) -> Places:
    """Return each pair as one number."""
    codes: Places = pairs[:, 0] * n_rows + pairs[:, 1]
    return codes


def decoded(found: Sequence[Places], n_rows: int) -> Pairs:
    """Return each pair once, in order."""
    import numpy as np

    codes = distinct(np.concatenate(found))
    return np.stack([codes // n_rows, codes % n_rows], axis=1)


def pairs_of_buckets(members: Places, edges: Places) -> Pairs:
    """Return the pairs within buckets.

    Args:
        members: Rows, bucket after bucket, in rising order within each.
        edges: Where each bucket starts; one more entry ends the last.
    """
    import numpy as np

    sizes = np.diff(edges)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for size in (2 + np.flatnonzero(np.bincount(sizes)[2:])).tolist():
        starts = edges[:-1][sizes == size]
        table = members[starts[:, None] + np.arange(size)]
        one, two = np.triu_indices(size, 1) if size <= _CROWD else _sparse(size)
        pairs.append(np.stack([table[:, one].ravel(), table[:, two].ravel()], axis=1))
    return np.concatenate(pairs)


def _sparse(size: int) -> tuple[Places, Places]:
    """Pair the first of a large bucket with all, and each with the next."""
    import numpy as np

    others = np.arange(1, size)
    one = np.concatenate([np.zeros(size - 1, dtype=np.int64), others[:-1]])
    return one, np.concatenate([others, others[1:]])


def daft_candidates(
    signatures: Signatures,
    keys: Long,
    keep: Callable[[Pairs], Pairs] = lambda pairs: pairs,
    only: Flags | None = None,
) -> Pairs:
    """Return what :func:`candidates` returns, grouped by Daft.

    Daft runs on this machine; where its Ray runner is set (``DAFT_RUNNER=ray``), on the cluster.

    Raises:
        MissingExtraError: The package ``daft`` is not installed.

    Source: daft 0.7.26, DataFrame.groupby and list_agg (checked 2026-11-20).
    """
    import numpy as np

    daft: Any = require("daft", feature="engine=daft", extra="scale")
    n_rows, found = len(signatures), [np.empty(0, dtype=np.int64)]
    for band in range(n_bands(n_rows) if n_rows > 1 else 0):
        table = daft.from_pydict(
            {"row": np.arange(n_rows), "key": band_keys(signatures, keys, band)}
        )
        grouped = table.groupby("key").agg(daft.col("row").list_agg().alias("rows"))
        buckets: list[list[int]] = grouped.where(daft.col("rows").list_count() > 1).to_pydict()[
            "rows"
        ]
        sizes = np.array([len(bucket) for bucket in buckets], dtype=np.int64)
        members = np.array([row for bucket in buckets for row in sorted(bucket)], dtype=np.int64)
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        found.append(coded(keep(pairs_of_buckets(members, edges)), n_rows))
    return decoded(found, n_rows)
