"""Texts dense with made-up personal data and secrets, in eight locales, with what stands where.

Used by ``personal_data.py``. A text holds two to five values in sentences, forms, signatures or
log lines of its locale, one or two decoys (order numbers, ISBNs, git hashes, versions, UUIDs,
tracking numbers, timestamps, products, places, companies) and plain sentences. Names, and the
streets and towns of most addresses, come from Faker; numbers with a check digit are computed here,
from their published rules. Phrases that are held out stand only in judged corpora.

It imports nothing of the detector, and the detector nothing of it. Every value is random: none
belongs to anybody except by chance. No credential stands in this file; they are joined when run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

LOCALES = {
    "en_US": "en",
    "en_GB": "en",
    "en_IN": "en",
    "de_DE": "de",
    "fr_FR": "fr",
    "es_ES": "es",
    "pt_BR": "pt",
    "zh_CN": "zh",
}
PHRASES: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "personal_phrases.toml").read_text("utf-8")
)
NATIONAL = {
    "en_US": ["us_ssn", "us_itin"],
    "en_GB": ["uk_nino", "iban"],
    "en_IN": ["in_aadhaar"],
    "de_DE": ["iban"],
    "fr_FR": ["iban"],
    "es_ES": ["iban"],
    "pt_BR": ["br_cpf"],
    "zh_CN": ["cn_resident_id"],
}
EVERYWHERE = {
    "person_name": 26,
    "postal_address": 12,
    "email": 10,
    "phone": 12,
    "date_of_birth": 5,
    "credit_card": 5,
    "passport": 2,
    "driving_licence": 2,
    "medical_record": 2,
    "health_plan": 2,
    "bank_account": 3,
    "password": 4,
    "ip_v4": 3,
    "ip_v6": 1,
    "mac": 1,
    "crypto_address": 1,
    "url_credentials": 1,
    "api_key": 4,
    "jwt": 1,
    "private_key": 1,
    "connection_string": 1,
}
"""How often each kind is drawn; the numbers of a locale's own share 8."""


class Value(NamedTuple):
    """A value: where it stands, its type, and whether its phrase was held out."""

    start: int
    end: int
    type: str
    held_out: bool


class Text(NamedTuple):
    """A text with its locale and values."""

    locale: str
    text: str
    values: tuple[Value, ...]


def _digits(source: random.Random, count: int) -> str:
    return "".join(source.choices(string.digits, k=count))


def _from(source: random.Random, letters: str, count: int) -> str:
    return "".join(source.choices(letters, k=count))


def _luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


