"""Rows that mean the same in other words, found by sentence vectors (optional)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from finetuning.data_prep.examples import Content
from finetuning.errors import BadInputError, require
from finetuning.runs import progress

SAME_MEANING: Final = 0.9
"""Cosine similarity from which two rows mean the same; semhash's own default."""

ENCODER: Final = "minishlab/potion-base-8M"
"""Static sentence vectors, 8 M parameters, English first; semhash 0.5 (checked 2026-11-20)."""


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
