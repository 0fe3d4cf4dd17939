"""Numbers that identify: by a check digit, a fixed form, or the words in front of them.

Cards, accounts and coins; national identifiers; documents, medical records and health plans.
"""

from __future__ import annotations

import re
from typing import Final

from finetuning.pii.rules import (
    CODES,
    FIGURES,
    LEFT,
    LINK,
    RIGHT,
    Place,
    Rule,
    checks,
    cued,
    digits_of,
    rule,
)

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


# A number must not be part of a longer one, of an identifier or of a UUID.
_BEFORE: Final = r"(?<![A-Za-z0-9_.-])"
_AFTER: Final = r"(?![A-Za-z0-9_]|[-.]\d| \d{4}(?!\d))"


def _accept_iban(match: re.Match[str]) -> Place | None:
    """Cut the candidate to the length of its country, then check mod 97."""
    start = match.start() - 2
    value = match.string[start : start + 3] + match.group(1)
    length = checks.iban_length(value)
    places = [place for place, character in enumerate(value) if character not in " -\n"]
    if length is None or len(places) < length:
        return None
    whole = value[: places[length - 1] + 1]
    end = start + len(whole)
    compact = "".join(whole[place] for place in places[:length])
    if not checks.is_iban(compact):
        return None
    if match.string[end : end + 1].isalnum() and match.string[end : end + 1].isascii():
        return None
    named = "iban" in match.string[max(0, start - 12) : start].lower()
    if not named and (not compact.isupper() or not _IBAN_GROUPS.fullmatch(whole)):
        return None  # by chance one UUID of a hundred passes
    return start, end, 0.99


_IBAN_GROUPS: Final = re.compile(
    r"[A-Z0-9]+|[A-Z0-9]{4}(?:[ \n-]{1,2}[A-Z0-9]{4}){2,}.{0,4}", re.DOTALL
)
_MAESTRO: Final = frozenset("50 56 57 58 63 67 81".split())
_CARD_WORD: Final = re.compile(
    r"card|visa|master|amex|credit|kredit|karte|carte|tarjeta|cartão|信用卡|卡", re.IGNORECASE
)


def _accept_card(match: re.Match[str]) -> Place | None:
    """Check prefix and digit; a bare number of a rare length must also be called a card."""
    value = match.group()
    if not checks.is_card(value):
        return None
    if value.isdigit():
        before = match.string[max(0, match.start() - 32) : match.start()]
        rare = len(value) not in (15, 16) or value[:2] in _MAESTRO
        if is_other(match) or (rare and not _CARD_WORD.search(before)):
            return None
    return match.start(), match.end(), 0.97


def _cued(cue: str, value: str) -> str:
    """Return a pattern for a value that follows its name, with at most 20 characters between."""
    return rf"(?i:{cue})[^0-9\n\0]{{0,20}}?{value}"


_ACCOUNT, _ACCOUNT_CUE = cued(
    "bank account|checking account|savings account|current account|account (?:n|#)|acct|a/c (?:n|"
    "#)|"
    "bank acct|kontonummer|konto|numéro de compte|compte bancaire|número de cuenta|cuenta bancaria|"
    "nº de cuenta|número da conta|conta corrente|conta bancária|conta nº|银行账|银行卡|账号|帐号|"
    "账户|"
    "帐户|卡号"
)
_LINK_WORDS: Final = r"(?:umber|um|o\.?|r\.?)?(?: hat die Nummer)?"


# fmt: off
BANK_RULES: Final[tuple[Rule, ...]] = (
    rule("credit_card",
        r"[0-9](?:[ \n-]{0,2}[0-9]){12}[^0-9]",
        r"\d(?<![A-Za-z0-9_.-]\d)(?:\d{12,18}|"
        r"\d{3}(?:[ \n-]{1,2}\d{4}){3}(?:[ -]\d{1,3})?"
        r"|\d{3}[ \n-]{1,2}\d{6}[ \n-]{1,2}\d{4,5})(?![A-Za-z0-9_]|[-.]\d)", accept=_accept_card,
        gate=FIGURES),
    rule("iban", r"(?i)\b[A-Z]{2}[0-9]{2}[ \n-]?[A-Z0-9]{4}[ \n-]?[A-Z0-9]{3}",
        r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9_][A-Za-z]{2}\d)"
        r"(?=(\d(?:[ \n-]?[A-Za-z0-9]){11,30}))", accept=_accept_iban, gate=CODES),
    rule("bank_account", _ACCOUNT,
        rf"{_ACCOUNT_CUE}{_LINK_WORDS}[号-]?{LINK}(\d(?:[ -]?\d){{5,19}}){RIGHT}", 0.85),
    rule("bank_account", r"(?i)routing|\baba\b",
        r"(?i:\brouting(?: transit)?(?: ?(?:number|no\.?|#))?|\baba\b)"
        rf"[^0-9\n\0]{{0,12}}(\d{{9}}){RIGHT}", 0.9, check=checks.is_aba_routing),
    rule("bank_account", r"(?i)sort ?code",
        rf"(?i:\bsort ?code)[^0-9\n\0]{{0,10}}(\d\d[- ]\d\d[- ]\d\d){_AFTER}", 0.9),
    rule("crypto_address", r"\b(?:[13][1-9A-HJ-NP-Za-km-z]{25}|(?i:bc1)[02-9ac-hj-np-zA-Z]{8})",
        rf"{LEFT}(?:[13][1-9A-HJ-NP-Za-km-z]{{25,34}}|bc1[02-9ac-hj-np-z]{{8,87}}"
        rf"|BC1[02-9AC-HJ-NP-Z]{{8,87}}){RIGHT}", 0.99, check=checks.is_bitcoin, gate=CODES),
    rule("crypto_address", "0x[0-9a-fA-F]{40}", rf"{LEFT}0x[0-9a-fA-F]{{40}}{RIGHT}", 0.9),
)
# fmt: on


