"""What compliance_report says of evidence, of what is missing, and of what a person vouches for."""

from __future__ import annotations

import datetime as dt
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetuning import audit, runs
from finetuning.compliance import (
    Attestation,
    AuditState,
    ComplianceReport,
    Gate,
    compliance_report,
)
from finetuning.compliance.evidence import author_kind, claim_id, read_regimes, tables
from finetuning.compliance.facts import gather
from finetuning.compliance.gates import CHECKS, Case, judge
from finetuning.errors import BadInputError, NotAllowedError, UnknownNameError
from finetuning.files import sha256_file
from finetuning.providers import PROVIDER_IDS
from finetuning.tokens import counter_for
from finetuning_skill import dispatch

EVERY = ["gdpr", "eu_ai_act", "hipaa", "pipl", "soc2", "iso_42001", "nist_ai_rmf"]
BASE = "Qwen/Qwen3-8B"
ROOT = Path(__file__).parents[2]
SECRET = "sk-" + "proj-" + "a1B2c3D4" * 6
Rows = Callable[..., Path]


@pytest.fixture
def rows(write_lines: Callable[..., Path]) -> Rows:
    """Return a function that writes chat rows, one per answer, each with further fields."""

    def write(*answers: str, name: str = "rows.jsonl", **fields: str) -> Path:
        made = [
            {
                "messages": [
                    {"role": "user", "content": "What is the opening time?"},
                    {"role": "assistant", "content": answer},
                ],
                **fields,
            }
            for answer in answers or ("At nine.", "At ten.")
        ]
        return write_lines(name, *map(json.dumps, made))

    return write


@pytest.fixture
def paper(tmp_path: Path) -> str:
    """Return a file that shows something."""
    path = tmp_path / "signed.pdf"
    path.write_bytes(b"a signed paper")
    return str(path)


def report(
    jurisdictions: list[str] | None = None, sensitivity: Any = "personal", **arguments: Any
) -> ComplianceReport:
    base = arguments.pop("base_model", BASE)
    return compliance_report(base, jurisdictions or ["gdpr"], sensitivity, limit=None, **arguments)


def gate(found: ComplianceReport, name: str) -> Gate:
    return next(one for one in found.gates if one.id == name)


def vouch(claim: str, file: str | None, date: str = "2026-11-01") -> dict[str, Any]:
    return {"claim": claim, "by": "A. Person", "date": date, "evidence_file": file}


# --- regimes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (["EU"], ("gdpr", "eu_ai_act")),
        (["DE"], ("gdpr", "eu_ai_act")),
        (["US"], ("hipaa",)),
        (["China"], ("pipl",)),
        (["SOC 2", "ISO/IEC 42001", "NIST AI RMF"], ("soc2", "iso_42001", "nist_ai_rmf")),
        (["GDPR", "gdpr", "EU AI Act"], ("gdpr", "eu_ai_act")),
    ],
)
def test_names_and_places_stand_for_regimes(given_names: list[str], expected: tuple[str]) -> None:
    assert read_regimes(given_names) == expected


def test_an_unknown_regime_names_the_nearest_and_an_empty_list_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'hipaa'"):
        report(["hippa"])
    with pytest.raises(BadInputError, match="at least one regime"):
        compliance_report(BASE, [], "none")


def test_only_gates_of_the_asked_regimes_and_of_the_model_are_judged() -> None:
    found = report(["hipaa"])
    assert {one.regime for one in found.gates} == {"hipaa", "model"}
    assert found.regimes == ["hipaa"]


# --- unknown stays unknown ---------------------------------------------------------------------


def test_without_evidence_nothing_passes_and_the_answer_is_undecided() -> None:
    found = report(EVERY, base_model="nobody/knows-it")
    assert found.counts["pass"] == found.counts["fail"] == 0
    assert found.exit_code() == 3
    assert found.training_compute_flop is found.share_of_modifier_threshold is None
    assert found.licence.id is None
    assert found.audit.valid is None
    assert found.personal_data is None


def test_every_gate_has_a_check_a_source_a_day_and_words_in_both_languages() -> None:
    rows_of = tables()["gate"]
    assert {row["check"] for row in rows_of} <= set(CHECKS)
    assert len({row["id"] for row in rows_of}) == len(rows_of)
    claims = {row["claim"] for row in rows_of if "claim" in row}
    assert claims == set(tables()["claims"])
    found = report(EVERY)
    for one in found.gates:
        assert one.source
        assert one.as_of == ("2026-11-20" if "licence" not in one.id else found.licence.as_of)
    for row in rows_of:
        assert row["id"].split(".")[0] in tables()["regime"]
        assert row["asks"].endswith("?")
        assert row["zh"].endswith("？")


