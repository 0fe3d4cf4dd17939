"""A model that learnt the form of the answers, and nothing else, has not improved."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from finetuning.evaluation import EvalComparison, compare_eval

LABELS = [f"label-{number}" for number in range(20)]
ROWS = 300


@pytest.fixture
def references(tmp_path: Path) -> list[str]:
    rng = random.Random(0)
    found = [rng.choice(LABELS) for _ in range(ROWS)]
    rows = [{"prompt": f"question {n}", "completion": text} for n, text in enumerate(found, 1)]
    write(tmp_path / "test.jsonl", rows)
    return found


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def compare(folder: Path, base: list[str], tuned: list[str]) -> EvalComparison:
    sides: dict[str, str] = {}
    for name, answers in (("base", base), ("tuned", tuned)):
        rows = [{"id": str(n), "output": text} for n, text in enumerate(answers, 1)]
        sides[name] = f"recorded:{write(folder / f'{name}.jsonl', rows)}"
    return compare_eval(
        str(folder / "test.jsonl"),
        sides["base"],
        sides["tuned"],
        general="none",
        output_dir=str(folder / "out"),
    )


def test_answers_by_chance_are_no_improvement_on_a_base_that_knows_no_label(
    tmp_path: Path, references: list[str]
) -> None:
    by_chance = list(references)
    random.Random(1).shuffle(by_chance)
    found = compare(tmp_path, ["?"] * ROWS, by_chance)
    assert found.task[0].ci95[0] > 0.0  # better than the base, and yet
    assert found.verdict == "underpowered"
    assert found.ship == "needs_more_data"
    assert any("commonest answer" in caution for caution in found.cautions)


def test_always_the_commonest_answer_is_a_tie(tmp_path: Path, references: list[str]) -> None:
    commonest = Counter(references).most_common(1)[0][0]
    found = compare(tmp_path, ["?"] * ROWS, [commonest] * ROWS)
    assert found.verdict in {"tied", "underpowered"}
    assert found.ship != "yes"


def test_worse_than_the_commonest_answer_is_a_tie_with_the_base(
    tmp_path: Path, references: list[str]
) -> None:
    mostly_one = [text if n % 4 else LABELS[0] for n, text in enumerate(references)]
    rows = [{"prompt": f"question {n}", "completion": LABELS[0]} for n in range(ROWS)]
    for n in range(0, ROWS, 10):
        rows[n]["completion"] = mostly_one[n]
    write(tmp_path / "test.jsonl", rows)
    tuned = [row["completion"] if n % 3 else "?" for n, row in enumerate(rows)]
    found = compare(tmp_path, ["?"] * ROWS, tuned)
    assert found.task[0].ci95[0] > 0.5
    assert found.verdict == "tied"
    assert found.ship == "no"


def test_a_skill_beyond_the_commonest_answer_is_an_improvement(
    tmp_path: Path, references: list[str]
) -> None:
    rng = random.Random(2)
    tuned = [text if rng.random() < 0.3 else rng.choice(LABELS) for text in references]
    found = compare(tmp_path, ["?"] * ROWS, tuned)
    assert found.verdict == "improved"
    assert not any("commonest answer" in caution for caution in found.cautions)
