"""Merkle tree over the records: one root stands for all of them, block roots say where.

Source: https://www.rfc-editor.org/rfc/rfc9162 section 2.1 (checked 2026-11-20): a leaf is
SHA-256(0x00 || data), a node SHA-256(0x01 || left || right), so neither can pass for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

MOST_BLOCKS: Final = 1024


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of a leaf: one line of the log without its line feed."""
    return hashlib.sha256(b"\x00" + line).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves (or of complete subtrees of one size).

    The tree of RFC 9162 splits at the largest power of two; pairing neighbours level by level
    and passing an odd last one up gives the same tree.
    """
    level = list(hashes)
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest()
            for i in range(0, len(level) - 1, 2)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def block_size(count: int) -> int:
    """Return the smallest power of two that cuts ``count`` leaves into at most 1,024 blocks."""
    size = 1
    while size * MOST_BLOCKS < count:
        size *= 2
    return size


def block_roots(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """Return the root of each block of ``size`` leaves; the last one may be shorter."""
    return [root_of(leaves[start : start + size]) for start in range(0, len(leaves), size)]
