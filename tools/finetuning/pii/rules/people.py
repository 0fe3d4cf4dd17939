"""Who a person is in words: name, date of birth, postal address; found through cues.

What has no cue is often missed: free text names people in ways no list foresees, so recall of
these rules is partial, and the coverage matrix of ``scan_pii`` says so.
"""

from __future__ import annotations

import re
from typing import Final

from finetuning.pii.rules import RIGHT, Accept, Place, Rule, checks, rule

_WORD: Final = (
    r"[A-ZÀ-ÖØ-ÞŁŠŽ][a-zà-öø-ÿłšž]{1,20}(?:['’-][A-ZÀ-Þ][a-zà-öø-ÿ]{1,20})?"
    r"|[OD]['’][A-Z][a-z]{2,15}|Mc[A-Z][a-z]{2,15}"
)
_JOINT: Final = r"(?:de|da|do|dos|van|von|der|den|la|le|el|al|bin|di)(?= )"
_NAME: Final = rf"(?:{_WORD})(?:[ ](?:[A-Z]\.?(?![A-Za-z])|{_JOINT}|{_WORD})){{0,3}}"
_TITLE_WORDS: Final = (
    r"Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Herr|Frau|Monsieur|Madame|Mme|Mlle|Señora?|Sra?|Signora?"
)
_STRONG_CUE: Final = (
    r"my (?:full |legal )?name is|my name['’]s|\bname['’]?s? is|i am called|people call me|"
    r"je m['’]appelle|mon nom est|mi nombre es|me llamo|ich heiße|ich heisse|mein name ist|"
    r"meu nome é|me chamo|mi chiamo"
)
_WEAK_CUE: Final = (
    r"\bi am|\bi['’]m|\bthis is|\bspeaking with|\bspeak (?:to|with)|\btalk(?:ed|ing)? to|\bcontact|"
    r"\bdear|\bhi|\bhello|\bhey|\bsincerely|\bregards|\bcheers|\bthanks|\bthank you|\bbest|\byours|"
    r"\bsigned|\battn|\bfrom|\bsigned by|\bask for|\bcc|\bich bin|\bje suis|\bsoy|\bsou"
)
_LABEL: Final = (
    r"\b(?:(?:full|first|last|given|family|middle|customer|patient|client|contact|employee|user|"
    r"account holder|card ?holder|legal|maiden|guest|passenger|beneficiary)[ _-]?)?(?:sur)?name"
    r"|\b(?:patient|customer|client|caller|guest|tenant|employee|applicant|passenger|recipient|"
    r"account holder|card ?holder|attendee|beneficiary|emergency contact|next of kin)"
)


def _trim(value: str) -> str:
    """Drop trailing words that cannot be part of a name."""
    words = value.split(" ")
    while words and words[-1].rstrip(".") in checks.NOT_NAMES:
        words.pop()
    return " ".join(words)


def _is_known(value: str) -> bool:
    """Say whether the name begins with a given name, or pairs an ambiguous one with a family."""
    words = value.split(" ")
    if words[0] in checks.GIVEN:
        return True
    may_be_given = words[0] in checks.AMBIGUOUS_GIVEN or words[0] in checks.FAMILY
    return may_be_given and len(words) > 1 and words[-1] in checks.FAMILY


def _accept(minimum_words: int, confidence: float) -> Accept:
    def accept(match: re.Match[str]) -> Place | None:
        value = _trim(match.group(1))
        words = value.split(" ")
        if not value or words[0] in checks.NOT_NAMES:
            return None
        known = _is_known(value)
        if not known and len(words) < minimum_words:
            return None
        start = match.start(1)
        return start, start + len(value), 0.9 if known else confidence

    return accept


def _accept_weak(match: re.Match[str]) -> Place | None:
    value = _trim(match.group(1))
    if not value or not (_is_known(value) or value in checks.AMBIGUOUS_GIVEN):
        return None
    return match.start(1), match.start(1) + len(value), 0.75


def _accept_pair(match: re.Match[str]) -> Place | None:
    """Find a known given name inside a run of capitalised words, and what follows it."""
    start = match.start()
    words = match.group().split(" ")
    for position, word in enumerate(words[:-1]):
        value = _trim(" ".join(words[position : position + 4]))
        if " " in value and _is_known(value):
            sure = value.split(" ")[-1] in checks.FAMILY
            return start, start + len(value), 0.85 if sure else 0.65
        start += len(word) + 1
    return None


