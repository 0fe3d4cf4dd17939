"""Quick checks of typed rows that never err on the kind side.

A check returns how many quotes the row has in its JSON text if the checks in full would find
nothing, else -1. The quotes prove that no key stands twice: a typed decoder keeps the last value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, cast

import msgspec

from finetuning.data_prep.validate.typed import (
    FIRST_LETTERS,
    FIRST_THREE,
    LATIN_LETTERS,
    QUICK_CHATS,
    REFUSAL,
    AlpacaRow,
    AnswerTurn,
    Call,
    ChatKeys,
    ChatRow,
    PromptRow,
    ResultTurn,
    SystemTurn,
    TextRow,
    UserTurn,
    says_nothing,
)

_UNSET: Final = msgspec.UNSET
_ARGUMENT_CHARACTERS, _MOST_KEPT = 4_096, 4_096
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_BEFORE: Final[dict[type[object], type[object]]] = {
    SystemTurn: SystemTurn,
    UserTurn: AnswerTurn,
    AnswerTurn: UserTurn,
}
"""Who speaks before; the system text has nobody before it, which counts as itself."""

ToolCheck = Callable[[bytes], tuple[frozenset[str], int] | None]
"""Returns names and quotes of a list of tools without fault, else None."""


class ChatCheck:
    """The quick check of chat rows."""

    def __init__(self, keys: ChatKeys, tools: ToolCheck) -> None:
        """Prepare.

        Args:
            keys: What messages of the format may have.
            tools: The check in full of a list of tools; asked once per list.
        """
        self._keys = keys
        self._check_tools = tools
        self._plain: dict[tuple[type, ...], int] = {}
        self._tools: dict[bytes, tuple[frozenset[str], int] | None] = {}

    def quick(self, rows: list[Any]) -> list[int]:
        """Check rows: by their roles one by one, and the texts of all of them at once."""
        known, first, latin, three = self._plain.get, FIRST_LETTERS, LATIN_LETTERS, FIRST_THREE
        found: list[int] = []
        plain: list[Any] = []
        for row in rows:
            messages = row.messages
            kinds = tuple(map(type, messages))
            quotes = known(kinds)
            if quotes is None and self._is_plain(kinds):
                quotes = 2 + 8 * len(kinds)
            if quotes is None:
                found.append(self.careful(row))
            else:
                found.append(quotes)
                plain += messages
        try:
            texts = [turn.content for turn in plain if turn.content[0] in first]
        except (TypeError, IndexError):  # no text, or an empty one
            return self._each(rows, found)
        for text in texts:
            if (text[0] not in latin or text[:3] in three) and says_nothing(text):
                return self._each(rows, found)
        return found

    def _each(self, rows: list[Any], found: list[int]) -> list[int]:
        """Check the texts row by row, where one of the block has a fault or is missing."""
        return [
            quotes if quotes < 0 or _speaks(row) else self.careful(row)
            for row, quotes in zip(rows, found, strict=True)
        ]

    def _is_plain(self, kinds: tuple[type, ...]) -> bool:
        """Say that user and assistant take turns, at most one system text before them."""
        spoken = kinds[1:] if kinds[:1] == (SystemTurn,) else kinds
        plain = len(spoken) > 1 and spoken == (UserTurn, AnswerTurn) * (len(spoken) // 2)
        if plain and len(self._plain) < _MOST_KEPT:
            self._plain[kinds] = 2 + 8 * len(kinds)
        return plain

    def careful(self, row: Any) -> int:
        """Check a row with tools, calls, names or weights."""
        quotes, tools = 2, frozenset[str]()
        raw = bytes(row.tools)
        if raw:
            known = self._known_tools(raw)
            if known is None or not self._keys.calls:
                return -1
            tools, quotes = known[0], 4 + known[1]
        spoken = _Spoken(self._keys, tools)
        for at, message in enumerate(row.messages):
            if type(message) is SystemTurn and at:
                return -1
            more = spoken.take(message)
            if more < 0:
                return -1
            quotes += more
        return quotes if spoken.complete() else -1

    def _known_tools(self, raw: bytes) -> tuple[frozenset[str], int] | None:
        if raw not in self._tools:
            if len(self._tools) >= _MOST_KEPT:
                self._tools.clear()
            self._tools[raw] = self._check_tools(raw)
        return self._tools[raw]


def _speaks(row: Any) -> bool:
    """Say that all messages have texts, and that these say something."""
    texts: list[str] = [turn.content for turn in row.messages]
    return all(texts) and not any(text[0] in FIRST_LETTERS and says_nothing(text) for text in texts)


class _Spoken:
    """Follows one conversation with calls, names or weights."""

    def __init__(self, keys: ChatKeys, tools: frozenset[str]) -> None:
        self._keys = keys
        self._tools = tools
        self._last: type = SystemTurn
        self._learnt = False
        self._ids: set[str] = set()
        self._open: set[str] = set()

    def complete(self) -> bool:
        """Say that the conversation ends in an answer, and that one is learnt."""
        return self._last is AnswerTurn and self._learnt

    def take(self, message: Any) -> int:
        """Return the quotes of the next message if it is without fault, else -1."""
        kind = cast("type[object]", type(message))
        if kind is ResultTurn:
            return self._result(message)
        follows = self._last is _BEFORE[kind] or (
            kind is not SystemTurn and self._last is ResultTurn
        )
        if kind is UserTurn and self._last is SystemTurn:
            follows = True
        if self._open or not follows:
            return -1
        self._last = kind
        quotes = self._name(message)
        if kind is AnswerTurn:
            more = self._answer(message)
            return -1 if more < 0 or quotes < 0 else quotes + more
        text: str = message.content
        bad = not text or (text[0] in FIRST_LETTERS and says_nothing(text))
        return -1 if bad or quotes < 0 else quotes + 8

    def _name(self, message: Any) -> int:
        if message.name is _UNSET:
            return 0
        return 4 if self._keys.names and REFUSAL.match(message.name) is None else -1

    def _answer(self, answer: AnswerTurn) -> int:
        quotes = 4
        calls = answer.tool_calls
        if calls is not _UNSET:
            if not calls or not self._keys.calls:
                return -1
            quotes += 2
            for call in calls:
                more = self._call(call)
                if more < 0:
                    return -1
                quotes += more
        text = answer.content
        if isinstance(text, str):
            quotes += 4
            if (not text and calls is _UNSET) or (text[:1] in FIRST_LETTERS and says_nothing(text)):
                return -1
        elif calls is _UNSET:
            return -1
        else:
            quotes += 2 if text is None else 0
        if answer.weight is not _UNSET:
            if not self._keys.weights:
                return -1
            quotes += 2
        self._learnt = self._learnt or answer.weight != 0
        return quotes

    def _call(self, call: Call) -> int:
        arguments = call.function.arguments
        if not call.id or call.id in self._ids or call.function.name not in self._tools:
            return -1
        if len(arguments) > _ARGUMENT_CHARACTERS:
            return -1
        try:
            _OBJECT.decode(arguments)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return -1
        self._ids.add(call.id)
        self._open.add(call.id)
        return 14 if call.type is _UNSET else 18

    def _result(self, result: ResultTurn) -> int:
        if result.tool_call_id not in self._open:
            return -1
        self._open.discard(result.tool_call_id)
        self._last = ResultTurn
        name = self._name(result)
        return -1 if name < 0 else 12 + name


def _pair(row: Any) -> int:
    prompt, answer = row.prompt, row.completion
    if not prompt or not answer or prompt.isspace():
        return -1
    if answer[0] in FIRST_LETTERS and says_nothing(answer):
        return -1
    return -1 if _same(prompt, answer) else 8


def _same(prompt: str, answer: str) -> bool:
    edges = prompt[0].isspace() or prompt[-1].isspace()
    edges = edges or answer[0].isspace() or answer[-1].isspace()
    return prompt.strip() == answer.strip() if edges else prompt == answer


def _text(row: Any) -> int:
    return 4 if row.text and not row.text.isspace() else -1


def _alpaca(row: Any) -> int:
    if not row.instruction or row.instruction.isspace() or not row.output:
        return -1
    if row.output[0] in FIRST_LETTERS and says_nothing(row.output):
        return -1
    quotes = 8 if row.input is _UNSET else 10
    return quotes + 2 if isinstance(row.input, str) else quotes


class QuickCheck(NamedTuple):
    """How rows of a format are decoded and checked.

    Attributes:
        row_type: The msgspec type of a row.
        quick: Checks most rows.
        careful: Checks again the rows whose quotes are not those expected.
    """

    row_type: Any
    quick: Callable[[list[Any]], list[int]]
    careful: Callable[[Any], int]


_PLAIN: Final[Mapping[str, tuple[Any, Callable[[Any], int]]]] = {
    "together_instruction": (PromptRow, _pair),
    "trl_prompt_completion": (PromptRow, _pair),
    "together_text": (TextRow, _text),
    "trl_text": (TextRow, _text),
    "alpaca": (AlpacaRow, _alpaca),
}


def _each(check: Callable[[Any], int], rows: list[Any]) -> list[int]:
    return list(map(check, rows))


def quick_check(target: str, method: str, tools: ToolCheck) -> QuickCheck | None:
    """Return the quick check of a format, or None where every row is checked in full.

    Args:
        target: Name of the format.
        method: What the rows are for; some methods let rows differ in shape.
        tools: The check in full of a list of tools.
    """
    if method in {"grpo", "rft"}:
        return None
    if target in QUICK_CHATS:
        chat = ChatCheck(QUICK_CHATS[target], tools)
        return QuickCheck(ChatRow, chat.quick, chat.careful)
    if target not in _PLAIN:
        return None
    row_type, check = _PLAIN[target]
    return QuickCheck(row_type, partial(_each, check), check)
