"""How to reach a person: e-mail and phone."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from finetuning.pii.rules import Accept, Place, Rule, cued, digits_of, rule

_FILE_ENDINGS: Final = frozenset(
    "png jpg jpeg gif svg webp ico css js ts py java html htm json xml yaml yml toml md txt zip "
    "tar gz pdf".split()
)
"""What follows the last dot in ``icon@2x.png``: a file, not a domain (``.zip`` mail is rare)."""

_OTHER: Final = re.compile(
    r"(?:order|track|isbn|\bean\b|invoice|ticket|\bref|sku|parcel|item|article|artikel|bestell|"
    r"sendung|rechnung|commande|suivi|facture|référence|pedido|seguimiento|rastreio|fatura|version|"
    r"model|serial|\bbuild|request|订单|快递|单号|条码|货号|发票|工单|型号)"
    r"(?:(?![.!?] [A-ZÀ-Þ])[^0-9\n。！？])*\Z",
    re.IGNORECASE,
)
"""Words for a number that identifies a thing."""


def is_other(match: re.Match[str]) -> bool:
    """Say whether the words before a bare number call it an order, a book or another thing."""
    return _OTHER.search(match.string[max(0, match.start() - 26) : match.start()]) is not None


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
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d\d(?!\d)"
)


def _nanp(match: re.Match[str]) -> Place | None:
    digits = digits_of(match.group())[-10:]
    if digits[1:3] == "11" or digits[4:6] == "11":
        return None
    return match.start(), match.end(), 0.75 if match.group()[-5] == " " else 0.9


_KINDS: Final = (
    "fixed_line mobile toll_free premium_rate shared_cost personal_number voip pager uan voicemail"
).split()


@functools.cache
def _plan(region: str) -> tuple[re.Pattern[str], frozenset[int], str]:
    """Return of a region's numbering plan: numbers in use, their lengths, what is dialled first."""
    from phonenumbers.phonemetadata import PhoneMetadata

    everywhere = region.isdigit()  # a calling code that belongs to no country, as of freephone
    source: Any = PhoneMetadata
    plan: Any = (
        source.metadata_for_nongeo_region(int(region), None)
        if everywhere
        else source.metadata_for_region(region, None)
    )
    kinds = [getattr(plan, kind) for kind in _KINDS]
    used = {one.national_number_pattern for one in kinds if one} - {None}
    lengths = frozenset(plan.general_desc.possible_length)
    return (
        re.compile("|".join(f"(?:{p})" for p in sorted(used))),
        lengths,
        plan.national_prefix or "",
    )


def _in_plan(national: str, region: str) -> int:
    used, lengths, prefix = _plan(region)
    if used.fullmatch(national):
        return 2
    inner = national[len(prefix) :] if prefix and national.startswith(prefix) else national
    if inner != national and used.fullmatch(inner):
        return 2
    return int(len(national) in lengths or len(inner) in lengths)


@functools.lru_cache(maxsize=65_536)
def phone_quality(number: str, region: str | None) -> int:
    """Say how well a number fits the public numbering plans.

    Args:
        number: The number as written; ``+`` first unless ``region`` is given.
        region: Two-letter country of a national form, or None.

    Returns:
        2 for a number that is in use in that plan, 1 for one of the right length, else 0.
    """
    digits = digits_of(number)
    if region is not None:
        return _in_plan(digits, region)
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    for size in (1, 2, 3):  # no country code begins another one
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:size] or 0), ())
        if regions and digits[0] != "0":
            names = [digits[:size] if name == "001" else name for name in regions]
            return max(_in_plan(digits[size:], name) for name in names)
    return 0


def _international(match: re.Match[str]) -> Place | None:
    """Accept the longest prefix that fits a numbering plan (later groups may be other numbers)."""
    text, end = match.group(1), match.end(1)
    if re.search(r"\.\d$", text):  # a signed decimal number
        return None
    strict = not text.startswith("+")
    if strict and is_other(match):
        return None
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


