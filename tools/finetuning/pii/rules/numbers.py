"""Numbers that identify: by a check digit, a fixed form, or the words in front of them.

Cards, accounts and coins; national identifiers; documents, medical records and health plans.
"""

from __future__ import annotations

import re
from typing import Final

from finetuning.pii.rules import LEFT, RIGHT, Place, Rule, checks, digits_of, rule

# A number must not be part of a longer one, of an identifier or of a UUID.
_BEFORE: Final = r"(?<![A-Za-z0-9_.-])"
_AFTER: Final = r"(?![A-Za-z0-9_]|[-.]\d| \d{4}(?!\d))"


def _accept_iban(match: re.Match[str]) -> Place | None:
    """Cut the candidate to the length of its country, then check mod 97."""
    length = checks.iban_length(match.group(1))
    if length is None:
        return None
    compact, end = "", match.start()
    for character in match.group(1):
        if len(compact) == length:
            break
        end += 1
        if character not in " -":
            compact += character
    if len(compact) != length or not checks.is_iban(compact):
        return None
    if match.string[end : end + 1].isalnum() and match.string[end : end + 1].isascii():
        return None
    return match.start(), end, 0.99


def _cued(cue: str, value: str) -> str:
    """Return a pattern for a value that follows its name, with at most 20 characters between."""
    return rf"(?i:{cue})[^0-9\n\0]{{0,20}}?{value}"


BANK_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "credit_card",
        r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4}",
        rf"{_BEFORE}(?:\d{{13,19}}|\d{{4}}([ -])\d{{4}}(?:\1\d{{4}}){{2}}(?:\1\d{{1,3}})?"
        rf"|\d{{4}}([ -])\d{{6}}\2\d{{4,5}})(?![A-Za-z0-9_]|[-.]\d)",
        accept=lambda match: (
            (match.start(), match.end(), 0.97) if checks.is_card(match.group()) else None
        ),
    ),
    rule(
        "iban",
        r"(?i)[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{3}",
        rf"{LEFT}(?=([A-Za-z]{{2}}\d{{2}}(?:[ -]?[A-Za-z0-9]){{11,30}}))",
        accept=_accept_iban,
    ),
    rule(
        "bank_account",
        r"(?i)(?:(?:account|acct|a/c) ?(?:n|#)|(?:bank|checking|savings) (?:account|acct)"
        r"|kontonummer|de compte|de cuenta|conta corrente|账号|帐号|账户|帐户|卡号)"
        r"[^0-9]{0,32}[0-9]",
        r"(?i:\b(?:(?:bank |checking |savings |current |deposit )?(?:account|acct|a/c)"
        r"(?: ?(?:number|num|no\.?|nr\.?|#))|(?:bank|checking|savings) (?:account|acct)"
        r"|kontonummer|numéro de compte|número de cuenta|conta corrente)"
        r"|(?:银行)?(?:账号|帐号|账户|帐户|卡号))"
        r"(?:[ \t]{0,2}(?:is|was|:|#|=|：|为|是|ist)){0,2}[ \t\"']{0,3}"
        rf"(\d(?:[ -]?\d){{5,19}}){RIGHT}",
        0.85,
    ),
    rule(
        "bank_account",
        r"(?i)routing|\baba\b",
        r"(?i:\brouting(?: transit)?(?: ?(?:number|no\.?|#))?|\baba\b)"
        rf"[^0-9\n\0]{{0,12}}(\d{{9}}){RIGHT}",
        0.9,
        check=checks.is_aba_routing,
    ),
    rule(
        "bank_account",
        r"(?i)sort ?code",
        rf"(?i:\bsort ?code)[^0-9\n\0]{{0,10}}(\d\d[- ]\d\d[- ]\d\d){_AFTER}",
        0.9,
    ),
    rule(
        "crypto_address",
        r"\b(?:[13][1-9A-HJ-NP-Za-km-z]{25}|(?i:bc1)[02-9ac-hj-np-zA-Z]{8})",
        rf"{LEFT}(?:[13][1-9A-HJ-NP-Za-km-z]{{25,34}}|bc1[02-9ac-hj-np-z]{{8,87}}"
        rf"|BC1[02-9AC-HJ-NP-Z]{{8,87}}){RIGHT}",
        0.99,
        check=checks.is_bitcoin,
    ),
    rule("crypto_address", "0x[0-9a-fA-F]{40}", rf"{LEFT}0x[0-9a-fA-F]{{40}}{RIGHT}", 0.9),
)


