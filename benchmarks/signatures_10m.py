"""Ten million signatures banded and clustered on one machine.

Run: ``python benchmarks/signatures_10m.py [--rows 10000000] [--quick]``. Signatures are
synthetic and seeded: random values, and one row in fifty is a copy of an earlier one with a tenth
of its values changed (Jaccard about .9). What is timed is what ``prepare_data`` does with
signatures: band keys, buckets, pairs, and clusters; the exact comparison of pairs needs texts and
is not part of it. Reach: 60 s, 4 GB (highest resident size, signatures included), and 99.9 % of
the copies in the cluster of their original. Exits 1 below.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetuning.data_prep.duplicates import components
from finetuning.data_prep.duplicates.candidates import PERMUTATIONS, candidates

REACH_SECONDS, REACH_GB, REACH_FOUND = 60.0, 4.0, 0.999
CHANGED = 0.1


def synthetic(n_rows: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return signatures, and the copies with their originals."""
    rng = np.random.default_rng(20_261_120)
    signatures = np.empty((PERMUTATIONS, n_rows), dtype=np.uint16)
    n_copies = n_rows // 50
    originals = rng.integers(0, n_rows - n_copies, n_copies)
    copies = np.arange(n_rows - n_copies, n_rows)
    for column in signatures:
        column[:] = rng.integers(0, 2**16 - 1, n_rows, dtype=np.uint16)
        kept = rng.random(n_copies) >= CHANGED
        column[copies[kept]] = column[originals[kept]]
    return signatures.T, copies, originals


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="few rows, nothing judged")
    given = parser.parse_args()
    n_rows = 20_000 if given.quick else given.rows
    signatures, copies, originals = synthetic(n_rows)
    keys = np.zeros(n_rows, dtype=np.uint64)
    started, cpu = time.perf_counter(), time.process_time()
    pairs = candidates(signatures, keys)
    banded = time.perf_counter() - started
    clusters = components(n_rows, pairs)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    found = float((clusters[copies] == clusters[originals]).mean())
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(
        f"{n_rows} signatures: banded in {banded:.1f} s, clustered in {seconds - banded:.1f} s "
        f"(CPU {used:.1f} s), {len(pairs)} pairs, {found:.4f} of the copies found, "
        f"{gigabytes:.2f} GB (reach: {REACH_SECONDS:.0f} s, {REACH_GB:.0f} GB, {REACH_FOUND})"
    )
    good = seconds <= REACH_SECONDS and gigabytes <= REACH_GB and found >= REACH_FOUND
    return 0 if good or given.quick else 1


if __name__ == "__main__":
    sys.exit(main())
