"""Find personal data in texts, by the fast detector or another library, and put tags there.

The fast detector drops texts without a trigger, then runs patterns and checks. Both libraries find
less: of the values other than names and addresses scrubadub 2.0.1 found 24 % where this finds 99 %
(benchmarks/personal_data.py, measured 2026-11-20), presidio 2.2.366 without a language model 64 %
at precision .43 on an earlier corpus (2026-11).
"""

from __future__ import annotations

import bisect
import functools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, get_args

from finetuning.errors import UnknownNameError, require
from finetuning.pii import DetectorName, RedactMode, Span, check_types, settle, tag
from finetuning.pii.rules import (
    MARKS,
    Rule,
    is_json_container,
    readings_of,
)
from finetuning.pii.rules.contact import ADDRESS_RULES, PHONE_RULES
from finetuning.pii.rules.numbers import BANK_RULES, NATIONAL_RULES, RECORD_RULES
from finetuning.pii.rules.online import EMAIL_RULES, NETWORK_RULES, PASSWORD_RULES, SECRET_RULES
from finetuning.pii.rules.people import BIRTH_RULES, NAME_RULES
from finetuning.pii.triggers import COMPILED, Block, blocks, by_script, run_rules, triggers_of

RULES: Final[tuple[Rule, ...]] = (
    *SECRET_RULES,
    *PASSWORD_RULES,
    *EMAIL_RULES,
    *PHONE_RULES,
    *NETWORK_RULES,
    *BANK_RULES,
    *NATIONAL_RULES,
    *BIRTH_RULES,
    *RECORD_RULES,
    *NAME_RULES,
    *ADDRESS_RULES,
)
"""Every rule of the fast detector."""

_SMALL_BATCH: Final = 64_000
"""Code points below which compiling the triggers costs more than it saves."""

_TINY_BATCH: Final = 300
"""Code points below which matching triggers, once they are compiled, costs more than it saves."""


def find_personal_data(
    texts: Sequence[str],
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> list[list[Span]]:
    """Find the places that hold personal data or secrets, text by text.

    Args:
        texts: Decoded texts (not JSON lines).
        types: Personal-data types to look for; None looks for all.
        detector: ``fast`` (this package), ``scrubadub`` or ``presidio`` (extra ``pii``).

    Returns:
        For each text its spans, in order and without overlap; texts without any share one list.

    Raises:
        UnknownNameError: A type or detector is not known.
        MissingExtraError: The detector's package is not installed.
    """
    wanted = check_types(types, where="find_personal_data")
    if detector not in get_args(DetectorName):
        raise UnknownNameError("find_personal_data", "detector", detector, get_args(DetectorName))
    found: dict[int, list[Span]] = {}
    if detector != "fast":
        _search_with(detector, texts, wanted, found)
    else:
        rules, start = _rules_of(wanted), 0
        for block in blocks(texts):
            _search(block, start, rules, found)
            start += len(block)
    empty: list[Span] = []
    result = [empty] * len(texts)
    for number, spans in found.items():
        result[number] = settle(spans)
    return result


def find_in_block(texts: Sequence[str], wanted: frozenset[str]) -> dict[int, list[Span]]:
    """Return the spans of the texts that have any, by number; all in this process.

    Args:
        texts: Decoded texts, a megabyte or so.
        wanted: Types to look for, as ``check_types`` returns them.
    """
    found: dict[int, list[Span]] = {}
    _search(texts, 0, _rules_of(wanted), found)
    return {number: settle(spans) for number, spans in found.items()}


def _search(
    texts: Sequence[str], start: int, rules: tuple[Rule, ...], found: dict[int, list[Span]]
) -> None:
    small = _TINY_BATCH if rules in COMPILED else _SMALL_BATCH
    if sum(map(len, texts)) < small:
        readings = readings_of(texts)
        every = range(len(readings.texts))
        run_rules(
            readings, ((rule, every) for rule in rules), range(start, start + len(texts)), found
        )
        return
    for numbers, part in by_script(texts):
        block = Block(part)
        marked = block.marked(MARKS)
        readings = readings_of(part, marked)
        if marked:
            block = Block(readings.texts)
        owners = [start + number for number in numbers]
        run_rules(readings, triggers_of(rules).find(block), owners, found)


@functools.lru_cache(maxsize=64)
def _rules_of(wanted: frozenset[str]) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES if rule.type in wanted)


_SCRUBADUB: Final = {
    "email": "email", "phone": "phone", "credit_card": "credit_card", "credential": "password",
    "social_security_number": "us_ssn", "national_insurance_number": "uk_nino",
    "drivers_licence": "driving_licence", "postalcode": "postal_address",
    "address": "postal_address", "date_of_birth": "date_of_birth", "name": "person_name",
}  # fmt: skip
_PRESIDIO: Final = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "credit_card",
    "CRYPTO": "crypto_address", "IBAN_CODE": "iban", "US_SSN": "us_ssn", "US_ITIN": "us_itin",
    "US_PASSPORT": "passport", "IN_PASSPORT": "passport", "US_DRIVER_LICENSE": "driving_licence",
    "US_BANK_NUMBER": "bank_account", "UK_NINO": "uk_nino", "UK_NHS": "health_plan",
    "IN_AADHAAR": "in_aadhaar", "MAC_ADDRESS": "mac", "PERSON": "person_name",
}  # fmt: skip