_GIVEN_ANY: Final = "|".join(sorted(checks.GIVEN | checks.AMBIGUOUS_GIVEN))
_ANY_NAME: Final = "|".join(sorted(checks.GIVEN | checks.AMBIGUOUS_GIVEN | checks.FAMILY))
_HAN_NAME: Final = rf"(?:欧阳|司马|上官|诸葛|[{checks.CHINESE_FAMILY}])[一-鿿]{{1,2}}"

NAME_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "person_name",
        rf"(?i:{_STRONG_CUE})[ :]{{1,3}}[A-ZÀ-ÞŁŠŽ]",
        rf"(?i:{_STRONG_CUE})[ :]{{1,3}}({_NAME})",
        accept=_accept(1, 0.85),
    ),
    rule(
        "person_name",
        rf"(?i:{_WEAK_CUE})[,:!.]?[ \n]{{1,3}}(?:{_ANY_NAME})",
        rf"(?i:{_WEAK_CUE})[,:!.]?[ \n]{{1,3}}((?!I\b){_NAME})",
        accept=_accept_weak,
    ),
    rule(
        "person_name",
        rf"(?:{_TITLE_WORDS})\.? [A-ZÀ-ÞŁŠŽ]",
        rf"(?<![A-Za-z])(?:{_TITLE_WORDS})\.? ({_NAME})",
        accept=_accept(1, 0.8),
    ),
    rule(
        "person_name",
        rf"(?i:{_LABEL})[\"']?[ \t]{{0,2}}[:=]",
        rf"(?i:{_LABEL})[\"']?[ \t]{{0,2}}[:=][ \t]{{0,2}}[\"']?({_NAME})",
        accept=_accept(2, 0.8),
    ),
    rule(
        "person_name",
        r"(?i)(?:first|last|given|family|sur|middle|maiden)[ _-]?name",
        rf"(?i:\b(?:first|last|given|family|middle|maiden)[ _-]?name|\bsurname)[\"']?[ \t]{{0,2}}"
        rf"(?:[:=]|is)[ \t]{{0,2}}[\"']?({_NAME})",
        accept=_accept(1, 0.8),
    ),
    rule(
        "person_name",
        rf"(?:{_GIVEN_ANY}) [A-ZÀ-ÞŁŠŽ]",
        rf"(?<![A-Za-zÀ-ÿ]){_NAME}(?:[ ](?:[A-Z]\.?(?![A-Za-z])|{_WORD})){{0,8}}",
        accept=_accept_pair,
    ),
    rule(
        "person_name",
        r"我叫|名叫|名字是|姓名|联系人|收件人|患者|病人|客户|持卡人",
        r"(?:我叫|名叫|名字是|姓名|联系人|收件人|患者|病人|客户|持卡人)[:： 是为]{0,3}"
        rf"({_HAN_NAME})(?![一-鿿]{{0,2}}(?:的|们|信息|服务|资料))",
        0.85,
    ),
    rule(
        "person_name",
        r"先生|女士|小姐|医生|老师|经理",
        rf"(?<![一-鿿])({_HAN_NAME}|[{checks.CHINESE_FAMILY}])(?:先生|女士|小姐|医生|老师|经理)",
        0.75,
    ),
)

_STREET: Final = (
    r"(?:street|avenue|road|boulevard|lane|drive|court|terrace|circle|parkway|highway|square|"
    r"crescent|gardens|grove|mews|place|way|close|trail|alley|plaza|row|loop|"
    r"st|ave|rd|blvd|ln|dr|ct|ter|cir|pkwy|hwy|sq|pl)"
)
_UNIT: Final = (
    r"(?:,? (?:(?i:apt|apartment|suite|ste|unit|floor|flat|fl)\.? ?[A-Za-z0-9-]{1,6}"
    r"|#[ ]?\d{1,5}))?"
)
_TOWN: Final = r"[A-ZÀ-Þ][a-zà-ÿ.'’-]{1,20}(?: [A-ZÀ-Þ][a-zà-ÿ.'’-]{1,20}){0,2}"
_UK_POSTCODE: Final = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_TAIL: Final = (
    rf"(?:,?[ \n]{{1,2}}{_TOWN})?"
    rf"(?:,?[ \n]{{1,2}}(?:[A-Z]{{2}}[ ]{{1,2}}\d{{5}}(?:-\d{{4}})?|{_UK_POSTCODE}))?"
)

