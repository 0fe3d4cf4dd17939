r"""What one detection rule is, and the readings of a text that rules are run over.

Each family of types has its module here. To add a form of a known type, add a ``rule(...)``
there; its trigger must match every text in which the pattern can match (a property test compares
runs with and without triggers).

Rules read look-alike characters (full-width digits, other decimal digits, hard spaces and dashes)
replaced one for one, tags of an earlier redaction blanked, and backslash escapes decoded with a
map of positions, so that a value hidden behind ``\u0040`` is found where it stands.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.pii import TYPES

if TYPE_CHECKING:
    import polars as pl

Place = tuple[int, int, float]
"""Start, end and confidence of an accepted match."""

Accept = Callable[[re.Match[str]], Place | None]

LEFT: Final = r"(?<![A-Za-z0-9_])"
"""No ASCII word character on the left (Chinese text may touch a number)."""
RIGHT: Final = r"(?![A-Za-z0-9_])"


LINK: Final = (
    r"\.?(?:[ \t]{0,2}(?:(?i:is|was|are|ist|lautet|war|est|es|era|é|number|nummer|num|no|nr|nº|n|"
    r"id)"
    r"(?![A-Za-z0-9])[.º°]{0,2}|[:#=：]|为|是|号码?|編?號碼?|编?号)){0,4}[ \t\"'#]{0,3}"
)
"""What may stand between a label and its value."""


def cued(words: str) -> tuple[str, str]:
    """Return a trigger and a pattern for any of some cues, whatever their case.

    The pattern begins with a set of letters, which lets Python skip to the next one of them: twice
    as fast as the same words after an assertion.

    Args:
        words: Cues separated by ``|``, as regular expressions that begin with a plain letter. One
            in Latin letters begins a word.
    """
    every = _ALTERNATIVE.findall(words)
    rests: dict[str, list[str]] = {}
    for word in every:
        rests.setdefault("".join(sorted({word[0].lower(), word[0].upper()})), []).append(word[1:])
    either = "|".join(f"(?<=[{first}])(?i:{'|'.join(rest)})" for first, rest in rests.items())
    pattern = rf"[{''.join(rests)}](?<![A-Za-z0-9_][A-Za-z])(?:{either})"
    latin = "|".join(word for word in every if word[0].isascii())
    others = [f"(?i:{word})" for word in every if not word[0].isascii()]
    return "|".join([rf"(?i:\b(?:{latin}))", *others]), pattern


_ALTERNATIVE: Final = re.compile(r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^]]*\]|[^|([])+")
"""One of several alternatives; a ``|`` inside brackets does not end it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to find one type.

    Attributes:
        type: Personal-data type that an accepted match is reported as.
        trigger: Regular expression that must match somewhere in the text for ``pattern`` to be
            tried. It is read by Python and by Rust, so it holds no look-around and no
            back-reference.
        pattern: Pattern of a candidate; group 1, where it has one, is the value.
        accept: Decides on a match: place and confidence, or None.
    """

    type: str
    trigger: str
    pattern: re.Pattern[str]
    accept: Accept


def rule(
    type_: str,
    trigger: str,
    pattern: str,
    confidence: float = 0.9,
    *,
    check: Callable[[str], bool] | None = None,
    accept: Accept | None = None,
    flags: int = 0,
) -> Rule:
    """Build a rule whose value is group 1 (or the whole match) at a fixed confidence.

    Args:
        type_: Personal-data type.
        trigger: See :class:`Rule`.
        pattern: Compiled with ``re.ASCII`` and ``flags``.
        confidence: 0..1, reported for every accepted match.
        check: Says whether the matched value counts (a checksum, say); None accepts all.
        accept: Replaces the whole decision, where place or confidence depend on the match.
        flags: Further flags of :mod:`re`.
    """
    compiled = re.compile(pattern, re.ASCII | flags)
    group = 1 if compiled.groups else 0

    def default(match: re.Match[str]) -> Place | None:
        if check is not None and not check(match.group(group)):
            return None
        return match.start(group), match.end(group), confidence

    return Rule(type_, trigger, compiled, accept or default)


_NO_DIGIT: Final = re.compile(r"[^0-9]+")


def digits_of(value: str) -> str:
    """Return only the ASCII digits of a value."""
    return _NO_DIGIT.sub("", value)


TAG: Final = re.compile(r"\[(?:" + "|".join(t.upper() for t in TYPES) + r")(?:_[0-9a-f]{12})?\]")
"""What redaction writes: ``[EMAIL]`` or ``[EMAIL_0123456789ab]``; never a finding itself."""


class Readings(NamedTuple):
    """Every reading of a batch of texts, as three columns.

    Attributes:
        numbers: Number of the text that each reading is of.
        texts: What the rules read.
        places: Original position of each code point of a reading and of its end, or None where
            the two agree.
    """

    numbers: list[int]
    texts: list[str]
    places: list[list[int] | None]

    def add(self, number: int, text: str, places: list[int] | None) -> None:
        """Add one reading."""
        self.numbers.append(number)
        self.texts.append(text)
        self.places.append(places)


def _look_alikes() -> dict[int, str]:
    table = {ord(full): chr(ord(full) - 0xFEE0) for full in "＠．－＋／＿＃：；＝（）"}
    for start in (0xFF10, 0xFF21, 0xFF41):
        table |= {start + n: chr(start + n - 0xFEE0) for n in range(10 if start == 0xFF10 else 26)}
    for start in (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50):  # Arabic, Persian, Hindi, Bengali, Thai
        table |= {start + n: str(unicodedata.digit(chr(start + n))) for n in range(10)}
    table |= dict.fromkeys(range(0x2010, 0x2016), "-") | {0x2212: "-"}
    return table | dict.fromkeys([0xA0, 0x2007, 0x2009, 0x202F, 0x3000], " ")


_TABLE: Final = _look_alikes()
# The Chinese colon and brackets are ordinary there: alone they are no reason to translate.
_NEEDS_TABLE: Final = re.compile(
    "[" + "".join(map(chr, _TABLE.keys() - set(map(ord, "：；（）")))) + "]"
)
_INVISIBLE: Final = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_ESCAPE: Final = re.compile(rf"\\(?:u[0-9a-fA-F]{{4}}|[\"\\/bfnrt])|[{_INVISIBLE}]+")
# Cyrillic and Greek letters that look like Latin ones, read so in words that mix the scripts.
_TWINS: Final = str.maketrans(
    "асеорхуіѕјАВСЕНКМОРТХІЅЈοανρΑΒΕΖΗΙΚΜΝΟΡΤΧ", "aceopxyisjABCEHKMOPTXISJoavpABEZHIKMNOPTX"
)
_MIXED: Final = re.compile("[A-Za-z0-9@.][\u0370-\u052f]|[\u0370-\u052f][A-Za-z0-9@]")
_SIMPLE: Final = {"b": " ", "f": " ", "n": "\n", "r": "\r", "t": "\t"}
_ALTERNATIVES: Final = 16
"""Triggers in one alternation; one of all 66 would be 14 times slower (measured 2026-11)."""

_LONG: Final = 900
"""A trigger with more characters, as of lists of names, is no part of an alternation."""

_DEEPEST: Final = 3
"""JSON inside JSON inside JSON: escapes are decoded this many times."""


def is_json_container(text: str) -> bool:
    """Say whether a text is itself a JSON object or array (arguments of a tool call, say)."""
    stripped = text.strip()
    if not stripped or stripped[0] + stripped[-1] not in {"{}", "[]"}:
        return False
    try:
        json.loads(stripped)
    except (ValueError, RecursionError):
        return False
    return True


def plain(text: str) -> str:
    """Return the text with look-alikes replaced and tags blanked, code point for code point."""
    if "[" in text and "]" in text:
        text = TAG.sub(lambda match: "\0" * len(match.group()), text)
    if not text.isascii() and _NEEDS_TABLE.search(text):
        text = text.translate(_TABLE)
    return text


def _decode(text: str, places: list[int] | None) -> tuple[str, list[int]] | None:
    """Decode one level of backslash escapes, or return None where there is none."""
    parts: list[str] = []
    positions: list[int] = []
    last = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[last : match.start()])
        positions.extend(range(last, match.start() + 1))
        body = match.group()[1:]
        if match.group()[0] != "\\":
            positions.pop()
        elif len(body) > 1:
            parts.append(chr(int(body[1:], 16)))
        else:
            parts.append(_SIMPLE.get(body, body))
        last = match.end()
    if not last:
        return None
    parts.append(text[last:])
    positions.extend(range(last, len(text) + 1))
    if places is not None:
        positions = [places[position] for position in positions]
    return "".join(parts), positions


def readings_of(texts: Sequence[str]) -> Readings:
    """Return every reading of every text, at least one each.

    A text that is JSON itself is read decoded only (its raw escapes are syntax, not text); any
    other text with backslashes or invisible signs is read both ways, as are words of two scripts.
    """
    readings = Readings([], [], [])
    for number, original in enumerate(texts):
        simple = original.isascii() and "[" not in original
        text = original if simple else plain(original)
        if "\\" not in text and (simple or _ESCAPE.search(text) is None):
            readings.add(number, text, None)
        else:
            _add_decoded(readings, number, original, text)
        if not simple and _MIXED.search(text):
            readings.add(number, text.translate(_TWINS), None)
    return readings


def _add_decoded(readings: Readings, number: int, original: str, text: str) -> None:
    decoded = _decode(text, None)
    if decoded is None or not is_json_container(original):
        readings.add(number, text, None)
    for _ in range(_DEEPEST):
        if decoded is None:
            break
        readings.add(number, plain(decoded[0]), decoded[1])
        decoded = _decode(*decoded)


def alternations(rules: Sequence[Rule]) -> Iterator[tuple[str, dict[str, list[Rule]]]]:
    """Yield patterns that match where one of a few triggers does, and the rules of each."""
    by_trigger: dict[str, list[Rule]] = {}
    for one in rules:
        by_trigger.setdefault(_rust(one.trigger), []).append(one)
    short = [trigger for trigger in by_trigger if len(trigger) <= _LONG]
    groups = [short[at : at + _ALTERNATIVES] for at in range(0, len(short), _ALTERNATIVES)]
    for chosen in groups + [[trigger] for trigger in by_trigger if len(trigger) > _LONG]:
        anything = "|".join(f"(?:{trigger})" for trigger in chosen)
        yield anything, {trigger: by_trigger[trigger] for trigger in chosen}


def frame_of(texts: list[str]) -> pl.DataFrame:
    """Return texts as a column, numbered, for :func:`matches`."""
    import polars as pl

    try:
        column = pl.Series("text", texts, dtype=pl.String)
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form; positions do not matter here
        valid = [text.encode("utf-8", "replace").decode() for text in texts]
        column = pl.Series("text", valid, dtype=pl.String)
    return column.to_frame().with_row_index()


def matches(pattern: str) -> pl.Expr:
    """Return the condition that a text matches a trigger or an alternation of triggers."""
    import polars as pl

    return pl.col("text").str.contains(pattern)


def _rust(trigger: str) -> str:
    """Make word boundaries ASCII, as the patterns have them; Unicode ones cost Rust its DFA."""
    return trigger.replace(r"\b", r"(?-u:\b)")