_LEAST_SCORE: Final = 0.3
"""Below it presidio reports bare digit runs as four kinds at once (seen: 0.01 to 0.05)."""

_Search = Callable[[str], Iterator[Span]]


def _search_with(
    detector: str, texts: Sequence[str], wanted: frozenset[str], found: dict[int, list[Span]]
) -> None:
    """Add the wanted spans that another library finds; its kinds we lack (URLs) are dropped."""
    search = _scrubadub() if detector == "scrubadub" else _presidio()
    for number, text in enumerate(texts):
        spans = [span for span in search(text) if span.type in wanted]
        if spans:
            found[number] = spans


@functools.cache
def _scrubadub() -> _Search:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies warn while they are imported
        module: Any = require("scrubadub", feature="detector=scrubadub", extra="pii")
    scrubber = module.Scrubber()

    def search(text: str) -> Iterator[Span]:
        for filth in scrubber.iter_filth(text):
            for part in getattr(filth, "filths", None) or [filth]:
                type_ = _SCRUBADUB.get(str(part.detector_name))
                if type_ is not None:
                    yield Span(int(part.beg), int(part.end), type_, 0.5)

    return search


@functools.cache
def _presidio() -> _Search:
    """Return presidio's recognisers that need no language model, kept off the network."""
    module: Any = require("presidio_analyzer", feature="detector=presidio", extra="pii")
    names: Any = require("tldextract", feature="detector=presidio", extra="pii")
    # presidio checks mail domains with tldextract, which downloads the public suffix list at the
    # first call; its bundled copy does as well, and no call of ours opens a connection.
    names.extract = names.TLDExtract(suffix_list_urls=(), cache_dir=None)
    registry = module.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    recognisers = [
        one
        for one in registry.recognizers
        if isinstance(one, module.PatternRecognizer) or "PHONE_NUMBER" in one.supported_entities
    ]

    def search(text: str) -> Iterator[Span]:
        for recogniser in recognisers:
            for result in recogniser.analyze(text, recogniser.supported_entities, None) or ():
                start, end = int(result.start), int(result.end)
                type_ = _presidio_type(str(result.entity_type), text[start:end])
                score = min(1.0, float(result.score))
                if type_ is not None and score >= _LEAST_SCORE:
                    yield Span(start, end, type_, score)

    return search


def _presidio_type(entity: str, value: str) -> str | None:
    if entity == "IP_ADDRESS":
        return "ip_v6" if ":" in value else "ip_v4"
    return _PRESIDIO.get(entity)


_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[-+.\w]+', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)

Piece = tuple[int, int, str]
"""Start, end and replacement."""


def redact_texts(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], mode: RedactMode
) -> list[str]:
    """Return the texts with each span replaced by its tag.

    Args:
        texts: The texts that were searched.
        spans: For each text its spans, as ``find_personal_data`` returns them.
        mode: ``mask`` writes ``[EMAIL]``, ``pseudonym`` ``[EMAIL_0123456789ab]``, the same for
            the same value in every file.

    Returns:
        Texts in the same order; one that was JSON is still JSON.
    """
    return [replace(text, pieces_of(text, s, mode)) for text, s in zip(texts, spans, strict=True)]


def pieces_of(text: str, spans: Sequence[Span], mode: RedactMode) -> list[Piece]:
    """Return what to write in place of the spans; cut at the tokens where the text is JSON."""
    if spans and text.lstrip()[:1] in {"{", "["} and is_json_container(text):
        return list(_pieces_in_json(text, spans, mode))
    return [(s.start, s.end, tag(s.type, text[s.start : s.end], mode)) for s in spans]


def replace(text: str, pieces: Sequence[Piece]) -> str:
    """Return the text with every piece in its place."""
    parts: list[str] = []
    last = 0
    for start, end, replacement in pieces:
        parts += [text[last:start], replacement]
        last = end
    return "".join([*parts, text[last:]])


def place_before(position: int, pieces: Sequence[Piece]) -> int:
    """Return where a place of the redacted text (outside the tags) was before."""
    for start, end, replacement in pieces:
        if position <= start:
            break
        position += (end - start) - len(replacement)
    return position


def _pieces_in_json(text: str, spans: Sequence[Span], mode: RedactMode) -> Iterator[Piece]:
    """Cut spans at the tokens of a JSON text: inside a string, or a whole number as a string."""
    waiting = list(reversed(spans))
    for token in _TOKEN.finditer(text):
        while waiting and waiting[-1].end <= token.start():
            waiting.pop()
        quoted = token.group()[0] == '"'
        first, last = (token.start() + 1, token.end() - 1) if quoted else token.span()
        if not quoted:
            if waiting and waiting[-1].start < last:
                yield first, last, f'"{tag(waiting[-1].type, token.group(), mode)}"'
            continue
        escapes = [e.span() for e in _ESCAPE.finditer(text, first, last)] if waiting else []
        done = first
        for span in reversed(waiting):
            if span.start >= last:
                break
            start = max(_widen(max(span.start, first), escapes)[0], done)
            end = _widen(min(span.end, last), escapes)[1]
            if start < end:
                yield start, end, tag(span.type, text[start:end], mode)
                done = end


def _widen(place: int, escapes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the ends of the escape sequence around a place, or the place twice."""
    position = bisect.bisect_left(escapes, (place, 0)) - 1
    if position >= 0 and escapes[position][0] < place < escapes[position][1]:
        return escapes[position]
    return place, place