_ZERO_REGIONS: Final = (
    "GB",
    "DE",
    "FR",
    "CN",
    "JP",
    "KR",
    "AU",
    "IN",
    "IT",
    "NL",
    "CH",
    "AT",
    "BE",
)


def _trunk_zero(match: re.Match[str]) -> Place | None:
    """Accept a number written with a leading trunk 0 if some country's plan has it."""
    digits = digits_of(match.group())
    if not 9 <= len(digits) <= 12 or _DATE_SHAPE.match(match.group()):
        return None
    if len(digits) == len(match.group()) and is_other(match):
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


def _bare(match: re.Match[str]) -> Place | None:
    return None if is_other(match) else (match.start(), match.end(), 0.8)


# A number must not continue on either side: no letter, digit, or joiner next to it.
_BEFORE: Final = r"(?<![A-Za-z0-9_+/#=.-])"
_AFTER: Final = r"(?![A-Za-z0-9_]|[.-]\d|/\d)"
_PLUS_TRIGGER: Final = r"(?:\+|\b00)[ ]?\(?[1-9]"
_GROUPS_TRIGGER: Final = r"0[0-9]{1,5}\)?[ .\-/\n]{1,2}[0-9]{2,8}|0[1-9][0-9]{8}"
_CUE_TRIGGER, _CUE = cued(
    r"telephone|phone|tel\b|mobile|cell|fax|whats ?app|sms\b|call\b|text me|text\b|reach me|dial\b|"
    r"number is|ring me|handy|rufnummer|rückruf|rufen|mobil|téléphone|tél\b|portable|appele|"
    r"joignable|teléfono|móvil|llám|telefon|celular|ligue|estoy en el|estou no|电话|電話|手机|手機|"
    r"联系方式|致电|拨打|座机|传真|微信|可以打"
)

_CUE_BEFORE: Final = re.compile(rf"{_CUE}[^\d\n\0]{{0,25}}\Z", re.ASCII)


def _after_cue(match: re.Match[str]) -> Place | None:
    """Accept a number with a cue at most 25 signs before it, on the same line."""
    value = match.group()
    digits = digits_of(value)
    if len(digits) > 13 and value[0] != "+":
        return None
    cue = _CUE_BEFORE.search(match.string, max(0, match.start() - 48), match.start())
    if cue is None or _DATE_SHAPE.match(value):
        return None
    if re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}", value):
        return None
    weak = cue.group()[0] in "nN"  # "number is" may be said of an order, too
    if not 7 <= len(digits) <= 15 or (weak and is_other(match)):
        return None
    return match.start(), match.end(), 0.85


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
        r"[(0](?<![A-Za-z0-9_+/#=.-][(0])(?:(?<=0)|0)(?:\d{1,5}\)?(?:[ .\-/\n]{1,2}\d{2,8}){1,5}"
        rf"|[1-9]\d{{8,9}}){_AFTER}",
        accept=_trunk_zero,
    ),
    rule(
        "phone",
        r"1[3-9][0-9][ \n-]{0,2}[0-9]{4}[ \n-]{0,2}[0-9]{4}",
        rf"{_BEFORE}1[3-9]\d[ \n-]{{0,2}}\d{{4}}[ \n-]{{0,2}}\d{{4}}{_AFTER}",
        accept=_bare,
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
        rf"|3\d\d([ -])\d{{3}}\2\d{{3,4}}|9\d \d{{3}} \d\d \d\d){_AFTER}",
        accept=_valid_in("ES", "IT"),
    ),
    rule(
        "phone",
        rf"(?:{_CUE_TRIGGER})[^0-9\n]{{0,25}}[0-9]",
        r"[+(0-9](?<![A-Za-z0-9_-].)(?:(?<=\+)\(?\d|(?<=\()\d|(?<=\d))(?:[ .\-/()\n]{0,2}\d){6,14}"
        rf"{_AFTER}",
        accept=_after_cue,
    ),
)
