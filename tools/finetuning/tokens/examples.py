"""What a training row costs in tokens; the estimate for when no tokenizer is at hand."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from pydantic import Field

from finetuning.records import Json, Model

BAND: Final = 0.30
"""Half-width of the band around a total that is not exact, as a fraction.

Calibrated against o200k_base: measured errors per kind of text are in ``tests/data_prep``.
"""
MESSAGE_OVERHEAD_TOKENS: Final = 3
"""Tokens that frame one chat message."""
REPLY_OVERHEAD_TOKENS: Final = 3
"""Tokens that prime the reply, once per conversation.

Both: OpenAI cookbook, Chat_finetuning_data_prep (checked 2026-11-20). Open models' templates
differ by a token or two per message.
"""

_MESSAGE_LISTS: Final = ("messages", "conversations", "contents", "preferred_output")
_MESSAGE_LISTS_MORE: Final = ("non_preferred_output", "chosen", "rejected", "completions")
_TEXT_KEYS: Final = (
    "system",
    "instruction",
    "input",
    "prompt",
    "completion",
    "output",
    "text",
    "chosen",
    "rejected",
)
_SYSTEM_KEYS: Final = ("system", "systemInstruction", "system_instruction")
_PART_TEXTS: Final = ("text", "functionCall", "functionResponse", "toolUse", "toolResult")


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


class TokenStats(Model):
    """Tokens per row of a file, chat overhead included."""

    mean: float = Field(description="Mean tokens per row.")
    p50: int
    p95: int
    max: int
    total: int = Field(description="Tokens of one pass over the file.")
    tokenizer: str
    exact: bool = Field(description="False: another model's tokenizer or an estimate.")
    low: int = Field(description="Lower end of the total (= total when exact).")
    high: int = Field(description="Upper end of the total (= total when exact).")


_DENSE: Final = r"[A-Za-z0-9+/]{48,}={0,2}"
_DENSE_TOKENS: Final = 0.68  # per character of base64, hex or keys

_RATES: Final = (
    # pattern of a run, tokens per run, tokens per character
    (r"[A-Za-z]+", 0.55, 0.10),
    (r"[0-9]+", 0.5, 0.29),
    (r"[\u00aa-\u024f]+", 0.2, 0.65),  # accented Latin
    (r"[\u0370-\u05ff]+", 0.55, 0.23),  # Greek, Cyrillic, Armenian, Hebrew
    (r"[\u0600-\u0dff]+", 0.5, 0.28),  # Arabic, Indic scripts
    (r"[\u0e00-\u10ff]+", 0.5, 0.42),  # Thai, Lao, Tibetan, Burmese, Georgian
    (r"[\u3040-\u30ff]+", 0.3, 0.62),  # kana
    (r"[\uac00-\ud7af\u1100-\u11ff]+", 0.3, 0.60),  # Hangul
    (r"[\u3400-\u9fff\uf900-\ufaff]+", 0.1, 0.78),  # Han
    (r"\s*\n\s*", 1.0, 0.0),
    (r"[^\S\n]{2,}", 1.0, 0.0),
    (r"[!-/:-@\[-`{-~]+", 0.40, 0.30),  # ASCII punctuation
    (r"[\U00010000-\U0010ffff]", 1.7, 0.0),  # emoji and rare signs
    (r"[\u2000-\u2fff\u3000-\u303f\uff00-\uffef]", 0.9, 0.0),  # other signs
)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], tuple[tuple[re.Pattern[str], float, float], ...]]:
    """Compile the patterns on first use: most machines have exact ranks."""
    rates = tuple((re.compile(run), per_run, per_sign) for run, per_run, per_sign in _RATES)
    return re.compile(_DENSE), rates


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has; 0 only for the empty text."""
    if not text:
        return 0
    packed, rates = _patterns()
    dense = sum(map(len, packed.findall(text)))
    total = dense * _DENSE_TOKENS
    if dense:
        text = packed.sub("", text)
    for pattern, per_run, per_character in rates:
        runs = characters = 0
        for run in pattern.findall(text):
            runs += 1
            characters += len(run)
        if runs:
            total += runs * per_run + characters * per_character
    return max(1, round(total))


def _json_text(value: Json) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # hundreds of brackets: no row that anybody trains on
        return ""


def _object(value: Json) -> Mapping[str, Json]:
    """Return a JSON object as it is, anything else as an empty one."""
    return cast("Mapping[str, Json]", value) if isinstance(value, dict) else {}


def _array(value: Json) -> list[Json]:
    """Return a JSON array as it is, any other value as an array of one, null as none."""
    if isinstance(value, list):
        return cast("list[Json]", value)
    return [] if value is None else [value]


def _content_texts(content: Json) -> list[str]:
    """Texts of a message's content; images, audio and files have none."""
    texts: list[str] = []
    for part in _array(content):
        if isinstance(part, str):
            texts.append(part)
        fields = _object(part)
        texts += [_json_text(fields[key]) for key in _PART_TEXTS if fields.get(key)]
    return texts