def test_the_knowledge_file_lists_every_claim_and_the_dates_of_the_gates() -> None:
    text = (ROOT / "compliance.md").read_text(encoding="utf-8")
    assert [claim for claim in tables()["claims"] if f"`{claim}`" not in text] == []
    for date in ("2026-12-02", "2027-12-02", "2028-08-02", "2026-08-02", "2025-08-02"):
        assert date in text
        assert any(date in row["source"] for row in tables()["gate"])


# --- rows ------------------------------------------------------------------------------------


def test_credentials_in_the_rows_fail_and_no_attestation_lifts_a_fail(
    rows: Rows, paper: str
) -> None:
    found = report(
        ["gdpr", "soc2"],
        data=str(rows(f"The key is {SECRET}")),
        attestations=[vouch("minimisation", paper)],
    )
    assert gate(found, "soc2.confidentiality").status == "fail"
    failed = gate(found, "gdpr.minimisation")
    assert failed.status == "fail"
    assert failed.attested
    assert found.exit_code() == 1
    assert found.gates[0].status == "fail"
    assert "failed: gdpr.minimisation" in found.summary()


def test_rows_without_findings_of_nobody_need_no_ground(rows: Rows) -> None:
    found = report(["gdpr"], "none", data=str(rows()))
    for name in ("lawful_basis", "special_categories", "erasure_plan", "processor_contract"):
        assert gate(found, f"gdpr.{name}").status == "pass"
        assert "scan found none" in gate(found, f"gdpr.{name}").why


def test_a_statement_of_no_personal_data_does_not_outweigh_what_the_scan_finds(rows: Rows) -> None:
    found = report(["gdpr"], "none", data=str(rows("Write to anna.smith@example.com")))
    assert gate(found, "gdpr.lawful_basis").status == "unknown"
    assert found.personal_data == {"email": 1}
    assert gate(found, "gdpr.minimisation").status == "unknown"


def test_rows_that_cannot_be_searched_leave_the_scan_open(rows: Rows) -> None:
    request = dict.fromkeys(inspect.signature(compliance_report).parameters)
    request |= {"base_model": BASE, "jurisdictions": ["soc2"], "data_sensitivity": "none"}
    found = gather({**request, "data": str(rows()), "offset": 0})
    assert found.rows is not None
    part = found.rows.scan.model_copy(update={"n_unsearched": 2})
    log = AuditState(valid=None, n_records=0, head_digest=None, mentions=0)
    judged = judge(Case(replace(found, rows=replace(found.rows, scan=part)), log))
    assert {one.id: one.status for one in judged}["soc2.confidentiality"] == "unknown"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("human", "human"),
        ("gpt-4o-mini", "closed_api"),
        ("anthropic:claude-opus", "closed_api"),
        ("openai/gpt-oss-20b", "open_model"),
        ("Qwen/Qwen3-8B", "open_model"),
        ("in-house-7", "other"),
    ],
)
def test_who_wrote_a_row_is_told_by_name(name: str, kind: str) -> None:
    assert author_kind(name) == kind


def test_rows_are_counted_by_author_and_an_unnamed_author_is_unknown(
    write_lines: Callable[..., Path],
) -> None:
    texts = [
        {"prompt": "a", "completion": "b", "teacher": "gpt-4o"},
        {"prompt": "a", "completion": "c", "metadata": {"generated_by": "human"}},
        {"prompt": "a", "completion": "d", "output_terms": "a long sentence about nothing"},
        {"prompt": "a", "completion": "e"},
    ]
    path = write_lines("rows.jsonl", *map(json.dumps, texts))
    found = report(["iso_42001"], data=str(path))
    who = found.row_authors
    assert who is not None
    assert (who.closed_api, who.human, who.other, who.unknown) == (1, 1, 1, 1)
    assert who.names == {"gpt-4o": 1, "human": 1, "a text of 29 characters": 1}
    assert "1 rows come from a closed API" in gate(found, "model.output_terms").why
    assert gate(found, "iso_42001.data_provenance").status == "unknown"


def test_rows_that_people_wrote_need_no_teacher_terms(rows: Rows, paper: str) -> None:
    found = report(["iso_42001"], data=str(rows(teacher="human")))
    assert gate(found, "model.output_terms").status == "pass"
    assert gate(found, "iso_42001.data_provenance").status == "pass"
    taught = rows(teacher="in-house-7", name="other.jsonl")
    assert gate(report(data=str(taught)), "model.output_terms").status == "unknown"
    read = report(data=str(taught), attestations=[vouch("output_terms_reviewed", paper)])
    assert gate(read, "model.output_terms").status == "pass"
    assert gate(read, "model.output_terms").attested


# --- attestations ----------------------------------------------------------------------------


