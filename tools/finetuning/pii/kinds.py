"""The kinds of personal data, the span that names a place, and the tags that replace a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

from finetuning.errors import UnknownNameError

PersonalDataType = Literal[
    "email",
    "phone",
    "ip_v4",
    "ip_v6",
    "mac",
    "credit_card",
    "iban",
    "bank_account",
    "us_ssn",
    "us_itin",
    "uk_nino",
    "br_cpf",
    "in_aadhaar",
    "cn_resident_id",
    "passport",
    "driving_licence",
    "date_of_birth",
    "postal_address",
    "person_name",
    "medical_record",
    "health_plan",
    "crypto_address",
    "url_credentials",
    "password",
    "private_key",
    "jwt",
    "api_key",
    "connection_string",
]
"""The closed list of the contract (interface.md, "personal-data types")."""

DetectorName = Literal["fast", "scrubadub", "presidio"]
RedactMode = Literal["mask", "pseudonym"]
Coverage = Literal["covered", "partly", "no"]

TYPES: Final[tuple[str, ...]] = get_args(PersonalDataType)

SECRET_TYPES: Final = frozenset(
    {"url_credentials", "password", "private_key", "jwt", "api_key", "connection_string"}
)
"""Types that open a door rather than name a person."""

HEALTH_TYPES: Final = frozenset({"medical_record", "health_plan"})

# Where two findings overlap, the one named first keeps its whole extent.
_ORDER: Final = (
    "private_key",
    "connection_string",
    "url_credentials",
    "jwt",
    "api_key",
    "email",
    "iban",
    "crypto_address",
    "credit_card",
    "cn_resident_id",
    "us_itin",
    "us_ssn",
    "uk_nino",
    "br_cpf",
    "medical_record",
    "health_plan",
    "passport",
    "driving_licence",
    "bank_account",
    "in_aadhaar",
    "mac",
    "ip_v6",
    "ip_v4",
    "date_of_birth",
    "password",
    "phone",
    "postal_address",
    "person_name",
)
RANK: Final[dict[str, int]] = {name: rank for rank, name in enumerate(_ORDER)}


class Span(NamedTuple):
    """One finding: code points ``start`` to ``end`` of a text, its type, and 0..1 confidence."""

    start: int
    end: int
    type: str
    confidence: float


def check_types(types: Sequence[str] | None, *, where: str) -> frozenset[str]:
    """Return the wanted types (None means all) or name the nearest known one.

    Args:
        types: A sequence of type names, or None.
        where: Name of the tool, for the error text.

    Raises:
        UnknownNameError: A name is not one of :data:`TYPES`.
    """
    if types is None:
        return frozenset(TYPES)
    wanted = [types] if isinstance(types, str) else list(types)
    for name in wanted:
        if name not in TYPES:
            raise UnknownNameError(where, "personal-data type", str(name), TYPES)
    return frozenset(wanted)
