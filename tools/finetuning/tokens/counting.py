"""The tokenizer of a model, or the nearest honest thing to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from finetuning.errors import BadInputError, require

BAND: Final = 0.30
"""Half-width of the band around a total that is not exact, as a fraction.

Calibrated against o200k_base: measured errors per kind of text are in ``tests/data_prep``.
"""
_PIECE_CHARACTERS: Final = 1_000_000
"""Longer texts are counted in pieces: no regular expression meets an unbounded run."""

_CL100K: Final = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-", "davinci-002", "babbage-002")
_O200K: Final = (
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.5",
    "gpt-5",
    "gpt-oss",
    "chatgpt-4o",
    "o1",
    "o3",
    "o4",
)
"""Model name prefixes by encoding, as in tiktoken 0.14.0 (checked 2026-11-20)."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts tokens of texts; says by name whose tokens, and whether the count is exact.

    Attributes:
        name: The tokenizer, for example ``o200k_base``.
        exact: True where the counts are those of the model asked for.
    """

    name: str
    exact: bool
    counts: Callable[[Sequence[str]], list[int]] = field(repr=False)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without any chat overhead."""
        return self.counts(texts)


def _encoding_counts(encoding: str) -> Callable[[Sequence[str]], list[int]] | None:
    from finetuning.tokens.ranks import load_encoding

    loaded = load_encoding(encoding)
    if loaded is None:
        return None
    encode = loaded.encode_ordinary

    def counts(texts: Sequence[str]) -> list[int]:
        return [
            len(encode(text))
            if len(text) <= _PIECE_CHARACTERS
            else sum(
                len(encode(text[start : start + _PIECE_CHARACTERS]))
                for start in range(0, len(text), _PIECE_CHARACTERS)
            )
            for text in texts
        ]

    return counts


def _file_counter(folder: Path) -> TokenCounter:
    """Return the counter of a Hugging Face ``tokenizer.json`` on disk."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise BadInputError(
            "tokenizer_dir",
            f"{str(folder)!r} holds no tokenizer.json",
            "the folder of a model with its tokenizer.json",
            "Copy tokenizer.json there, or leave tokenizer_dir out",
        )
    tokenizers: Any = require("tokenizers", feature="counting with a tokenizer.json", extra="local")
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception for every malformed file
        raise BadInputError(
            "tokenizer_dir",
            f"{str(file)!r} cannot be loaded ({type(error).__name__})",
            "a tokenizer.json of the package tokenizers",
            "Download the file again",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def counts(texts: Sequence[str]) -> list[int]:
        valid = [text.encode("utf-8", "replace").decode() for text in texts]
        encoded = cast("list[Any]", tokenizer.encode_batch(valid, add_special_tokens=False))
        return [len(item) for item in encoded]

    return TokenCounter(f"tokenizer.json of {folder.name}", exact=True, counts=counts)


def _encoding_of(model: str) -> tuple[str, bool]:
    """Return the encoding to count with, and whether it is the model's own."""
    name = model.lower().removeprefix("ft:").rsplit("/", 1)[-1]
    for prefix in ("openai:", "azure:"):
        name = name.removeprefix(prefix)
    if name.startswith(_O200K):
        return "o200k_base", True
    return ("cl100k_base", True) if name.startswith(_CL100K) else ("o200k_base", False)


def counter_for(model: str | None = None, *, tokenizer_dir: Path | None = None) -> TokenCounter:
    """Return the best token counter that this machine has for a model.

    Args:
        model: Model id, for example ``gpt-4o-mini``; None counts with o200k_base.
        tokenizer_dir: Folder with a Hugging Face ``tokenizer.json``; it decides when given.

    Returns:
        An exact counter where the model's own tokenizer is at hand. For other models the
        o200k_base count, and without any ranks an estimate, both with ``exact`` false.

    Raises:
        BadInputError: ``tokenizer_dir`` has no usable ``tokenizer.json``.
        MissingExtraError: ``tokenizer_dir`` is given and ``tokenizers`` is not installed.
    """
    if tokenizer_dir is not None:
        return _file_counter(tokenizer_dir)
    encoding, own = ("o200k_base", True) if model is None else _encoding_of(model)
    counts = _encoding_counts(encoding)
    if counts is not None:
        return TokenCounter(encoding, exact=own, counts=counts)
    from finetuning.tokens.estimating import estimate_tokens

    def estimates(texts: Sequence[str]) -> list[int]:
        return [estimate_tokens(text) for text in texts]

    return TokenCounter("estimate", exact=False, counts=estimates)