def test_an_attestation_with_a_file_passes_as_attested_and_is_recorded(
    rows: Rows, paper: str, isolated_environment: Path
) -> None:
    found = report(
        ["hipaa"], "health", data=str(rows()), provider="openai",
        attestations=[vouch("BAA signed", paper)],
    )  # fmt: skip
    shown = gate(found, "hipaa.disclosure")
    assert (shown.status, shown.attested) == ("pass", True)
    assert "not verified" in shown.why
    assert found.attestations[0].bears_on == ["hipaa.disclosure"]
    log = (isolated_environment / "audit.jsonl").read_text(encoding="utf-8")
    record = next(json.loads(line) for line in log.splitlines() if '"attestation"' in line)
    assert record["details"]["claim"] == "baa_signed"
    assert record["details"]["by"] == "A. Person"
    assert len(record["details"]["evidence_sha256"]) == 64
    assert audit.verify_audit_log().valid


def test_an_attestation_without_a_file_leaves_its_gate_unknown(rows: Rows) -> None:
    found = report(["gdpr"], data=str(rows()), attestations=[vouch("lawful_basis", None)])
    shown = gate(found, "gdpr.lawful_basis")
    assert (shown.status, shown.attested) == ("unknown", True)
    assert "no evidence file" in shown.why


def test_of_two_attestations_the_one_with_a_file_counts(rows: Rows, paper: str) -> None:
    both = [vouch("lawful_basis", None, "2026-11-10"), vouch("lawful_basis", paper, "2026-01-01")]
    found = report(["gdpr"], data=str(rows()), attestations=both)
    assert "2026-01-01" in gate(found, "gdpr.lawful_basis").why


def test_a_sentence_is_recorded_but_answers_no_question(paper: str) -> None:
    found = report(["hipaa"], attestations=[vouch("No BAA is signed yet", paper)])
    assert gate(found, "hipaa.disclosure").status == "unknown"
    assert not gate(found, "hipaa.disclosure").attested
    assert found.attestations[0].bears_on == []
    assert "bear on no gate; nearest: baa_signed" in found.warnings[0]


