"""Compliance and security: what a person's data and a later reader can rely on.

The scan lives in ``finetuning.pii`` and the log in ``finetuning.audit``, below everything that
uses them; this package is their front door, and joins data, run, adapter and law in one report.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from finetuning.audit import AuditState, AuditVerification, verify_audit_log
from finetuning.pii import PiiFinding, PiiScan, scan_pii
from finetuning.providers import ProviderId, Tuning
from finetuning.records import Json, Model, NextCall, ToolResult, page

__all__ = [
    "Attestation",
    "AuditState",
    "AuditVerification",
    "ComplianceReport",
    "Gate",
    "PiiFinding",
    "PiiScan",
    "Safety",
    "compliance_report",
    "scan_pii",
    "verify_audit_log",
]

Status = Literal["pass", "fail", "unknown"]
Sure = Literal["read", "second_hand", "secondary", "conflict", "example", "memory", "none"]
Sensitivity = Literal["none", "personal", "health", "secret"]
Language = Literal["en", "zh"]

DISCLAIMER: Final = (
    "This is not legal advice and certifies nothing. Pass means that evidence was found; nobody "
    "has judged it. Unknown is never a pass."
)
WHERE: Final = "compliance_report"
HEALTH_TYPES: Final = frozenset({"medical_record", "health_plan"})
SECRET_TYPES: Final = frozenset(
    {"password", "private_key", "jwt", "api_key", "connection_string", "url_credentials"}
)
AS_OF: Final = "2026-11-20"
"""Day on which the tables of regimes and licences were checked."""


class Attestation(Model, defer_build=True):
    """What a person vouches for: recorded in the audit log, never verified."""

    claim: Annotated[str, Field(min_length=1, max_length=200)]
    by: Annotated[str, Field(min_length=1, max_length=200)]
    date: dt.date
    evidence_file: str | None = Field(
        default=None, description="A file that shows it; without one its gates stay unknown."
    )


class Attested(Model, defer_build=True):
    """An attestation with the digest of its file and the gates that it bears on."""

    claim: str
    by: str
    date: dt.date
    evidence_sha256: str | None
    bears_on: list[str] = Field(description="Gates; none where the claim is not a known one.")


class Gate(Model, defer_build=True):
    """One question of a regime. Pass = evidence was found, which is no legal advice."""

    id: str
    regime: str
    status: Status
    attested: bool = Field(description="A person vouches for it; nobody has verified that.")
    why: str
    source: str
    as_of: str
    sure: Sure = Field(description="How the source is known.")
    lawyer: bool = Field(description="The answer needs a lawyer.")


class Compute(Model, defer_build=True):
    """Floating-point operations of the tuning: k · N · D against the threshold."""

    parameters: int | None = Field(description="N: what one token is multiplied with.")
    tokens: int | None = Field(description="D: tokens over all epochs.")
    flop_per_parameter_token: float | None = Field(description="k: 6 full, 4 LoRA, 4.5 QLoRA.")
    threshold_flop: float
    threshold_source: str
    basis: str = Field(description="Where N and D come from, or what is missing.")


class Licence(Model, defer_build=True):
    """The base model's licence; an id of null is an unknown licence, not a free one."""

    id: str | None
    obligations: list[str]
    source: str
    as_of: str
    sure: Sure


class RowAuthors(Model, defer_build=True):
    """Which rows a model wrote, as far as the rows say so."""

    n_rows: int
    human: int = 0
    open_model: int = 0
    closed_api: int = 0
    other: int = Field(default=0, description="A name is given, but its terms are not known here.")
    unknown: int = Field(default=0, description="The row does not say.")
    names: dict[str, int] = Field(default_factory=dict[str, int])


class Handling(Model, defer_build=True):
    """What the catalogue knows of a provider's handling of data."""

    provider: str
    own_machines: bool
    trains_on_data: str
    retention: str
    residency: str
    regions: list[str]
    baa: str
    zero_retention: str
    source: str
    as_of: str
    sure: Sure


class Memorisation(Model, defer_build=True):
    """What came back after training: of planted canaries, and of the rows. None = not measured."""

    planted: int | None
    asked: int | None = None
    extracted: int | None = None
    ranked: int | None = Field(default=None, description="Canaries ranked against others.")
    ranked_first: int | None = Field(default=None, description="Those likeliest of 64.")
    exposure_bits: float | None = Field(default=None, description="6 = known; 1.4 = chance.")
    exposure_p: float | None = None
    copies: int | None = Field(default=None, description="Answers with 50 words of a row.")
    auc: float | None = Field(default=None, description="Chance that a training row looks known.")
    auc_ci95: list[float] | None = None
    plan: str = Field(description="What to do next to measure it.")


class Safety(Model, defer_build=True):
    """Harmful requests asked before and after training, and the shares refused."""

    n: int
    base_refused: float
    tuned_refused: float
    p: float


class ComplianceReport(ToolResult, defer_build=True):
    """What evidence was found for each regime, what is missing, and the files that show it."""

    regimes: list[str]
    counts: dict[Status, int]
    gates: list[Gate] = Field(description="Fails first, then unknowns, then passes.")
    total: int
    next_offset: int | None
    training_compute_flop: float | None
    share_of_modifier_threshold: float | None = Field(description="1 = at the threshold.")
    compute: Compute
    licence: Licence
    row_authors: RowAuthors | None
    personal_data: dict[str, int] | None = Field(description="Findings by type; null: no data.")
    hipaa18: dict[str, str] | None = Field(
        default=None, description="How far each identifier is looked for; proves no absence."
    )
    provider: Handling | None
    memorisation: Memorisation
    safety: Safety | None = Field(default=None, description="From compare_eval; null: not asked.")
    attestations: list[Attested]
    audit: AuditState
    run: dict[str, Any] | None
    files: list[str]
    warnings: list[str]
    disclaimer: str = DISCLAIMER

    def exit_code(self) -> int:
        """Return 1 for any fail, else 3 for any unknown, else 0."""
        return 1 if self.counts["fail"] else 3 if self.counts["unknown"] else 0

    def summary(self) -> str:
        """Say how many gates have evidence, and what failed."""
        failed = [gate.id for gate in self.gates if gate.status == "fail"]
        text = (
            f"{self.counts['pass']} gates with evidence, {self.counts['unknown']} unknown, "
            f"{self.counts['fail']} failed"
        )
        return f"{text}{': ' + ', '.join(failed[:5]) if failed else ''}. Not legal advice."


