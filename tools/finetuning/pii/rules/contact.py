"""How to reach a person or a machine: e-mail, phone, IP and MAC addresses."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Final

from finetuning.pii.rules import LEFT, RIGHT, Accept, Place, Rule, digits_of, rule

_FILE_ENDINGS: Final = frozenset(
    "png jpg jpeg gif svg webp ico css js ts py java html htm json xml yaml yml toml md txt zip "
    "tar gz pdf".split()
)
"""What follows the last dot in ``icon@2x.png``: a file, not a domain (``.zip`` mail is rare)."""

_LOCAL: Final = r"[A-Za-z0-9_.+%À-ɏ-]"
_AT: Final = r"[ \t]{0,2}[\[({<][ \t]?(?i:at)[ \t]?[\])}>][ \t]{0,2}"
_DOT: Final = r"[ \t]{0,2}(?:[\[({<][ \t]?(?i:dot|\.)[ \t]?[\])}>]|\b(?i:dot)\b|\.)[ \t]{0,2}"


def _accept_email(match: re.Match[str]) -> Place | None:
    address = match.group()
    local, _, domain = address.rpartition("@")
    after = match.string[match.end() : match.end() + 1]
    if domain.rsplit(".", 1)[1].lower() in _FILE_ENDINGS or (local == "git" and after == ":"):
        return None
    start = match.start() + (len(local) - len(local.lstrip(".%+-")))
    return start, match.end(), 0.97


_EMAIL: Final = (
    rf"(?<!{_LOCAL}){_LOCAL}{{1,64}}@(?:[A-Za-z0-9À-ɏ](?:[A-Za-z0-9À-ɏ-]{{0,62}})\.){{1,8}}"
    r"(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})(?![A-Za-z0-9-])"
)
_EMAIL_BRACKETED: Final = (
    rf"(?<!{_LOCAL})[A-Za-z0-9_.+-]{{1,64}}(?:{_AT})[A-Za-z0-9-]{{1,63}}"
    rf"(?:{_DOT}[A-Za-z0-9-]{{2,63}}){{1,4}}"
)
_EMAIL_SPOKEN: Final = (
    rf"(?<!{_LOCAL})[A-Za-z0-9_.+-]{{2,64}} at [A-Za-z0-9-]{{1,63}} dot "
    r"(?:com|org|net|edu|gov|io|co|ai|dev|de|fr|uk|cn|in|br|jp|es|it|nl)\b"
)
_DATE_SHAPE: Final = re.compile(
    r"(?:19|20)\d{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12]\d|3[01])"
)


def _nanp(match: re.Match[str]) -> Place | None:
    digits = digits_of(match.group())[-10:]
    if digits[1:3] == "11" or digits[4:6] == "11":
        return None
    return match.start(), match.end(), 0.75 if match.group()[-5] == " " else 0.9


@functools.lru_cache(maxsize=4096)
def phone_quality(number: str, region: str | None) -> int:
    """Say how well a number fits the public numbering plans.

    Args:
        number: The number as written; ``+`` first unless ``region`` is given.
        region: Two-letter country of a national form, or None.

    Returns:
        2 for a number that is in use in that plan, 1 for one of the right length, else 0.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return 0
    if phonenumbers.is_valid_number(parsed):
        return 2
    return 1 if phonenumbers.is_possible_number(parsed) else 0


def _international(match: re.Match[str]) -> Place | None:
    """Accept the longest prefix that fits a numbering plan (later groups may be other numbers)."""
    text, end = match.group(1), match.end(1)
    if re.search(r"\.\d$", text):  # a signed decimal number
        return None
    strict = not text.startswith("+")
    while True:
        number = "+" + digits_of(text)[2 if strict else 0 :]
        quality = phone_quality(number, None)
        if quality == 2 or (quality == 1 and not strict):
            return match.start(), end, 0.97 if quality == 2 else 0.8
        shorter = re.sub(r"[ .\-/()]+\d+\)?$", "", text)
        if shorter == text or len(digits_of(shorter)) < 8:
            return None
        end -= len(text) - len(shorter)
        text = shorter