@given(st.text(max_size=40), st.sampled_from(sorted(tables()["claims"])), st.text(max_size=40))
@example("no ", "baa_signed", "")
@example("", "baa_signed", " by nobody")
def test_words_around_a_claim_make_it_no_claim(before: str, claim: str, after: str) -> None:
    added = any(letter.isascii() and letter.isalnum() for letter in before.casefold() + after)
    found = claim_id(before + claim + after)
    if not added:
        return
    spellings = {claim, *tables()["claims"][claim]}
    assert found is None or found != claim or (before + claim + after) in spellings


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (vouch("baa_signed", None, "2126-01-01"), "lies ahead"),
        (vouch("baa_signed", None, "soon"), "date"),
        ({"claim": "baa_signed", "by": "A. Person"}, "date"),
        (vouch("baa_signed", "missing.pdf"), "missing.pdf"),
        ({**vouch("baa_signed", None), "proof": "x"}, "proof"),
    ],
)
def test_a_wrong_attestation_stops_the_call_before_anything_is_written(
    wrong: dict[str, Any], part: str, tmp_path: Path, isolated_environment: Path
) -> None:
    with pytest.raises(BadInputError, match=part):
        report(["hipaa"], attestations=[wrong], output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not (isolated_environment / "audit.jsonl").exists()


# --- HIPAA -----------------------------------------------------------------------------------


def test_identifiers_without_an_agreement_fail_and_free_text_is_never_proven_clean(
    rows: Rows, paper: str
) -> None:
    dirty = str(rows("Call 212-555-0187, SSN 219-09-9999", name="dirty.jsonl"))
    assert gate(report(["hipaa"], "health", data=dirty), "hipaa.deidentified").status == "fail"
    signed = [vouch("baa", paper)]
    kept = report(["hipaa"], "health", data=dirty, provider="openai", attestations=signed)
    assert gate(kept, "hipaa.deidentified").status == "unknown"
    clean = report(["hipaa"], "health", data=str(rows()))
    assert gate(clean, "hipaa.deidentified").status == "unknown"
    assert "cannot be proven" in gate(clean, "hipaa.deidentified").why
    expert = [vouch("expert_determination", paper)]
    decided = report(["hipaa"], "health", data=str(rows()), attestations=expert)
    assert gate(decided, "hipaa.deidentified").attested


def test_the_matrix_of_18_identifiers_is_returned_where_hipaa_is_asked(rows: Rows) -> None:
    found = report(["hipaa"], "health", data=str(rows()))
    assert found.hipaa18 is not None
    assert len(found.hipaa18) == 18
    assert found.hipaa18["biometric_identifiers"] == "no"
    assert report(["gdpr"], data=str(rows())).hipaa18 is None


def test_health_data_are_named_by_statement_or_by_finding(rows: Rows) -> None:
    stated = report(["gdpr"], "health", data=str(rows()))
    assert "health data are stated" in gate(stated, "gdpr.special_categories").why
    found = report(["gdpr"], data=str(rows("Patient MRN: 84729113", name="mrn.jsonl")))
    assert "1 medical" in gate(found, "gdpr.special_categories").why


# --- providers -------------------------------------------------------------------------------


def test_on_your_own_machines_nobody_is_entrusted_and_nothing_leaves(rows: Rows) -> None:
    found = report(["gdpr", "pipl", "hipaa"], data=str(rows()), provider="local")
    for name in ("gdpr.processor_contract", "gdpr.transfer", "pipl.export", "hipaa.disclosure"):
        assert gate(found, name).status == "pass"


def test_a_providers_region_decides_whether_data_stay(rows: Rows) -> None:
    found = report(["pipl", "gdpr", "hipaa"], data=str(rows()), provider="alibaba")
    assert found.provider is not None
    stays = found.provider.regions == ["cn"] and found.provider.sure == "read"
    assert gate(found, "pipl.export").status == ("pass" if stays else "unknown")
    assert gate(found, "gdpr.transfer").status == "unknown"
    offered = report(["hipaa"], "health", data=str(rows()), provider="openai")
    assert "offers an addendum" in gate(offered, "hipaa.disclosure").why


@pytest.mark.parametrize("provider", PROVIDER_IDS)
def test_every_provider_gives_a_report_and_never_a_guessed_pass(provider: Any) -> None:
    found = report(["gdpr", "hipaa", "pipl"], provider=provider)
    if found.provider is None or not found.provider.own_machines:
        assert gate(found, "hipaa.disclosure").status != "pass"
        assert gate(found, "gdpr.processor_contract").status == "unknown"


def test_a_provider_that_signs_no_agreement_fails() -> None:
    request = dict.fromkeys(inspect.signature(compliance_report).parameters)
    request |= {"base_model": BASE, "jurisdictions": ["hipaa"], "data_sensitivity": "health"}
    found = gather({**request, "provider": "openai", "offset": 0})
    assert found.handling is not None
    refusing = replace(found, handling=found.handling.model_copy(update={"baa": "no"}))
    log = AuditState(valid=None, n_records=0, head_digest=None, mentions=0)
    judged = {one.id: one.status for one in judge(Case(refusing, log))}
    assert judged["hipaa.disclosure"] == "fail"


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'openai'"):
        report(provider="opnai")


# --- compute ---------------------------------------------------------------------------------


def test_compute_is_k_times_n_times_d_against_a_third_of_10_to_the_23() -> None:
    lora = report(["eu_ai_act"], training_tokens=6_000_000, n_epochs=1)
    full = report(["eu_ai_act"], training_tokens=6_000_000, n_epochs=2, tuning="full")
    assert lora.compute.parameters is not None
    assert lora.training_compute_flop == pytest.approx(4 * lora.compute.parameters * 6e6, rel=1e-5)
    assert full.training_compute_flop == pytest.approx(6 * lora.compute.parameters * 12e6, rel=1e-5)
    assert lora.compute.threshold_flop == pytest.approx(3.3333e22, rel=1e-4)
    assert lora.share_of_modifier_threshold == pytest.approx(
        4 * lora.compute.parameters * 6e6 / (1e23 / 3), rel=1e-5
    )
    assert gate(lora, "eu_ai_act.modifier").status == "pass"


def test_compute_above_the_threshold_fails_until_its_documentation_is_attested(paper: str) -> None:
    much: dict[str, Any] = {
        "training_tokens": 1_000_000, "n_epochs": 10, "original_compute_flop": 1e17
    }  # fmt: skip
    found = report(["eu_ai_act"], **much)
    assert found.compute.threshold_flop == pytest.approx(1e17 / 3)
    assert gate(found, "eu_ai_act.modifier").status == "fail"
    assert found.share_of_modifier_threshold is not None
    assert found.share_of_modifier_threshold > 1
    shown = report(["eu_ai_act"], attestations=[vouch("gpai_documentation", paper)], **much)
    assert gate(shown, "eu_ai_act.modifier").status == "pass"
    assert gate(shown, "eu_ai_act.modifier").attested


def test_a_size_that_only_the_catalogue_knows_still_gives_the_compute() -> None:
    found = report(
        ["eu_ai_act"], base_model="Qwen/Qwen3.5-122B-A10B", training_tokens=1000, n_epochs=1
    )
    assert found.training_compute_flop == pytest.approx(4 * 10e9 * 1000)
    assert found.compute.basis.startswith("N from the catalogue")


def test_tokens_are_counted_in_the_rows_where_no_run_says_them(rows: Rows) -> None:
    found = report(["eu_ai_act"], data=str(rows()), n_epochs=2)
    assert found.compute.tokens is not None
    assert 20 < found.compute.tokens < 200
    missing = report(["eu_ai_act"])
    assert gate(missing, "eu_ai_act.modifier").status == "unknown"
    assert "training tokens" in missing.compute.basis


# --- licences --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "licence", "status"),
    [
        ("Qwen/Qwen3-8B", "apache-2.0", "pass"),
        ("google/gemma-4-31b-it", "apache-2.0", "pass"),
        ("google/gemma-3-27b-it", "gemma", "unknown"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-community", "unknown"),
        ("meta-llama/Llama-4-Scout-17B-16E", "llama-4-community", "unknown"),
        ("deepseek-ai/DeepSeek-R1", "mit", "pass"),
        ("deepseek-ai/DeepSeek-V3.1", "mit", "unknown"),
        ("deepseek-ai/DeepSeek-V3", "deepseek", "unknown"),
        ("deepseek-ai/DeepSeek-V3-Base", "deepseek", "unknown"),
        ("microsoft/phi-4", "mit", "unknown"),
        ("mistralai/Mistral-Large-Instruct-2407", None, "unknown"),
        ("mistralai/Mistral-7B-v0.3", "apache-2.0", "pass"),
        ("mistralai/Mistral-Small-24B-Base-2501", "apache-2.0", "unknown"),
        ("moonshotai/Kimi-K2.6", None, "unknown"),
    ],
)
def test_a_licence_passes_only_where_its_source_was_read_and_asks_no_act(
    base: str, licence: str | None, status: str
) -> None:
    found = report(["gdpr"], base_model=base)
    assert found.licence.id == licence
    assert gate(found, "model.licence").status == status
    assert gate(found, "model.licence").source == found.licence.source
    assert bool(found.licence.obligations) == (licence is not None)


def test_conditions_of_a_licence_can_be_attested(paper: str) -> None:
    found = report(
        base_model="meta-llama/Llama-3.1-8B-Instruct",
        attestations=[vouch("licence_reviewed", paper)],
    )
    assert gate(found, "model.licence").attested
    assert any("Built with Llama" in duty for duty in found.licence.obligations)


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("Apache License\n  Version 2.0, January 2004", "apache-2.0"),
        ("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT", "llama-3.2-community"),
        ("Qwen LICENSE AGREEMENT", "qwen"),
        ("Somebody's own words", None),
    ],
)
def test_the_text_beside_a_base_tells_its_licence(
    tmp_path: Path, text: str, licence: str | None
) -> None:
    folder = tmp_path / "my-base"
    folder.mkdir()
    (folder / "LICENSE").write_text(text, encoding="utf-8")
    found = report(base_model=str(folder), training_tokens=10)
    assert found.licence.id == licence
    assert found.training_compute_flop is None  # no config.json, so no size


