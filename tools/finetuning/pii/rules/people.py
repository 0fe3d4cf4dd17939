"""Who a person is in words: name and date of birth; found through cues.

What has no cue is often missed: free text names people in ways no list foresees, so recall of
these rules is partial, and the coverage matrix of ``scan_pii`` says so. A name is a run of words
with capitals; the words before it, or those after it, or a list of names decide.
"""

from __future__ import annotations

import re
from typing import Final

from finetuning.pii.rules import Place, Rule, checks, cued, rule

_LOW: Final = "[a-zà-öø-ÿłšž]"
_CAP: Final = "[A-ZÀ-ÖØ-ÞŁŠŽ]"
_JOINT: Final = r"(?:d[aeo]s?|del?|van|von|der|den|la|le|el|al|bin|di|du)(?= )"


_WORD_REST: Final = (
    rf"(?:{_LOW}{{1,20}}(?:['’-][A-ZÀ-Þ]?{_LOW}{{1,20}}){{0,2}}"
    r"|['’][A-Z][a-z]{2,15}|c[A-Z][a-z]{2,15})"
)
_RUN: Final = (
    rf"{_CAP}(?<![A-Za-zÀ-ÿ0-9].)(?:{_WORD_REST}|\.(?= ))"
    rf"(?: (?:[A-Z]\.?(?![A-Za-zÀ-ÿ])|(?:{_JOINT} ){{0,2}}{_CAP}{_WORD_REST})){{0,8}}"
)

# What stands before a name, as words in lower case; the letter says what else must hold.
_BEFORE: Final[dict[str, str]] = {
    cue: kind
    for kind, cues in {
        # n: any one word is a name
        "n": "my name is|name is|full name is|legal name is|name's|i am called|people call me|"
        "je m'appelle|je m’appelle|mon nom est|mi nombre es|me llamo|ich heiße|ich heisse|"
        "mein name ist|meu nome é|me chamo|mi chiamo|mr|mrs|ms|miss|mx|dr|prof|professor|herr|frau|"
        "herrn|monsieur|madame|mme|mlle|señor|señora|sr|sra|signor|signora|senhor|senhora|dona",
        # c: with a colon; two words, or one that is known
        "c": "name|nom|nombre|nome|prénom|customer|client|kunde|kundin|cliente|patient|patientin|"
        "contact|kontakt|ansprechpartner|ansprechpartnerin|interlocuteur|contacto|responsável|"
        "caller|"
        "guest|tenant|employee|applicant|passenger|recipient|account holder|card holder|cardholder|"
        "attendee|beneficiary|emergency contact|next of kin|persona de contacto|empfänger|paciente|"
        "destinataire|destinatario|author|user|mitarbeiter|employé|signed|attn",
        # f: with a colon or "is"; one word will do
        "f": "first name|last name|given name|family name|surname|middle name|maiden name|vorname|"
        "nachname|apellido|apellidos|sobrenome",
        # s: on the line above, with at most a comma
        "s": "regards|sincerely|wishes|cheers|thanks|yours|best|grüßen|grüße|gruß|cordialement|"
        "vous|"
        "sentiments|salutations|saludo|saludos|atentamente|atenciosamente|abraços|abraço|"
        "cumprimentos|faithfully|truly|respectfully",
        # p: two words, or one that is known
        "p": "this is|i am|i'm|i’m|ich bin|je suis|soy|sou|dear|hi|hello|hey|hallo|liebe|lieber|"
        "geehrte|"
        "geehrter|bonjour|cher|chère|hola|estimada|estimado|querida|querido|olá|oi|prezado|prezada|"
        "spoke with|spoke to|speak with|speak to|speaking with|talk to|talked to|talked with|met "
        "with|"
        "forward it to|forward to|colleague|kollege|kollegin|collègue|compañero|compañera|colega|"
        "held by|signed by|written by|behalf of|ask for|auftrag von|hier avec|parlé avec|"
        "transmettre à|"
        "part de|hablé con|reenvíelo a|nombre de|falei com|encaminhe para|assigned to|reports to",
        # x: what follows is a company
        "x": "works for|works at|work for|work at|employed by|bei|chez|trabaja en|trabalha na|"
        "trabalha no",
        # w: one that is known
        "w": "contact|cc|attn|thanks|thank you",
    }.items()
    for cue in cues.split("|")
}
_STRONG: Final = frozenset("ncfs")
_AFTER: Final = (
    r"(?:has|had) (?:already |just |not |also )?(?:approved|asked|called|written|told|confirmed|"
    r"signed|"
    r"sent|left|joined|agreed|replied|requested|mentioned|reported)|(?:wrote|said|asked|told|"
    r"called|"
    r"replied|confirmed|agreed) |hat (?:die|den|das|uns|mir|mich|schon|sich|gestern|heute|es) |"
    r"weiter\b|gesprochen|telefoniert|"
    r"a (?:déjà|validé|dit|écrit|appelé|confirmé|demandé|signé|répondu)|ya (?:aprobó|dijo|confirmó|"
    r"firmó|envió)|(?:aprobó|dijo|escribió|llamó|confirmó|firmó|envió|pidió) |já (?:aprovou|disse|"
    r"confirmou|assinou|enviou)|(?:aprovou|disse|escreveu|ligou|confirmou|assinou|enviou|pediu) "
)
_ACTS: Final = re.compile(rf" (?:{_AFTER})")
_TAIL: Final = re.compile(r"([,:.!]?)([ \n]{1,3}[\"'(]?|[ ]?[\"']?[:=][ \t]{0,2}[\"']?)$")