_ZERO_REGIONS: Final = ("GB", "DE", "FR", "CN", "JP", "KR", "AU", "IT", "NL", "CH", "AT", "BE")


def _trunk_zero(match: re.Match[str]) -> Place | None:
    """Accept a number written with a leading trunk 0 if some country's plan has it."""
    digits = digits_of(match.group())
    if not 9 <= len(digits) <= 12 or _DATE_SHAPE.match(match.group()):
        return None
    if re.fullmatch(r"07\d{9}", digits):  # GB mobiles, the drama range 07700 900 included
        return match.start(), match.end(), 0.85
    if any(phone_quality(digits, region) == 2 for region in _ZERO_REGIONS):
        return match.start(), match.end(), 0.85
    return None


def _valid_in(*regions: str) -> Accept:
    def accept(match: re.Match[str]) -> Place | None:
        if any(phone_quality(match.group(), region) == 2 for region in regions):
            return match.start(), match.end(), 0.8
        return None

    return accept


def _after_cue(match: re.Match[str]) -> Place | None:
    value = match.group(1)
    digits = digits_of(value)
    if _DATE_SHAPE.match(value) or re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}", value):
        return None
    return (match.start(1), match.end(1), 0.85) if 7 <= len(digits) <= 15 else None


# A number must not continue on either side: no letter, digit, or joiner next to it.
_BEFORE: Final = r"(?<![A-Za-z0-9_+/#=.-])"
_AFTER: Final = r"(?![A-Za-z0-9_]|[.-]\d|/\d)"
_PLUS_TRIGGER: Final = r"(?:\+|\b00)[ ]?\(?[1-9]"
_GROUPS_TRIGGER: Final = r"0[0-9]{1,5}\)?[ .\-/]{1,2}[0-9]{2,8}"
_CUES: Final = (
    r"(?i:\b(?:tele)?phone|\btel\b|\bmobile|\bcell|\bfax|\bwhats ?app|\bsms\b|\bcall\b|\btext me|"
    r"\breach me|\bdial\b|\bnumber is|\bring me|\bhandy|\brufnummer|\btéléphone|\bportable|"
    r"\bteléfono|\bmóvil|\btelefone|\bcelular|\bmobil)|电话|電話|手机|手機|联系方式|致电|拨打|"
    r"座机|传真|微信"
)

EMAIL_RULES: Final[tuple[Rule, ...]] = (
    rule("email", "@", _EMAIL, accept=_accept_email),
    rule("email", r"(?i)[\[({<] ?at ?[\])}>]", _EMAIL_BRACKETED, 0.85),
    rule("email", r" at [A-Za-z0-9-]+ dot ", _EMAIL_SPOKEN, 0.75),
)