def _nine_digits(match: re.Match[str]) -> Place | None:
    value = digits_of(match.group(1))
    good = checks.is_itin(value) if value[0] == "9" else checks.is_ssn(value)
    return (match.start(1), match.end(1), 0.95) if good else None


_SSN_CUE: Final = r"\bssn\b|\bsocial(?: security)?\b|\bitin\b|\btax(?:payer)? id"
_NINO_BAD: Final = ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")
_NINO: Final = rf"{LEFT}[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]{RIGHT}"


def _is_nino(value: str) -> bool:
    return value[:2].upper() not in _NINO_BAD


# fmt: off
NATIONAL_RULES: Final[tuple[Rule, ...]] = (
    rule("us_ssn", r"[0-9]{3}-\n?[0-9]{2}-\n?[0-9]{4}",
        rf"{_BEFORE}[0-8]\d\d-\n?\d\d-\n?\d{{4}}{_AFTER}", 0.9,
        check=checks.is_ssn, gate=FIGURES),
    rule("us_ssn", rf"(?i){_SSN_CUE}",
        _cued(_SSN_CUE, rf"(?<![A-Za-z0-9_])(\d{{3}}[ .-]?\n?\d\d[ .-]?\n?\d{{4}}){RIGHT}"),
        accept=lambda match: None if match.group(1)[0] == "9" else _nine_digits(match)),
    rule("us_itin", r"9[0-9]{2}-\n?[0-9]{2}-\n?[0-9]{4}",
        rf"{_BEFORE}9\d\d-\n?\d\d-\n?\d{{4}}{_AFTER}", 0.9,
        check=checks.is_itin, gate=FIGURES),
    rule("us_itin", rf"(?i){_SSN_CUE}",
        _cued(_SSN_CUE, rf"(?<![A-Za-z0-9_])(\d{{3}}[ .-]?\n?\d\d[ .-]?\n?\d{{4}}){RIGHT}"),
        accept=lambda match: _nine_digits(match) if match.group(1)[0] == "9" else None),
    rule("uk_nino", r"[A-Z]{2}[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]", _NINO, 0.93, check=_is_nino,
        gate=CODES),
    rule("uk_nino", r"[A-Z]{2} [0-9]{2} ?[0-9]{2} ?[0-9]{2}", _NINO, 0.93, check=_is_nino),
    rule("uk_nino", r"(?i)national insurance|\bnino\b|\bni (?:number|no)",
        r"(?i:\bnational insurance(?: (?:number|no\.?))?|\bnino\b|\bni (?:number|no\.?))"
        r"(?:[ \t]{0,2}(?:is|:|#|=)){0,2}[ \t]{0,3}"
        rf"((?i:[A-Z]{{2}} ?\d\d ?\d\d ?\d\d ?[A-D])){RIGHT}", 0.95),
    rule("br_cpf", r"[0-9]{3}\.\n?[0-9]{3}\.\n?[0-9]{3}-\n?[0-9]{2}",
        rf"{_BEFORE}\d{{3}}\.\n?\d{{3}}\.\n?\d{{3}}-\n?\d\d{_AFTER}", 0.98, check=checks.is_cpf,
        gate=FIGURES),
    rule("br_cpf", r"(?i)\bcpf\b",
        _cued(r"\bcpf\b", rf"(\d{{3}}[. ]?\n?\d{{3}}[. ]?\n?\d{{3}}[- ]?\n?\d\d){RIGHT}"), 0.95,
        check=checks.is_cpf),
    rule("in_aadhaar", r"[2-9][0-9]{3}[ \n-]{1,2}[0-9]{4}[ \n-]{1,2}[0-9]{4}",
        r"(?<![A-Za-z0-9_.-])(?<!\d )[2-9]\d{3}(?:([ -])\n?\d{4}(?:\1\n?|\n)|\n\d{4}[ -])"
        r"\d{4}(?![A-Za-z0-9_]|[ -]\d)",
        accept=lambda match: (
        (match.start(), match.end(), 0.85) if checks.is_aadhaar(match.group()) else None
        ), gate=FIGURES),
    rule("in_aadhaar", r"(?i)aadh?aa?r|uidai|आधार",
        _cued(r"aadh?aa?r|uidai|आधार", rf"([2-9]\d{{3}}[ -]?\n?\d{{4}}[ -]?\n?\d{{4}}){RIGHT}"),
        0.97, check=checks.is_aadhaar),
    rule("cn_resident_id", r"[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]",
        rf"{LEFT}[1-9]\d{{5}}(?:19|20)\d\d(?:0[1-9]|1[0-2])\d{{5}}[\dXx]{RIGHT}", 0.98,
        check=checks.is_cn_resident_id, gate=FIGURES),
)
# fmt: on

