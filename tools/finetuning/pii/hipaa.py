"""The 18 identifiers of HIPAA Safe Harbor and how far this scan covers each.

"Covered" means: every common written form of it is looked for. It never means that a text is
de-identified: Safe Harbor also asks that nobody knows the rest to identify a person, names and
places in free text have no complete list, and images and voices are not text.

Source: 45 CFR 164.514(b)(2)(i)(A)-(R) (checked 2026-11-20); knowledge: compliance.md
"""

from __future__ import annotations

from typing import Final

from finetuning.pii.kinds import Coverage

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
