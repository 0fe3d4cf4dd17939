"""The files of an evidence folder: valid by their published schemas, whole, and without content."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from huggingface_hub import ModelCard
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from finetuning import audit, runs
from finetuning.compliance import ComplianceReport, compliance_report
from finetuning.errors import BadInputError
from finetuning.files import sha256_file

SCHEMAS = Path(__file__).parents[1] / "data" / "cyclonedx"
PRIVATE = ("anna.smith@example.com", "219-09-9999", "opening time of the clinic")


@pytest.fixture
def data(write_lines: Callable[..., Path]) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the {PRIVATE[2]}? {PRIVATE[0]}"},
                {"role": "assistant", "content": f"At nine. {PRIVATE[1]}"},
            ],
            "teacher": "human",
        }
    ]
    folder = write_lines("prepared/train.jsonl", *map(json.dumps, rows)).parent
    write_lines("prepared/test.jsonl", *map(json.dumps, rows))
    return folder


def run_on(data: Path) -> str:
    config: dict[str, Any] = {
        "base_model": "Qwen3-8B", "train_file": str(data / "train.jsonl"), "tuning": "lora",
        "num_train_epochs": 1.0,
    }  # fmt: skip
    run = runs.create_run("launch_lora", arguments={"config": config})
    adapter = Path(run.folder) / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    digest = sha256_file(data / "train.jsonl")
    result: dict[str, Any] = {"data_sha256": digest, "versions": {"torch": "2.13.0"}}
    runs.finish(run.run_id, "succeeded", result=result)
    return run.run_id


def report(data: Path, **arguments: Any) -> ComplianceReport:
    given: dict[str, Any] = {
        "base_model": "Qwen/Qwen3-8B",
        "provider": "local",
        "data": str(data),
        **arguments,
    }
    return compliance_report(
        jurisdictions=["EU", "hipaa"], data_sensitivity="health", run_id=run_on(data), **given
    )


def read(found: ComplianceReport, name: str) -> str:
    return next(Path(file) for file in found.files if file.endswith(name)).read_text("utf-8")


def load(found: ComplianceReport, name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(read(found, name)))


def schema(name: str) -> dict[str, Any]:
    text = (SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def faults(bill: dict[str, Any]) -> list[str]:
    """Return what the official schema of CycloneDX 1.6 says against a bill of materials."""
    registry = cast("Any", Registry)()
    for name in ("spdx", "jsf-0.82"):
        resource: Any = Resource.from_contents(schema(name))
        place = f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json"
        registry = registry.with_resource(place, resource)
    validator: Any = Draft7Validator(schema("bom-1.6"), registry=registry)
    return [str(error.message) for error in validator.iter_errors(bill)]


@pytest.mark.parametrize(
    "base", ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "nobody/knows-it"]
)
def test_the_bill_of_materials_is_valid_by_the_official_schema(data: Path, base: str) -> None:
    bill = load(report(data, base_model=base), "bom.cdx.json")
    assert faults(bill) == []
    kinds = sorted(part["type"] for part in bill["components"])
    assert kinds == ["data", "data", "file", "library", "machine-learning-model"]
    refs = {part["bom-ref"] for part in bill["components"]}
    assert set(bill["dependencies"][0]["dependsOn"]) == refs
    hashes = {h["content"] for part in bill["components"] for h in part.get("hashes", [])}
    assert sha256_file(data / "train.jsonl") in hashes


def test_the_schema_check_of_these_tests_can_fail(data: Path) -> None:
    bill = load(report(data), "bom.cdx.json")
    assert faults({**bill, "specVersion": 7}) != []
    bill["components"][0]["licenses"] = [{"license": {"id": "Not-A-Licence"}}]
    assert faults(bill) != []


def test_the_data_card_is_croissant_whose_parts_refer_to_each_other(data: Path) -> None:
    """The same card was read by mlcroissant 1.1.1 without an error (2026-11-20)."""
    card = load(report(data), "data_card.json")
    assert card["@type"] == "sc:Dataset"
    assert card["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", card["version"])
    assert {"@vocab", "cr", "sc", "dct", "recordSet", "fileObject"} <= set(card["@context"])
    files = {one["@id"]: one for one in card["distribution"]}
    assert set(files) == {"train.jsonl", "test.jsonl"}
    for name, one in files.items():
        assert one["@type"] == "cr:FileObject"
        assert one["sha256"] == sha256_file(data / name)
        assert one["encodingFormat"] == "application/jsonlines"
        assert one["contentUrl"] == name
    ids = [*files, *(one["@id"] for one in card["recordSet"])]
    for record_set in card["recordSet"]:
        assert [field["@id"] for field in record_set["field"]]
        for field in record_set["field"]:
            ids.append(field["@id"])
            assert field["source"]["fileObject"]["@id"] in files
            assert field["source"]["extract"]["column"] in {"messages", "teacher"}
    assert len(ids) == len(set(ids))


def test_columns_and_files_of_any_name_get_ids_without_white_space(
    write_lines: Callable[..., Path],
) -> None:
    path = write_lines("my rows.csv", 'a b,a_b,"x ""y"" / z"', "1,2,3", "4,5,6")
    card = load(
        compliance_report("Qwen/Qwen3-8B", ["gdpr"], "none", data=str(path)), "data_card.json"
    )
    fields = card["recordSet"][0]["field"]
    assert [one["@id"] for one in fields] == ["data/a_b", "data/a_b_1", "data/x__y____z"]
    assert [one["source"]["extract"]["column"] for one in fields] == ["a b", "a_b", 'x "y" / z']
    assert card["distribution"][0]["@id"] == "my_rows.csv"
    assert card["distribution"][0]["contentUrl"] == "my rows.csv"
    assert card["distribution"][0]["encodingFormat"] == "text/csv"


def test_the_model_card_is_read_by_the_hub_library(data: Path) -> None:
    card: Any = ModelCard(read(report(data), "model_card.md"))
    assert card.data.base_model == "Qwen/Qwen3-8B"
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "peft"
    other: Any = ModelCard(read(report(data, base_model="nobody/knows-it"), "model_card.md"))
    assert (other.data.license, other.data.license_name) == ("other", "unknown")
    assert "certifies nothing" in other.text


def test_a_base_on_this_machine_is_named_without_its_path(data: Path, tmp_path: Path) -> None:
    base = tmp_path / "some-where" / "my-base"
    base.mkdir(parents=True)
    found = report(data, base_model=str(base))
    for name in ("model_card.md", "bom.cdx.json"):
        assert "some-where" not in read(found, name)
        assert "my-base" in read(found, name)


def test_the_checkpoint_of_the_folder_verifies_the_log_later(data: Path) -> None:
    audit.append("tool.test", {})
    found = report(data)
    call = next(one for one in found.next if one.tool == "verify_audit_log")
    assert audit.verify_audit_log(**call.args).anchored


def test_the_folder_tells_everything_that_the_result_tells(data: Path) -> None:
    found = report(data, limit=None)
    whole = load(found, "report.json")
    assert [one["id"] for one in whole["gates"]] == [one.id for one in found.gates]
    assert whole["hipaa18"] == found.hipaa18
    page = read(found, "report.html")
    for one in found.gates:
        assert one.source.split(";")[0].split("'")[0] in page
    assert "not legal advice" in page


@pytest.mark.parametrize(("language", "words"), [("en", "HIPAA Safe Harbor"), ("zh", "许可证")])
def test_the_page_opens_offline_in_both_languages(data: Path, language: Any, words: str) -> None:
    page = read(report(data, language=language), "report.html")
    assert words in page
    assert re.findall(r'(?:src|href)="', page) == []
    assert "default-src 'none'" in page


def test_a_page_without_a_fault_or_a_gap_is_green(data: Path) -> None:
    from finetuning.compliance.papers import draw

    found = report(data, limit=None)
    assert 'class="banner warning"' in draw(found, "en", "x")
    failed = found.model_copy(update={"counts": {"pass": 1, "fail": 1, "unknown": 0}})
    assert 'class="banner bad"' in draw(failed, "en", "x")
    clean = {"counts": {"pass": 1, "fail": 0, "unknown": 0}, "hipaa18": None, "run": None}
    assert 'class="banner good"' in draw(found.model_copy(update=clean), "en", "x")


def test_nothing_that_is_written_or_returned_holds_a_value_of_the_rows(
    data: Path, isolated_environment: Path
) -> None:
    found = report(data, limit=None)
    texts = [
        found.model_dump_json(),
        (isolated_environment / "runs.sqlite").read_bytes().decode("latin-1"),
    ]
    folder = Path(found.files[0]).parent
    texts += [path.read_text(encoding="utf-8") for path in folder.iterdir()]
    for text in texts:
        assert [value for value in PRIVATE if value in text] == []
    assert found.personal_data is not None
    assert found.personal_data["email"] == 2


def test_a_folder_that_holds_something_is_never_written_over(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "evidence"
    first = report(data, output_dir=str(target))
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    assert len(before) == len(first.files) == 6
    with pytest.raises(BadInputError, match="earlier evidence is never replaced"):
        report(data, output_dir=str(target))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_an_empty_folder_is_filled_and_a_folder_below_a_file_is_refused(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert Path(report(data, output_dir=str(tmp_path / "empty")).files[0]).is_file()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(BadInputError):
        report(data, output_dir=str(tmp_path / "file" / "below"))


def test_a_failure_while_writing_leaves_no_folder(
    data: Path, tmp_path: Path, isolated_environment: Path
) -> None:
    audit.append("tool.test", {})
    log = isolated_environment / "audit.jsonl"
    log.write_bytes(log.read_bytes()[:-20] + b"edited, with no end\n")
    given = [{"claim": "dpia", "by": "A. Person", "date": "2026-11-01"}]
    with pytest.raises(Exception, match="not a record as it was written"):
        report(data, output_dir=str(tmp_path / "out"), attestations=given)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_without_data_there_is_no_data_card(isolated_environment: Path) -> None:
    found = compliance_report("Qwen/Qwen3-8B", ["gdpr"], "none")
    names = {Path(file).name for file in found.files}
    assert names == {
        "report.html", "report.json", "model_card.md", "bom.cdx.json", "provenance.json"
    }  # fmt: skip
    assert Path(found.files[0]).is_relative_to(isolated_environment / "reports")
