"""Check digits and number plans: what turns a run of digits into an identifier."""

from __future__ import annotations

import datetime
import functools
from typing import Final

from finetuning.pii.rules.rule import digits_of

_IBAN_LENGTHS: Final[dict[str, int]] = {
    name: int(length)
    for name, length in (
        (part[:2], part[2:])
        for part in (
            "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
            "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 "
            "HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
            "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
            "RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
            "VA22 VG24 XK20 YE30"
        ).split()
    )
}
"""Length of an IBAN per country. Source: SWIFT IBAN registry as carried by python-stdnum 2.2
(checked 2026-11-20; a test compares the two)."""

# First digits and lengths of card numbers per network. Source: CyberSource "Card Type
# Identification" and the collection "Payment card number" (ISO/IEC 7812), checked 2026-11-20.
_CARD_PREFIXES: Final[tuple[tuple[int, int, tuple[int, ...]], ...]] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),  # Mastercard, second range
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (6011, 6011, (16, 19)),  # Discover
    (644, 649, (16, 19)),
    (65, 65, (16, 19)),
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (300, 305, (14,)),  # Diners Club
    (36, 36, (14,)),
    (38, 39, (14,)),
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (81, 81, (16, 17, 18, 19)),
    (2200, 2204, (16,)),  # Mir
    (50, 50, (13, 16, 18, 19)),  # Maestro
    (56, 58, (13, 16, 18, 19)),
    (6304, 6304, (16, 18, 19)),
    (6759, 6763, (13, 16, 18, 19)),
)


def is_card(value: str) -> bool:
    """Say whether the digits carry an issuer prefix of the right length and pass Luhn."""
    digits = digits_of(value)
    if len(set(digits)) == 1:
        return False
    for low, high, lengths in _CARD_PREFIXES:
        if len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high:
            return luhn(digits)
    return False


def luhn(digits: str) -> bool:
    """Say whether the last digit is the Luhn check digit."""
    from stdnum import luhn as algorithm

    return algorithm.is_valid(digits)


def iban_length(prefix: str) -> int | None:
    """Return how many characters an IBAN of this country has, or None for no such country."""
    return _IBAN_LENGTHS.get(prefix[:2].upper())


def is_iban(compact: str) -> bool:
    """Say whether the characters without spaces pass the mod-97 check of ISO 13616."""
    from stdnum.iso7064 import mod_97_10

    value = compact.upper()
    return mod_97_10.is_valid(value[4:] + value[:4])


def is_ssn(value: str) -> bool:
    """Say whether the number may have been issued as a US social security number."""
    digits = digits_of(value)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def is_itin(value: str) -> bool:
    """Say whether the group digits are ones that the IRS issues in an ITIN."""
    group = int(digits_of(value)[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def is_cpf(value: str) -> bool:
    """Say whether both check digits of a Brazilian CPF hold."""
    from stdnum.br import cpf

    return cpf.is_valid(digits_of(value))


def is_aadhaar(value: str) -> bool:
    """Say whether the Verhoeff check digit of an Aadhaar number holds."""
    from stdnum.in_ import aadhaar

    return aadhaar.is_valid(digits_of(value))


def is_cn_resident_id(value: str) -> bool:
    """Say whether the birth date exists and the check digit of GB 11643 holds."""
    from stdnum.iso7064 import mod_11_2

    return is_date(value[6:10], value[10:12], value[12:14]) and mod_11_2.is_valid(value.upper())


def is_date(year: str, month: str, day: str) -> bool:
    """Say whether a calendar has this day and somebody alive may be born on it."""
    try:
        return 1900 <= datetime.date(int(year), int(month), int(day)).year <= 2030
    except ValueError:
        return False


def is_aba_routing(value: str) -> bool:
    """Say whether nine digits pass the check of a US bank routing number."""
    from stdnum.us import rtn

    return rtn.is_valid(value)


def is_bitcoin(value: str) -> bool:
    """Say whether a Bitcoin address passes Base58Check, bech32 or bech32m (BIP 350)."""
    from stdnum import bitcoin
    from stdnum.exceptions import ValidationError

    try:
        if bitcoin.is_valid(value):
            return True
    except (ValidationError, ValueError):  # pragma: no cover - is_valid catches its own errors
        return False
    body = value.lower()
    return body.startswith("bc1p") and _bech32m(body)


def _bech32m(address: str) -> bool:
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [alphabet.find(character) for character in address[3:]]
    checksum = 1
    # human-readable part "bc" expanded as BIP 173 says: high bits, zero, low bits
    for value in [3, 3, 0, 2, 3, *values]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= term if top >> bit & 1 else 0
    return checksum == 0x2BC830A3 and -1 not in values


@functools.lru_cache(maxsize=4096)
def phone_quality(number: str, region: str | None) -> int:
    """Say how well a number fits the public numbering plans.

    Args:
        number: The number as written; ``+`` first unless ``region`` is given.
        region: Two-letter country of a national form, or None.

    Returns:
        2 for a number that is in use in that plan, 1 for one of the right length, else 0.
    """
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return 0
    if phonenumbers.is_valid_number(parsed):
        return 2
    return 1 if phonenumbers.is_possible_number(parsed) else 0