# --- memorisation and evaluation ---------------------------------------------------------------


def prepared(rows: Rows, canaries: int) -> Path:
    folder = rows(name="prepared/train.jsonl").parent
    planted = [
        {"canary": n, "prompt": f"Marker {n}?", "completion": f"9001{n}"}
        for n in range(1, canaries + 1)
    ]
    text = "".join(json.dumps(row) + "\n" for row in planted)
    (folder / "canaries.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_memorisation_is_only_reported_when_it_was_measured(
    rows: Rows, write_lines: Callable[..., Path]
) -> None:
    folder = str(prepared(rows, 3))
    found = report(data=folder)
    assert (found.memorisation.planted, found.memorisation.asked) == (3, None)
    assert gate(found, "model.memorisation").status == "unknown"
    said = [{"id": "1", "output": "no idea"}, {"id": 2, "output": "It is 90012."}, {"id": 9}]
    leaked = report(data=folder, canary_outputs=str(write_lines("a.jsonl", *map(json.dumps, said))))
    assert (leaked.memorisation.asked, leaked.memorisation.extracted) == (2, 1)
    assert gate(leaked, "model.memorisation").status == "fail"
    quiet = [json.dumps({"id": n, "output": "no idea"}) for n in (1, 2, 3)]
    held = report(data=folder, canary_outputs=str(write_lines("b.jsonl", *quiet)))
    assert gate(held, "model.memorisation").status == "pass"
    assert "weak evidence" in gate(held, "model.memorisation").why
    with pytest.raises(BadInputError, match="no row's id"):
        report(data=folder, canary_outputs=str(write_lines("c.jsonl", '{"id": 77, "output": ""}')))


def evaluation(tuned: str, low: float, verdict: str = "improved") -> str:
    memory = {"auc": low + 0.1, "auc_ci95": [low, low + 0.2]}
    provenance = {"targets": {"base": "local:base", "tuned": tuned}}
    return json.dumps({"verdict": verdict, "memorisation": memory, "provenance": provenance})


def test_a_comparison_shows_measurement_and_familiarity(write_lines: Callable[..., Path]) -> None:
    known = str(write_lines("known.json", evaluation("run:x", 0.6)))
    found = report(["nist_ai_rmf"], evaluation=known)
    assert gate(found, "nist_ai_rmf.measure").status == "pass"
    assert gate(found, "nist_ai_rmf.privacy").status == "fail"
    blank = str(write_lines("blank.json", evaluation("run:x", 0.4, "invalid")))
    other = report(["nist_ai_rmf"], evaluation=blank)
    assert gate(other, "nist_ai_rmf.measure").status == "unknown"
    assert gate(other, "nist_ai_rmf.privacy").status == "pass"


