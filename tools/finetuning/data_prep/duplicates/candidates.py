"""Pairs of rows that may be copies: by MinHash here or with Daft, and by meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep.duplicates.words import Words, mix
from finetuning.data_prep.examples import Content
from finetuning.errors import BadInputError, require
from finetuning.runs import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signatures = NDArray[np.uint32]
    Pairs = NDArray[np.int64]

PERMUTATIONS: Final = 128

_SMALL_ROWS: Final = 30_000
"""Up to this many rows bands are narrower: more candidates to verify, fewer twins missed."""

_NARROW, _WIDE = 3, 4
"""42 bands of 3 find a pair of Jaccard .5 with probability .996, of .1 with .04;
32 bands of 4 find one of .6 with .99, of .5 with .87, of .1 with .003."""

_BLOCK_SHINGLES: Final = 1 << 16
_CROWD: Final = 24
"""In a bucket of more rows than this each is paired with the first and the next only."""

SAME_MEANING: Final = 0.9
"""Cosine similarity from which two rows mean the same; semhash's own default."""

ENCODER: Final = "minishlab/potion-base-8M"
"""Static sentence vectors, 8 M parameters, English first; semhash 0.5 (checked 2026-11-20)."""


def _blocks(words: Words) -> Iterator[tuple[int, int]]:
    """Cut rows into blocks that stay in the processor's cache."""
    first = 0
    while first < len(words):
        goal = int(words.starts[first]) + _BLOCK_SHINGLES
        last = max(first + 1, int(words.starts.searchsorted(goal, side="right")) - 1)
        yield first, min(last, len(words))
        first = min(last, len(words))


def _sign_block(words: Words, first: int, last: int, seeds: Signatures, out: Signatures) -> None:
    import numpy as np

    start, end = int(words.starts[first]), int(words.starts[last])
    pairs = mix(words.hashes[start : end - 1], words.hashes[start + 1 : end])
    kept = ~(words.constant[start : end - 1] & words.constant[start + 1 : end])
    shingles = (pairs[kept] >> np.uint64(32)).astype(np.uint32)
    before = np.concatenate([[0], np.cumsum(kept)])
    edges = words.starts[first : last + 1] - start
    edges[-1] -= 1  # the last mark starts no pair
    counts = np.diff(before[edges])
    filled = np.flatnonzero(counts)
    if not len(filled):
        return
    places = before[edges[:-1]][filled]
    rows = first + filled
    for column, (turn, factor) in enumerate(zip(seeds[0], seeds[1], strict=True)):
        out[rows, column] = np.minimum.reduceat((shingles ^ turn) * factor, places)


def sign(words: Words, *, seed: int = 0) -> Signatures:
    """Return one MinHash signature per row; rows without any word pair keep the largest values.

    Args:
        words: The rows.
        seed: Chooses the permutations.

    Returns:
        Array of shape (rows, 128).
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    draw = np.random.default_rng(seed)
    seeds = draw.integers(0, 2**32, size=(2, PERMUTATIONS), dtype=np.uint32)
    seeds[1] |= np.uint32(1)
    signatures = np.full((len(words), PERMUTATIONS), 2**32 - 1, dtype=np.uint32)
    with ThreadPoolExecutor() as pool:
        for done in [
            pool.submit(_sign_block, words, first, last, seeds, signatures)
            for first, last in _blocks(words)
        ]:
            done.result()
    return signatures


def band_keys(signatures: Signatures) -> NDArray[np.uint64]:
    """Return one key per row and band: equal keys make two rows candidates.

    The number of bands depends on the number of rows.
    """
    import numpy as np

    width = _NARROW if len(signatures) <= _SMALL_ROWS else _WIDE
    bands = PERMUTATIONS // width
    parts = signatures[:, : bands * width].reshape(len(signatures), bands, width)
    keys = np.zeros((len(signatures), bands), dtype=np.uint64)
    for place in range(width):
        keys = mix(keys, parts[:, :, place].astype(np.uint64))
    return keys


def candidates(signatures: Signatures) -> Pairs:
    """Return the pairs of rows that share a band, each once, smaller number first.

    Rows without a signature are in no pair.
    """
    import numpy as np

    signed = signed_rows(signatures)
    keys = band_keys(signatures[signed])
    found = [_bucket_pairs(keys[:, band], signed) for band in range(keys.shape[1])]
    return unique_pairs(found, len(signatures)) if len(signed) else np.empty((0, 2), np.int64)


def signed_rows(signatures: Signatures) -> Pairs:
    """Return the numbers of the rows that have a signature."""
    import numpy as np

    return np.flatnonzero((signatures != 2**32 - 1).any(axis=1))


def unique_pairs(found: Sequence[Pairs], n_rows: int) -> Pairs:
    """Return each pair once, in order."""
    import numpy as np

    coded = np.unique(np.concatenate([pairs[:, 0] * n_rows + pairs[:, 1] for pairs in found]))
    return np.stack(np.divmod(coded, n_rows), axis=1)


def _bucket_pairs(keys: NDArray[np.uint64], rows: Pairs) -> Pairs:
    """Return the pairs of rows with equal keys."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    return pairs_of_buckets(rows[order], edges)


