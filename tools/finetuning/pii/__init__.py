"""Personal data and secrets: find them, replace them, say what was looked for.

Here: the kinds of personal data, the span that names a place, and the shapes of what a scan
finds. The rest is imported when it is used first: a server that starts needs only these shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from pydantic import Field

from finetuning.errors import UnknownNameError, lazy
from finetuning.records import Finding, Fraction, Model, ToolResult

if TYPE_CHECKING:
    from finetuning.pii.detect import find_personal_data
    from finetuning.pii.rows import redact_rows
    from finetuning.pii.scan import scan_pii
    from finetuning.pii.tags import keyed_digest, redact_texts
else:
    __getattr__ = lazy(
        __name__,
        detect="find_personal_data",
        rows="redact_rows",
        scan="scan_pii",
        tags="keyed_digest redact_texts",
    )

__all__ = [
    "TYPES",
    "PersonalDataType",
    "PiiFinding",
    "PiiScan",
    "Span",
    "find_personal_data",
    "keyed_digest",
    "redact_rows",
    "redact_texts",
    "scan_pii",
]

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


# The 18 identifiers of HIPAA Safe Harbor. "Covered" means: every common written form of it is
# looked for. It never means that a text is de-identified: Safe Harbor also asks that nobody knows
# the rest to identify a person, names and places in free text have no complete list, and images
# and voices are not text.
# Source: 45 CFR 164.514(b)(2)(i)(A)-(R) (checked 2026-11-20); knowledge: compliance.md
_IDENTIFIERS: Final[dict[str, tuple[Coverage, tuple[str, ...]]]] = {
    "names": ("partly", ("person_name",)),
    "geographic_subdivisions": ("partly", ("postal_address",)),
    "dates": ("partly", ("date_of_birth",)),
    "telephone_numbers": ("covered", ("phone",)),
    "fax_numbers": ("covered", ("phone",)),
    "email_addresses": ("covered", ("email",)),
    "social_security_numbers": ("covered", ("us_ssn",)),
    "medical_record_numbers": ("partly", ("medical_record",)),
    "health_plan_numbers": ("partly", ("health_plan",)),
    "account_numbers": ("partly", ("bank_account", "iban", "credit_card")),
    "certificate_and_licence_numbers": ("partly", ("driving_licence", "passport")),
    "vehicle_identifiers": ("no", ()),
    "device_identifiers": ("partly", ("mac",)),
    "web_urls": ("partly", ("url_credentials",)),
    "ip_addresses": ("covered", ("ip_v4", "ip_v6")),
    "biometric_identifiers": ("no", ()),
    "full_face_photographs": ("no", ()),
    "any_other_unique_identifier": ("partly", ("us_itin", "crypto_address")),
}


def coverage(wanted: frozenset[str], detector: str) -> dict[str, Coverage]:
    """Return how far a scan for these types covers each of the 18 identifiers.

    Args:
        wanted: The types that were looked for.
        detector: Another detector than ``fast`` reaches at most ``partly``.
    """
    matrix: dict[str, Coverage] = {}
    for name, (best, types) in _IDENTIFIERS.items():
        looked_for = [type_ for type_ in types if type_ in wanted]
        if not looked_for:
            matrix[name] = "no"
        elif len(looked_for) < len(types) or detector != "fast":
            matrix[name] = "partly"
        else:
            matrix[name] = best
    return matrix


class PiiFinding(Model):
    """One place that holds personal data, named without the value."""

    file: str | None = Field(default=None, description="File, where a folder was scanned.")
    line: int = Field(description="Physical line from 1; row number in JSON arrays and Parquet.")
    field: str = Field(description='JSON Pointer; "" for a line that is not a row.')
    start: int = Field(description="First code point, in the decoded text of the field.")
    end: int = Field(description="Code point after the last.")
    type: PersonalDataType
    confidence: Fraction
    digest: str = Field(description="Keyed digest: equal values have equal digests.")


class PiiScan(ToolResult):
    """What was found, or what was taken out."""

    n_rows: int = Field(description="Rows of the input, those that could not be decoded included.")
    findings_total: int
    by_type: dict[str, int]
    findings: list[PiiFinding]
    total: int = Field(description="The same as findings_total, for paging.")
    next_offset: int | None
    hipaa18: dict[str, Coverage] = Field(
        description="How far the 18 HIPAA identifiers are looked for; never proof of absence."
    )
    output_file: str | None = None
    findings_file: str | None = None
    n_unreadable: int = Field(
        default=0, description="Rows that could not be decoded: searched raw, never written."
    )
    n_unsearched: int = Field(default=0, description="Of these, rows that were not searched.")
    unreadable: list[Finding] = Field(default_factory=list["Finding"])
    mode: Literal["scan", "redact"]

    def exit_code(self) -> int:
        """Return 1 for findings, 3 when nothing was found but not all was searched, else 0."""
        if self.mode == "redact":
            return 0
        return 1 if self.findings_total else 3 if self.n_unsearched else 0

    def summary(self) -> str:
        """Return counts by type, most frequent first."""
        types = ", ".join(f"{n} {name}" for name, n in list(self.by_type.items())[:6])
        rest = f"; {self.n_unreadable} rows could not be decoded" if self.n_unreadable else ""
        if self.mode == "redact":
            return f"{self.findings_total} values replaced in {self.n_rows} rows ({types}){rest}."
        if not self.findings_total:
            return f"No personal data found in {self.n_rows} rows{rest}."
        return f"{self.findings_total} findings in {self.n_rows} rows: {types}{rest}."
