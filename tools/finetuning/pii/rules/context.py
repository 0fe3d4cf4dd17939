"""Numbers and dates that only the words in front of them make personal."""

from __future__ import annotations

import re
from typing import Final

from finetuning.pii.rules.checksums import is_date
from finetuning.pii.rules.rule import RIGHT, Place, Rule, digits_of, rule

_LINK: Final = (
    r"(?:[ \t]{0,2}(?:(?i:is|was|number|no\.?|nr\.?|id)\b|[:#=：]|为|是)){0,3}[ \t\"'#]{0,3}"
)
"""What may stand between a label and its value."""

_MONTHS: Final[dict[str, int]] = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar janvier enero janeiro",
            "feb february februar février fevrier febrero fevereiro",
            "mar march märz mars marzo março",
            "apr april avril abril",
            "may mai mayo maio",
            "jun june juni juin junio junho",
            "jul july juli juillet julio julho",
            "aug august août aout agosto",
            "sep sept september septembre septiembre setembro",
            "oct october okt oktober octobre octubre outubro",
            "nov november novembre noviembre novembro",
            "dec december dez dezember décembre decembre diciembre dezembro",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH: Final = "(?i:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DATE: Final = re.compile(
    r"(?P<y1>(?:19|20)\d\d)(?:[-/.]|年 ?)(?P<m1>\d{1,2})(?:[-/.]|月 ?)(?P<d1>\d{1,2})(?:日|号)?"
    r"|(?P<a>\d{1,2})[-/. ]{1,2}(?P<b>\d{1,2})[-/. ]{1,2}(?P<y2>(?:19|20)\d\d|\d\d)"
    rf"|(?P<M3>{_MONTH}) (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y3>(?:19|20)\d\d)"
    rf"|(?P<d4>\d{{1,2}})(?:st|nd|rd|th|er|\.|º)?(?: (?:of|de))?[ -](?P<M4>{_MONTH})"
    r"(?: (?:de|del))?,?[ -](?P<y4>(?:19|20)\d\d)"
    r"|(?P<y5>(?:19|20)\d\d)(?P<m5>\d\d)(?P<d5>\d\d)(?!\d)",
    re.ASCII,
)
_NEAR_DIGIT: Final = re.compile(r"[^\d\0]{0,40}\d", re.ASCII)
_BIRTH_CUE: Final = (
    r"(?i:\bdate of birth|\bbirth ?date|\bd\.?o\.?b\b\.?|\bbirthday|\bborn|\bgeburtsdatum|"
    r"\bgeboren|\bnée? le|\bdate de naissance|\bfecha de nacimiento|\bnacid[oa]|"
    r"\bdata de nascimento|\bnascid[oa])|出生日期|出生年月|出生于|生日|出生"
)


def _is_day(match: re.Match[str]) -> bool:
    part = match.groupdict()
    if part["a"] is not None:
        year = part["y2"] if len(part["y2"]) == 4 else "19" + part["y2"]
        return is_date(year, part["a"], part["b"]) or is_date(year, part["b"], part["a"])
    for number in "1345":
        year = part.get(f"y{number}")
        if year is not None:
            word = part.get(f"M{number}")
            month = str(_MONTHS[word.lower().rstrip(".")]) if word else part[f"m{number}"]
            return is_date(year, month, part[f"d{number}"])
    return False  # pragma: no cover - one of the five forms always names the year


def _accept_birth(match: re.Match[str]) -> Place | None:
    """Find a date within 24 characters after the cue."""
    if _NEAR_DIGIT.match(match.string, match.end()) is None:
        return None
    found = _DATE.search(match.string, match.end(), match.end() + 60)
    if found is None or found.start() - match.end() > 24 or not _is_day(found):
        return None
    between = match.string[match.end() : found.start()]
    if "\n" in between.strip("\n") or "\0" in between:
        return None
    return found.start(), found.end(), 0.93


def _has_four_digits(value: str) -> bool:
    return len(digits_of(value)) >= 4


CONTEXT_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "date_of_birth",
        r"(?i)birth|\bd\.?o\.?b\b|\bborn\b|gebor|geburt|\bnée?\b|naiss|nacim|nacid|nascim|nascid|"
        r"出生|生日",
        _BIRTH_CUE,
        accept=_accept_birth,
    ),
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
        r"(?i)member|health|insurance|subscriber|beneficiary|medicare|medicaid|\bmbi\b|\bnhs\b|"
        r"医保|社保",
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