_LAST_WORDS: Final = frozenset(cue.rpartition(" ")[2] for cue in _BEFORE)


def _may_follow_cue(before: str) -> bool:
    """Say whether the last word is one that ends a cue: most are not, and this is quick."""
    end = before.rstrip(" \n\t\"'(,:.!=")
    start = max(end.rfind(" "), end.rfind("\n"), end.rfind("\t")) + 1
    return end[start:].lower().lstrip("\"'([{") in _LAST_WORDS


def _is_known(words: list[str]) -> bool:
    """Say whether the name begins with a given name, or pairs an ambiguous one with a family."""
    first = words[0].partition("-")[0]
    if words[0] in checks.GIVEN or first in checks.GIVEN:
        return True
    may_be_given = words[0] in checks.AMBIGUOUS_GIVEN or words[0] in checks.FAMILY
    return may_be_given and len(words) > 1 and words[-1] in checks.FAMILY


def _kind_before(before: str) -> str:
    """Return the kind of the cue that ends a text, or "" for none."""
    tail = _TAIL.search(before)
    if tail is None:
        return ""
    words = before[: tail.start()].lower().split()[-4:]
    mark = (tail.group(1) + tail.group(2)).strip(" \n\"'(\t")
    for size in range(len(words), 0, -1):
        cue = " ".join(words[-size:]).lstrip("\"'([{")
        kind = _BEFORE.get(cue, "")
        if kind == "s" or (kind and kind != "c" and "\n" in tail.group(2)):
            return kind if kind == "s" and "\n" in tail.group(2) else ""
        if kind == "c":
            return kind if mark in {":", "="} else _UNMARKED.get(cue, "")
        if kind:
            return kind
    return ""


_UNMARKED: Final[dict[str, str]] = dict.fromkeys(
    "customer client patient caller kunde cliente paciente guest patientin kundin".split(), "p"
)
_CUE_WORDS: Final = "|".join(sorted((cue.replace(" ", r"\s+") for cue in _BEFORE), key=len))
_GIVEN_ANY: Final = "|".join(sorted(checks.GIVEN | checks.AMBIGUOUS_GIVEN))
_NAME_TRIGGERS: Final = (
    rf"(?i:\b(?:{_CUE_WORDS}))[ ]?[\"']?[,:.!=]?[ \t\n]{{0,3}}[\"'(]?{_CAP}",
    rf"(?:{_GIVEN_ANY})[^a-z]",
    rf"[^ \n] (?:{'|'.join(sorted(checks.FAMILY))})\b",
    rf"[^ \n] (?:{_AFTER})",
)


_MAY_BEGIN: Final = checks.AMBIGUOUS_GIVEN - {"Will", "Mark"}


def _cut(words: list[str]) -> list[str]:
    """Return the first words of a run that can be one name."""
    kept: list[str] = []
    capitals = 0
    for word in words:
        stops = word in checks.NOT_NAMES and (kept or word not in _MAY_BEGIN)
        if stops or capitals == 4:
            break
        kept.append(word)
        capitals += word[0].isupper()
    while kept and kept[-1][0].islower():
        kept.pop()
    return kept


def _judge(words: list[str], before: str, after: str) -> float:
    """Return how sure it is that words with capitals are a name; 0 for not."""
    kind = _kind_before(before) if _may_follow_cue(before) else ""
    if not kind and len(words) < 2:
        return 0.0
    known = _is_known(words)
    listed = known or (len(words) > 1 and words[-1] in checks.FAMILY)
    acts = len(words) > 1 and _ACTS.match(after) is not None
    if kind == "x" or (before.endswith("在") and after.startswith("工作")):
        return 0.0
    if not kind or kind == "w":
        if len(words) < 2:
            return 0.75 if kind and known else 0.0
        if known:
            return 0.85 if words[-1] in checks.FAMILY else 0.65
        return 0.6 if listed or acts else 0.0
    if len(words) > 1 or kind in "nfs":
        return 0.9 if known else 0.65 if kind == "p" else 0.8
    return 0.75 if known or words[0] in checks.AMBIGUOUS_GIVEN else 0.0


