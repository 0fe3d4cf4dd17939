"""Typed rows of the common formats, and what processes that check ranges of them say.

Helper processes start with this module and msgspec alone.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import IO, Final, Literal, NamedTuple

import msgspec

_UNSET: Final = msgspec.UNSET
_SEARCH_BYTES: Final = 1 << 16
_Unset = msgspec.UnsetType

REFUSAL: Final = re.compile(
    r"\s*(?:i['’]?m (?:really |very |so )?sorry,?(?: but)? (?:i|as)\b"
    r"|i am sorry,? but i\b"
    r"|(?:sorry|apologies|unfortunately),?(?: but)? i (?:can(?:no|['’])t|am (?:not|un)able)"
    r"|i can(?:no|['’])t (?:help|assist|comply|fulfil|provide|answer|do that|engage)"
    r"|i(?:['’]m| am) (?:unable|not able) to (?:help|assist|comply|fulfil|provide|answer)"
    r"|as an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|(?:很)?(?:抱歉|对不起),?，?我(?:无法|不能)|作为(?:一个|一名)?(?:AI|人工智能|语言模型))",
    re.IGNORECASE | re.ASCII,
)
"""How an answer that refuses begins."""

STARTS: Final = ("i'm", "i’m", "im ", "i am", "i ca", "sor", "apo", "unf", "as a")
"""First letters, three or more, of what :data:`REFUSAL` matches; but white space and Chinese."""

SPACES: Final = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
LATIN_LETTERS: Final = frozenset("IiAaSsUu")
FIRST_LETTERS: Final = LATIN_LETTERS | frozenset("抱很对作" + SPACES)
"""How a text that is blank or refuses may begin."""

FIRST_THREE: Final = frozenset(
    "".join(letters)
    for start in STARTS
    for letters in itertools.product(*({letter, letter.upper()} for letter in start[:3]))
)


def says_nothing(text: str) -> bool:
    """Say that a text is blank or refuses; called where its first letter could begin that."""
    if text[0] in LATIN_LETTERS and text[:3] not in FIRST_THREE:
        return False
    return text.isspace() or REFUSAL.match(text) is not None


class Strict(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object that has no other keys."""


class Function(Strict, gc=False):
    """A function that an answer calls."""

    name: str
    arguments: str


class Call(Strict, gc=False):
    """A call of an answer."""

    id: str
    function: Function
    type: Literal["function"] | _Unset = _UNSET


Text = str
Name = str | _Unset


class SystemTurn(Strict, gc=False, tag_field="role", tag="system"):
    """A system text."""

    content: Text
    name: Name = _UNSET


class UserTurn(Strict, gc=False, tag_field="role", tag="user"):
    """What the user says."""

    content: Text
    name: Name = _UNSET


class AnswerTurn(Strict, gc=False, tag_field="role", tag="assistant"):
    """An answer, a call, or both."""

    content: Text | _Unset | None = _UNSET
    tool_calls: list[Call] | _Unset | None = _UNSET
    name: Name = _UNSET
    weight: Literal[0, 1] | _Unset = _UNSET


class ResultTurn(Strict, gc=False, tag_field="role", tag="tool"):
    """The result of a call."""

    content: Text
    tool_call_id: str
    name: Name = _UNSET


class ChatRow(Strict, gc=False):
    """A row of ``messages``."""

    messages: list[SystemTurn | UserTurn | AnswerTurn | ResultTurn]
    tools: msgspec.Raw = msgspec.Raw(b"")


class PromptRow(Strict, gc=False):
    """A row of prompt and completion."""

    prompt: str
    completion: str


class TextRow(Strict, gc=False):
    """A row of running text."""

    text: str


class AlpacaRow(Strict, gc=False):
    """A row of instruction and output."""

    instruction: str
    output: str
    input: str | _Unset | None = _UNSET


class ChatKeys(NamedTuple):
    """Which keys of a message the quick check may pass in a format.

    Attributes:
        names: Messages may have a name.
        weights: Answers may have a weight.
        calls: Calls and results, with ids and arguments as texts.
    """

    names: bool = True
    weights: bool = False
    calls: bool = True


_WEIGHED: Final = ChatKeys(weights=True)
QUICK_CHATS: Final[dict[str, ChatKeys]] = {
    "openai_chat": _WEIGHED,
    "azure_chat": _WEIGHED,
    "nebius_chat": _WEIGHED,
    "together_chat": _WEIGHED,
    "fireworks_chat": _WEIGHED,
    "aliyun_chat": ChatKeys(names=False),
    "tinker": ChatKeys(calls=False),
    "trl_messages": ChatKeys(),
    "mistral_chat": ChatKeys(calls=False),
}
"""Chat formats with a quick check; a test compares the keys with the rules in full."""


Found = tuple[int, str | None, str, str, str]
"""Line counted from 1 in the range, field, code, severity and message."""


class Job(msgspec.Struct, frozen=True):
    """What to check: everything that a helper process needs to know.

    Attributes:
        path: The file.
        identity: Inode, size and time of change that the file must have.
        target: Name of the format.
        method: What the rows are for.
        model: Decides tokenizer and limits.
        count_tokens: Count the tokens of every row.
    """

    path: str
    identity: tuple[int, int, int]
    target: str
    method: str
    model: str | None
    count_tokens: bool


class Part(msgspec.Struct):
    """What was found in a range.

    Attributes:
        end: Byte after the range.
        n_lines: Lines in it.
        n_rows: Lines that are not blank.
        found: Findings in the order of the lines.
        own_shape: A row has the shape of the target.
        changed: The file is not the one of the job.
        lengths: Rows by number of tokens.
        billed: Tokens billed for an epoch.
    """

    end: int = 0
    n_lines: int = 0
    n_rows: int = 0
    found: list[Found] = []
    own_shape: bool = False
    changed: bool = False
    lengths: dict[int, int] = {}
    billed: int = 0


class Span(msgspec.Struct, frozen=True):
    """A range: its number, first byte, and the byte after its last line."""

    number: int
    start: int
    end: int


def identity(stream: IO[bytes]) -> tuple[int, int, int]:
    """Return inode, size and time of change of an open file."""
    state = os.fstat(stream.fileno())
    return state.st_ino, state.st_size, state.st_mtime_ns


def spans(stream: IO[bytes], start: int, size: int, length: int) -> Iterator[Span]:
    """Yield ranges of whole lines, about ``length`` bytes each, from ``start`` on."""
    for number in itertools.count():
        if start >= size:
            return
        place = min(start + length, size)
        while place < size:
            stream.seek(place - 1)
            chunk = stream.read(_SEARCH_BYTES)
            found = chunk.find(b"\n")
            if found >= 0:
                place += found
                break
            place = min(place + len(chunk), size) if chunk else size
        yield Span(number, start, place)
        start = place