_MEDICAL, _MEDICAL_CUE = cued(
    r"mrn\b|medical record(?:s)?|patient (?:id|number|no\b|identifier)|chart (?:id|number|no\b)|"
    r"medical (?:id|number)|patientennummer|patienten-?(?:id|nr)\b|fallnummer|aufnahmenummer|"
    r"dossier (?:médical|patient)|numéro de dossier|n° de patient|historia clínica|"
    r"n\.?º de (?:paciente|historia)|número de (?:paciente|historia clínica)|prontuário|"
    r"nº do paciente|número do (?:paciente|prontuário)|病历|住院号|门诊号|病案号|就诊卡"
)
_PLAN, _PLAN_CUE = cued(
    r"plan (?:member |beneficiary )?(?:id|number|no\b)|insurance (?:policy )?(?:id|number|no\b)|"
    r"health (?:plan|insurance)(?: (?:id|number|no\b))?|policy number of my health insurance|"
    r"member (?:id|number|no\b|#)|subscriber (?:id|number|no\b|#)|beneficiary (?:id|number|no\b|#)|"
    r"medicare (?:id|number|no\b|#)|medicaid (?:id|number|no\b|#)|mbi\b|nhs (?:number|no\b)|kvnr\b|"
    r"krankenversicherten(?:nummer|-?nr)|versicherten(?:nummer|-?nr)|"
    r"numéro (?:de mutuelle|d['’]adhérent|d['’]assuré)|n° d['’](?:adhérent|assuré)|mutuelle|"
    r"número de (?:asegurado|afiliado|póliza)|n\.?º de (?:afiliado|asegurado)|tarjeta sanitaria|"
    r"número do convênio|convênio|carteirinha(?: do plano(?: de saúde)?)?|plano de saúde|"
    r"cartão sus|医保|社保"
)
_PASSPORT, _PASSPORT_CUE = cued(
    "passport|reisepass(?:nummer)?|passnummer|pass-nr|passeport|pasaporte|passaporte|护照|護照"
)
_LICENCE, _LICENCE_CUE = cued(
    r"driv(?:er|ers|er's|ers'|er’s|ing)[ -]licen[cs]e|dl\b|dl#|führerschein(?:nummer|-nr)?|"
    r"permis de conduire|numéro de permis|licencia de conducir|permiso de conducir|carn[eé]t? de "
    r"conducir|"
    r"cnh\b|habilitação|carteira de (?:habilitação|motorista)|licen[cs]e (?:number|no\b)|"
    r"驾驶证|驾照|駕照"
)


def _has_four_digits(value: str) -> bool:
    return len(digits_of(value)) >= 4


# fmt: off
RECORD_RULES: Final[tuple[Rule, ...]] = (
    rule("medical_record", _MEDICAL,
        rf"{_MEDICAL_CUE}{LINK}([A-Z]{{0,4}}[- ]?\d[\d-]{{3,13}}\d){RIGHT}", 0.93),
    rule("health_plan", _PLAN,
        rf"{_PLAN_CUE}(?:卡)?{LINK}(?=[A-Za-z0-9 -]{{0,14}}\d[A-Za-z0-9 -]{{0,4}}\d)"
        rf"([A-Z0-9](?:(?:-| (?=\d))?[A-Z0-9]){{5,17}}){RIGHT}", 0.9, check=_has_four_digits),
    rule("health_plan", r"[1-9][A-Z][A-Z0-9][0-9]-?[A-Z][A-Z0-9][0-9]-?[A-Z]{2}[0-9]{2}",
        r"[1-9](?<![A-Za-z0-9-][1-9])[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]"
        r"[AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d\d(?![A-Za-z0-9-])", 0.9, gate=CODES),
    rule("passport", _PASSPORT,
        rf"{_PASSPORT_CUE}{LINK}([A-Z]{{0,3}}[ ]?\d{{6,9}}"
        r"|(?=[A-Z]{0,8}\d)[CFGHJKLMNPRTVWXYZ][0-9CFGHJKLMNPRTVWXYZ]{8}"
        rf"|\d{{2}}[A-Z]{{2}}\d{{5}}){RIGHT}", 0.93),
    rule("driving_licence", _LICENCE,
        rf"{_LICENCE_CUE}(?:(?:档案)?编)?{LINK}([A-Z0-9](?:(?:-| (?=\d))?[A-Z0-9]){{5,18}}){RIGHT}",
        0.88, check=_has_four_digits),
)
# fmt: on
