"""What a match is checked against: check digits, issued ranges, the calendar, lists of names.

The lists of names are our own selection of frequent ones (English, German, French, Spanish,
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


_DOUBLED: Final = {str(n): 2 * n - 9 * (n > 4) for n in range(10)}


def is_card(value: str) -> bool:
    """Say whether the digits carry an issuer prefix of the right length and pass Luhn."""
    digits = digits_of(value)
    if not luhn(digits) or len(set(digits)) == 1:
        return False
    return any(
        len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high
        for low, high, lengths in _CARD_PREFIXES
    )


def luhn(digits: str) -> bool:
    """Say whether the last digit is the Luhn check digit."""
    doubled = sum(map(_DOUBLED.__getitem__, digits[-2::-2]))
    return (doubled + sum(map(int, digits[::-2]))) % 10 == 0


def iban_length(prefix: str) -> int | None:
    """Return how many characters an IBAN of this country has, or None for no such country."""
    return _IBAN_LENGTHS.get(prefix[:2].upper())


def is_iban(compact: str) -> bool:
    """Say whether the characters without spaces pass the mod-97 check of ISO 13616."""
    value = compact.upper()
    numeric = "".join(str(int(character, 36)) for character in value[4:] + value[:4])
    return int(numeric) % 97 == 1


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


GIVEN: Final = frozenset(
    """
    Aarav Aaron Abigail Adam Aditi Adrian Adriana Agnieszka Agnès Aisha Alan Alba Albert Alejandra
    Alejandro Alessandra Alessandro Alex Alexander Alexandra Alice Alicia Alina Alisha Amanda Amber
    Amelia Amit Amy Ana Ananya Anastasia Anaïs Andrea Andreas Andrew Andrzej Angela Angelina Anika
    Anil Anita Anja Anjali Ann Anna Anne Annika Anthony Antje Antoine Anton Antonio Arjun Arnaud
    Arthur Arun Ashley Ashok Aurora Aurélie Axel Barbara Beatriz Benjamin Benoît Bernard Bernd Beth
    Betty Birgit Björn Bradley Brandon Brenda Brian Bruce Bruna Bruno Bryan Caio Camila Camille Carl
    Carla Carlos Carmen Carol Caroline Catarina Catherine Charles Charlie Charlotte Cheryl Chloe
    Chloé Christian Christina Christine Christophe Christopher Claire Clara Claudia Cláudia Clément
    Conor Cristian Cynthia Cécile Céline Daniel Daniela Davi David Deborah Deepa Deepak Delphine
    Denise Dennis Diana Diego Dieter Divya Dmitri Dolores Dominik Donald Donna Doris Dorothy Douglas
    Dylan Eduarda Eduardo Edward Elena Elif Elisabeth Elise Elizabeth Ella Emilia Emilie Emily Emma
    Enrique Enzo Eric Erika Esteban Esther Ethan Eugene Eva Evelyn Fabian Fabio Fabrice Fatima Felix
    Fernanda Fernando Finn Florian Francesca Francis Francisca Frank Franziska François Françoise
    Frederick Friedrich Fritz Frédéric Gabriel Gabriela Gareth Gary Gaurav Geneviève George Gerald
    Gerhard Gilles Giovanni Gisela Giulia Gloria Gonzalo Gregory Greta Grégoire Guilherme Guillaume
    Gustavo Günther Hanna Hannah Hans Harold Harpreet Harry Hassan Heather Heike Heinrich Heinz
    Helen Helena Helga Henri Henrique Henry Hiroshi Howard Hugo Hugues Hélène Ian Ibrahim Ida
    Ignacio Ilse Imran Ines Ingrid Inès Inês Irene Irina Isaac Isabel Isabella Isabelle Ishaan Isla
    Ivan Iván Jacob Jacqueline Jaime James Jamie Jan Jana Jane Janet Janice Jason Javier Jean
    Jeffrey Jennifer Jens Jeremy Jerry Jesse Jessica Joan Joana Joao Joaquín Jochen Joe Joel Johanna
    John Johnny Jonas Jonathan Jordi Jorge Jose Josefa Joseph Josephine Joshua José Joyce João Juan
    Judith Judy Julia Julian Juliana Julie Juliette Justin Jutta Jörg Jürgen Karen Karin Karl
    Karsten Katharina Katherine Kathleen Kathryn Katie Kavya Keith Kelly Kenneth Kerstin Kevin
    Kimberly Kiran Kirsten Klaus Kristin Kurt Kyle Lakshmi Lara Larissa Larry Lars Laura Lauren
    Laurent Lawrence Leila Lena Leon Leonardo Leonie Letícia Liam Linda Lisa Logan Lorena Lorenzo
    Lori Louis Louisa Louise Lourdes Luca Lucas Lucia Luciana Lucie Lucy Luis Luiz Luiza Lukas Lutz
    Luís Luísa Lydia Lynn Léa Léo Madeleine Madison Maja Malte Manfred Manoel Manoj Manuel Manuela
    Marc Marcel Marcela Marcelo Marco Marcos Margaret Margot Maria Mariana Marie Marilyn Marina
    Mario Marion Markus Marlene Marta Martha Martin Mary María Mateo Mathieu Mathilde Matteo Matthew
    Matthias Maurice Mauricio Max Maximilian Meera Megan Mehmet Melanie Melissa Mercedes Mia Michael
    Michaela Michel Michelle Miguel Miriam Mohamed Mohammed Mohan Monica Monika Muhammad Murilo
    Mónica Nadia Nadine Nancy Naomi Natalie Nathalie Nathan Natália Neha Nicholas Nicolas Nicole
    Nikhil Nikolai Nils Nina Nisha Noah Noor Norbert Noémie Núria Odile Olaf Olga Oliver Olivia Omar
    Oscar Otto Otávio Owen Pablo Pamela Paola Pascal Patricia Patrick Paul Paula Pauline Pedro Peter
    Petra Philip Philipp Pierre Pietro Pilar Pooja Pranav Priya Rachel Rafael Rafaela Rahul Raj
    Rajesh Ralph Ramesh Raquel Raymond Rebeca Rebecca Regina Reinhard Renata Renate René Rhys
    Ricardo Richard Robert Roberto Rocío Rodrigo Roger Rohan Roland Rolf Ronald Rosa Roy Ruben Rubén
    Rui Russell Ruth Ryan Rüdiger Sabine Sabrina Samantha Samuel Sandeep Sandra Sanjay Sara Sarah
    Scott Sean Sebastian Sebastião Sergio Sharon Shirley Shreya Silke Silvia Simon Simone Sneha
    Sofia Sofie Sonia Sophia Sophie Stefan Stefanie Stephanie Stephen Steven Stéphane Stéphanie
    Sunil Sunita Suresh Susan Susana Susanne Suzanne Sven Sybille Sylvain Sylvia Sylvie Sébastien
    Tamara Tanja Tatiana Tatjana Teresa Terry Theresa Thiago Thierry Thomas Théo Thérèse Tiffany
    Timothy Tobias Tom Tomás Torsten Tyler Tânia Ulrich Ulrike Uma Ursula Ute Uwe Valentina Valerie
    Valerio Vanessa Vera Veronica Verónica Vicente Victor Victoria Vijay Vikram Vincent Vinícius
    Virginia Virginie Vitor Volker Vítor Walter Waltraud Wayne Wendy Werner Wilhelm William Wolfgang
    Xavier Yannick Yara Yasmin Yolanda Yuki Yusuf Yves Yvonne Zachary Zara Zoe Zoé Ángel Émilie Éric
    Étienne
    """.split()
)
"""Given names that are hardly ever anything else when a capitalised word follows."""

AMBIGUOUS_GIVEN: Final = frozenset(
    """
    April Art August Augusto Bill Bob Carter Chase Christian Cliff Dale Dawn Drew Faith Frank Gene
    Grace Grant Hope Hunter Iris Ivy Jack Jasmine Jim Joy June Lance Lily Mark Mason May Melody Mike
    Miles Nick Olive Paris Parker Pat Pearl Phil Ray Rich Rob Robin Rose Ruby Sam Savannah Sky Steve
    Stone Sue Summer Taylor Ted Tim Tony Violet Will
    """.split()
)
"""Given names that are also words: they count only beside a known family name."""

FAMILY: Final = frozenset(
    """
    Adams Aguilar Ahmed Ali Allen Almeida Alvarez Alves Anderson Andrade Araújo Arnold Arora Ashton
    Aubert Bailey Bajwa Baker Banerjee Barbosa Barker Barnes Batista Bauer Becker Bell Bennett
    Berger Bernard Bertrand Blanc Bose Braun Brooks Brown Butler Böhm Campbell Cardoso Carter
    Carvalho Castillo Castro Chan Chavez Chen Chevalier Choi Chopra Clark Clarke Coleman Collier
    Collins Cook Cooper Costa Cox Cruz Cunha Das Davies Davis Desai Dias Diaz Dixit Duarte Dubois
    Dupont Durand Durán Edwards Ellis Evans Fernandes Fernández Ferreira Fischer Fleming Flores
    Fontaine Ford Foster Fournier Franke Fuchs Garcia García Garnier Gauthier Gill Giménez Gomes
    Gomez Goncalves Gonzalez González Gonçalves Graf Gray Green Griffin Groß Guerrero Gupta
    Gutierrez Gutiérrez Haas Hahn Hall Hamilton Harper Harris Hartmann Henderson Henry Hernandez
    Hernández Herrera Herrmann Hill Hoffman Hoffmann Hopkins Howard Huang Huber Hughes Hunt Iglesias
    Ivanov Iyer Jackson Jain James Jansen Jenkins Jiménez Johnson Jones Joshi Kaiser Kapoor Kaur
    Keller Kelly Khan Kim King Klein Koch Krause Krüger Kumar Köhler König Lambert Lang Laurent Lee
    Lefebvre Legrand Lehmann Leroy Lewis Li Lim Lima Lin Liu Long Lopes Lopez Lowe Ludwig López
    Machado Maier Malik Marques Marsh Marshall Martin Martinez Martínez Mason Mathieu Medina Mehta
    Meier Meireles Mendes Mendoza Menon Mercier Meyer Michel Miller Mitchell Molina Monteiro Moore
    Morales Moreau Moreira Moreno Morgan Morris Moulin Murphy Muñoz Myers Möller Müller Nair Navarro
    Nelson Neumann Nguyen Nogueira Novak Núñez Oliveira Olsen Ortega Ortiz Owen Palmer Parker Patel
    Payne Pereira Perez Perry Peters Peterson Petit Pfeiffer Phillips Pinto Popov Powell Price Pérez
    Ramirez Ramos Ramírez Rana Rao Reddy Reed Reyes Reynolds Richard Richardson Richter Rivera
    Roberts Robin Robinson Rocha Rodrigues Rodriguez Rodríguez Rogers Romero Ross Rossi Roth Roux
    Roy Rubio Ruiz Russell Russo Ríos Sanchez Sanders Santos Sato Saxena Schmid Schmidt Schmitt
    Schneider Scholz Schröder Schubert Schulz Schuster Schwarz Schäfer Scott Sethi Shah Sharma Silva
    Simon Simpson Singh Smirnov Smith Sousa Souza Stein Stewart Sullivan Suzuki Sánchez Tanaka
    Taylor Teixeira Thomas Thompson Torres Tran Turner Vargas Vaz Vega Verma Vieira Vincent Vogel
    Vogt Wagner Walker Wang Ward Watson Webb Weber Weiß Werner West White Williams Wilson Winkler
    Winter Wolf Wong Wood Wright Wu Yadav Yamamoto Yang Young Zhang Zhao Zhou Ziegler Zimmermann
    """.split()
)

CHINESE_FAMILY: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏"
    "吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙史陶贺毛段郝顾龚邵万覃武钱"
    "戴严莫孔向汤赖文洪季祝舒阎齐殷庄葛尤柳章鲁欧阳司马上官诸葛游詹闵艾施牛邢樊路古狄毕柴骆管柯祁池丘倪宁简岑符涂翟卓车项"
    "虞窦饶耿关焦左甘柏成冉桂傅颜鲍邬安常乐时皮卞康伍元卜平穆萧米贝明臧计伏茅庞纪屈蓝席麻强娄危江童"
    "梅盛刁凌霍支缪解应宗宣郁单杭包吉钮嵇滑裴荣翁"
)

NOT_NAMES: Final = frozenset(
    """
    A Account Address Admin Agent Air Airlines Airport All Ambos American An And Apr April Are As
    Assistant At Aug August Avenida Avenue Award Banco Bank Banque Billing Bitte Bonjour Bridge
    British Building But By Calle Can Card Castle Center Centre Chinese Church City Client Cliente
    Cloud Colleague Colleagues College Commit Company Corp Corporation Could County Customer Danke
    Das Date Day Dec December Der Desk Desktop Deutsche Did Die Director Do Doctor Does Drive E-Mail
    Ein Eine El Email Engineer English Everybody Everyone Feb February For Foundation Frau French
    Friday Friend Friends From Fund Garden German Gracias Group Guten Had Hallo Has Have Hello Help
    Her Here Herr Hi His Hola Hospital Hotel Hotline House How I Ich If In Inc Institute Insurance
    Invoice Is Island It Its Jan January Je Jul July Jun June Just Key Kunde Kundin LLC La Lake Lane
    Las Le Les Let Library Linux Login Los Ltd Madam Mall Manager Mar March Market Max May Merci
    Model Monday Motors Mountain Museum My Name No Not Nous Nov November Now Nurse Obrigado Oct
    October Of Office Olá On Or Order Os Our Para Park Password Patient Phone Platz Please Plus Por
    Prize Pro Professor River Road Rua Rue Sales Saturday School Sehr Sep September Server Service
    Shipping Should Sie Sir So Sorry Spanish Square Stadium State Station Straße Street Sunday
    Support Teacher Team Tel Thank Thanks That The Their Them Then There These They This Thursday
    Ticket To Tower Tuesday Uma Un Una University Update User Version Vous Was We Wednesday Were
    What When Where Which Who Why Will Windows Wir With Would Yes You Your
    """.split()
)
"""Capitalised words that follow a given name or a cue without being part of a name."""
