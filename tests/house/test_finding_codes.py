"""The tables of finding codes in data-prep.md are the lists that the code holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from finetuning.data_prep.convert.codes import CONVERT_CODES, NOTES
from finetuning.data_prep.quality import QUALITY_CODES
from finetuning.data_prep.validate.reports import CODES
from finetuning.files import Code
from finetuning.training.config import read_tables

TEXT = (Path(__file__).parents[2] / "data-prep.md").read_text(encoding="utf-8")


def _section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"data-prep.md has no section {heading!r}"
    return found.group(1)


def _cell(text: str) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if re.search(r"[{}\[\]<>\\_*\"]", text) else text


def _code_row(name: str, code: Code) -> str:
    cells = [
        f"`{name}`",
        code.severity,
        *(_cell(v) for v in (code.meaning, code.example, code.fix)),
    ]
    return f"| {' | '.join(cells)} |"


def _rows(section: str) -> list[str]:
    return [line for line in section.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("Finding codes", CODES),
        ("Quality findings", QUALITY_CODES),
        ("Reasons for a rejected row", CONVERT_CODES),
    ],
    ids=["findings", "quality", "rejections"],
)
def test_table_of_codes_is_the_list_of_the_code(heading: str, codes: Mapping[str, Code]) -> None:
    expected = [_code_row(name, code) for name, code in codes.items()]
    assert _rows(_section(heading)) == expected


def test_table_of_repairs_is_the_list_of_the_code() -> None:
    expected = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in NOTES.items()]
    assert _rows(_section("Repairs and losses in a conversion")) == expected


def test_every_training_finding_is_explained() -> None:
    text = (Path(__file__).parents[2] / "training.md").read_text(encoding="utf-8")
    section = text.split("### Findings")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert listed == set(read_tables()["findings"])
