"""Who and what is online: e-mail, IP and MAC addresses, and what opens a door there.

Keys, tokens, passwords, credentials inside addresses.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from typing import Any, Final

from finetuning.pii.rules import LEFT, RIGHT, Place, Rule, cued, rule

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

# fmt: off
EMAIL_RULES: Final[tuple[Rule, ...]] = (
    rule("email", "@", _EMAIL, accept=_accept_email),
    rule("email", r"(?i:\[at|\(at|\{at|<at|\[ at|\( at|\{ at|< at)", _EMAIL_BRACKETED, 0.85),
    rule("email", r" at [A-Za-z0-9-]+ dot ", _EMAIL_SPOKEN, 0.75),
)
# fmt: on

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

# fmt: off
NETWORK_RULES: Final[tuple[Rule, ...]] = (
    rule("ip_v4", r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        rf"(?<![A-Za-z0-9_.])(?:{_OCTET}\.){{3}}{_OCTET}(?![A-Za-z0-9_]|\.\d)",
        accept=_accept_ip_v4),
    rule("ip_v6", r":[0-9A-Fa-f]{0,4}:",
        r"(?<![A-Za-z0-9_:.])(?=[0-9A-Fa-f]{0,4}:)"
        r"[0-9A-Fa-f:]{3,39}(?:(?:\d{1,3}\.){3}\d{1,3})?(?![A-Za-z0-9_:])", 0.95, check=_is_ip_v6),
    rule("mac", r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]",
        rf"(?<![A-Za-z0-9_:-]){_HEX2}([:-])(?:{_HEX2}\1){{4}}{_HEX2}(?![A-Za-z0-9_:-])",
        accept=lambda match: (match.start(), match.end(), 0.95) if _is_mac(match.group())
        else None),
    rule("mac", r"\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
        rf"{LEFT}[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}{RIGHT}", 0.85,
        check=lambda value: _is_mac(value) and not value.replace(".", "").isdigit()),
)
# fmt: on

_KEY: Final = r"(?![A-Za-z0-9])"

# Prefix forms that the issuers document. Source: the token-format pages of OpenAI, Anthropic,
# AWS IAM ("unique identifiers"), Google Cloud, GitHub, Hugging Face, Slack, Stripe and GitLab,
# as collected in the rules of gitleaks (checked 2026-11-20).
_PREFIXED: Final = (
    r"sk-ant-[a-z]{3,9}\d{2}-[A-Za-z0-9_-]{20,200}",
    r"sk-(?:proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_-]{20,250}",
    r"sk-[A-Za-z0-9]{20,100}",
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"GOCSPX-[A-Za-z0-9_-]{20,40}",
    r"ya29\.[A-Za-z0-9_-]{20,300}",
    r"gh[pousr]_[A-Za-z0-9]{30,255}",
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_-]{20,60}",
    r"hf_[A-Za-z0-9]{30,60}",
    r"api_org_[A-Za-z0-9]{30,60}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    r"xapp-\d-[A-Za-z0-9-]{10,250}",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,250}",
    r"whsec_[A-Za-z0-9+/=]{24,80}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgE[A-Za-z0-9_-]{50,300}",
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    r"gsk_[A-Za-z0-9]{40,80}",
    r"xai-[A-Za-z0-9]{40,120}",
    r"r8_[A-Za-z0-9]{30,60}",
    r"dop_v1_[a-f0-9]{64}",
    r"dapi[a-f0-9]{32}",
)
_PREFIX_TRIGGER: Final = (
    r"sk-[A-Za-z0-9]|AKIA|ASIA|ABIA|ACCA|AIza|GOCSPX-|ya29\.|gh[pousr]_|github_pat_|glpat-|hf_|"
    r"api_org_|xox[abeoprs]-|xapp-|[srp]k_(?:live|test)_|whsec_|npm_|pypi-AgE|SG\.|gsk_|xai-|r8_|"
    r"dop_v1_|dapi"
)


def _looks_random(value: str) -> bool:
    """Say whether a value mixes letters and digits (a word or a placeholder does not)."""
    return _MIXED.match(value) is not None and len(set(value)) >= 6


_MIXED: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])")
_CASES: Final = re.compile(r"[A-Za-z]*[a-z][A-Z][a-z]*[A-Z]")
"""Capitals in the middle, at least twice: letters drawn at random, not words."""


def _accept_key(match: re.Match[str]) -> Place | None:
    body = max(re.split(r"[_.:-]", match.group()), key=len)
    if match.group().startswith(("AKIA", "ASIA", "ABIA", "ACCA")):
        body = match.group()[4:]
        return (match.start(), match.end(), 0.98) if len(set(body)) >= 5 else None
    if not _looks_random(body) and not _CASES.match(body):
        return None
    return match.start(), match.end(), 0.98


def _is_jwt(value: str) -> bool:
    header = value.split(".", 1)[0]
    try:
        decoded: Any = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(decoded, dict)


def _accept_assigned(match: re.Match[str]) -> Place | None:
    """Accept ``api_key = …`` when the value is a literal and not a reference or a sample word."""
    value = match.group(1)
    if not _looks_random(value) or value.startswith(("os.", "process.", "env.", "config.")):
        return None
    return match.start(1), match.end(1), 0.85


_DB_SCHEMES: Final = (
    r"(?:jdbc:)?(?:postgres(?:ql)?|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|"
    r"oracle|"
    r"clickhouse|cockroachdb|snowflake|db2|couchdb|cassandra|neo4j|bolt|nats|kafka)"
    r"(?:\+[a-z0-9]{1,20})?"
)
_ADDRESS_TAIL: Final = r"[^\s\0\"'<>`]{0,500}"

_KEY_NAME: Final = r"[ _-]?(?:access[ _-]?)?(?:key|secret|token)(?:[ _-]?(?:id|key))?"
_, _KEY_CUE = cued(
    "|".join(
        owner + _KEY_NAME
        for owner in (
            "api access secret private account auth client encryption signing aws app service "
            "refresh bearer session"
        ).split()
    )
    + "|s(?<!_.)ecret|t(?<!_.)oken|密钥|令牌|b(?<!_.)earer",
    joined=True,
)

# fmt: off
SECRET_RULES: Final[tuple[Rule, ...]] = (
    rule("private_key", r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-\0]|-(?!-{4})){0,20000}+-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:(?:\s|\\[nr]){0,4}[A-Za-z0-9+/=]{16,200}){1,400}+)", 0.99),
    rule("jwt", r"eyJ[A-Za-z0-9_-]{5}",
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{0,2000}",
        0.98, check=_is_jwt),
    rule("api_key", _PREFIX_TRIGGER, rf"(?<![A-Za-z0-9])(?:{'|'.join(_PREFIXED)}){_KEY}",
        accept=_accept_key),
    rule("api_key", r"hooks\.slack\.com",
        r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,120}", 0.98),
    rule("api_key", r"[0-9]{8}:[A-Za-z0-9_-]{30}",
        r"(?<![A-Za-z0-9:])\d{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", accept=_accept_key),
    rule("api_key", r"(?i)key|secret|token|bearer|密钥|令牌",
        rf"{_KEY_CUE}"
        r"(?:(?<=[Bb]earer)|[\"'`]?[ \t]{0,3}(?:is\b|was\b|:=|=>|=|:|：|是|为))[ \t]{0,3}[\"'`]?"
        r"([A-Za-z0-9][A-Za-z0-9_+/=.~-]{15,300})", accept=_accept_assigned),
    rule("connection_string", r"://[^\s]*:[^\s]*@",
        rf"(?i){LEFT}{_DB_SCHEMES}://[^\s:/@\0\"']{{0,100}}:[^\s@\0\"']{{1,200}}@{_ADDRESS_TAIL}",
        0.98),
    rule("connection_string", r"(?i)(?:password|pwd|accountkey|sharedaccesskey) ?=",
        r"(?i)\b(?:server|data source|host|addr|defaultendpointsprotocol|endpoint|driver|user id|"
        r"uid)[ ]?=[^;\n\0]{1,200};(?:[^;\n\0=]{1,40}=[^;\n\0]{0,300};){0,12}?"
        r"[ ]?(?:password|pwd|accountkey|sharedaccesskey)[ ]?=[^;\s\0\"']{3,300}", 0.97),
    rule("url_credentials", r"://[^\s]*@",
        r"(?i)(?<![A-Za-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s:/?#@\0\"'<>]{1,100}:"
        rf"[^\s/?#@\0\"'<>]{{1,200}}@[A-Za-z0-9]{_ADDRESS_TAIL}", 0.97),
    rule("url_credentials",
        r"(?i)[?&#](?:[a-z_]*token|[a-z_-]*key|secret|password|pwd|sig|signature)=",
        r"(?i)[?&#](?:[a-z_]{0,20}token|(?:api|access|subscription|x)?[_-]?(?:api)?[_-]?key|"
        r"(?:client_)?secret|password|pwd|sig|signature)=([A-Za-z0-9_%.~+/-]{8,400}={0,2})", 0.9,
        check=_looks_random),
)
# fmt: on

# "is" may be followed by a state ("is wrong"), so a bare word after it is not a password.
_PASSWORD, _PASSWORD_CUE = cued(
    r"password\b|passwd\b|passphrase\b|passcode\b|pwd\b|passwort\b|kennwort\b|mdp\b|clave\b|"
    r"mot de passe\b|contraseña\b|senha\b|wachtwoord\b|密码|口令|パスワード",
    joined=True,
)
_NOT_PASSWORDS: Final = frozenset(
    "password passwd passphrase pwd user username required optional missing incorrect invalid "
    "wrong expired reset changed forgotten secret protected strong weak string str none null "
    "true false undefined changeit hidden redacted must should and the for was been not here "
    "below above manager policy field length unknown never always encrypted hashed stored sent "
    "prompt input type text value confirm new old same empty blank your yours valid needed "
    "different please enter correct ist war est deve debe muss doit müssen devem".split()
)
_CODE: Final = re.compile(
    r"[(){}<>$]|^[\[\]|,]|^\*+$|^[xX•.…_-]+$|^(?:os|process|env|config|self|this)\."
)


def _accept_password(match: re.Match[str]) -> Place | None:
    value = match.group(2).rstrip(".,;:!?。，；！？)\"'`")
    if len(value) < 4 or value.lower() in _NOT_PASSWORDS or _CODE.search(value):
        return None
    link = match.group(1).strip(" \t\"'`")
    if not link and not value[0].isascii():
        return None
    firm = link in {":", "=", ":=", "=>", "：", "＝"}
    mixed = bool(re.search(r"[^A-Za-z]", value)) or bool(re.search(r"[a-z][A-Z]", value))
    odd = re.search(r"[0-9]|[A-Za-z][#%&*+!@^][A-Za-z0-9]", value) is not None
    if not (firm or (mixed if link else odd)):
        return None
    start = match.start(2)
    return start, start + len(value), 0.9 if mixed else 0.6


# fmt: off
PASSWORD_RULES: Final[tuple[Rule, ...]] = (
    rule("password",
        rf"(?:{_PASSWORD})[\"'`]?[ \t]{{0,3}}"
        r"(?:[:=：＝是为]|(?i:is|was|ist|lautet|war|est|es|era|é)[ \t:]|[ \t]{0,3}[\"'`]?"
        "[^\\s0-9\x80-\U0010ffff]*[0-9\x80-\U0010ffff])",
        rf"{_PASSWORD_CUE}[\"'`]?"
        r"([ \t]{0,3}(?:(?i:is now|is|was|ist|lautet|war|est|es|era|é)(?=[ \t:])|:=|=>|[=:：是为])?"
        r"[ \t]{0,3}[:=]?[ \t]{0,3}[\"'`]?)([^\s\0\"'`,，。]{4,64})", accept=_accept_password,
        gate=_PASSWORD),
    rule("password", r"(?i)\bpin\b",
        r"(?i:\bpin(?: code| number)?)(?:[ \t]{0,2}(?:is|:|=)){1,2}"
        rf"[ \t]{{0,2}}(\d{{4,8}}){RIGHT}", 0.8),
)
# fmt: on