PHONE_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "phone",
        _PLUS_TRIGGER,
        r"(?<![A-Za-z0-9_+=.-])(?=((?:\+ ?|00)(?=[1-9(])\(?\d(?:[ .\-/()]{0,2}\d){6,14}(?!\d)))",
        accept=_international,
    ),
    rule(
        "phone",
        r"[0-9]{3}[-. )]{1,2}[0-9]{3}[-. ][0-9]{4}",
        rf"{_BEFORE}(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{{4}}{_AFTER}",
        accept=_nanp,
    ),
    rule(
        "phone",
        _GROUPS_TRIGGER,
        rf"{_BEFORE}\(?0\d{{1,5}}\)?(?:[ .\-/]{{1,2}}\d{{2,8}}){{1,5}}{_AFTER}",
        accept=_trunk_zero,
    ),
    rule(
        "phone",
        r"1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}",
        rf"{_BEFORE}1[3-9]\d[ -]?\d{{4}}[ -]?\d{{4}}{_AFTER}",
        0.8,
    ),
    rule("phone", r"[6-9][0-9]{4}[ -][0-9]{5}", rf"{_BEFORE}[6-9]\d{{4}}[ -]\d{{5}}{_AFTER}", 0.75),
    rule(
        "phone",
        r"[0-9]{2}\)? ?9?[0-9]{4}-[0-9]{4}",
        rf"{_BEFORE}(?:\([1-9]\d\) ?|[1-9]\d )9?\d{{4}}-\d{{4}}{_AFTER}",
        0.85,
    ),
    rule(
        "phone",
        r"[0-9]{2,3}[ -][0-9]{2,4}[ -][0-9]{2,4}",
        rf"{_BEFORE}(?:[679]\d\d([ -])(?:\d\d\1\d\d\1\d\d|\d{{3}}\1\d{{3}})"
        rf"|3\d\d([ -])\d{{3}}\2\d{{3,4}}){_AFTER}",
        accept=_valid_in("ES", "IT"),
    ),
    rule(
        "phone",
        rf"(?:{_CUES})[^0-9\n]{{0,25}}[0-9]",
        rf"(?:{_CUES})[^\d\n\0]{{0,25}}?(?<![A-Za-z0-9_-])"
        rf"(\+?\(?\d(?:[ .\-/()]{{0,2}}\d){{6,14}}){_AFTER}",
        accept=_after_cue,
    ),
)


def _accept_ip_v4(match: re.Match[str]) -> Place | None:
    octets = match.group().split(".")
    if match.group().startswith(("0.", "127.", "255.255.")):
        return None
    before = match.string[max(0, match.start() - 24) : match.start()].lower()
    before = before.rpartition("\0")[2]  # what stands before a redacted value is not context
    if re.search(r"(?:\bv|version|release|build|ver\.|firmware|section|chapter)[ :=#]*$", before):
        return None
    cue = re.search(r"\bip|addr|host|server|from|ping|gateway|dns|@|//", before)
    if all(len(octet) == 1 for octet in octets):  # 1.2.3.4 is more often a version or a section
        return (match.start(), match.end(), 0.7) if cue else None
    return match.start(), match.end(), 0.95 if cue else 0.85


def _is_ip_v6(value: str) -> bool:
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    groups = [group for group in value.split(":") if group]
    has_digit = any(character.isdigit() for character in value)
    return has_digit and len(groups) >= 2 and not address.is_loopback


def _is_mac(value: str) -> bool:
    digits = re.sub(r"[^0-9a-f]", "", value.lower())
    return len(set(digits)) > 1


_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HEX2: Final = r"[0-9A-Fa-f]{2}"

NETWORK_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "ip_v4",
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        rf"(?<![A-Za-z0-9_.])(?:{_OCTET}\.){{3}}{_OCTET}(?![A-Za-z0-9_]|\.\d)",
        accept=_accept_ip_v4,
    ),
    rule(
        "ip_v6",
        r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{1,36}",
        r"(?<![A-Za-z0-9_:.])(?=[0-9A-Fa-f]{0,4}:)"
        r"[0-9A-Fa-f:]{3,39}(?:(?:\d{1,3}\.){3}\d{1,3})?(?![A-Za-z0-9_:])",
        0.95,
        check=_is_ip_v6,
    ),
    rule(
        "mac",
        r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]",
        rf"(?<![A-Za-z0-9_:-]){_HEX2}([:-])(?:{_HEX2}\1){{4}}{_HEX2}(?![A-Za-z0-9_:-])",
        accept=lambda match: (match.start(), match.end(), 0.95) if _is_mac(match.group()) else None,
    ),
    rule(
        "mac",
        r"[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
        rf"{LEFT}[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}{RIGHT}",
        0.85,
        check=lambda value: _is_mac(value) and not value.replace(".", "").isdigit(),
    ),
)
