"""Where a person lives and where a machine is: postal, IP and MAC addresses."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from finetuning.pii.rules import LEFT, RIGHT, Place, Rule, rule

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


ADDRESS_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "postal_address",
        r"[0-9][A-Za-z]? (?:[NSEW]{1,2}\.? )?(?:[A-Z0-9][A-Za-z0-9À-ÿ.'’-]* ){1,4}"
        rf"(?i:{_STREET})\b",
        rf"(?:(?:Flat|Unit|Apt|Apartment|Suite) [A-Za-z0-9]{{1,4}},? )?{_NUMBER} "
        rf"(?:[NSEW]{{1,2}}\.? )?{_WORDS}(?:{_STREET.title()})\b\.?"
        rf"(?: [NS]?[EW]\b| [NS]\b)?{_UNIT}{_TAIL}",
        0.85,
    ),
    rule(
        "postal_address",
        rf",?[ \n]{{1,2}}{_STATE},? {{1,2}}[0-9]{{5}}",
        rf"{_NUMBER} (?:{_CAP} ){{0,3}}{_CAP}{_UNIT}(?:, ?|\n|, \n){_US_END}",
        0.85,
    ),
    rule(
        "postal_address",
        r"[A-Z][a-z][A-Za-z.'’]*(?:, ?\n?|[ \n]| ?- ?)[1-9][0-9]{2} ?[0-9]{3}",
        r"(?:(?:H\. ?No\.?|Flat|Plot|House|Door|No\.|#) ?(?:No\.? "
        r"?)?)?[0-9](?<![A-Za-z0-9.,-][0-9])"
        r"\d{0,3}(?:[/-]\d{1,4})?[A-Z]?(?:, ?|\n| )(?:[A-Z][a-z][A-Za-z.'’]{0,24}(?:, ?\n?|[ \n]|"
        r" ?- ?))"
        r"{2,6}[1-9]\d{2} ?\d{3}(?!\d)",
        0.8,
    ),
    rule(
        "postal_address",
        r"(?i)p\.? ?o\.? box [0-9]",
        rf"(?i:\bp\.? ?o\.? box) \d{{1,7}}{_TAIL}",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i:straße|strasse|str\.|weg|platz|allee|gasse|ufer|damm|ring) [0-9]",
        r"[A-ZÄÖÜ][a-zäöüß.]{0,25}(?:[ -][A-ZÄÖÜ][a-zäöüß.]{0,20}){0,4}[ -]?"
        rf"(?:(?<=[a-zß. -]){_GERMAN}) \d{{1,4}}(?:[/-]\d{{1,3}})?[ ]?[a-z]?(?![A-Za-z0-9])"
        rf"(?:{_GAP}(?:D-)?\d{{5}} {_TOWN})?",
        0.85,
    ),
    rule(
        "postal_address",
        rf"{_FRENCH} ",
        rf"(?:[0-9](?<![A-Za-z0-9][0-9])\d{{0,3}}(?: bis| ter)?,? |(?<![A-Za-zÀ-ÿ]))(?={_FRENCH} )"
        r"[A-Za-zé]{3,9}(?: (?:de|du|des|la|le|les)(?= )){0,2}(?: [ld]['’]| )"
        r"(?:[A-ZÀ-Þa-z][A-Za-zÀ-ÿ'’-]{1,30})(?:(?: (?:de|du|des|la|le))? "
        r"[A-ZÀ-Þ][A-Za-zÀ-ÿ'’-]{1,30}){0,4}"
        rf"(?:,? ?\n?\d{{5}} {_TOWN})?",
        accept=_accept_french,
    ),
    rule(
        "postal_address",
        rf"(?:{_IBERIAN}) ",
        rf"(?<![A-Za-zÀ-ÿ])(?:{_IBERIAN}) {_IBERIAN_NAME},? (?:n[ºo°]\.? ?)?\d{{1,5}}(?!\d)"
        rf"{_UNIT}{_IBERIAN_END}?",
        0.8,
    ),
    rule(
        "postal_address",
        rf"(?:{_IBERIAN}|{_BRAZILIAN}) ",
        rf"(?<![A-Za-zÀ-ÿ])(?:{_IBERIAN}|{_BRAZILIAN}) {_IBERIAN_NAME}(?:,? (?:n[ºo°]\.? "
        rf"?)?\d{{1,5}}(?!\d))?"
        rf"{_UNIT}{_IBERIAN_END}",
        0.8,
    ),
    rule(
        "postal_address",
        r"(?:路|街|道|巷|弄|胡同|村|区)[一-鿿0-9]{0,12}[0-9]+ ?(?:号|弄|室|栋|幢)",
        r"(?:[一-鿿]{2,8}(?:省|自治区))?(?:[一-鿿]{2,6}市)?(?:[一-鿿]{1,6}(?:区|县|镇))?"
        r"[一-鿿]{1,10}(?:路|街|大道|道|巷|弄|胡同|村|区)[一-鿿]{0,6}\d{1,5} ?(?:号|弄|栋|幢)"
        r"(?:[一-鿿A-Za-z0-9-]{0,12}(?:室|单元|楼|层|号|栋|幢|座))?",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i)post ?code",
        rf"(?i:\bpost ?code)(?: is|:)? ({_UK_POSTCODE}){RIGHT}",
        0.85,
    ),
)


_NOT_IP: Final = (
    r"\bv|version|versión|versão|release|build|ver\.|firmware|section|chapter|abschnitt|kapitel|"
    r"sección|seção|第"
)


def _accept_ip_v4(match: re.Match[str]) -> Place | None:
    octets = match.group().split(".")
    if match.group().startswith(("0.", "127.", "255.255.")):
        return None
    before = match.string[max(0, match.start() - 24) : match.start()].lower()
    before = before.rpartition("\0")[2]  # what stands before a redacted value is not context
    before = before.rpartition("\n")[2]
    if re.search(rf"(?:{_NOT_IP})[ :=#]*$", before):
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