def compliance_report(
    base_model: str,
    jurisdictions: list[str],
    data_sensitivity: Sensitivity,
    data: str | None = None,
    run_id: str | None = None,
    provider: ProviderId | None = None,
    attestations: list[Attestation] | None = None,
    output_dir: str | None = None,
    tuning: Tuning | None = None,
    training_tokens: Annotated[int, Field(ge=1)] | None = None,
    n_epochs: Annotated[float, Field(gt=0, le=1000)] | None = None,
    original_compute_flop: Annotated[float, Field(gt=0)] | None = None,
    evaluation: str | None = None,
    canary_outputs: str | None = None,
    language: Language = "en",
    limit: int | None = 20,
    offset: int = 0,
) -> ComplianceReport:
    """Collect the evidence that a regime asks for, and say what is missing.

    Reads data, run, adapter, catalogue and audit log, and writes one folder: report.html,
    report.json, model_card.md (Hugging Face), data_card.json (Croissant), bom.cdx.json
    (CycloneDX 1.6), provenance.json and a checkpoint of the audit log. Not legal advice; what
    nobody showed stays unknown, and an attestation is shown as attested, never as verified.

    Args:
        base_model: Name such as Qwen/Qwen3-8B, or the folder of a base model.
        jurisdictions: Regimes (gdpr, hipaa, pipl, eu_ai_act, soc2, iso_42001, nist_ai_rmf) or
            places that stand for them: EU (gdpr, eu_ai_act), US (hipaa), CN (pipl).
        data_sensitivity: What the person says the rows hold.
        data: Training file, or the folder that prepare_data wrote; default: that of the run.
        run_id: Training run to join in: its settings, digests and adapter.
        provider: Who trains; local where a run of this machine is named.
        attestations: What a person vouches for: claim (an id such as baa_signed or
            lawful_basis), by, date, evidence_file. Recorded in the audit log.
        output_dir: New or empty folder; default FINE_TUNING_HOME/reports/compliance-<id>.
        tuning: lora, qlora or full; default: the run's, else lora.
        training_tokens: Tokens of one epoch, 1 or more; default: the run's, else counted.
        n_epochs: Passes over the data, above 0; default: the run's, else 3.
        original_compute_flop: FLOP of the base's own training, if published; the threshold is
            a third of it, else 3.33e22.
        evaluation: result.json of compare_eval; default: a stored comparison of the run.
        canary_outputs: JSONL {id, output}: the tuned model's answers to canaries.jsonl, by
            canary number.
        language: Language of report.html.
        limit: Gates returned at once, 1 or more; all when null.
        offset: Gates to skip, 0 or more.

    Returns:
        Gates with status, reason and source; compute and its share of the threshold; licence;
        files. Exit code 1 for any fail, else 3 for any unknown, else 0.

    Raises:
        UnknownNameError: An unknown regime, provider or run; the nearest is named.
        BadInputError: A file cannot be used, a date lies ahead, or the folder holds something.
        NotAllowedError: A path lies outside the allowed folders.

    Source: Regulation (EU) 2024/1689 as amended by (EU) 2026/1744 (checked 2026-11-20);
    knowledge: compliance.md#the-report
    """
    request = dict(locals())
    from finetuning.compliance.facts import gather
    from finetuning.compliance.papers import write_folder

    report = write_folder(gather(request))
    shown, following = page(report.gates, limit, offset, where=WHERE)
    hipaa18 = report.hipaa18 if "hipaa" in report.regimes else None
    changes: dict[str, Any] = {"gates": shown, "next_offset": following, "hipaa18": hipaa18}
    changes |= {"next": _next_calls(report, data), "fit_facts": _fit_facts(report)}
    return report.model_copy(update=changes)


def _fit_facts(report: ComplianceReport) -> dict[str, Json]:
    """Return what was measured; what a scan does not find states nothing."""
    facts: dict[str, Json] = {}
    if report.licence.id and report.licence.sure == "read":
        facts["base_licence"] = report.licence.id
    who = report.row_authors
    if who and (who.closed_api or not (who.unknown or who.other)):
        facts["teacher_closed_api"] = bool(who.closed_api)
    found = set(report.personal_data or ()) - SECRET_TYPES
    if found:
        health = found & HEALTH_TYPES
        facts |= {"data_sensitivity": "health" if health else "personal", "identified": True}
    return facts


def _next_calls(report: ComplianceReport, data: str | None) -> list[NextCall]:
    calls: list[NextCall] = []
    for path in report.files:
        if path.endswith("audit_checkpoint.json"):
            why = "later, with a copy kept elsewhere: shows a cut or rewritten log"
            calls.append(NextCall(tool="verify_audit_log", args={"checkpoint": path}, why=why))
    if report.personal_data and data is not None:
        why = "writes a copy without the personal data that were found"
        calls.append(NextCall(tool="scan_pii", args={"path": data, "mode": "redact"}, why=why))
    return calls