def _message_texts(message: Mapping[str, Json], *, inner: bool = False) -> list[str]:
    """Texts of one message in any of the shapes that targets use.

    An ``inner`` message is a candidate or a completion, and holds no further ones.
    """
    texts = [_json_text(message[key]) for key in ("role", "from", "name") if message.get(key)]
    for key in ("content", "value", "parts", "reasoning", "reasoning_content"):
        texts += _content_texts(message.get(key))
    for key in ("tool_calls", "function_call"):
        for call in map(_object, _array(message.get(key))):
            function = _object(call.get("function", call))
            texts += [_json_text(function[k]) for k in ("name", "arguments") if function.get(k)]
    for key in () if inner else ("candidates", "completion"):
        for option in _array(message.get(key)):
            texts += _message_texts(_object(option), inner=True)
    return texts


def _messages(value: Json) -> list[Mapping[str, Json]]:
    return [_object(item) for item in _array(value) if isinstance(item, dict)]


def read_texts(row: Mapping[str, Json]) -> tuple[list[str], int]:
    """Return the texts of a row and its number of chat messages."""
    texts, count = _read_level(row)
    inner = _object(row.get("input"))
    if not inner:
        return texts, count
    more, messages = _read_level(inner)
    return more + texts, count + messages


def _read_level(row: Mapping[str, Json]) -> tuple[list[str], int]:
    """Read a row, or the ``input`` of a preference row."""
    texts: list[str] = []
    count = 0
    for key in (*_MESSAGE_LISTS, *_MESSAGE_LISTS_MORE, "prompt", "completion"):
        for message in _messages(row.get(key)):
            texts += _message_texts(message)
            count += 1
    for key in _SYSTEM_KEYS:
        value = row.get(key)
        if value and not isinstance(value, str):
            texts += _content_texts(_object(value).get("parts", value))
            count += 1
    texts += [row[key] for key in _TEXT_KEYS if isinstance(row.get(key), str)]
    texts += [_json_text(row[key]) for key in ("tools", "functions", "toolConfig") if row.get(key)]
    for turn in _array(row.get("history")):
        texts += _content_texts(turn)
    return [text for text in texts if text], count


def example_texts(row: Mapping[str, Json]) -> list[str]:
    """Return the texts of a training row that cost tokens, whatever the row's format.

    Roles, names, contents, tool calls, tool definitions, prompts and answers; no images, ids
    or weights. Unknown keys are left out.
    """
    return read_texts(row)[0]


def overhead_tokens(row: Mapping[str, Json]) -> int:
    """Return the tokens that the chat template adds to a row; 0 for plain text rows."""
    return frame_tokens(read_texts(row)[1])


def frame_tokens(messages: int) -> int:
    """Return the tokens that frame so many chat messages; 0 where there are none."""
    return messages * MESSAGE_OVERHEAD_TOKENS + REPLY_OVERHEAD_TOKENS if messages else 0


class TokenTally:
    """Adds rows up at flat memory: one number per distinct length."""

    def __init__(self, counter: TokenCounter) -> None:
        """Start at nothing."""
        self._counter = counter
        self._lengths: Counter[int] = Counter()

    def add(self, row: Mapping[str, Json]) -> int:
        """Count one row and return its tokens, chat overhead included."""
        return self.add_texts(*read_texts(row))

    def add_texts(self, texts: Sequence[str], messages: int) -> int:
        """Count one row by its texts and its number of chat messages; return its tokens."""
        tokens = frame_tokens(messages) + sum(self._counter.count(texts))
        self._lengths[tokens] += 1
        return tokens

    @property
    def lengths(self) -> Counter[int]:
        """How many rows have each number of tokens; another process's can be merged in."""
        return self._lengths

    def merge(self, lengths: Mapping[int, int]) -> None:
        """Add the lengths that another tally with the same counter found."""
        self._lengths.update(lengths)

    def take(self) -> dict[int, int]:
        """Return the rows by number of tokens, and start again at nothing."""
        lengths, self._lengths = dict(self._lengths), Counter()
        return lengths

    def stats(self) -> TokenStats:
        """Return the statistics of the rows added so far."""
        rows = self._lengths.total()
        total = sum(length * times for length, times in self._lengths.items())
        ordered = sorted(self._lengths.items())
        band = 0.0 if self._counter.exact else BAND
        return TokenStats(
            mean=round(total / rows, 2) if rows else 0.0,
            p50=_quantile(ordered, rows, 0.50),
            p95=_quantile(ordered, rows, 0.95),
            max=ordered[-1][0] if ordered else 0,
            total=total,
            tokenizer=self._counter.name,
            exact=self._counter.exact,
            low=round(total * (1 - band)),
            high=round(total * (1 + band)),
        )


def _quantile(ordered: list[tuple[int, int]], rows: int, share: float) -> int:
    """Return the smallest length that at least ``share`` of the rows do not exceed."""
    seen = 0
    for length, times in ordered:
        seen += times
        if seen >= share * rows:
            return length
    return 0


def count_examples(rows: Iterable[Mapping[str, Json]], counter: TokenCounter) -> TokenStats:
    """Return token statistics of training rows, chat overhead included, at flat memory."""
    tally = TokenTally(counter)
    for row in rows:
        tally.add(row)
    return tally.stats()
