"""The tokenizer of a model, or the nearest honest thing to it: exact ranks, else an estimate.

Ranks are looked for in ``TIKTOKEN_CACHE_DIR`` (if the person set it), in ``<home>/tokens``, in
tiktoken's own default cache and in the wheel ``bpe-openai`` (MIT, extra ``offline-tokens``). A
file counts only if its SHA-256 is the one that tiktoken itself expects. No socket is ever opened.
A local model's rows are encoded here, too, the way its training saw them.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import hashlib
import importlib.util
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from finetuning.errors import BadInputError, require
from finetuning.settings import settings
from finetuning.tokens import TextCounts
from finetuning.tokens.examples import TokenCounter, estimate_tokens

if TYPE_CHECKING:
    import tiktoken

_CL100K: Final = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-", "davinci-002", "babbage-002")
_O200K: Final = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-oss", "chatgpt-4o", "o1", "o3", "o4")
"""Model name prefixes by encoding, as in tiktoken 0.14.0 (checked 2026-11-20)."""


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


_O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
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
    import tempfile

    chosen = os.environ.get("TIKTOKEN_CACHE_DIR", "").strip()
    if chosen:
        yield Path(chosen).expanduser() / cache_name
    yield settings().home / "tokens" / cache_name
    yield Path(tempfile.gettempdir()) / "data-gym-cache" / cache_name


def _packaged(encoding: str) -> bytes | None:
    """Return the rank file that the wheel ``bpe-openai`` carries, unpacked."""
    import gzip

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
def _build(encoding: str, text: bytes) -> tuple[tiktoken.Encoding, bytes]:
    """Return the tokenizer, and how many bytes each token has (the ranks are in order)."""
    import tiktoken

    wanted = ENCODINGS[encoding]
    fields = text.split()  # token and rank by turns; the digest says that all are sound
    ranks = dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2]), strict=True))
    made = tiktoken.Encoding(
        encoding,
        pat_str=wanted.pattern,
        mergeable_ranks=ranks,
        special_tokens=wanted.special_tokens,
    )
    return made, bytes(map(len, ranks))


def load_encoding(encoding: str) -> tiktoken.Encoding | None:
    """Return the exact tokenizer, or None where its ranks are not on this machine.

    Args:
        encoding: ``"o200k_base"`` or ``"cl100k_base"``.
    """
    text = find_ranks(encoding)
    return _build(encoding, text)[0] if text else None


def _encoding_counts(encoding: str) -> Callable[[Sequence[str]], list[int]] | None:
    text = find_ranks(encoding)
    if text is None:
        return None
    loaded, sizes = _build(encoding, text)
    return TextCounts(loaded.encode_ordinary, sizes).counts


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

    def estimates(texts: Sequence[str]) -> list[int]:
        return [estimate_tokens(text) for text in texts]

    return TokenCounter("estimate", exact=False, counts=estimates)


class Encoded(NamedTuple):
    """One row: its id, the ids of the prompt and those of the reference."""

    id: str
    prompt: list[int]
    reference: list[int]


def encode(tokenizer: Any, question: Mapping[str, Any]) -> Encoded:
    """Return the token ids of a question (prompt or messages) and of its reference.

    Raw rows are prompt + completion as one text, split where the prompt's own ids end, as TRL
    does in training; chat rows go through the tokenizer's template.

    Raises:
        BadInputError: A chat row meets a tokenizer without template.
    """
    reference: str = question["reference"]
    if question["messages"] is None:
        texts = question["prompt"], question["prompt"] + reference
        start, both = (_without_ending(tokenizer, tokenizer(t)["input_ids"]) for t in texts)
    else:
        messages = question["messages"]
        start = _chat(tokenizer, messages, continued=True)
        answer = {"role": "assistant", "content": reference}
        both = _chat(tokenizer, [*messages, answer], continued=False)
    if both[: len(start)] == start and len(both) > len(start):
        rest = both[len(start) :]
    else:  # the border falls inside a token: score the answer's own ids
        rest = tokenizer(reference, add_special_tokens=False)["input_ids"]
    return Encoded(question["id"], start, _without_ending(tokenizer, rest))


def _without_ending(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Drop end-of-text ids at the end: how a text stops is not part of what it says."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return list(ids)


def _chat(tokenizer: Any, messages: list[dict[str, Any]], *, continued: bool) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        raise BadInputError(
            "messages",
            "the rows are chats and this base's tokenizer has no chat template",
            "a base with a chat template, or rows of prompt and completion",
            "Convert the data: fine-tuning prepare-data FILE --target trl_prompt_completion"
            " --output-dir prepared",
        )
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=continued, tokenize=True, return_dict=True
        )["input_ids"]
    )