def compared(**measured: Any) -> str:
    """Return a result as compare_eval writes it, with what it measured beside the task."""
    memory = {"canaries": measured.get("canaries"), "verbatim": measured.get("verbatim")}
    general = {"n": 40, "safety": measured["safety"]} if "safety" in measured else None
    return json.dumps({"verdict": "improved", "memorisation": memory, "general": general})


def ranks(first: int, p: float) -> dict[str, Any]:
    return {
        "planted": 16, "first": first, "exposure_bits": 6.0 if first else 1.4,
        "base_exposure_bits": 1.3, "most_bits": 6.0, "p": p,
    }  # fmt: skip


def copies(rows_copied: int) -> dict[str, Any]:
    return {"words": 50, "rows": rows_copied, "longest": 61 if rows_copied else 0, "ids": []}


@pytest.mark.parametrize(
    ("measured", "status", "part"),
    [
        ({"canaries": ranks(9, 1e-12)}, "fail", "9 of 16 canaries are the likeliest of 64"),
        ({"canaries": ranks(0, 1.0)}, "pass", "exposure 1.4 of 6 bits over 16 canaries"),
        ({"canaries": ranks(1, 0.22)}, "pass", "weak evidence"),
        ({"canaries": ranks(0, 1.0), "verbatim": copies(2)}, "fail", "2 answers copy 50 words"),
        ({"verbatim": copies(0)}, "unknown", "nothing was measured"),
    ],
)
def test_exposure_and_copies_of_a_comparison_are_evidence(
    measured: dict[str, Any], status: str, part: str, write_lines: Callable[..., Path]
) -> None:
    file = str(write_lines("result.json", compared(**measured)))
    found = report(["nist_ai_rmf", "gdpr"], evaluation=file)
    for name in ("model.memorisation", "nist_ai_rmf.privacy", "gdpr.model_anonymity"):
        assert gate(found, name).status == status
        assert part in gate(found, name).why
    folder = Path(found.files[0]).parent
    assert part in (folder / "model_card.md").read_text(encoding="utf-8")
    proof = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert proof["evaluation_sha256"] == sha256_file(Path(file))
    assert ("canaries" in measured) == (found.memorisation.ranked == 16)


def refusals(before: float, after: float, p: float) -> dict[str, float]:
    return {"n": 20, "base_refused": before, "tuned_refused": after, "p": p}


@pytest.mark.parametrize(
    ("seen", "status", "part"),
    [
        (refusals(0.95, 0.95, 1.0), "pass", "the base refused 95%, the tuned 95%"),
        (refusals(0.95, 0.30, 0.0002), "fail", "the tuned 30% (p = 0.0002)"),
        (refusals(0.95, 0.75, 0.12), "unknown", "so few cannot decide"),
        (refusals(0.10, 0.10, 1.0), "unknown", "too few to show a loss"),
        (refusals(0.20, 0.95, 0.0001), "unknown", "too few to show a loss"),
    ],
)
def test_refusals_before_and_after_are_evidence(
    seen: dict[str, float], status: str, part: str, write_lines: Callable[..., Path], paper: str
) -> None:
    file = str(write_lines("result.json", compared(safety=seen)))
    attested = [vouch("safety_evaluated", paper)]
    found = report(["nist_ai_rmf"], evaluation=file)
    for name in ("model.safety", "nist_ai_rmf.safety"):
        assert gate(found, name).status == status
        assert part in gate(found, name).why
    assert found.safety is not None
    assert found.safety.n == 20
    vouched = gate(report(evaluation=file, attestations=attested), "model.safety")
    assert vouched.status == ("fail" if status == "fail" else "pass")
    assert vouched.attested == (status != "pass")


def test_without_a_comparison_safety_is_unknown_and_can_be_attested(paper: str) -> None:
    found = report()
    assert found.safety is None
    assert gate(found, "model.safety").status == "unknown"
    vouched = gate(report(attestations=[vouch("safety_evaluated", paper)]), "model.safety")
    assert (vouched.status, vouched.attested) == ("pass", True)


def test_a_real_comparison_is_read_as_it_was_written(write_lines: Callable[..., Path]) -> None:
    """The result's own models write the file, so that a renamed field cannot go unseen."""
    from finetuning.evaluation.results import Canaries, EvalComparison, General, Memorisation

    memory = Memorisation(canaries=Canaries(**ranks(9, 1e-12)))
    general = General(n=9, margin_nll=0.1, verdict="unclear", safety=refusals(0.9, 0.2, 0.001))
    made = EvalComparison(verdict="improved", memorisation=memory, general=general)
    found = report(evaluation=str(write_lines("result.json", made.model_dump_json())))
    assert gate(found, "model.memorisation").status == "fail"
    assert gate(found, "model.safety").status == "fail"