def _nine_digits(match: re.Match[str]) -> Place | None:
    value = digits_of(match.group(1))
    good = checks.is_itin(value) if value[0] == "9" else checks.is_ssn(value)
    return (match.start(1), match.end(1), 0.95) if good else None


def _is_cued_ssn(match: re.Match[str]) -> Place | None:
    return None if digits_of(match.group(1))[0] == "9" else _nine_digits(match)


def _is_cued_itin(match: re.Match[str]) -> Place | None:
    return _nine_digits(match) if digits_of(match.group(1))[0] == "9" else None


_SSN_CUE: Final = r"\bssn\b|\bsocial(?: security)?\b|\bitin\b|\btax(?:payer)? id"
_NINO_BAD: Final = ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")

NATIONAL_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "us_ssn",
        r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
        rf"{_BEFORE}[0-8]\d\d-\d\d-\d{{4}}{_AFTER}",
        0.9,
        check=checks.is_ssn,
    ),
    rule(
        "us_ssn",
        rf"(?i){_SSN_CUE}",
        _cued(_SSN_CUE, rf"(?<![A-Za-z0-9_])(\d{{3}}[ .-]?\d\d[ .-]?\d{{4}}){RIGHT}"),
        accept=_is_cued_ssn,
    ),
    rule(
        "us_itin",
        r"9[0-9]{2}-[0-9]{2}-[0-9]{4}",
        rf"{_BEFORE}9\d\d-\d\d-\d{{4}}{_AFTER}",
        0.9,
        check=checks.is_itin,
    ),
    rule(
        "us_itin",
        rf"(?i){_SSN_CUE}",
        _cued(_SSN_CUE, rf"(?<![A-Za-z0-9_])(\d{{3}}[ .-]?\d\d[ .-]?\d{{4}}){RIGHT}"),
        accept=_is_cued_itin,
    ),
    rule(
        "uk_nino",
        r"[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        rf"{LEFT}[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]{RIGHT}",
        0.93,
        check=lambda value: value[:2].upper() not in _NINO_BAD,
    ),
    rule(
        "uk_nino",
        r"(?i)national insurance|\bnino\b|\bni (?:number|no)",
        r"(?i:\bnational insurance(?: (?:number|no\.?))?|\bnino\b|\bni (?:number|no\.?))"
        r"(?:[ \t]{0,2}(?:is|:|#|=)){0,2}[ \t]{0,3}"
        rf"((?i:[A-Z]{{2}} ?\d\d ?\d\d ?\d\d ?[A-D])){RIGHT}",
        0.95,
    ),
    rule(
        "br_cpf",
        r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
        rf"{_BEFORE}\d{{3}}\.\d{{3}}\.\d{{3}}-\d\d{_AFTER}",
        0.98,
        check=checks.is_cpf,
    ),
    rule(
        "br_cpf",
        r"(?i)\bcpf\b",
        _cued(r"\bcpf\b", rf"(\d{{3}}[. ]?\d{{3}}[. ]?\d{{3}}[- ]?\d\d){RIGHT}"),
        0.95,
        check=checks.is_cpf,
    ),
    rule(
        "in_aadhaar",
        r"[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}",
        r"(?<![A-Za-z0-9_.-])(?<!\d )[2-9]\d{3}([ -])\d{4}\1\d{4}(?![A-Za-z0-9_]|[ -]\d)",
        accept=lambda match: (
            (match.start(), match.end(), 0.85) if checks.is_aadhaar(match.group()) else None
        ),
    ),
    rule(
        "in_aadhaar",
        r"(?i)aadh?aa?r|uidai|आधार",
        _cued(r"aadh?aa?r|uidai|आधार", rf"([2-9]\d{{3}}[ -]?\d{{4}}[ -]?\d{{4}}){RIGHT}"),
        0.97,
        check=checks.is_aadhaar,
    ),
    rule(
        "cn_resident_id",
        r"[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]",
        rf"{LEFT}[1-9]\d{{5}}(?:19|20)\d\d(?:0[1-9]|1[0-2])\d{{5}}[\dXx]{RIGHT}",
        0.98,
        check=checks.is_cn_resident_id,
    ),
)

