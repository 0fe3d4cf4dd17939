"""Exact OpenAI token ranks without a network: found on disk, checked by digest, kept.

Looked for in ``TIKTOKEN_CACHE_DIR`` (if the person set it), in ``<home>/tokens``, in tiktoken's
own default cache and in the wheel ``bpe-openai`` (MIT, extra ``offline-tokens``). A file counts
only if its SHA-256 is the one that tiktoken itself expects. No socket is ever opened.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import hashlib
import importlib.util
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.settings import settings

if TYPE_CHECKING:
    import tiktoken


class Ranks(NamedTuple):
    """Where the ranks of an encoding are known under, and what their text must hash to.

    Attributes:
        cache_name: tiktoken's name of the file in a cache folder (SHA-1 of its address).
        sha256: Digest of the unpacked file, as tiktoken expects it.
        pattern: The pre-tokenizer's regular expression.
        special_tokens: Reserved tokens and their ranks (never produced by counting).
    """

    cache_name: str
    sha256: str
    pattern: str
    special_tokens: dict[str, int]


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        + _CONTRACTION,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        + _CONTRACTION,
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)

ENCODINGS: Final[dict[str, Ranks]] = {
    "o200k_base": Ranks(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _O200K_PATTERN,
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": Ranks(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _CL100K_PATTERN,
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}
"""Digests, patterns and special tokens as in tiktoken 0.14.0 (MIT; checked 2026-11-20)."""


def _cache_files(cache_name: str) -> Iterator[Path]:
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR", "").strip()
    if chosen:
        yield Path(chosen).expanduser() / cache_name
    yield settings().home / "tokens" / cache_name
    yield Path(tempfile.gettempdir()) / "data-gym-cache" / cache_name


def _packaged(encoding: str) -> bytes | None:
    """Return the rank file that the wheel ``bpe-openai`` carries, unpacked."""
    spec = importlib.util.find_spec("bpe_openai")  # finds the folder, loads nothing
    for place in (spec.submodule_search_locations if spec else None) or ():
        file = Path(place) / "data" / f"{encoding}.tiktoken.gz"
        with contextlib.suppress(OSError, EOFError, zlib.error):
            return gzip.decompress(file.read_bytes())
    return None


def _keep(cache_name: str, text: bytes) -> None:
    """Save unpacked ranks for the next process; a home that cannot be written is no fault."""
    folder = settings().home / "tokens"
    temporary = folder / f".{cache_name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text)
            temporary.replace(folder / cache_name)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return


def find_ranks(encoding: str) -> bytes | None:
    """Return the rank file of an encoding, checked by digest; None if none is on this machine."""
    wanted = ENCODINGS[encoding]
    for file in _cache_files(wanted.cache_name):
        try:
            text = file.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(text).hexdigest() == wanted.sha256:
            return text
    packed = _packaged(encoding)
    if packed is None or hashlib.sha256(packed).hexdigest() != wanted.sha256:
        return None
    _keep(wanted.cache_name, packed)
    return packed


@functools.cache
def _build(encoding: str, text: bytes) -> tiktoken.Encoding:
    import tiktoken

    wanted = ENCODINGS[encoding]
    pairs = (line.split() for line in text.splitlines() if line)
    return tiktoken.Encoding(
        encoding,
        pat_str=wanted.pattern,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in pairs},
        special_tokens=wanted.special_tokens,
    )


def load_encoding(encoding: str) -> tiktoken.Encoding | None:
    """Return the exact tokenizer, or None where its ranks are not on this machine.

    Args:
        encoding: ``"o200k_base"`` or ``"cl100k_base"``.
    """
    text = find_ranks(encoding)
    return _build(encoding, text) if text else None
