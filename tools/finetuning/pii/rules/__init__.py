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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from finetuning.pii import TYPES

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


FIGURES: Final = r"[0-9](?:[ .\-/()\n]{0,3}[0-9]){6}[^0-9]"
"""Gate of numbers with seven digits or more, at most three signs between two digits."""
CODES: Final = "[A-Za-z][0-9]|[0-9][A-Za-z]"
"""Gate of codes that mix letters and digits."""


def cued(words: str, *, joined: bool = False) -> tuple[str, str]:
    """Return a trigger and a pattern for any of some cues, whatever their case.

    The pattern begins with a set of letters, which lets Python skip to the next one of them: twice
    as fast as the same words after an assertion.

    Args:
        words: Cues separated by ``|``, as regular expressions that begin with a plain letter. One
            in Latin letters begins a word.
        joined: It may also follow an underscore, as in ``db_password``.
    """
    every = _ALTERNATIVE.findall(words)
    rests: dict[str, list[str]] = {}
    for word in every:
        rests.setdefault("".join(sorted({word[0].lower(), word[0].upper()})), []).append(word[1:])
    either = "|".join(f"(?<=[{first}])(?i:{'|'.join(rest)})" for first, rest in rests.items())
    before = "A-Za-z0-9" if joined else "A-Za-z0-9_"
    pattern = rf"[{''.join(rests)}](?<![{before}][A-Za-z])(?:{either})"
    latin = "|".join(word for word in every if word[0].isascii())
    others = [f"(?i:{word})" for word in every if not word[0].isascii()]
    start = "" if joined else r"\b"
    return "|".join([rf"(?i:{start}(?:{latin}))", *others]), pattern


_ALTERNATIVE: Final = re.compile(r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^]]*\]|[^|([])+")
"""One of several alternatives; a ``|`` inside brackets does not end it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to find one type.

    Attributes:
        type: Personal-data type that an accepted match is reported as.
        triggers: Regular expressions; one must match somewhere in the text for ``pattern`` to be
            tried. Hyperscan reads them, so they hold no look-around and no back-reference.
        pattern: Pattern of a candidate; group 1, where it has one, is the value.
        accept: Decides on a match: place and confidence, or None.
        gate: Cheaper trigger, shared by rules, that any such text matches too; "" for none.
    """

    type: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]
    accept: Accept
    gate: str = ""


def rule(
    type_: str,
    trigger: str | tuple[str, ...],
    pattern: str,
    confidence: float = 0.9,
    *,
    check: Callable[[str], bool] | None = None,
    accept: Accept | None = None,
    gate: str = "",
    flags: int = 0,
) -> Rule:
    """Build a rule whose value is group 1 (or the whole match) at a fixed confidence.

    Args:
        type_: Personal-data type.
        trigger: One, or several; see :class:`Rule`.
        pattern: Compiled with ``re.ASCII`` and ``flags``.
        confidence: 0..1, reported for every accepted match.
        check: Says whether the matched value counts (a checksum, say); None accepts all.
        accept: Replaces the whole decision, where place or confidence depend on the match.
        gate: See :class:`Rule`.
        flags: Further flags of :mod:`re`.
    """
    compiled = re.compile(pattern, re.ASCII | flags)
    group = 1 if compiled.groups else 0

    def default(match: re.Match[str]) -> Place | None:
        if check is not None and not check(match.group(group)):
            return None
        return match.start(group), match.end(group), confidence

    triggers = (trigger,) if isinstance(trigger, str) else trigger
    return Rule(type_, triggers, compiled, accept or default, gate)


_NO_DIGIT: Final = re.compile(r"[^0-9]+")


def digits_of(value: str) -> str:
    """Return only the ASCII digits of a value."""
    return _NO_DIGIT.sub("", value)


TAG: Final = re.compile(r"\[(?:" + "|".join(t.upper() for t in TYPES) + r")(?:_[0-9a-f]{12})?\]")
"""What redaction writes: ``[EMAIL]`` or ``[EMAIL_0123456789ab]``; never a finding itself."""