_LINK: Final = (
    r"(?:[ \t]{0,2}(?:(?i:is|was|number|no\.?|nr\.?|id)\b|[:#=：]|为|是)){0,3}[ \t\"'#]{0,3}"
)
"""What may stand between a label and its value."""


def _has_four_digits(value: str) -> bool:
    return len(digits_of(value)) >= 4


RECORD_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "medical_record",
        r"(?i)\bmrn\b|medical|patient|chart|病历|住院|门诊|病案",
        r"(?:(?i:\bmrn\b|\bmedical record(?:s)?|\bpatient (?:id|number|no\.?)|\bpatient identifier|"
        r"\bchart (?:id|number|no\.?)|\bmedical (?:id|number))|病历号|住院号|门诊号|病案号|病历)"
        rf"{_LINK}([A-Z]{{0,4}}[- ]?\d[\d-]{{3,13}}\d){RIGHT}",
        0.93,
    ),
    rule(
        "health_plan",
        r"(?i)(?:plan|insurance|member|policy|subscriber|beneficiary|medicare|medicaid|nhs)"
        r" (?:id|n|#)|health (?:plan|insurance)|\bmbi\b|医保|社保",
        r"(?:(?i:\b(?:health )?(?:plan|insurance) (?:member |beneficiary |policy )?"
        r"(?:id|number|no\.?)|"
        r"\b(?:member|subscriber|beneficiary|medicare|medicaid)(?: (?:id|number|no\.?|#))|"
        r"\bhealth (?:plan|insurance)|\bmbi\b|\bnhs (?:number|no\.?))|医保(?:卡)?号|社保(?:卡)?号)"
        rf"{_LINK}(?=[A-Za-z0-9 -]{{0,14}}\d[A-Za-z0-9 -]{{0,4}}\d)"
        rf"([A-Z0-9](?:[- ]?[A-Z0-9]){{5,17}}){RIGHT}",
        0.9,
        check=_has_four_digits,
    ),
    rule(
        "health_plan",
        r"[1-9][A-Z][A-Z0-9][0-9]-?[A-Z][A-Z0-9][0-9]-?[A-Z]{2}[0-9]{2}",
        r"(?<![A-Za-z0-9-])[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]"
        r"[AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d\d(?![A-Za-z0-9-])",
        0.9,
    ),
    rule(
        "passport",
        r"(?i)passport|reisepass|passeport|pasaporte|passaporte|护照|護照",
        r"(?:(?i:\bpassport|\breisepass(?:nummer)?|\bpasseport|\bpasaporte|\bpassaporte)|护照|護照)"
        rf"(?:号码|号|號碼)?{_LINK}([A-Z]{{0,2}}[ ]?\d{{6,9}}"
        r"|[CFGHJKLMNPRTVWXYZ][0-9CFGHJKLMNPRTVWXYZ]{8}"
        rf"|\d{{2}}[A-Z]{{2}}\d{{5}}){RIGHT}",
        0.93,
        check=_has_four_digits,
    ),
    rule(
        "driving_licence",
        r"(?i)licen[cs]e|\bdl\b|führerschein|permis|licencia|habilitação|\bcnh\b|驾驶证|驾照|駕照",
        r"(?:(?i:\bdriv(?:er|ers|er's|ers'|er’s|ing)[ -]licen[cs]e|"
        r"\bdl(?: ?(?:number|no\.?|#)|[:#])|"
        r"\bführerschein(?:nummer)?|\bpermis de conduire|\blicencia de conducir|\bcnh\b|"
        r"\blicen[cs]e (?:number|no\.?))|驾驶证|驾照|駕照)"
        rf"(?:号码|号|號碼)?{_LINK}([A-Z0-9](?:[- ]?[A-Z0-9]){{5,18}}){RIGHT}",
        0.88,
        check=_has_four_digits,
    ),
)
