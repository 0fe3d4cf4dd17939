"""Local models, run in a child process: ``python -m finetuning.evaluation.local``.

Here: rows as token ids, the way training saw them, and batches of rows of like length. The two
modules beside it are the only ones of this package that import torch; no library code imports
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class CannotRunError(Exception):
    """The model cannot do what is asked.

    Its arguments are what was wrong, what was expected and the next step, in the words of the
    house's error template.
    """

    def __init__(self, what: str, expected: str, next_step: str) -> None:
        """Keep the three parts (row content never belongs in any of them)."""
        super().__init__(what, expected, next_step)


class Encoded(NamedTuple):
    """One row: its id, the ids of the prompt and those of the reference."""

    id: str
    prompt: list[int]
    reference: list[int]


def encode(tokenizer: Any, question: dict[str, Any]) -> Encoded:
    """Return the token ids of a question and of its reference.

    Raw rows are prompt + completion as one text, split where the prompt's own ids end, as TRL
    does in training; chat rows go through the tokenizer's template.

    Args:
        tokenizer: The base's tokenizer.
        question: id, prompt or messages, and reference.

    Raises:
        CannotRunError: A chat row meets a tokenizer without template.
    """
    reference: str = question["reference"]
    if question["messages"] is None:
        start = _raw(tokenizer, question["prompt"])
        both = _raw(tokenizer, question["prompt"] + reference)
    else:
        messages = question["messages"]
        answer = {"role": "assistant", "content": reference}
        start = _chat(tokenizer, messages, continued=True)
        both = _chat(tokenizer, [*messages, answer], continued=False)
    if both[: len(start)] == start and len(both) > len(start):
        rest = both[len(start) :]
    else:  # the border falls inside a token: score the answer's own ids
        rest = list(tokenizer(reference, add_special_tokens=False)["input_ids"])
    return Encoded(question["id"], start, _without_ending(tokenizer, rest))


def _raw(tokenizer: Any, text: str) -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    return _without_ending(tokenizer, ids)


def _without_ending(tokenizer: Any, ids: list[int]) -> list[int]:
    """Drop end-of-text ids at the end: how a text stops is not part of what it says."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids


def _chat(tokenizer: Any, messages: list[dict[str, Any]], *, continued: bool) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        raise CannotRunError(
            "the rows are chats and this base's tokenizer has no chat template",
            "a base with a chat template, or rows of prompt and completion",
            "Convert the data: fine-tuning prepare-data FILE --target trl_prompt_completion"
            " --output-dir prepared",
        )
    found = tokenizer.apply_chat_template(
        messages, add_generation_prompt=continued, tokenize=True, return_dict=True
    )
    return list(found["input_ids"])


MOST_ROWS = 192
MOST_TOKENS = 32_768


class Row(NamedTuple):
    """One row of a batch: which side is asked which question."""

    side: str
    item: Encoded


def batches_of(
    items: Sequence[Encoded], sides: Sequence[str], *, together: bool, extra: int
) -> Iterator[list[Row]]:
    """Yield batches, longest questions first.

    Args:
        items: The questions.
        sides: Sides that all get them.
        together: Whether the sides of one question share its batch (and so its padding).
        extra: Tokens added to each row while it is processed.
    """
    groups = [list(sides)] if together else [[side] for side in sides]
    ordered = sorted(items, key=lambda item: (-len(item.prompt) - len(item.reference), item.id))
    for group in groups:
        start = 0
        while start < len(ordered):
            width = len(ordered[start].prompt) + len(ordered[start].reference) + extra
            fitting = min(MOST_ROWS, max(1, MOST_TOKENS // width)) // len(group)
            chunk = ordered[start : start + max(1, fitting)]
            yield [Row(side, item) for item in chunk for side in group]
            start += len(chunk)
