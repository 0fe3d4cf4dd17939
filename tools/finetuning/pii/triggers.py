"""Which texts a rule has to read: the triggers of all rules in a few passes over the bytes.

Hyperscan (MIT, with Intel's or Vectorscan's engine) matches many expressions at once. On ordinary
chat text it is 4 times as fast as one expression after the other over a column of texts (measured
2026-11-20). What it compiles is kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning.errors import BadInputError
from finetuning.files import atomic_write
from finetuning.pii import Span
from finetuning.settings import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetuning.pii.rules import Readings, Rule

_SEPARATOR: Final = "\x1e\n"
"""Between two texts; the second sign ends what a trigger may run on to."""

_BLOCK_CHARACTERS: Final = 500_000
"""Code points in a block, or somewhat more."""

_STEP: Final = 64
_DIGEST: Final = 32

_Group = tuple[str, ...]
"""Expressions, one of which must match."""

_FIGURE: Final = re.compile(r"\[[0-9A-Z]|\\\.|:[^/]")
"""How an expression for figures and codes begins; the others begin with a word."""


def blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into blocks that stay in the processor's cache from one pass to the next."""
    start = end = size = 0
    while end < len(texts):
        part = texts[end : end + _STEP]
        end += len(part)
        size += sum(map(len, part))
        if size > _BLOCK_CHARACTERS or end == len(texts):
            yield texts[start:end]
            start, size = end, 0


class Block:
    """Texts one after the other as UTF-8, with the places where they end."""

    def __init__(self, texts: Sequence[str], data: bytes | None = None, count: int = -1) -> None:
        """Join the texts; ``data`` are as many texts as ``count`` says, joined already."""
        import numpy as np

        self.texts = texts
        self.count = len(texts) if data is None else count
        self.data = _joined(texts) if data is None else data
        self.ends = np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == ord(_SEPARATOR[0]))
        if len(self.ends) != self.count:  # a text holds the separator itself
            sizes = [len(text.encode("utf-8", "replace")) + len(_SEPARATOR) for text in texts]
            self.ends = np.cumsum(sizes) - len(_SEPARATOR)

    def marked(self, signs: str) -> list[int]:
        """Return the numbers of the texts with a backslash, a bracket or one of some signs."""
        found: set[int] = set()
        if b"\\" in self.data or b"[" in self.data:
            found.update(n for n, text in enumerate(self.texts) if "\\" in text or "[" in text)
        if not self.data.isascii():
            found.update(_one_group((f"[{signs}]",)).scan(self).texts.tolist())
        return sorted(found)


def _joined(texts: Sequence[str]) -> bytes:
    return _SEPARATOR.join([*texts, ""]).encode("utf-8", "replace")


def by_script(texts: Sequence[str]) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
    """Yield the texts in ASCII, which are encoded fast, and the others, with their numbers."""
    others = [number for number, text in enumerate(texts) if not text.isascii()]
    if not others or len(others) == len(texts):
        yield range(len(texts)), texts
        return
    plain, numbers, start = list[str](), list[int](), 0
    for number in [*others, len(texts)]:
        plain += texts[start:number]
        numbers += range(start, number)
        start = number + 1
    if plain:
        yield numbers, plain
    yield others, [texts[number] for number in others]


class _Found(NamedTuple):
    """Pairs of a group and a text that it matches, without repetition, in order."""

    bounds: list[int]
    texts: NDArray[np.int64]

    def of(self, group: int) -> NDArray[np.int64]:
        return self.texts[self.bounds[group] : self.bounds[group + 1]]


class Automaton:
    """Groups of expressions that are matched together; a group matches where one of it does."""

    def __init__(self, groups: Sequence[tuple[str, ...]]) -> None:
        """Compile the expressions, or take them from the cache."""
        self.count = len(groups)
        pairs = tuple((number, one) for number, group in enumerate(groups) for one in group)
        self._database = _kept(pairs)
        self._free = threading.Lock()  # its working memory is for one scan at a time

    def scan(self, block: Block) -> _Found:
        """Return which group matches in which text, in one pass over the block."""
        import numpy as np

        hits: list[int] = []
        add, size = hits.append, len(block.data) + 1

        def note(group: int, _start: int, end: int, _flags: int, _context: object) -> None:
            add(group * size + end)

        with self._free:
            self._database.scan(block.data, match_event_handler=note)
        groups, places = np.divmod(np.array(hits, dtype=np.int64), size)
        pairs = np.unique(groups * block.count + np.searchsorted(block.ends, places - 1))
        bounds = np.searchsorted(pairs, np.arange(self.count + 1) * block.count)
        return _Found(bounds.tolist(), pairs % block.count)


