"""The detectors of two other libraries behind the same spans, for comparison and habit.

Both find less than the fast detector: on the evidence corpus of 20,000 texts scrubadub 2.0.1
found 40 % of the values other than names and addresses, presidio 2.2.366 without a language model
64 % at precision .43 (measured 2026-11).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from finetuning.errors import require
from finetuning.pii.kinds import Span

_SCRUBADUB: Final = {
    "email": "email",
    "phone": "phone",
    "credit_card": "credit_card",
    "credential": "password",
    "social_security_number": "us_ssn",
    "national_insurance_number": "uk_nino",
    "drivers_licence": "driving_licence",
    "postalcode": "postal_address",
    "address": "postal_address",
    "date_of_birth": "date_of_birth",
    "name": "person_name",
}
_PRESIDIO: Final = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "CRYPTO": "crypto_address",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "US_ITIN": "us_itin",
    "US_PASSPORT": "passport",
    "IN_PASSPORT": "passport",
    "US_DRIVER_LICENSE": "driving_licence",
    "US_BANK_NUMBER": "bank_account",
    "UK_NINO": "uk_nino",
    "UK_NHS": "health_plan",
    "IN_AADHAAR": "in_aadhaar",
    "MAC_ADDRESS": "mac",
    "PERSON": "person_name",
}

_LEAST_SCORE: Final = 0.3
"""Below it presidio reports bare digit runs as four kinds at once (seen: 0.01 to 0.05)."""

_Search = Callable[[str], Iterator[Span]]


def search_with(
    detector: str, texts: Sequence[str], wanted: frozenset[str], found: list[list[Span]]
) -> None:
    """Add the spans that another library finds.

    Args:
        detector: ``scrubadub`` or ``presidio``.
        texts: The texts.
        wanted: Types to keep; kinds that the enumeration lacks (URLs, handles) are dropped.
        found: One list per text, added to.

    Raises:
        MissingExtraError: The package is not installed.
    """
    search = _scrubadub() if detector == "scrubadub" else _presidio()
    for text, into in zip(texts, found, strict=True):
        into.extend(span for span in search(text) if span.type in wanted)


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
