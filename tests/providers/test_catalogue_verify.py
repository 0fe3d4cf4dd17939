"""What a check of the catalogue finds, and that the shipped one is sourced and tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from finetuning.errors import BadInputError
from finetuning.providers import PROVIDER_IDS, provider_ids, verify_catalogue
from finetuning.providers.catalogue import FOLDER
from finetuning.providers.refresh import WORKED_CASES
from finetuning_skill import cli

TODAY = "2026-11-20"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for path in FOLDER.glob("*.toml"):
        shutil.copy(path, folder / path.name)
    return folder


def keep_only(folder: Path, provider: str) -> None:
    """Leave the entry of one provider in a copy of the catalogue."""
    for path in folder.glob("*.toml"):
        _, *entries = path.read_text("utf-8").split("[[provider]]")
        kept = [text for text in entries if f'\nid = "{provider}"' in text]
        path.write_text("".join(f"[[provider]]{text}" for text in kept), "utf-8")
        if not kept:
            path.unlink()


def test_the_catalogue_holds_every_provider_of_the_contract() -> None:
    assert set(provider_ids()) == set(PROVIDER_IDS)


def test_every_shipped_row_is_sourced_and_every_formula_has_a_worked_case() -> None:
    found = verify_catalogue(as_of=TODAY)
    assert found.formulas_checked
    assert [fault for fault in found.faults if fault.code != "stale"] == []
    assert found.n_rows > 300


def test_rows_read_long_ago_fail_the_check_and_name_their_source() -> None:
    found = verify_catalogue(as_of=TODAY)
    assert found.exit_code() == 1
    stale = {fault.provider: fault.why for fault in found.faults}
    assert "matrix was read 2026-05-07" in stale["lambda"]
    assert "stale" in found.summary()
    assert not {"cohere", "mistral", "predibase", "gemini_api"} & set(stale), "those are history"


def test_what_is_over_needs_no_new_look(copy: Path) -> None:
    keep_only(copy, "together")
    names = " ".join(fault.what for fault in verify_catalogue(as_of=TODAY, folder=copy).faults)
    assert "1.35" not in names
    whys = [fault.why for fault in verify_catalogue(as_of=TODAY, folder=copy).faults]
    assert not any("plans" in why for why in whys), "the bands of May were replaced"
    assert any("docs was read 2026-08-18" in why for why in whys)


def test_a_price_is_checked_though_an_older_one_of_its_kind_is_history(copy: Path) -> None:
    keep_only(copy, "fireworks")
    found = verify_catalogue(as_of="2027-03-01", folder=copy)
    rows = {f.why: f.what for f in found.faults}
    assert rows["dedicated was read 2026-10-05"] == "serving by the hour and 2 more"
    assert not any("pricing_may" in f.why for f in found.faults), "replaced on 2026-10-07"


def test_a_young_catalogue_passes(copy: Path) -> None:
    keep_only(copy, "siliconflow")
    found = verify_catalogue(as_of=TODAY, folder=copy)
    assert (found.exit_code(), found.faults) == (0, [])
    assert "rows are sourced and younger than 90 days" in found.summary()
    assert verify_catalogue(as_of="2027-03-01", folder=copy).counts == {"stale": 1}


def test_a_missing_source_and_a_formula_without_a_case_are_faults(
    copy: Path, tmp_path: Path
) -> None:
    whole = copy / "providers.toml"
    text = whole.read_text("utf-8")
    whole.write_text(text.replace("[provider.sources.guide]", "[provider.sources.gone]"), "utf-8")
    cases = tmp_path / "cases.toml"
    cases.write_text(
        '[[case]]\ncall = { provider = "openai", method = "sft" }\n'
        '[[case]]\ncall = { provider = "nobody" }\n'
    )
    found = verify_catalogue(as_of=TODAY, folder=copy, cases=cases)
    assert ("limits", "no_source") in {
        (f.what, f.code) for f in found.faults if f.provider == "crusoe"
    }
    untested = {f.why for f in found.faults if f.code == "formula_without_test"}
    assert "no worked case bills by gpu_hours" in untested
    assert not any(why.split()[-1] == "tokens_epochs" for why in untested)


def test_without_the_tests_at_hand_it_says_that_formulas_were_not_checked(tmp_path: Path) -> None:
    found = verify_catalogue(as_of=TODAY, cases=tmp_path / "absent.toml")
    assert not found.formulas_checked
    assert "formula_without_test" not in found.counts
    assert WORKED_CASES.name == "worked_cases.toml"


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(BadInputError, match="is not a day"):
        verify_catalogue(as_of="soon")


def test_the_command_prints_the_faults_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["catalogue", "verify", "--as-of", TODAY, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"]["stale"] > 0
    assert cli.run(["catalogue", "verify", "--as-of", TODAY]) == 1
    assert capsys.readouterr().out.startswith(str(verify_catalogue(as_of=TODAY).n_rows))
    assert cli.run(["catalogue", "mend"]) == 2
