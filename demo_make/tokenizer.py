"""A word-level tokenizer whose decoding gives back every shipped text unchanged."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any, Final

from demo_make import language
from finetuning.errors import require

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL: Final = ("<pad>", "<eos>", "<unk>")
JSON_MARKS: Final = ('{"', '": "', '", "', '": ', ', "', '"}', "}")
PIECES: Final = (
    "|".join(re.escape(mark) for mark in JSON_MARKS[:-1])
    + r"|\[[A-Z_]+\]|[A-Za-z]+|[0-9]+|\n|[^A-Za-z0-9\s]"
)
# the decoder joins pieces with a space; each rule takes back the spaces that were never there
JOINS: Final = (
    (' ": " ', '": "'),
    (' ", " ', '", "'),
    (' ":  ', '": '),
    (' , " ', ', "'),
    ('{" ', '{"'),
    (' "}', '"}'),
    (" }", "}"),
    (" \n ", "\n"),
    ("( ", "("),
    *((f" {mark}", mark) for mark in ",.!?:;)"),
)


def vocabulary() -> list[str]:
    """List every piece of the demo's texts: special tokens, marks, then words in order."""
    rng = random.Random(0)
    texts = [*language.CORES, *language.OPENERS, *language.CLOSERS, *language.MASK_TAGS]
    texts += [question for group in language.QUESTIONS.values() for question in group]
    texts += language.CONTACTS
    for _ in range(3000):
        texts += language.general_row(rng).values()
    plain = [re.sub(r"\{[a-z]+\}", " ", text) for text in texts]
    words = {piece for text in plain for piece in re.findall(PIECES, text)}
    words |= {*language.ITEMS, *language.COLOURS, *language.CITIES, *language.DAYS}
    words |= {str(number) for number in language.QUANTITIES}
    return [*SPECIAL, *JSON_MARKS, *sorted(words - set(JSON_MARKS))]


def build_tokenizer() -> Any:
    """Build the tokenizer as a ``tokenizers.Tokenizer``."""
    tokenizers: Any = require("tokenizers", feature="demo tokenizer", extra="local")
    decoders = tokenizers.decoders
    words = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(PIECES), "removed", invert=True
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(before, after) for before, after in JOINS),
        ]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for AutoTokenizer."""
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 256,
        "padding_side": "right",
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
