"""The evidence folder: page, cards, bill of materials, provenance, checkpoint; whole or absent."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final, cast

from finetuning import audit, pages
from finetuning.compliance import DISCLAIMER, WHERE, ComplianceReport, Gate, Language
from finetuning.compliance.evidence import Rows, tables
from finetuning.compliance.facts import Evidence
from finetuning.compliance.gates import Case, judge, memorised, safe
from finetuning.errors import BadInputError
from finetuning.files import new_output_folder, whole_folder, write_json, write_text
from finetuning.records import Json

_MARKS: Final = {"pass": "✓", "fail": "✗", "unknown": "?"}
Say = Callable[[str], str]


def write_folder(evidence: Evidence) -> ComplianceReport:
    """Record the attestations, judge, and write the evidence folder.

    Raises:
        BadInputError: The folder holds something or cannot be written; nothing was changed but
            the log, which keeps the attestations.
    """
    request = evidence.request
    folder = _new_folder(request["output_dir"])
    with whole_folder(folder, lambda _: ()) as built:
        for one in evidence.attested:
            details = one.model_dump(mode="json") | {"base_model": request["base_model"]}
            audit.append("attestation", details | {"run_id": request["run_id"]})
        log = audit.state_of_log(evidence.names(), built / "audit_checkpoint.json")
        gates = judge(Case(evidence, log))
        _write_papers(evidence, log, built)
        report = _report(evidence, log, gates)
        write_json(built / "report.json", report.model_dump(mode="json", exclude={"next", "files"}))
        write_text(built / "report.html", draw(report, request["language"], _name(evidence)))
        names = sorted(path.name for path in built.iterdir() if not path.name.startswith("."))
    files = [str(folder / name) for name in sorted(names, key=lambda name: name != "report.html")]
    return report.model_copy(update={"files": files})


def _new_folder(path: str | None) -> Path:
    try:
        return new_output_folder(path, where=f"{WHERE}: output_dir", name="compliance")
    except BadInputError as error:
        step = "Choose another folder: earlier evidence is never replaced"
        raise BadInputError(error.where, error.what, error.expected, step) from error


def _report(evidence: Evidence, log: audit.AuditState, gates: list[Gate]) -> ComplianceReport:
    counts = Counter(gate.status for gate in gates)
    rows, share = evidence.rows, evidence.share
    return ComplianceReport(
        regimes=list(evidence.regimes),
        counts={"pass": counts["pass"], "fail": counts["fail"], "unknown": counts["unknown"]},
        gates=gates, total=len(gates), next_offset=None, files=[],
        training_compute_flop=None if evidence.flop is None else float(f"{evidence.flop:.6g}"),
        share_of_modifier_threshold=None if share is None else float(f"{share:.6g}"),
        compute=evidence.compute, licence=evidence.licence, provider=evidence.handling,
        row_authors=rows.authors if rows else None,
        personal_data=rows.scan.by_type if rows else None,
        hipaa18={**rows.scan.hipaa18} if rows else None,
        memorisation=evidence.measured.memorisation, safety=evidence.measured.safety,
        attestations=list(evidence.attested), audit=log,
        run=evidence.run.facts if evidence.run else None, warnings=list(evidence.warnings),
    )  # fmt: skip


def _name(evidence: Evidence) -> str:
    run, base = evidence.run, Path(evidence.request["base_model"]).name
    return f"{base}-{run.run_id}" if run else f"{base}-tuned"


def _write_papers(evidence: Evidence, log: audit.AuditState, built: Path) -> None:
    write_text(built / "model_card.md", model_card(evidence))
    write_json(built / "bom.cdx.json", bill_of_materials(evidence))
    if evidence.rows:
        write_json(built / "data_card.json", data_card(evidence.rows))
    provenance: dict[str, Json] = {
        "data_sha256": evidence.rows.sha256 if evidence.rows else None,
        "run": evidence.run.facts if evidence.run else None,
        "settings": evidence.run.settings if evidence.run else None,
        "compute": evidence.compute.model_dump(mode="json") | {"flop": evidence.flop},
        "evaluation_sha256": evidence.measured.source,
        "audit": log.model_dump(mode="json"),
    }
    write_json(built / "provenance.json", provenance)


def model_card(evidence: Evidence) -> str:
    """Return the model card: Hugging Face front matter and what is known, and what is not."""
    licence, rows, run = evidence.licence, evidence.rows, evidence.run
    hub = tables()["licence"].get(licence.id, {}).get("hub", "other")
    base = str(evidence.request["base_model"])
    base = Path(base).name if Path(base).expanduser().exists() else base
    front: dict[str, Json] = {"base_model": base, "license": hub}
    if hub == "other":
        front["license_name"] = licence.id or "unknown"
    front |= {"library_name": "peft", "pipeline_tag": "text-generation", "tags": ["fine-tuned"]}
    scan = rows.scan if rows else None
    flop = "not known" if evidence.flop is None else f"{evidence.flop:.3g} FLOP"
    found = "not scanned" if scan is None else json.dumps(scan.by_type) if scan.by_type else "none"
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    lines += [f"# {_name(evidence)}", "", DISCLAIMER, ""]
    facts = {
        "Run": run.run_id if run else "not named",
        "Training data (SHA-256)": ", ".join(rows.sha256.values()) if rows else "not named",
        "Rows": str(scan.n_rows) if scan else "not known",
        "Personal data found": found,
        "Training compute": f"{flop} ({evidence.compute.basis})",
        "Comparison with the base": evidence.measured.verdict or "not measured",
        "Memorisation": ": ".join(memorised(evidence.measured)),
        "Safety": ": ".join(safe(evidence.measured)),
        "Licence of the base": f"{licence.id or 'unknown'} ({licence.source}, {licence.as_of})",
    }
    for title, text in facts.items():
        lines += [f"## {title}", "", text, ""]
    lines += [f"- {duty}" for duty in licence.obligations]
    if run:
        settings = json.dumps(run.settings, indent=1)
        lines += ["", "## Settings", "", "```json", settings, "```"]
    lines += ["", "## Intended use and limits", "", "Not stated by anybody: write them here."]
    return "\n".join(lines) + "\n"


def data_card(rows: Rows) -> dict[str, Json]:
    """Return the description of the data as Croissant 1.0 JSON-LD.

    Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html (from memory;
    checked with mlcroissant 1.1.1 on 2026-11-20)
    """
    found = json.dumps(rows.scan.by_type) if rows.scan.by_type else "none found by the scan"
    files: list[Json] = []
    sets: list[Json] = []
    for name, path in rows.paths.items():
        media, place = tables()["media"].get(path.suffix.lower(), "text/plain"), _id(path.name)
        file = {"@type": "cr:FileObject", "@id": place, "name": place, "contentUrl": path.name}
        file |= {"contentSize": f"{path.stat().st_size} B", "encodingFormat": media}
        files.append({**file, "sha256": rows.sha256[name]})
        fields: dict[str, Json] = {}
        for column in rows.fields:
            key = f"{name}/{_id(column)}"
            key += f"_{len(fields)}" if key in fields else ""
            source: Json = {"fileObject": {"@id": place}, "extract": {"column": column}}
            field: Json = {"@type": "cr:Field", "@id": key, "name": key, "dataType": "sc:Text"}
            fields[key] = {**field, "source": source}
        parts = list(fields.values())
        sets.append({"@type": "cr:RecordSet", "@id": name, "name": name, "field": parts})
    return {
        "@context": json.loads(tables()["croissant"]["context"]),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"training-data-{next(iter(rows.sha256.values()))[:12]}",
        "description": f"Training data of {rows.scan.n_rows} rows. Licence and origin: not stated.",
        "version": "1.0.0",
        "rai:personalSensitiveInformation": f"{found}; names and addresses are found in part only",
        "distribution": files,
        "recordSet": sets,
    }


def _id(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)  # the format takes no white space in names


def bill_of_materials(evidence: Evidence) -> dict[str, Json]:
    """Return the machine-learning bill of materials as CycloneDX 1.6 JSON.

    Source: https://cyclonedx.org/docs/1.6/json/ (schema, checked 2026-11-20)
    """
    licence, rows, run = evidence.licence, evidence.rows, evidence.run
    spdx = tables()["licence"].get(licence.id, {}).get("spdx")
    base_name, model = Path(evidence.request["base_model"]).name, "machine-learning-model"
    base: dict[str, Json] = {"type": model, "bom-ref": "base-model", "name": base_name}
    if licence.id:
        base["licenses"] = [{"license": {"id": spdx} if spdx else {"name": licence.id}}]
    parts = [base]
    for name, digest in (rows.sha256 if rows else {}).items():
        parts.append({"type": "data", "bom-ref": f"data:{name}", "name": name, **_hash(digest)})
    for name, digest in (run.adapter if run else {}).items():
        parts.append({"type": "file", "bom-ref": f"adapter:{name}", "name": name, **_hash(digest)})
    versions: dict[str, str] = run.facts["versions"] if run else {}
    for name, version in versions.items():
        ref = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        library = {"type": "library", "bom-ref": ref, "name": name, "version": version}
        parts.append({**library, "purl": ref})
    refs = [str(part["bom-ref"]) for part in parts]
    data = [{"ref": ref} for ref in refs if ref.startswith("data:")]
    approach = {"approach": {"type": "supervised"}, "task": "text-generation", "datasets": data}
    limits = {"technicalLimitations": [DISCLAIMER]}
    tuned: dict[str, Json] = {"type": model, "bom-ref": "tuned-model", "name": _name(evidence)}
    tuned["modelCard"] = {"modelParameters": approach, "considerations": limits}
    ours = {"type": "application", "name": "fine-tuning-skill"}
    tools = {"components": [{**ours, "version": metadata.version("fine-tuning-skill")}]}
    now = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": now, "tools": tools, "component": tuned},
        "components": parts,
        "dependencies": [{"ref": "tuned-model", "dependsOn": refs}],
    }


def _hash(digest: str) -> dict[str, Json]:
    return {"hashes": [{"alg": "SHA-256", "content": digest}]}


def draw(report: ComplianceReport, language: Language, subtitle: str) -> str:
    """Return the page; reasons and sources stay English in every language."""
    words: dict[str, str] = tables()["zh"] if language == "zh" else {}

    def say(text: str) -> str:
        return words.get(text, text)

    counts = report.counts
    kind: pages.BannerKind = "bad" if counts["fail"] else "warning"
    kind = kind if counts["fail"] or counts["unknown"] else "good"
    headline = " · ".join(f"{_MARKS[name]} {n} {say(name)}" for name, n in counts.items())
    first, rest = DISCLAIMER.split(" Pass ")
    parts = [pages.banner(kind, headline, f"{say(first)} {say('Pass ' + rest)}")]
    parts += [pages.paragraph(f"⚖ {say('needs a lawyer')} · ✍ {say('attested, not verified')}")]
    parts += [pages.bullet_list(report.warnings)] if report.warnings else []
    for regime in (*report.regimes, "model"):
        row = tables()["regime"][regime]
        parts += [pages.heading(row["zh"] if language == "zh" else row["name"])]
        parts += [_gates([g for g in report.gates if g.regime == regime], language, say)]
    for title, facts in _blocks(report).items():
        pairs = [(name.replace("_", " "), _cell(value)) for name, value in facts.items()]
        parts += [pages.heading(say(title)), pages.key_values(pairs)]
    if report.hipaa18:
        parts += [pages.heading(say("HIPAA Safe Harbor: what the scan looks for"))]
        found = [(name.replace("_", " "), how) for name, how in report.hipaa18.items()]
        parts += [pages.table([say("identifier"), say("looked for")], found)]
    if report.attestations:
        heads = ("claim", "by", "date", "evidence file (SHA-256)", "bears on")
        rows = [
            (a.claim, a.by, str(a.date), (a.evidence_sha256 or "–")[:16], ", ".join(a.bears_on))
            for a in report.attestations
        ]
        parts += [pages.heading(say("What people attested"))]
        parts += [pages.table([say(head) for head in heads], rows)]
    return pages.page(say("Compliance evidence"), parts, language=language, subtitle=subtitle)


def _gates(gates: list[Gate], language: Language, say: Say) -> str:
    asks = {row["id"]: row["zh" if language == "zh" else "asks"] for row in tables()["gate"]}
    rows = [
        (
            f"{_MARKS[gate.status]} {say(gate.status)}" + (" ✍" if gate.attested else ""),
            asks[gate.id] + (" ⚖" if gate.lawyer else ""),
            gate.why,
            f"{gate.source} ({gate.sure}, {gate.as_of})",
        )
        for gate in gates
    ]
    return pages.table([say(head) for head in ("status", "question", "why", "source")], rows)


def _blocks(report: ComplianceReport) -> dict[str, dict[str, Any]]:
    """Return title → facts of everything that is no gate."""
    share = report.share_of_modifier_threshold
    own: dict[str, Any] = {"flop": report.training_compute_flop}
    own["share_of_threshold"] = None if share is None else f"{share:.2g}"
    found: dict[str, dict[str, Any] | None] = {
        "Training compute": own | report.compute.model_dump(),
        "Base model's licence": report.licence.model_dump(),
        "Personal data in the rows": report.personal_data,
        "Who wrote the rows": dict(report.row_authors or {}),
        "Provider": dict(report.provider or {}),
        "Memorisation": report.memorisation.model_dump(),
        "Safety, before and after": dict(report.safety or {}),
        "Audit log": report.audit.model_dump(),
        "Run": report.run,
    }
    return {title: facts for title, facts in found.items() if facts}


def _cell(value: Any) -> str | float | None:
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return "; ".join(f"{name}: {one}" for name, one in pairs) or None
    if isinstance(value, list):
        return "; ".join(map(str, cast("list[Any]", value))) or None
    return value if value is None or isinstance(value, float) else str(value)
