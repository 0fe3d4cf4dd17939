"""Tokens of a file, and how many of them one epoch is billed for."""

from __future__ import annotations

from pathlib import Path

from finetuning.data_prep.target_shape import Target
from finetuning.data_prep.validate.limits import Limits
from finetuning.errors import NotAllowedError
from finetuning.files import resolve_read
from finetuning.records import Json
from finetuning.tokens import TokenStats, TokenTally, counter_for, example_texts, overhead_tokens


def _tokenizer_folder(model: str | None) -> Path | None:
    """Return the folder of a model on disk if it has a tokenizer."""
    if not model or not (Path(model).expanduser() / "tokenizer.json").is_file():
        return None
    try:
        return resolve_read(model, where="model", kind="folder")
    except NotAllowedError:
        return None


class BillTally:
    """Counts the tokens of rows and what a provider bills for them, at flat memory."""

    def __init__(self, target: Target, model: str | None, limits: Limits) -> None:
        """Choose the tokenizer: a model's own where it is on disk, else OpenAI's.

        Args:
            target: Decides the billing rule: long rows are cut before they are billed, and
                Google bills a preference row's prompt once per completion.
            model: Model id, or the folder of a model on disk.
            limits: The longest row that is not cut.
        """
        folder = _tokenizer_folder(model)
        self._counter = counter_for(None if folder else model, tokenizer_dir=folder)
        self._tally = TokenTally(self._counter)
        self._target = target
        self._cut = None if limits.long_row_fails else limits.row_tokens
        self.billed = 0

    @property
    def exact(self) -> bool:
        """True where the counts are those of the model asked for."""
        return self._counter.exact

    def add(self, row: dict[str, Json]) -> int:
        """Count one row and return its tokens, chat overhead included."""
        tokens = self._tally.add(row)
        billed = tokens if self._cut is None else min(tokens, self._cut)
        if self._target.prompt_billed_twice:
            prompt = {key: row[key] for key in row.keys() - {"completions"}}
            billed += sum(self._counter.count(example_texts(prompt))) + overhead_tokens(prompt)
        self.billed += billed
        return tokens

    def stats(self) -> TokenStats:
        """Return the statistics of the rows added so far."""
        return self._tally.stats()
