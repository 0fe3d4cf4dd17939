"""The same candidate pairs found by Daft, here or on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning.data_prep.duplicates.signatures import (
    band_keys,
    pairs_of_buckets,
    signed_rows,
    unique_pairs,
)
from finetuning.errors import require

if TYPE_CHECKING:
    from finetuning.data_prep.duplicates.signatures import Pairs, Signatures


def daft_candidates(signatures: Signatures) -> Pairs:
    """Return what ``signatures.candidates`` returns, grouped by Daft.

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