def pairs_of_buckets(members: Pairs, edges: Pairs) -> Pairs:
    """Return the pairs within buckets.

    Args:
        members: Rows, bucket after bucket, in rising order within each.
        edges: Where each bucket starts; one more entry ends the last.
    """
    import numpy as np

    sizes = np.diff(edges)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for size in np.unique(sizes[sizes > 1]).tolist():
        starts = edges[:-1][sizes == size]
        table = members[starts[:, None] + np.arange(size)]
        one, two = np.triu_indices(size, 1) if size <= _CROWD else _sparse(size)
        pairs.append(np.stack([table[:, one].ravel(), table[:, two].ravel()], axis=1))
    return np.concatenate(pairs)


def _sparse(size: int) -> tuple[Pairs, Pairs]:
    """Pair the first of a large bucket with all, and each with the next."""
    import numpy as np

    others = np.arange(1, size)
    one = np.concatenate([np.zeros(size - 1, dtype=np.int64), others[:-1]])
    return one, np.concatenate([others, others[1:]])


def daft_candidates(signatures: Signatures) -> Pairs:
    """Return what :func:`candidates` returns, grouped by Daft.

    Daft runs on this machine; where its Ray runner is set (``DAFT_RUNNER=ray``), on the cluster.

    Raises:
        MissingExtraError: The package ``daft`` is not installed.

    Source: daft 0.7.26, DataFrame.groupby and list_agg (checked 2026-11-20).
    """
    import numpy as np

    daft: Any = require("daft", feature="engine=daft", extra="scale")
    rows = signed_rows(signatures)
    if not len(rows):
        return np.empty((0, 2), dtype=np.int64)
    keys = band_keys(signatures[rows])
    bands: int = keys.shape[1]
    table = daft.from_pydict(
        {
            "row": np.repeat(rows, bands),
            "band": np.tile(np.arange(bands), len(rows)),
            "key": keys.ravel(),
        }
    )
    grouped = table.groupby("band", "key").agg(daft.col("row").list_agg().alias("rows"))
    buckets: list[list[int]] = grouped.where(daft.col("rows").list_count() > 1).to_pydict()["rows"]
    sizes = [len(bucket) for bucket in buckets]
    members = np.array([row for bucket in buckets for row in sorted(bucket)], dtype=np.int64)
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(sizes, dtype=np.int64))])
    return unique_pairs([pairs_of_buckets(members, edges)], len(signatures))


def _encoder() -> Any:
    """Load the encoder from this machine's model cache; no connection is opened.

    Raises:
        MissingExtraError: The package is not installed.
        BadInputError: The model is not on this machine.
    """
    feature = "semantic_duplicates=true"
    model2vec: Any = require("model2vec", feature=feature, extra="semantic")
    hub: Any = require("huggingface_hub", feature=feature, extra="semantic")
    try:
        folder = hub.snapshot_download(ENCODER, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInputError(
            "prepare_data: semantic_duplicates",
            f"the encoder {ENCODER} is not on this machine",
            "the encoder in the local Hugging Face cache",
            f"Run once where a connection is allowed: hf download {ENCODER}",
        ) from error
    return model2vec.StaticModel.from_pretrained(folder)


def semantic_twins(contents: Sequence[Content]) -> set[tuple[int, int]]:
    """Return the pairs of rows that mean the same, smaller number first.

    Raises:
        MissingExtraError: The packages of the extra ``semantic`` are not installed.
        BadInputError: The encoder is not on this machine.
    """
    semhash: Any = require("semhash", feature="semantic_duplicates=true", extra="semantic")
    encoder = _encoder()
    progress(0, len(contents), "comparing meanings")
    if len(contents) < 2:
        return set()
    rows = [
        {"text": f"{content.prompt}\n{content.answer}", "row": str(number)}
        for number, content in enumerate(contents)
    ]
    index = semhash.SemHash.from_records(records=rows, columns=["text"], model=encoder)
    found = index.self_deduplicate(threshold=SAME_MEANING)
    both = [(int(copy.record["row"]), int(copy.duplicate_of["row"])) for copy in found.filtered]
    return {(min(pair), max(pair)) for pair in both}


class SemanticJudge:
    """Says whether two rows mean the same; labels and families count as for near copies."""

    def __init__(self, contents: Sequence[Content], pairs: set[tuple[int, int]]) -> None:
        """Judge by the pairs that the encoder found."""
        self._contents, self._pairs = contents, pairs

    def twins(self, one: int, two: int) -> bool:
        """Say whether two rows mean the same and answer alike."""
        first, second = self._contents[one], self._contents[two]
        related = bool(first.family) and first.family == second.family
        same = (min(one, two), max(one, two)) in self._pairs
        return same and first.key == second.key and not related
