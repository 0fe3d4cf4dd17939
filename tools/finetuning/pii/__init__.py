"""Personal data and secrets: find them, replace them, say what was looked for.

Here: the kinds of personal data, the span that names a place, keyed digests that nobody can guess
back (equal values get equal ones, which only this installation can make), and the shapes of what a
scan finds. The rest is imported when it is used first: a server that starts needs only these.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hmac
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from pydantic import Field

from finetuning.errors import BadInputError, UnknownNameError, lazy
from finetuning.records import Finding, Fraction, Model, ToolResult
from finetuning.settings import settings

if TYPE_CHECKING:
    from finetuning.pii.detect import find_personal_data, redact_texts
    from finetuning.pii.rows import redact_rows
    from finetuning.pii.scan import scan_pii
else:
    _HOMES = {"detect": "find_personal_data redact_texts", "rows": "redact_rows"}
    __getattr__ = lazy(__name__, **_HOMES, scan="scan_pii")

__all__ = [
    "TYPES", "PersonalDataType", "PiiFinding", "PiiScan", "Span", "find_personal_data",
    "keyed_digest", "redact_rows", "redact_texts", "scan_pii",
]  # fmt: skip

PersonalDataType = Literal[
    "email", "phone", "ip_v4", "ip_v6", "mac", "credit_card", "iban", "bank_account", "us_ssn",
    "us_itin", "uk_nino", "br_cpf", "in_aadhaar", "cn_resident_id", "passport", "driving_licence",
    "date_of_birth", "postal_address", "person_name", "medical_record", "health_plan",
    "crypto_address", "url_credentials", "password", "private_key", "jwt", "api_key",
    "connection_string",
]  # fmt: skip
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
    "private_key", "connection_string", "url_credentials", "jwt", "api_key", "email", "iban",
    "crypto_address", "credit_card", "cn_resident_id", "us_itin", "us_ssn", "uk_nino", "br_cpf",
    "medical_record", "health_plan", "passport", "driving_licence", "bank_account", "in_aadhaar",
    "mac", "ip_v6", "ip_v4", "date_of_birth", "password", "phone", "postal_address", "person_name",
)  # fmt: skip
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


def settle(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order and without overlap; every code point found stays covered.

    Of two that overlap, the more specific type keeps its extent and the other keeps what sticks
    out of it.
    """
    settled: list[Span] = []
    cluster: list[Span] = []
    reach = 0
    ordered = sorted(set(spans))
    if all(one.end <= two.start for one, two in itertools.pairwise(ordered)):
        return ordered
    for span in ordered:
        if cluster and span.start >= reach:
            settled += _settle_cluster(cluster)
            cluster = []
        cluster.append(span)
        reach = max(reach if len(cluster) > 1 else 0, span.end)
    return settled + _settle_cluster(cluster)


def _settle_cluster(cluster: list[Span]) -> list[Span]:
    """Settle spans that overlap, directly or through others."""
    if len(cluster) < 2:
        return cluster
    kept: list[Span] = []
    for span in sorted(cluster, key=lambda s: (RANK[s.type], s.start - s.end, -s.confidence)):
        place = bisect.bisect_right(kept, span.start, key=lambda other: other.end)
        start = span.start
        pieces: list[Span] = []
        for other in itertools.islice(kept, place, None):
            if other.start >= span.end:
                break
            if start < other.start:
                pieces.append(span._replace(start=start, end=other.start))
            start = other.end
        if start < span.end:
            pieces.append(span._replace(start=start))
        for piece in pieces:
            bisect.insort(kept, piece)
    return kept


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


_KEY_BYTES: Final = 32
DIGEST_LENGTH: Final = 16
"""Hex digits of a keyed digest: 64 bits, so a million values collide with probability 3e-8."""

_TAG_LENGTH: Final = 12


def _create(path: Path) -> bytes:
    """Write a new key whole and 0600; of two processes that try, one wins and both use it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> bytes:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadInputError(
            "pseudonym key",
            f"{str(path)!r} does not hold a key ({len(text)} characters)",
            f"{2 * _KEY_BYTES} hex digits",
            "Restore it from a backup, or move it away to begin with a new key "
            "(pseudonyms made so far will then no longer match)",
        )
    return key


@functools.lru_cache(maxsize=8)
def _key(path: Path) -> bytes:
    return _read(path) if path.exists() else _create(path)


def _hmac(value: str, key: bytes | None = None) -> str:
    data = value.encode("utf-8", "surrogatepass")
    return hmac.digest(key or _key(settings().pseudonym_key), data, "sha256").hex()


def keyed_digest(value: str) -> str:
    """Return 16 hex digits of the HMAC-SHA-256 of a value under this installation's key.

    The key is created on first use (``FINE_TUNING_HOME/keys/pseudonym.key``, mode 0600) and
    never leaves that file. Equal values give equal digests in every file and every process.

    Raises:
        BadInputError: The key file does not hold a key.
    """
    return _hmac(value)[:DIGEST_LENGTH]


def digester() -> Callable[[str], str]:
    """Return :func:`keyed_digest` for many values: the key's place is looked up once.

    Raises:
        BadInputError: The key file does not hold a key.
    """
    key = _key(settings().pseudonym_key)
    return lambda value: _hmac(value, key)[:DIGEST_LENGTH]


def canonical(type_: str, value: str) -> str:
    """Return the form under which two spellings of one value count as the same.

    Case and separators do not matter, except in secrets; JSON escapes are decoded.
    """
    if "\\" in value:
        import json

        with contextlib.suppress(ValueError):
            value = str(json.loads(f'"{value}"'))
    if type_ in SECRET_TYPES:
        return f"{type_}:{value}"
    kept = "".join(c for c in value.casefold() if c.isalnum() or c in "@.")
    return f"{type_}:{kept}"


def tag(type_: str, value: str, mode: RedactMode) -> str:
    """Return what replaces a value: ``[EMAIL]``, or ``[EMAIL_0123456789ab]`` as pseudonym.

    Args:
        type_: Personal-data type.
        value: The value as it stands in the text.
        mode: ``mask``, or ``pseudonym`` (the same value gives the same tag in every file).
    """
    if mode == "mask":
        return f"[{type_.upper()}]"
    return f"[{type_.upper()}_{_hmac(canonical(type_, value))[:_TAG_LENGTH]}]"
