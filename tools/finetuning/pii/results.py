"""The shapes that ``scan_pii`` returns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetuning.pii.kinds import Coverage, PersonalDataType
from finetuning.records import Finding, Fraction, Model, ToolResult


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