def _accept_name(match: re.Match[str]) -> Place | None:
    """Find the first name inside a run of words with capitals."""
    text, start = match.string, match.start()
    words = match.group().split(" ")
    for at, word in enumerate(words):
        name = _cut(words[at:]) if word[0].isupper() else []
        for size in (len(name), 2)[: 1 + (len(name) > 2)] if name else ():
            end = start + sum(map(len, name[:size])) + size - 1
            sure = _judge(name[:size], text[max(0, start - 40) : start], text[end : end + 24])
            if sure:
                return start, end, sure
        start += len(word) + 1
    return None


_HAN_NAME: Final = rf"(?:欧阳|司马|上官|诸葛|[{checks.CHINESE_FAMILY}])[一-鿿]{{1,2}}?"
_HAN_TITLE: Final = "先生|女士|小姐|医生|老师|经理"
_HAN_END: Final = (
    rf"(?=[，。！？,.!?\s:：、；)）\"]|$|{_HAN_TITLE}|已经|谈|说|写信|来电|联系|沟通|签|女|男)"
)

# fmt: off
NAME_RULES: Final[tuple[Rule, ...]] = (
    rule("person_name", _NAME_TRIGGERS, _RUN, accept=_accept_name),
    rule("person_name",
        r"我叫|名叫|名字是|姓名|联系人|收件人|患者|病人|客户|持卡人|经办人|负责人|我是|转给|转交|"
        r"代表|同事|敬礼",
        r"(?:我叫|名叫|名字是|姓名|联系人|收件人|患者|病人|客户|持卡人|经办人|负责人|我是|转给|"
        r"转交给?|代表|同事|敬礼)"
        rf"[:： \n是为]{{0,3}}({_HAN_NAME}){_HAN_END}", 0.85),
    rule("person_name", r"(?:和|与|跟|同)[一-鿿]{2,4}(?:谈|说|联系|沟通|商量|确认|见面)",
        rf"(?:和|与|跟|同)({_HAN_NAME})(?=谈|说|联系|沟通|商量|确认|见面)", 0.7),
    rule("person_name", rf"{_HAN_TITLE}|已经|表示|来电",
        rf"(?<![一-鿿])({_HAN_NAME}|[{checks.CHINESE_FAMILY}](?={_HAN_TITLE}))(?={_HAN_TITLE}|"
        rf"已经|表示|来电)", 0.75),
)
# fmt: on

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
"""Names and short names of the months in English, German, French, Spanish and Portuguese."""

_MONTH: Final = "(?i:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DATE: Final = re.compile(
    r"(?P<y1>(?:19|20)\d\d)(?:[-/.]\n?|年[ \n]?)(?P<m1>\d{1,2})(?:[-/.]\n?|月[ \n]?)"
    r"(?P<d1>\d{1,2})(?:日|号)?"
    r"|(?P<a>\d{1,2})[-/. \n]{1,2}(?P<b>\d{1,2})[-/. \n]{1,2}(?P<y2>(?:19|20)\d\d|\d\d)"
    rf"|(?P<M3>{_MONTH})[ \n](?P<d3>\d{{1,2}})(?:st|nd|rd|th)?,?[ \n](?P<y3>(?:19|20)\d\d)"
    rf"|(?P<d4>\d{{1,2}})(?:st|nd|rd|th|er|\.|º)?(?:[ \n](?:of|de))?[ \n-](?P<M4>{_MONTH})"
    r"(?:[ \n](?:de|del))?,?[ \n-](?P<y4>(?:19|20)\d\d)"
    r"|(?P<y5>(?:19|20)\d\d)(?P<m5>\d\d)(?P<d5>\d\d)(?!\d)",
    re.ASCII,
)
_NEAR_DIGIT: Final = re.compile(r"[^\d\0]{0,40}\d", re.ASCII)
_BIRTH, _BIRTH_CUE = cued(
    r"date of birth|birth ?date|d\.?o\.?b\b\.?|birthday|born|geburtsdatum|geb\.|geboren|née? le|"
    r"date de naissance|fecha de nacimiento|f\. nacimiento|nacid[oa]|nací|data de nascimento|"
    r"nascimento|nascid[oa]|nasci\b|出生|生日|生于"
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
            month = str(_MONTHS[word.lower().rstrip(".")]) if word else part[f"m{number}"]
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


def _accept_born(match: re.Match[str]) -> Place | None:
    return (match.start(), match.end() - len(" geboren"), 0.93) if _is_day(match) else None


# fmt: off
BIRTH_RULES: Final[tuple[Rule, ...]] = (
    rule("date_of_birth", _BIRTH, _BIRTH_CUE, accept=_accept_birth),
    rule("date_of_birth", " geboren", rf"(?:{_DATE.pattern}) geboren(?! am)",
        accept=_accept_born),
)
# fmt: on