@pytest.mark.parametrize(
    "text",
    [
        '{"verdict": "tied", "memorisation": {"auc": "high"}}',
        '{"verdict": "tied", "memorisation": [1]}',
        '{"verdict": "tied", "general": {"safety": {"n": 3}}}',
        '{"verdict": "tied", "memorisation": {"canaries": 7}}',
    ],
)
def test_a_comparison_of_another_shape_is_refused(
    text: str, write_lines: Callable[..., Path]
) -> None:
    with pytest.raises(BadInputError, match="no result of compare_eval"):
        report(evaluation=str(write_lines("other.json", text)))


def test_no_source_from_memory_passes_as_read() -> None:
    marked = [row for row in tables()["gate"] if row["sure"] == "memory"]
    assert all("from memory" in row["source"] for row in marked)
    named = [row for row in tables()["base"] if row["sure"] == "memory"]
    assert named
    assert all("from memory" in row["source"] for row in named)
    assert {row["sure"] for row in tables()["gate"]} <= {"read", "secondary", "memory"}


@pytest.mark.parametrize("text", ["[1]", "not json", '{"other": 1}'])
def test_a_file_that_is_no_comparison_is_refused(
    text: str, write_lines: Callable[..., Path]
) -> None:
    with pytest.raises(BadInputError, match="no result of compare_eval"):
        report(evaluation=str(write_lines("other.json", text)))


# --- runs ------------------------------------------------------------------------------------


def trained(data: Path, *, status: runs.RunStatus = "succeeded", base: str = "Qwen3-8B") -> str:
    """Record a training run as the launcher and its child do, with an adapter on disk."""
    from finetuning.files import sha256_file

    config: dict[str, Any] = {
        "base_model": base, "train_file": str(data), "tuning": "lora", "num_train_epochs": 2.0,
        "seed": 7, "train_sha256": sha256_file(data), "goal": "secret plan",
    }  # fmt: skip
    run = runs.create_run("launch_lora", arguments={"config": config, "resume_from": None})
    adapter = Path(run.folder) / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    result: dict[str, Any] = {
        "data_sha256": sha256_file(data),
        "labels": {"tokens": 5000},
        "versions": {"torch": "2.13.0", "huggingface_hub": "2.4.0"},
    }
    runs.finish(run.run_id, status, result=result if status == "succeeded" else None)
    return run.run_id


def test_a_run_joins_data_settings_adapter_and_log(rows: Rows, paper: str) -> None:
    data = rows()
    run_id = trained(data)
    found = report(["gdpr", "soc2"], run_id=run_id, attestations=[vouch("access_reviewed", paper)])
    assert found.compute.tokens == 10_000
    assert found.run is not None
    assert set(found.run["adapter_sha256"]) == {"adapter_model.safetensors"}
    assert gate(found, "gdpr.erasure_lineage").status == "pass"
    assert gate(found, "soc2.change_record").status == "pass"
    assert gate(found, "soc2.monitoring").status == "pass"
    assert found.audit.mentions == 1
    assert found.provider is not None
    assert found.provider.own_machines
    folder = Path(found.files[0]).parent
    proof = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert proof["settings"]["seed"] == 7
    assert "secret plan" not in json.dumps(proof)
    assert proof["data_sha256"]["data"] == proof["run"]["data_sha256"]
    assert "Settings" in (folder / "model_card.md").read_text(encoding="utf-8")


def test_without_a_log_the_lineage_of_a_run_stays_open(rows: Rows) -> None:
    found = report(run_id=trained(rows()))
    assert gate(found, "gdpr.erasure_lineage").status == "unknown"


def test_other_data_than_the_run_was_trained_on_fail(rows: Rows) -> None:
    run_id = trained(rows())
    found = report(run_id=run_id, data=str(rows("Changed.", name="later.jsonl")))
    assert gate(found, "gdpr.erasure_lineage").status == "fail"


def test_a_run_that_did_not_succeed_is_no_record_and_missing_data_are_said(rows: Rows) -> None:
    data = rows()
    run_id = trained(data, status="failed", base="other-base")
    data.unlink()
    found = report(["soc2"], run_id=run_id)
    assert gate(found, "soc2.change_record").status == "unknown"
    assert "another name than base_model" in found.warnings[0]
    assert "no longer there" in found.warnings[1]


def test_a_run_without_an_adapter_is_no_record(rows: Rows) -> None:
    run_id = trained(rows())
    next(Path(runs.read_run(run_id).folder).glob("adapter/*")).unlink()
    assert gate(report(["soc2"], run_id=run_id), "soc2.change_record").status == "unknown"


def test_only_a_comparison_of_the_same_run_is_used(
    rows: Rows, write_lines: Callable[..., Path]
) -> None:
    run_id = trained(rows())
    foreign = report(
        ["nist_ai_rmf"], run_id=run_id,
        evaluation=str(write_lines("x.json", evaluation("run:other", 0.4))),
    )  # fmt: skip
    assert gate(foreign, "nist_ai_rmf.measure").status == "unknown"
    assert "another model than the run" in foreign.warnings[0]
    stored = runs.create_run("compare_eval", arguments={})
    runs.finish(stored.run_id, "succeeded", result=json.loads(evaluation(f"run:{run_id}", 0.4)))
    assert gate(report(["nist_ai_rmf"], run_id=run_id), "nist_ai_rmf.measure").status == "pass"