def _kept(pairs: tuple[tuple[int, str], ...]) -> Any:
    """Return the compiled expressions, from the cache in FINE_TUNING_HOME where they are there.

    They load in a thousandth of the time (.1 ms against .7 s for all rules, measured 2026-11-20).
    A file that is damaged, or of another processor or version, is compiled again.
    """
    import hyperscan

    name = hashlib.sha256(repr(pairs).encode()).hexdigest()
    path = settings().home / "cache" / f"expressions-{name[:32]}.bin"
    with contextlib.suppress(OSError, hyperscan.error):
        data = path.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            kept = hyperscan.loadb(data[_DIGEST:], hyperscan.HS_MODE_BLOCK)
            kept.scratch = hyperscan.Scratch(kept)
            return kept
    made = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    made.compile(
        expressions=[one.encode() for _, one in pairs],
        ids=[number for number, _ in pairs],
        elements=len(pairs),
        flags=[0 if one.isascii() else hyperscan.HS_FLAG_UTF8 for _, one in pairs],
    )
    data = hyperscan.dumpb(made)
    with contextlib.suppress(OSError, BadInputError), atomic_write(path, binary=True) as stream:
        stream.write(hashlib.sha256(data).digest() + data)
    return made


class Triggers:
    """The triggers of some rules, ready to be matched."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Compile the triggers; those behind a gate are matched only where the gate is."""
        gates: dict[str, dict[_Group, list[Rule]]] = {"": {}}
        for rule in rules:
            gates.setdefault(rule.gate, {}).setdefault(rule.triggers, []).append(rule)
        self._direct = gates.pop("")
        self._gated = {
            gate: (Automaton(list(groups)), list(groups.values())) for gate, groups in gates.items()
        }
        first = [*self._direct, *((gate,) for gate in gates)]
        figures = [group for group in first if _FIGURE.match(group[0])]
        words = [group for group in first if not _FIGURE.match(group[0])]
        # apart: together they take 1.3 times as long
        self._first = [(Automaton(part), part) for part in (words, figures) if part]

    def find(self, block: Block) -> Iterator[tuple[Rule, list[int]]]:
        """Yield rules with the numbers of the texts that match a trigger of theirs."""
        for rules, numbers in self._find(block):
            for rule in rules:
                yield rule, numbers

    def _find(self, block: Block) -> Iterator[tuple[list[Rule], list[int]]]:
        for automaton, groups in self._first:
            found = automaton.scan(block)
            for place, group in enumerate(groups):
                numbers = found.of(place).tolist()
                if numbers and group in self._direct:
                    yield self._direct[group], numbers
                elif numbers:
                    yield from self._behind(group[0], block.texts, numbers)

    def _behind(
        self, gate: str, texts: Sequence[str], numbers: list[int]
    ) -> Iterator[tuple[list[Rule], list[int]]]:
        automaton, rules = self._gated[gate]
        found = automaton.scan(Block([texts[number] for number in numbers]))
        for place, same in enumerate(rules):
            matched = found.of(place)
            if len(matched):
                yield same, [numbers[number] for number in matched.tolist()]


def lines_matching(expressions: tuple[str, ...], lines: Sequence[bytes]) -> list[int]:
    """Return the numbers of the lines in which one of some expressions matches.

    Args:
        expressions: Regular expressions without look-around, compiled once.
        lines: UTF-8 without control characters, as JSON is written: some megabytes in all.
    """
    separator = _SEPARATOR.encode()
    block = Block((), separator.join([*lines, b""]), len(lines))
    found: list[int] = _one_group(expressions).scan(block).texts.tolist()
    return found


@functools.cache
def _one_group(expressions: tuple[str, ...]) -> Automaton:
    return Automaton([expressions])


COMPILED: Final[dict[tuple[Rule, ...], Triggers]] = {}
"""The triggers of each set of rules that was asked for."""


def triggers_of(rules: tuple[Rule, ...]) -> Triggers:
    """Return the triggers of rules, prepared at the first call."""
    if rules not in COMPILED:
        COMPILED[rules] = Triggers(rules)
    return COMPILED[rules]


def run_rules(
    readings: Readings,
    pairs: Iterable[tuple[Rule, Iterable[int]]],
    owners: Sequence[int],
    found: dict[int, list[Span]],
) -> None:
    """Run rules over readings; ``owners`` says under which number a text's spans are kept."""
    numbers, read, places = readings
    for rule, candidates in pairs:
        type_, finditer, accept = rule.type, rule.pattern.finditer, rule.accept
        for candidate in candidates:
            for match in finditer(read[candidate]):
                place = accept(match)
                if place is None:
                    continue
                first, end, sure = place
                moved = places.get(candidate)
                if moved is not None:
                    first, end = moved[first], moved[end]
                spans = found.setdefault(owners[numbers[candidate]], [])
                spans.append(Span(first, end, type_, sure))