class Readings(NamedTuple):
    """Every reading of a batch of texts, as columns: first one of each text, then the others.

    Attributes:
        numbers: Number of the text that each reading is of.
        texts: What the rules read.
        places: By number of the reading, original position of each of its code points and of its
            end, where they are not the same.
    """

    numbers: list[int]
    texts: list[str]
    places: dict[int, list[int]]

    def put(self, number: int, text: str, places: list[int] | None, *, first: bool) -> None:
        """Set the first reading of a text, or add another one."""
        if first:
            at, self.texts[number] = number, text
        else:
            at = len(self.texts)
            self.numbers.append(number)
            self.texts.append(text)
        if places is not None:
            self.places[at] = places


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
_NEEDS_TABLE: Final = frozenset(map(chr, _TABLE)) - frozenset("：；（）")
_ODD: Final = re.compile(r"[^\x00-\x7f]+")
_INVISIBLE: Final = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_ESCAPE: Final = re.compile(rf"\\(?:u[0-9a-fA-F]{{4}}|[\"\\/bfnrt])|[{_INVISIBLE}]+")
MARKS: Final = "".join(sorted(_NEEDS_TABLE)) + _INVISIBLE + "".join(map(chr, range(0x370, 0x530)))
"""Signs beyond ASCII that can give a text another reading."""
# Cyrillic and Greek letters that look like Latin ones, read so in words that mix the scripts.
_TWINS: Final = "асеорхуіѕјАВСЕНКМОРТХІЅЈοανρΑΒΕΖΗΙΚΜΝΟΡΤΧ"
_TWIN_TABLE: Final = str.maketrans(_TWINS, "aceopxyisjABCEHKMOPTXISJoavpABEZHIKMNOPTX")
_MIXED: Final = re.compile("[A-Za-z0-9@.][\u0370-\u052f]|[\u0370-\u052f][A-Za-z0-9@]")
_SIMPLE: Final = {"b": " ", "f": " ", "n": "\n", "r": "\r", "t": "\t"}
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
    return _plain(text, frozenset(text))


def _plain(text: str, odd: frozenset[str]) -> str:
    if "[" in text and "]" in text:
        text = TAG.sub(lambda match: "\0" * len(match.group()), text)
    return text if odd.isdisjoint(_NEEDS_TABLE) else text.translate(_TABLE)


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


def readings_of(texts: Sequence[str], marked: Iterable[int] | None = None) -> Readings:
    """Return every reading of every text, at least one each.

    A text that is JSON itself is read decoded only (its raw escapes are syntax, not text); any
    other text with backslashes or invisible signs is read both ways, as are words of two scripts.

    Args:
        texts: The texts.
        marked: Numbers of those that hold a sign of :data:`MARKS`, where they are known.
    """
    readings = Readings(list(range(len(texts))), list(texts), {})
    if marked is None:
        marked = (
            n for n, text in enumerate(texts) if not text.isascii() or "\\" in text or "[" in text
        )
    for number in marked:
        _read(readings, number, texts[number])
    return readings


def _read(readings: Readings, number: int, original: str) -> None:
    odd = frozenset[str]() if original.isascii() else frozenset("".join(_ODD.findall(original)))
    text = _plain(original, odd)
    hidden = "\\" in text or not odd.isdisjoint(_INVISIBLE)
    decoded = _decode(text, None) if hidden else None
    first = decoded is None or not is_json_container(original)
    if first:
        readings.put(number, text, None, first=True)
    for _ in range(_DEEPEST):
        if decoded is None:
            break
        readings.put(number, plain(decoded[0]), decoded[1], first=not first)
        first = True
        decoded = _decode(*decoded)
    if not odd.isdisjoint(_TWINS) and _MIXED.search(text):
        readings.put(number, text.translate(_TWIN_TABLE), None, first=False)