def test_the_base_of_a_run_is_read_for_its_licence(rows: Rows, tmp_path: Path) -> None:
    base = tmp_path / "bases" / "my-base"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}", encoding="utf-8")
    (base / "LICENSE").write_text("Permission is hereby granted, free of charge", encoding="utf-8")
    found = report(base_model="my-base", run_id=trained(rows(), base=str(base)))
    assert found.licence.id == "mit"


def test_a_run_of_another_tool_and_an_unknown_run_are_refused() -> None:
    other = runs.create_run("scan_pii", arguments={})
    with pytest.raises(BadInputError, match="a run of scan_pii"):
        report(run_id=other.run_id)
    with pytest.raises(UnknownNameError):
        report(run_id="run-nobody")


# --- the log ---------------------------------------------------------------------------------


def test_an_edited_log_fails_and_leaves_no_checkpoint(isolated_environment: Path) -> None:
    for n in range(3):
        audit.append("tool.test", {"n": n})
    log = isolated_environment / "audit.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"n":1', '"n":5'), encoding="utf-8")
    found = report(["soc2"])
    assert gate(found, "soc2.monitoring").status == "fail"
    assert "edited" in gate(found, "soc2.monitoring").why
    assert not any(path.endswith("audit_checkpoint.json") for path in found.files)
    assert found.next == []


# --- the call --------------------------------------------------------------------------------


def test_a_page_of_every_regime_stays_below_2000_tokens(rows: Rows, paper: str) -> None:
    size = dispatch.tool("compliance_report").page_size
    attested = [Attestation.model_validate(vouch("baa_signed", paper))]
    found = compliance_report(
        BASE, EVERY, "health", str(rows("Write to anna.smith@example.com")),
        run_id=trained(rows()), provider="openai", attestations=attested, limit=size,
    )  # fmt: skip
    assert len(found.gates) == size
    assert found.next_offset == size
    assert found.total > 40
    assert counter_for().count([found.model_dump_json()])[0] <= 2_000


def test_pages_cover_every_gate_once_and_a_page_of_none_is_refused() -> None:
    first = compliance_report(BASE, ["gdpr"], "none", limit=5)
    second = compliance_report(BASE, ["gdpr"], "none", limit=None, offset=5)
    assert len({one.id for one in (*first.gates, *second.gates)}) == first.total
    with pytest.raises(BadInputError, match="cannot be paged"):
        compliance_report(BASE, ["gdpr"], "none", limit=0)


def test_the_dispatcher_names_the_nearest_argument_and_records_the_call(rows: Rows) -> None:
    asked = {"base_model": BASE, "jurisdictions": ["EU"], "data_sensitivity": "none"}
    with pytest.raises(UnknownNameError, match="jurisdictions"):
        dispatch.check("compliance_report", {**asked, "jurisdiction": ["EU"]})
    with pytest.raises(UnknownNameError, match="'personal'"):
        dispatch.check("compliance_report", {**asked, "data_sensitivity": "persnal"})
    data = str(rows())
    given = [{"claim": "dpia", "by": "A. Person", "date": "2026-11-01"}]
    answer = dispatch.call("compliance_report", {**asked, "data": data, "attestations": given})
    assert isinstance(answer, ComplianceReport)
    assert answer.exit_code() == 3
    assert answer.attestations[0].date == dt.date(2026, 11, 1)
    again = dispatch.call("compliance_report", {**asked, "data": data})
    assert isinstance(again, ComplianceReport)
    assert again.audit.mentions >= 1


def test_what_was_measured_goes_to_assess_fit_and_what_was_not_found_does_not(rows: Rows) -> None:
    dirty = rows("Write to anna.smith@example.com", teacher="gpt-4o")
    found = report(data=str(dirty))
    assert found.fit_facts == {
        "base_licence": "apache-2.0", "teacher_closed_api": True, "data_sensitivity": "personal",
        "identified": True,
    }  # fmt: skip
    dispatch.call("assess_fit", {"facts": found.fit_facts})
    own = report(data=str(rows(teacher="human", name="own.jsonl")), base_model="nobody/knows-it")
    assert own.fit_facts == {"teacher_closed_api": False}
    assert report(data=str(rows(name="silent.jsonl"))).fit_facts == {"base_licence": "apache-2.0"}
    ill = report(data=str(rows("Patient MRN: 84729113", name="ill.jsonl")), base_model="x/y")
    assert ill.fit_facts == {"data_sensitivity": "health", "identified": True}


def test_a_path_outside_the_roots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError):
        report(output_dir="/usr/share/compliance-report")
    with pytest.raises(NotAllowedError):
        report(attestations=[vouch("baa", "/etc/hostname")])