def card(source: random.Random) -> str:
    """Return a card number with its check digit, grouped as people write it."""
    prefix, length = source.choice(
        [("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("37", 15), ("6011", 16)]
    )
    number = _luhn(prefix + _digits(source, length - len(prefix) - 1))
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    joint = source.choice(["", " ", " ", "-"])
    parts = [number[sum(sizes[:k]) : sum(sizes[: k + 1])] for k in range(len(sizes))]
    return joint.join(parts)


def iban(source: random.Random, country: str) -> str:
    """Return an IBAN of a country with its two check digits."""
    letters = string.ascii_uppercase
    body = {
        "DE": lambda: _digits(source, 18),
        "FR": lambda: _digits(source, 10) + _from(source, letters + string.digits, 11) + "76",
        "ES": lambda: _digits(source, 20),
        "GB": lambda: _from(source, letters, 4) + _digits(source, 14),
    }[country]()
    numeric = "".join(str(int(c, 36)) for c in body + country + "00")
    whole = f"{country}{98 - int(numeric) % 97:02d}{body}"
    if source.random() < 0.35:
        return whole
    return " ".join(whole[k : k + 4] for k in range(0, len(whole), 4))


def cpf(source: random.Random) -> str:
    """Return a CPF with its two check digits."""
    body = _digits(source, 9)
    for size in (10, 11):
        total = sum(int(d) * w for d, w in zip(body, range(size, 1, -1), strict=True))
        body += str(total * 10 % 11 % 10)
    if source.random() < 0.3:
        return body
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def _verhoeff(body: str) -> str:
    """Return the body with the check digit of the dihedral group D5."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else (a + b - 5) % 5 + 5
        return (a - 5 - b) % 5 + 5 if b < 5 else (a - b) % 5

    powers = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        powers.append([powers[1][n] for n in powers[-1]])
    state = 0
    for place, digit in enumerate(reversed(body), start=1):
        state = times(state, powers[place % 8][int(digit)])
    return body + str(next(n for n in range(10) if times(state, powers[0][n]) == 0))


def aadhaar(source: random.Random) -> str:
    """Return an Aadhaar number with its check digit."""
    number = _verhoeff(source.choice("23456789") + _digits(source, 10))
    return number if source.random() < 0.2 else f"{number[:4]} {number[4:8]} {number[8:]}"


def resident_id(source: random.Random) -> str:
    """Return a Chinese resident number with its check digit."""
    area = source.choice(["110105", "310101", "440305", "330106", "510104", "420102"])
    body = area + _day(source)[0].replace("-", "") + _digits(source, 3)
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(d) * w for d, w in zip(body, weights, strict=True))
    return body + "10X98765432"[total % 11]


def nino(source: random.Random) -> str:
    """Return a national insurance number."""
    prefix = source.choice(["AB", "CE", "HJ", "JK", "LM", "PR", "SX", "WE"])
    body = _digits(source, 6)
    end = source.choice("ABCD")
    if source.random() < 0.4:
        return f"{prefix}{body}{end}"
    return f"{prefix} {body[:2]} {body[2:4]} {body[4:]} {end}"


def _ssn(source: random.Random) -> str:
    area = source.randint(1, 899)
    area = 42 if area == 666 else area
    return f"{area:03d}-{source.randint(1, 99):02d}-{source.randint(1, 9999):04d}"


def _itin(source: random.Random) -> str:
    group = source.choice([*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)])
    return f"9{_digits(source, 2)}-{group}-{_digits(source, 4)}"


def _bitcoin(source: random.Random) -> str:
    if source.random() < 0.4:
        return "0x" + _from(source, string.hexdigits[:16], 40)
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    data = source.choice([b"\x00", b"\x05"]) + source.randbytes(20)
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = alphabet[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro "
    "dezembro",
}


def _day(source: random.Random, low: int = 1935, high: int = 2008) -> tuple[str, int, int, int]:
    year, month, day = source.randint(low, high), source.randint(1, 12), source.randint(1, 28)
    return f"{year}-{month:02d}-{day:02d}", year, month, day


def _birth(source: random.Random, locale: str) -> str:
    iso, y, m, d = _day(source)
    language = LOCALES[locale]
    if language == "zh":
        return source.choice([f"{y}年{m}月{d}日", iso, f"{y}.{m:02d}.{d:02d}", f"{y}/{m}/{d}"])
    month = MONTHS[language].split()[m - 1]
    named = {
        "en": [f"{month} {d}, {y}", f"{d} {month} {y}", f"{month[:3]} {d}, {y}"],
        "de": [f"{d}. {month} {y}"],
        "fr": [f"{d} {month} {y}"],
        "es": [f"{d} de {month} de {y}"],
        "pt": [f"{d} de {month} de {y}"],
    }[language]
    joint = "." if language == "de" else "/"
    parts = (m, d) if locale == "en_US" else (d, m)
    plain = f"{parts[0]:02d}{joint}{parts[1]:02d}{joint}{y}"
    return source.choice([*named, plain, plain, iso])


PHONES = {
    "en_US": "(A) B-####|A-B-####|A.B.####|+1 A B ####|+1AB####|1-A-B-####|+1 (A) B-####|A B ####",
    "en_GB": "07M ######|+44 7M ######|020 7946 0###|0161 496 0###|(0121) 496 0###|"
    "+44 (0)20 7946 0###|07M######|+44 20 7555 ####",
    "en_IN": "+91 I ####C|I ####C|0I####C|+91-I####C|I####C|080-4#######|+91 I-####C",
    "de_DE": "0171 C######|+49 171 C######|030 C#######|089/C######|+49 (0)89 C#####|"
    "0221-C######|0151 23 C#####|+49 30 C#######",
    "fr_FR": "06 ## ## ## ##|+33 6 ## ## ## ##|01 42 ## ## ##|06.##.##.##.##|+33 (0)1 42 ## ## ##|"
    "06########|07 ## ## ## ##|+33142######",
    "es_ES": "6## ### ###|+34 6## ### ###|91 C## ## ##|6########|+34 91 C## ## ##|6## ## ## ##",
    "pt_BR": "(11) 9F-####|+55 11 9F-####|11 9F-####|(21) 3###-####|119F####|+55 (21) 9F-####",
    "zh_CN": "1K########|1K-####-####|+86 1K #### ####|010-6#######|0755-8#######|1K #### ####|"
    "+861K########|021-5#######",
}
"""Forms of a locale: ``#`` is any digit, ``C`` one from 2 on, other letters see :func:`phone`."""


def phone(source: random.Random, locale: str) -> str:
    """Return a phone number in one of the forms of a locale."""
    areas = "212 213 305 312 404 415 503 512 602 617 702 713 808 919".split()
    letters: dict[str, Callable[[], str]] = {
        "#": lambda: _digits(source, 1),
        "A": lambda: source.choice(areas),
        "B": lambda: f"{source.randint(2, 9)}{source.randint(2, 9)}{source.randint(0, 9)}",
        "C": lambda: source.choice("23456789"),
        "F": lambda: source.choice("6789") + _digits(source, 3),
        "I": lambda: source.choice("98") + _digits(source, 4),
        "K": lambda: source.choice("38 39 58 86 37 77 52 88".split()),
        "M": lambda: source.choice("911 700 800 712 955".split()),
    }
    shape = source.choice(PHONES[locale].split("|"))
    return "".join(letters[c]() if c in letters else c for c in shape)


CHINESE_TOWNS = (
    "北京市海淀区 北京市朝阳区 上海市浦东新区 上海市徐汇区 广东省深圳市南山区 广东省广州市天河区 "
    "浙江省杭州市西湖区 江苏省南京市鼓楼区 四川省成都市武侯区 湖北省武汉市洪山区 陕西省西安市雁塔区"
).split()
CHINESE_ROADS = (
    "中关村大街 建国路 科苑路 人民南路 解放大道 文三路 学院路 长江路 天河北路 珞喻路 和平街"
).split()
BRITISH_STREETS = (
    "High Church Station Victoria Mill King's Queens Park Manor Grange Albert London Windsor York "
    "Alexandra Springfield Orchard Chapel Meadow"
).split()
BRITISH_KINDS = (
    "Street Road Lane Avenue Close Drive Gardens Crescent Terrace Way Court Place Grove Hill"
).split()


def address(source: random.Random, locale: str, fake: Any) -> str:
    """Return a postal address as it is written in a locale, on one line or on several."""
    if locale == "zh_CN":
        tail = source.choice(
            ["", "", f"{source.randint(1, 30)}栋", f"{source.randint(101, 2801)}室"]
        )
        town = source.choice(CHINESE_TOWNS)
        road = source.choice(CHINESE_ROADS)
        return f"{town}{road}{source.randint(1, 999)}号{tail}"
    if locale == "en_US":
        unit = source.choice(["", "", "", ", Apt 4B", " Suite 210", " #12"])
        street = f"{source.randint(1, 9999)} {fake.street_name()}{unit}"
        parts = [street, f"{fake.city()}, {fake.state_abbr()} {fake.postcode()}"]
    elif locale == "en_GB":
        street = f"{source.choice(BRITISH_STREETS)} {source.choice(BRITISH_KINDS)}"
        flat = source.choice(["", "", "", f"Flat {source.randint(1, 40)}, "])
        parts = [f"{flat}{source.randint(1, 220)} {street}", f"{fake.city()}", fake.postcode()]
    elif locale == "en_IN":
        parts = [fake.street_address().replace("\n", ", "), f"{fake.city()} {fake.postcode()}"]
    else:
        parts = fake.address().replace(" \n", "\n").split("\n")
    parts = [part.strip() for part in parts if part.strip()]
    joint = "\n" if source.random() < 0.25 else ", "
    return joint.join(parts)


def name(source: random.Random, locale: str, fake: Any) -> str:
    """Return a person's name as it is written in a locale."""
    if locale == "zh_CN":
        return str(fake.name())
    given, family, kind = fake.first_name(), fake.last_name(), source.random()
    if locale == "es_ES" and source.random() < 0.4:
        family += " " + fake.last_name()
    if kind < 0.06:
        return f"{given} {source.choice(string.ascii_uppercase)}. {family}"
    if kind < 0.10:
        return f"{given[0]}. {family}"
    return f"{given} {family}"


def _email(source: random.Random, fake: Any, locale: str) -> str:
    local = source.choice(
        "j.smith anna.k priya_s m-dupont info+shop karl.heinz hr lee99 p.garcia zhangwei "
        "support.eu a1b2c3 maria.silva tom".split()
    )
    local += _digits(source, 3) if source.random() < 0.4 else ""
    word = source.choice("example mail corp acme nordwind lumiere novatech blue-river mx1".split())
    top = {"en_GB": "co.uk", "en_IN": "co.in", "pt_BR": "com.br", "zh_CN": "cn"}.get(locale)
    top = source.choice([top or locale[-2:].lower(), "com", "org", "io", "net"])
    top = "com" if top == "us" else top
    whole = f"{local}@{word}.{top}"
    kind = source.random()
    if kind < 0.04 and LOCALES[locale] == "en":
        return f"{local} [at] {word} [dot] {top.replace('.', ' [dot] ')}"
    if kind < 0.06 and LOCALES[locale] == "en":
        return f"{local}(at){word}.{top}"
    return whole.upper() if kind > 0.96 else whole


def _password(source: random.Random) -> str:
    word = source.choice("summer dragon Monkey berlin sunshine Coffee tiger Pa55w0rd".split())
    return source.choice(
        [
            f"{word}{_digits(source, 4)}",
            f"{word.title()}{_digits(source, 2)}!",
            _from(source, string.ascii_letters + string.digits + "!#%&*+", 12),
            _from(source, string.ascii_letters, 6) + _digits(source, 4),
            f"{word}-{_digits(source, 3)}-x",
        ]
    )


def api_key(source: random.Random) -> str:
    """Return a made-up key in the form of one of a dozen issuers."""
    both = string.ascii_letters + string.digits
    forms = [
        ("sk-", "proj-", both, 48),
        ("sk-", "", both, 48),
        ("sk-", "ant-api03-", both + "_-", 93),
        ("AK", "IA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        ("AI", "za", both + "_-", 35),
        ("gh", "p_", both, 36),
        ("github", "_pat_", both, 82),
        ("hf", "_", both, 34),
        ("xo", f"xb-{_digits(source, 12)}-", both, 24),
        ("sk", "_live_", both, 24),
        ("gl", "pat-", both + "_", 20),
        ("np", "m_", both, 36),
        ("gs", "k_", both, 52),
        ("S", f"G.{_from(source, both, 22)}.", both + "_-", 43),
    ]
    first, second, letters, count = source.choice(forms)
    return first + second + _from(source, letters, count - 1) + source.choice(both.upper()[:26])


def _jwt(source: random.Random) -> str:
    def part(data: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    body = part({"sub": _digits(source, 10), "iat": 1700000000 + source.randint(0, 9**8)})
    return f"{head}.{body}.{_from(source, string.ascii_letters + string.digits + '_-', 43)}"


def _private_key(source: random.Random) -> str:
    kind = source.choice(["RSA ", "EC ", "", "OPENSSH "])
    body = base64.b64encode(source.randbytes(source.choice([120, 240, 600]))).decode()
    lines = "\n".join(body[k : k + 64] for k in range(0, len(body), 64))
    edge = f"{kind}PRIVATE " + "KEY-----"
    return f"-----BEGIN {edge}\n{lines}\n-----END {edge}"


def _connection(source: random.Random) -> str:
    scheme = source.choice(["postgres", "postgresql", "mysql", "mongodb+srv", "redis", "amqp"])
    host = source.choice(["db.internal", "10.0.3.7", "cluster0.mongo.example.net", "localhost"])
    secret = _from(source, string.ascii_letters + string.digits, 14)
    if source.random() < 0.2:
        return f"Server={host};Database=shop;User Id=app;" + f"Password={secret}"
    return f"{scheme}://app:{secret}@{host}:{source.randint(1025, 9999)}/shop"


def _record(source: random.Random) -> str:
    return source.choice([_digits(source, 8), f"A{_digits(source, 7)}", f"MR-{_digits(source, 6)}"])


def _plan(source: random.Random) -> str:
    letters = string.ascii_uppercase
    return source.choice(
        [
            f"{_from(source, letters, 3)}{_digits(source, 9)}",
            f"{source.choice(letters)}{_digits(source, 9)}",
            _digits(source, 11),
        ]
    )


def _passport(source: random.Random, locale: str) -> str:
    return {
        "en_US": lambda: _digits(source, 9),
        "en_GB": lambda: _digits(source, 9),
        "en_IN": lambda: source.choice("JKLMNPRSTZ") + _digits(source, 7),
        "de_DE": lambda: "C" + _from(source, "CFGHJKLMNPRTVWXYZ0123456789", 7) + _digits(source, 1),
        "fr_FR": lambda: f"{_digits(source, 2)}{_from(source, 'ABCDEF', 2)}{_digits(source, 5)}",
        "es_ES": lambda: _from(source, string.ascii_uppercase, 3) + _digits(source, 6),
        "pt_BR": lambda: _from(source, string.ascii_uppercase, 2) + _digits(source, 6),
        "zh_CN": lambda: "E" + _digits(source, 8),
    }[locale]()


def _licence(source: random.Random, locale: str) -> str:
    upper = string.ascii_uppercase
    return {
        "en_US": lambda: source.choice(
            [f"{source.choice(upper)}{_digits(source, 7)}", _digits(source, 8)]
        ),
        "en_GB": lambda: shape(source, "^^^^^######^^#^^"),
        "en_IN": lambda: (
            f"MH{_digits(source, 2)} {2000 + source.randint(0, 24)}{_digits(source, 7)}"
        ),
        "de_DE": lambda: f"B{_digits(source, 3)}RR{_digits(source, 4)}{source.choice(upper)}",
        "fr_FR": lambda: _digits(source, 12),
        "es_ES": lambda: _digits(source, 8) + source.choice("TRWAGMYFPDX"),
        "pt_BR": lambda: _digits(source, 11),
        "zh_CN": lambda: _digits(source, 12),
    }[locale]()


def _value(kind: str, locale: str, source: random.Random, fake: Any) -> str:
    makers: dict[str, Callable[[], str]] = {
        "person_name": lambda: name(source, locale, fake),
        "postal_address": lambda: address(source, locale, fake),
        "email": lambda: _email(source, fake, locale),
        "phone": lambda: phone(source, locale),
        "date_of_birth": lambda: _birth(source, locale),
        "credit_card": lambda: card(source),
        "iban": lambda: iban(source, locale[-2:]),
        "us_ssn": lambda: _ssn(source),
        "us_itin": lambda: _itin(source),
        "uk_nino": lambda: nino(source),
        "br_cpf": lambda: cpf(source),
        "in_aadhaar": lambda: aadhaar(source),
        "cn_resident_id": lambda: resident_id(source),
        "passport": lambda: _passport(source, locale),
        "driving_licence": lambda: _licence(source, locale),
        "medical_record": lambda: _record(source),
        "health_plan": lambda: _plan(source),
        "bank_account": lambda: _digits(source, source.choice([8, 10, 12])),
        "password": lambda: _password(source),
        "ip_v4": lambda: (
            f"{source.choice([10, 51, 84, 172, 192, 203])}."
            + ".".join(str(source.randint(0, 254)) for _ in range(3))
        ),
        "ip_v6": lambda: (
            "2001:db8:" + ":".join(f"{source.randrange(1, 65536):x}" for _ in range(6))
        ),
        "mac": lambda: source.choice(":-").join(f"{source.randrange(256):02x}" for _ in range(6)),
        "crypto_address": lambda: _bitcoin(source),
        "url_credentials": lambda: (
            "https://deploy:"
            + _from(source, string.ascii_letters + string.digits, 12)
            + f"@{source.choice(['git', 'files', 'api'])}.example.com/repo"
        ),
        "api_key": lambda: api_key(source),
        "jwt": lambda: _jwt(source),
        "private_key": lambda: _private_key(source),
        "connection_string": lambda: _connection(source),
    }
    return makers[kind]()


def shape(source: random.Random, form: str) -> str:
    """Return a form filled in: # a digit, % a hex digit, ^ a capital, * either, ♯ the sign #."""
    upper = string.ascii_uppercase
    letters = {"#": string.digits, "%": string.hexdigits[:16], "^": upper, "♯": "#"}
    letters["*"] = upper + string.digits
    return "".join(source.choice(letters[c]) if c in letters else c for c in form)


def _decoy(template: str, source: random.Random) -> str:
    _, y, m, d = _day(source, 2018, 2026)
    dates = [f"{y}-{m:02d}-{d:02d}", f"{d:02d}/{m:02d}/{y}", f"{d:02d}.{m:02d}.{y}"]
    made = {kind: shape(source, source.choice(forms)) for kind, forms in PHRASES["shapes"].items()}
    made["date"] = source.choice(dates)
    made["invoice"] = made["invoice"].replace("YYYY", str(y))
    made["time"] = f"{source.randint(0, 23):02d}:{source.randint(0, 59):02d}"
    made["coordinates"] = f"{source.uniform(-89, 89):.6f}, {source.uniform(-179, 179):.6f}"
    return template.format(**made)


class _Writer:
    """Writes texts of one locale."""

    def __init__(self, locale: str, source: random.Random, *, held_out: bool) -> None:
        from faker import Faker

        self.locale, self.source = locale, source
        self.words: dict[str, Any] = PHRASES[LOCALES[locale]]
        self.fake: Any = Faker(locale)
        self.fake.seed_instance(source.randrange(2**31))
        self.held_out = held_out
        own = NATIONAL[locale]
        self.kinds = {**EVERYWHERE, **dict.fromkeys(own, 8 / len(own))}

    def write(self) -> Text:
        """Return one text."""
        source = self.source
        kinds = source.choices(
            list(self.kinds), weights=list(self.kinds.values()), k=source.randint(2, 5)
        )
        parts: list[tuple[str, str, str, bool]] = [self._phrase(kind) for kind in kinds]
        lines = self.words["decoys"]["lines"]
        plain = [_decoy(source.choice(lines), source) for _ in range(source.randint(1, 2))]
        plain += source.choices(self.words["decoys"]["fillers"], k=source.randint(0, 2))
        parts += [(line, "", "", False) for line in plain]
        source.shuffle(parts)
        text, values = "", list[Value]()
        for template, value, kind, held in parts:
            before = template.partition("{}")[0] if kind else template
            own_line = "\n" in template or (before.rstrip().endswith((":", "：")) and kind)
            joint = "\n" if own_line or text.endswith("\0") or source.random() < 0.3 else " "
            text = text.rstrip("\0") + (joint if text else "")
            if not kind:
                text += template
                continue
            start = len(text) + len(before)
            text += template.replace("{}", value)
            values.append(Value(start, start + len(value), kind, held))
            text += "\0" if own_line else ""
        return Text(self.locale, text.rstrip("\0"), tuple(sorted(values)))

    def _phrase(self, kind: str) -> tuple[str, str, str, bool]:
        known: list[str] = PHRASES["any"].get(kind) or self.words[kind]
        usable = [p for p in known if self.held_out or not p.startswith("|")]
        phrase = self.source.choice(usable)
        value = _value(kind, self.locale, self.source, self.fake)
        return phrase.removeprefix("|"), value, kind, phrase.startswith("|")


def dense_texts(count: int, seed: int, *, held_out: bool) -> list[Text]:
    """Return texts of every locale in turn, the same for the same seed and Faker version.

    Args:
        count: How many.
        seed: Seed of everything.
        held_out: Also use the phrases that a detector was not developed on.
    """
    source = random.Random(seed)
    writers = [_Writer(locale, source, held_out=held_out) for locale in LOCALES]
    return [writers[number % len(writers)].write() for number in range(count)]


LOOK_ALIKES = dict(zip("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ", strict=True))
DISGUISES = ("full_width", "homoglyph", "split", "escape", "zero_width")
NUMBERS = frozenset(
    "phone credit_card iban us_ssn br_cpf in_aadhaar cn_resident_id date_of_birth ip_v4".split()
)


def _disguised(value: str, kind: str, how: str, source: random.Random) -> str | None:
    """Return a value in disguise, or None where a disguise does not suit its kind."""
    if how == "full_width":
        return value.translate({48 + n: 0xFF10 + n for n in range(10)}) if kind in NUMBERS else None
    if how == "homoglyph":
        usual = "email iban api_key url_credentials uk_nino".split()
        changed = "".join(LOOK_ALIKES.get(c, c) if source.random() < 0.5 else c for c in value)
        return changed if kind in usual and changed != value else None
    if how == "split":
        gaps = [k for k, c in enumerate(value) if c in " -"] if kind in NUMBERS else []
        if not gaps:
            return None
        at = source.choice(gaps)
        return value[:at] + ("\n" if value[at] == " " else "-\n") + value[at + 1 :]
    if how == "escape":
        return "".join(
            f"\\u{ord(c):04x}" if source.random() < 0.3 or c in "@-" else c for c in value
        )
    at = source.randrange(1, len(value)) if kind in NUMBERS | {"email"} else 0
    return value[:at] + "\u200b" + value[at:] if at else None


def disguised_texts(count: int, seed: int) -> list[tuple[str, Text]]:
    """Return texts with one value each in disguise, and what the disguise is."""
    source = random.Random(seed)
    made: list[tuple[str, Text]] = []
    while len(made) < count:
        for whole in dense_texts(len(LOCALES) * 50, source.randrange(2**31), held_out=False):
            how = DISGUISES[len(made) % len(DISGUISES)]
            chosen = source.choice(whole.values)
            if chosen.type in {"person_name", "postal_address", "private_key"}:
                continue
            value = _disguised(whole.text[chosen.start : chosen.end], chosen.type, how, source)
            if value is not None:
                before = whole.text[: chosen.start].replace("\\", "/")
                text = before + value + whole.text[chosen.end :].replace("\\", "/")
                place = Value(chosen.start, chosen.start + len(value), chosen.type, False)
                made.append((how, Text(whole.locale, text, (place,))))
    return made[:count]
