"""How to reach a person: by phone, and where they live."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from finetuning.pii.rules import FIGURES, RIGHT, Accept, Place, Rule, cued, digits_of, rule
from finetuning.pii.rules.numbers import is_other

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
    either = re.compile("|".join(f"(?:{p})" for p in sorted(used)))
    return either, lengths, plan.national_prefix or ""


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


_ZERO_REGIONS: Final = "GB DE FR CN JP KR AU IN IT NL CH AT BE".split()


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
_GROUPS_TRIGGER: Final = r"0[0-9]{1,5}\)?[ .\-/\n]{1,2}[0-9]{2}|0[1-9][0-9]{8}"
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


# fmt: off
PHONE_RULES: Final[tuple[Rule, ...]] = (
    rule("phone", _PLUS_TRIGGER,
        r"(?<![A-Za-z0-9_+=.-])(?=((?:\+ ?|00)(?=[1-9(])\(?\d(?:[ .\-/()]{0,2}\d){6,14}(?!\d)))",
        accept=_international),
    rule("phone", r"[0-9]{3}[-. )]{1,2}[0-9]{3}[-. ][0-9]{4}",
        rf"{_BEFORE}(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{{4}}{_AFTER}",
        accept=_nanp, gate=FIGURES),
    rule("phone", _GROUPS_TRIGGER,
        r"[(0](?<![A-Za-z0-9_+/#=.-][(0])(?:(?<=0)|0)(?:\d{1,5}\)?(?:[ .\-/\n]{1,2}\d{2,8}){1,5}"
        rf"|[1-9]\d{{8,9}}){_AFTER}", accept=_trunk_zero,
        gate=FIGURES),
    rule("phone", r"1[3-9][0-9][ \n-]{0,2}[0-9]{4}[ \n-]{0,2}[0-9]{4}",
        rf"{_BEFORE}1[3-9]\d[ \n-]{{0,2}}\d{{4}}[ \n-]{{0,2}}\d{{4}}{_AFTER}", accept=_bare,
        gate=FIGURES),
    rule("phone", r"[6-9][0-9]{4}[ -][0-9]{5}", rf"{_BEFORE}[6-9]\d{{4}}[ -]\d{{5}}{_AFTER}", 0.75,
        gate=FIGURES),
    rule("phone", r"[0-9]{2}\)? ?9?[0-9]{4}-[0-9]{4}",
        rf"{_BEFORE}(?:\([1-9]\d\) ?|[1-9]\d )9?\d{{4}}-\d{{4}}{_AFTER}", 0.85, gate=FIGURES),
    rule("phone", r"[0-9]{2}[ -][0-9]{2,3}[ -][0-9]{2}",
        rf"{_BEFORE}(?:[679]\d\d([ -])(?:\d\d\1\d\d\1\d\d|\d{{3}}\1\d{{3}})"
        rf"|3\d\d([ -])\d{{3}}\2\d{{3,4}}|9\d \d{{3}} \d\d \d\d){_AFTER}",
        accept=_valid_in("ES", "IT"), gate=FIGURES),
    rule("phone", _CUE_TRIGGER,
        r"[+(0-9](?<![A-Za-z0-9_-].)(?:(?<=\+)\(?\d|(?<=\()\d|(?<=\d))(?:[ .\-/()\n]{0,2}\d){6,14}"
        rf"{_AFTER}", accept=_after_cue, gate=FIGURES),
)
# fmt: on

_CAP: Final = r"[A-ZÀ-Þ][A-Za-zÀ-ÿ.'’-]{0,24}"
_TOWN: Final = rf"{_CAP}(?: (?:{_CAP}|de|do|da|del|la|les|am|an der|im|sur|upon|-)){{0,4}}"
_GAP: Final = r"(?:, ?\n?|[ ]?\n| - | )"
"""Between the parts of an address: a comma, a new line, or a blank."""
_UNIT: Final = (
    r"(?:,? (?:(?i:apt|apartment|suite|ste|unit|floor|flat|fl|piso|apto?|puerta|esc)\.? ?"
    r"[A-Za-z0-9-]{1,6}|#[ ]?\d{1,5})){0,2}"
)
_STREET: Final = (
    r"(?:street|avenue|road|boulevard|lane|drive|court|terrace|circle|parkway|highway|square|"
    r"crescent|gardens|grove|mews|place|way|close|trail|alley|plaza|row|loop|hill|walk|rise|"
    r"st|ave|rd|blvd|ln|dr|ct|ter|cir|pkwy|hwy|sq|pl)"
)
_UK_POSTCODE: Final = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_STATE: Final = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|GU|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]|P[ARW]|"
    r"RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY]|AS|FM|MH|MP)"
)
_US_END: Final = rf"{_TOWN},?[ \n]{{1,2}}{_STATE},? {{1,2}}\d{{5}}(?:-\d{{4}})?(?!\d)"
_TAIL: Final = rf"(?:{_GAP}(?:{_US_END}|{_TOWN}(?:{_GAP}{_TOWN})?{_GAP}{_UK_POSTCODE}|{_TOWN}))?"
_NUMBER: Final = r"[0-9](?<![A-Za-z0-9.,$€£-][0-9])\d{0,5}[A-Za-z]?"
_WORDS: Final = rf"(?:(?:{_CAP}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?"
_GERMAN: Final = (
    r"(?:[Ss]traße|[Ss]trasse|[Ss]tr\.|[Ww]eg|[Pp]latz|[Aa]llee|[Gg]asse|[Uu]fer|[Dd]amm|[Rr]ing)"
)
_FRENCH: Final = (
    r"(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Pp]lace|[Cc]hemin|[Aa]llée|[Ii]mpasse|[Qq]uai|[Cc]ours)"
)
_IBERIAN: Final = (
    r"[Cc]alle|C/|[Aa]venida|Avda?\.|[Rr]ua|[Vv][ií]a|[Pp]laza|[Tt]ravessa|[Pp]raça|[Pp]aseo|"
    r"Glorieta|C\.|"
    r"Camino|Carretera|Cuesta|Rambla|Ronda|Alameda|Rodovia|Estrada"
)
_BRAZILIAN: Final = (
    r"Pasaje|Pasadizo|Urbanización|Acceso|Cañada|Callejón|Vial|Largo|Chácara|Vila|Viela|Campo|"
    r"Colônia|"
    r"Condomínio|Conjunto|Distrito|Esplanada|Estação|Favela|Fazenda|Feira|Jardim|Ladeira|Lago|"
    r"Lagoa|"
    r"Loteamento|Morro|Núcleo|Parque|Passarela|Pátio|Quadra|Recanto|Residencial|Setor|Sítio|Trecho|"
    r"Praia|Trevo|Vale|Vereda|Viaduto|Aeroporto|Área|Via"
)
_IBERIAN_NAME: Final = (
    r"(?:(?:de|da|do|das|dos|del|la|las|los|el) ){0,2}[A-ZÀ-Þ][A-Za-zà-ÿ'’-]{1,24}"
    r"(?: (?:(?:de|da|do|dos|del|la) )?[A-ZÀ-Þ][A-Za-zà-ÿ'’-]{1,24}){0,4}"
)
_IBERIAN_END: Final = (
    rf"(?:{_GAP}(?:[^\n,]{{2,40}}{_GAP})?(?:\d{{5}}(?:-?\d{{3}})? {_TOWN}(?: ?[/-] ?[A-Z]{{2}}\b)?"
    rf"|\d{{5}}(?:-?\d{{3}})?(?!\d)))"
)


def _accept_french(match: re.Match[str]) -> Place | None:
    """Accept a street that has a number before it or a postcode behind it."""
    value = match.group().rstrip()
    if not (value[0].isdigit() or re.search(r"\d{5} ", value)):
        return None
    return match.start(), match.start() + len(value), 0.85


# fmt: off
ADDRESS_RULES: Final[tuple[Rule, ...]] = (
    rule("postal_address",
        r"[0-9][A-Za-z]? (?:[NSEW]{1,2}\.? )?(?:[A-Z0-9][A-Za-z0-9À-ÿ.'’-]* ){1,4}"
        rf"(?i:{_STREET})\b",
        rf"(?:(?:Flat|Unit|Apt|Apartment|Suite) [A-Za-z0-9]{{1,4}},? )?{_NUMBER} "
        rf"(?:[NSEW]{{1,2}}\.? )?{_WORDS}(?:{_STREET.title()})\b\.?"
        rf"(?: [NS]?[EW]\b| [NS]\b)?{_UNIT}{_TAIL}", 0.85),
    rule("postal_address", rf",?[ \n]{{1,2}}{_STATE},? {{1,2}}[0-9]{{5}}",
        rf"{_NUMBER} (?:{_CAP} ){{0,3}}{_CAP}{_UNIT}(?:, ?|\n|, \n){_US_END}", 0.85),
    rule("postal_address", r"[A-Z][a-z][A-Za-z.'’]*(?:, ?\n?|[ \n]| ?- ?)[1-9][0-9]{2} ?[0-9]{3}",
        r"(?:(?:H\. ?No\.?|Flat|Plot|House|Door|No\.|#) ?(?:No\.? "
        r"?)?)?[0-9](?<![A-Za-z0-9.,-][0-9])"
        r"\d{0,3}(?:[/-]\d{1,4})?[A-Z]?(?:, ?|\n| )(?:[A-Z][a-z][A-Za-z.'’]{0,24}(?:, ?\n?|[ \n]|"
        r" ?- ?))"
        r"{2,6}[1-9]\d{2} ?\d{3}(?!\d)", 0.8),
    rule("postal_address", r"(?i)p\.? ?o\.? box [0-9]", rf"(?i:\bp\.? ?o\.? box) \d{{1,7}}{_TAIL}",
        0.85),
    rule("postal_address", r"(?i:straße|strasse|str\.|weg|platz|allee|gasse|ufer|damm|ring) [0-9]",
        r"[A-ZÄÖÜ][a-zäöüß.]{0,25}(?:[ -][A-ZÄÖÜ][a-zäöüß.]{0,20}){0,4}[ -]?"
        rf"(?:(?<=[a-zß. -]){_GERMAN}) \d{{1,4}}(?:[/-]\d{{1,3}})?[ ]?[a-z]?(?![A-Za-z0-9])"
        rf"(?:{_GAP}(?:D-)?\d{{5}} {_TOWN})?", 0.85),
    rule("postal_address", rf"[0-9](?: bis| ter)?,? {_FRENCH} |{_FRENCH} [^0-9]*[0-9]{{5}} ",
        rf"(?:[0-9](?<![A-Za-z0-9][0-9])\d{{0,3}}(?: bis| ter)?,? |(?<![A-Za-zÀ-ÿ]))(?={_FRENCH} )"
        r"[A-Za-zé]{3,9}(?: (?:de|du|des|la|le|les)(?= )){0,2}(?: [ld]['’]| )"
        r"(?:[A-ZÀ-Þa-z][A-Za-zÀ-ÿ'’-]{1,30})(?:(?: (?:de|du|des|la|le))? "
        r"[A-ZÀ-Þ][A-Za-zÀ-ÿ'’-]{1,30}){0,4}"
        rf"(?:,? ?\n?\d{{5}} {_TOWN})?", accept=_accept_french),
    rule("postal_address", rf"(?:{_IBERIAN}) ",
        rf"(?<![A-Za-zÀ-ÿ])(?:{_IBERIAN}) {_IBERIAN_NAME},? (?:n[ºo°]\.? ?)?\d{{1,5}}(?!\d)"
        rf"{_UNIT}{_IBERIAN_END}?", 0.8),
    rule("postal_address", rf"(?:{_IBERIAN}|{_BRAZILIAN}) ",
        rf"(?<![A-Za-zÀ-ÿ])(?:{_IBERIAN}|{_BRAZILIAN}) {_IBERIAN_NAME}(?:,? (?:n[ºo°]\.? "
        rf"?)?\d{{1,5}}(?!\d))?"
        rf"{_UNIT}{_IBERIAN_END}", 0.8),
    rule("postal_address",
        r"(?:路|街|道|巷|弄|胡同|村|区)[一-鿿0-9]{0,12}[0-9]+ ?(?:号|弄|室|栋|幢)",
        r"(?:[一-鿿]{2,8}(?:省|自治区))?(?:[一-鿿]{2,6}市)?(?:[一-鿿]{1,6}(?:区|县|镇))?"
        r"[一-鿿]{1,10}(?:路|街|大道|道|巷|弄|胡同|村|区)[一-鿿]{0,6}\d{1,5} ?(?:号|弄|栋|幢)"
        r"(?:[一-鿿A-Za-z0-9-]{0,12}(?:室|单元|楼|层|号|栋|幢|座))?", 0.85),
    rule("postal_address", r"(?i)post ?code",
        rf"(?i:\bpost ?code)(?: is|:)? ({_UK_POSTCODE}){RIGHT}", 0.85),
)
# fmt: on