ADDRESS_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "postal_address",
        r"[0-9][A-Za-z]? (?:[NSEW]{1,2}\.? )?(?:[A-Z0-9][A-Za-z0-9.'’-]* ){1,4}"
        rf"(?i:{_STREET})\b",
        rf"(?<![A-Za-z0-9.,$€£-])\d{{1,6}}[A-Za-z]? (?:[NSEW]{{1,2}}\.? )?"
        rf"(?:(?:[A-Z][A-Za-z.'’-]{{1,20}}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?"
        rf"(?:{_STREET.title()})\b\.?(?: [NS]?[EW]\b| [NS]\b)?{_UNIT}{_TAIL}",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i)p\.? ?o\.? box [0-9]",
        rf"(?i:\bp\.? ?o\.? box) \d{{1,7}}{_TAIL}",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?:straße|strasse|str\.|weg|platz|allee|gasse|ufer|damm|ring) [0-9]",
        r"[A-ZÄÖÜ][a-zäöüß-]{1,25}(?:[ -](?:[A-ZÄÖÜ][a-zäöüß-]{1,20}))?[ -]?"
        r"(?:(?<=[a-zß -])(?:[Ss]traße|[Ss]trasse|[Ss]tr\.|[Ww]eg|[Pp]latz|[Aa]llee|[Gg]asse|"
        r"[Uu]fer|[Dd]amm|[Rr]ing)) \d{1,4}[ ]?[a-z]?(?![A-Za-z0-9])"
        rf"(?:,?[ \n]{{1,2}}(?:D-)?\d{{5}} {_TOWN})?",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i)[0-9](?: bis| ter)?,? "
        r"(?:rue|avenue|boulevard|place|chemin|allée|impasse|quai|cours)\b",
        r"(?<![A-Za-z0-9])\d{1,4}(?: bis| ter)?,? (?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Pp]lace|"
        r"[Cc]hemin|[Aa]llée|[Ii]mpasse|[Qq]uai|[Cc]ours)"
        r"(?: (?:de|du|des|la|le|les|l['’]|d['’])){0,2}[ ]?"
        r"[A-Za-zÀ-ÿ'’-]{2,30}(?: [A-ZÀ-Þ][A-Za-zà-ÿ'’-]{1,30}){0,4}"
        rf"(?:,?[ \n]{{1,2}}\d{{5}} {_TOWN})?",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i)(?:calle|avenida|av\.|rua|via|plaza|travessa|praça) ",
        r"(?<![A-Za-z])(?:[Cc]alle|[Aa]venida|[Rr]ua|[Vv]ia|[Pp]laza|[Tt]ravessa|[Pp]raça) "
        r"(?:(?:de|da|do|dos|del|la|las|los|el) ){0,2}[A-ZÀ-Þ][A-Za-zà-ÿ'’]{1,20}"
        r"(?: (?:(?:de|da|do|dos|del) )?[A-ZÀ-Þ][A-Za-zà-ÿ'’]{1,20}){0,3},? "
        r"(?:n[ºo°]\.? ?)?\d{1,5}(?!\d)"
        rf"(?:,?[ \n]{{1,2}}\d{{5}}(?:-\d{{3}})? {_TOWN})?",
        0.8,
    ),
    rule(
        "postal_address",
        r"(?:路|街|道|巷|弄|胡同|村|区)[一-鿿0-9]{0,12}[0-9]+ ?(?:号|弄|室|栋|幢)",
        r"(?:[一-鿿]{2,8}(?:省|自治区))?(?:[一-鿿]{2,6}市)?(?:[一-鿿]{1,6}(?:区|县|镇))?"
        r"[一-鿿]{1,10}(?:路|街|大道|道|巷|弄|胡同|村|区)[一-鿿]{0,6}\d{1,5} ?(?:号|弄|栋|幢)"
        r"(?:[一-鿿A-Za-z0-9-]{0,12}(?:室|单元|楼|层|号))?",
        0.85,
    ),
    rule(
        "postal_address",
        r"(?i)post ?code",
        rf"(?i:\bpost ?code)(?: is|:)? ({_UK_POSTCODE}){RIGHT}",
        0.85,
    ),
)

_MONTH: Final = "(?i:" + "|".join(sorted(checks.MONTHS, key=len, reverse=True)) + r")\.?"
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
        return checks.is_date(year, part["a"], part["b"]) or checks.is_date(
            year, part["b"], part["a"]
        )
    for number in "1345":
        year = part.get(f"y{number}")
        if year is not None:
            word = part.get(f"M{number}")
            month = str(checks.MONTHS[word.lower().rstrip(".")]) if word else part[f"m{number}"]
            return checks.is_date(year, month, part[f"d{number}"])
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


BIRTH_RULES: Final[tuple[Rule, ...]] = (
    rule(
        "date_of_birth",
        r"(?i)birth|\bd\.?o\.?b\b|\bborn\b|gebor|geburt|\bnée?\b|naiss|nacim|nacid|nascim|nascid|"
        r"出生|生日",
        _BIRTH_CUE,
        accept=_accept_birth,
    ),
)
