"""What a match is checked against: check digits, issued ranges, the calendar, lists of names.

The lists of names are our own short selection of frequent ones (English, German, French, Spanish,
Portuguese, Italian, Indian, Arabic and Chinese); they state no frequency and decide nothing alone:
a name also needs a capital letter or a cue beside it, and one that is not listed needs a cue.
"""

from __future__ import annotations

import datetime
from typing import Final

from finetuning.pii.rules import digits_of

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


MONTHS: Final[dict[str, int]] = {
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

GIVEN: Final = frozenset(
    """
    Aaron Adam Adrian Aisha Alan Albert Alejandro Alex Alexander Alexandra Alice Alicia Amanda
    Amber Amelia Amit Amy Ana Anastasia Andrea Andreas Andrew Angela Anita Anjali Ann Anna Anne
    Anthony Antoine Antonio Arjun Arthur Ashley Barbara Beatriz Benjamin Bernard Beth Betty
    Birgit Bradley Brandon Brenda Brian Bruce Bruno Bryan Camila Camille Carl Carla Carlos
    Carmen Carol Caroline Catherine Charles Charlotte Cheryl Chloe Christian Christina Christine
    Christopher Claire Claudia Cynthia Daniel Daniela David Deborah Deepak Denise Dennis Diana
    Diego Dmitri Dominik Donald Donna Doris Dorothy Douglas Dylan Edward Eduardo Elena Elisabeth
    Elizabeth Ella Emily Emma Eric Erika Ethan Eugene Evelyn Fatima Felix Fernanda Fernando
    Florian Francesca Francis Frank Franziska Frederick Gabriel Gabriela Gary George Gerald
    Giovanni Giulia Gloria Greta Gregory Guillaume Hannah Hans Harold Harry Hassan Heather Heike
    Helen Helena Helga Henry Hiroshi Howard Ian Ibrahim Ingrid Irene Isabel Isabella Ivan Jacob
    Jacqueline James Jamie Jan Jane Janet Janice Jason Javier Jean Jeffrey Jennifer Jeremy Jerry
    Jesse Jessica Joan Joao João Joe Joel Johanna John Johnny Jonas Jonathan Jorge Jose José
    Joseph Joshua Joyce Juan Judith Judy Julia Julian Juliana Julie Jürgen Justin Karen Karin
    Karl Katharina Katherine Kathleen Kathryn Katie Kavya Keith Kelly Kenneth Kevin Kimberly
    Klaus Kyle Larissa Larry Laura Lauren Laurent Lawrence Leonie Lena Leon Leonardo Liam Linda
    Lisa Logan Lori Louis Louise Luca Lucas Lucia Lucy Luis Luiz Lukas Madison Manuel Marcel
    Marco Marcos Margaret Maria María Mariana Marie Marilyn Mario Markus Martha Martin Mary
    Mateo Mathieu Matthew Maurice Max Maximilian Megan Melanie Melissa Mia Michael Michelle
    Miguel Mohamed Mohammed Monika Monica Muhammad Nancy Natalie Nathan Neha Nicholas Nicolas
    Nicole Nikolai Nina Noah Noor Olga Oliver Olivia Omar Oscar Pablo Pamela Patricia Patrick
    Paul Paula Pauline Pedro Peter Petra Philip Philipp Pierre Pooja Priya Rachel Rafael Rahul
    Rajesh Ralph Ramesh Raymond Rebecca Renate Ricardo Richard Robert Roberto Roger Ronald Rosa
    Roy Russell Ruth Ryan Sabine Samantha Samuel Sandra Sanjay Sara Sarah Scott Sean Sebastian
    Sergio Sharon Shirley Simon Sofia Sophia Sophie Stefan Stephanie Stephen Steven Sunil Suresh
    Susan Susanne Sven Sylvia Tamara Tanja Tatiana Teresa Terry Theresa Thiago Thomas Tiffany
    Timothy Tobias Tom Tyler Ursula Valentina Valerie Vanessa Veronica Victor Victoria Vijay
    Vikram Vincent Virginia Walter Wayne Wendy Wilhelm William Wolfgang Xavier Yasmin Yuki Yusuf
    Yves Zachary Zoe
    """.split()
)
"""Given names that are hardly ever anything else when a capitalised word follows."""

AMBIGUOUS_GIVEN: Final = frozenset(
    """
    April Art Bill Bob Carter Chase Christian Cliff Dale Dawn Drew Faith Frank Gene Grace Grant
    Hope Hunter Iris Ivy Jack Jasmine Jim Joy June Lance Lily Mark Mason May Melody Mike Miles
    Nick Olive Parker Pat Paris Pearl Phil Ray Rich Rob Robin Rose Ruby Sam Savannah Sky Steve
    Stone Sue Summer Taylor Ted Tim Tony Violet Will
    """.split()
)
"""Given names that are also words: they count only beside a known family name."""

FAMILY: Final = frozenset(
    """
    Adams Ali Allen Almeida Alvarez Anderson Bailey Baker Bauer Becker Bell Bennett Bernard
    Brooks Brown Butler Campbell Carter Castillo Chan Chavez Chen Clark Clarke Collins Cook
    Cooper Costa Cox Cruz Davies Davis Diaz Dubois Durand Edwards Evans Ferreira Fischer Flores
    Foster Fournier Garcia García Gomez Gonzalez González Gray Green Griffin Gupta Gutierrez
    Hall Harris Hernandez Hernández Hill Hoffmann Howard Huang Hughes Ivanov Jackson James
    Jenkins Johnson Jones Kapoor Kaur Kelly Khan Kim King Klein Koch Kumar Lambert Lee Lefebvre
    Leroy Lewis Li Lim Lima Lin Liu Long Lopez López Martin Martinez Martínez Mehta Mendoza
    Meyer Miller Mitchell Moore Morales Moreau Morgan Morris Müller Murphy Myers Nelson Neumann
    Nguyen Novak Oliveira Ortiz Parker Patel Perez Pérez Pereira Perry Peterson Petit Phillips
    Popov Powell Price Ramirez Ramos Reddy Reed Reyes Reynolds Richard Richardson Richter Rivera
    Roberts Robinson Rodrigues Rodriguez Rodríguez Rogers Romero Ross Rossi Roux Ruiz Russell
    Russo Sanchez Sánchez Sanders Santos Sato Schmidt Schmitt Schneider Schröder Schulz Schwarz
    Scott Sharma Silva Simon Singh Smirnov Smith Souza Stewart Sullivan Suzuki Tanaka Taylor
    Thomas Thompson Torres Tran Turner Verma Vogel Wagner Walker Wang Ward Watson Weber White
    Williams Wilson Wolf Wong Wood Wright Wu Yamamoto Yang Young Zhang Zhao Zhou Zimmermann
    """.split()
)

CHINESE_FAMILY: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏"
    "吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙史陶贺毛段郝顾龚邵万覃武钱"
    "戴严莫孔向汤赖文洪季祝舒阎齐殷庄葛尤柳章鲁欧阳司马上官诸葛"
)

NOT_NAMES: Final = frozenset(
    """
    A An And Are As At But By Can Could Did Do Does For From Had Has Have Hello Her Here Hi His
    How I If In Is It Its Just Let May My No Not Now Of On Or Our Please Should So Sorry Thank
    Thanks That The Their Them Then There These They This To Was We Were What When Where Which
    Who Why Will With Would Yes You Your Monday Tuesday Wednesday Thursday Friday Saturday
    Sunday Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec January February March April May June
    July August September October November December Street Avenue Road Lane Drive University
    College School Hospital Church Airport Inc Ltd LLC Corp Company Group Bank Hotel Park River
    Lake Island Mountain County City State Day Award Prize Foundation Museum Library Institute
    English French German Spanish Chinese American British Customer Support Service Team Sales
    Account Order Manager Director Engineer Assistant Sir Madam All Everyone Friend Everybody
    Colleague Colleagues Friends Client Agent Doctor Nurse Professor Teacher Patient User Admin
    """.split()
)
"""Capitalised words that follow a given name or a cue without being part of a name."""
