"""Rows that copy or hold a run of words of an excluded file are left out, with that row."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from finetuning.data_prep import prepare_data

DRAW = random.Random(5)
NOUNS = [f"{a}{b}" for a in "boat road house field shirt table".split() for b in "abcdefgh"]


def words(count: int) -> str:
    return " ".join(DRAW.choices(NOUNS, k=count))


def test_excluded_rows_are_found_as_copies_and_inside_longer_rows(
    tmp_path: Path, write_lines: Callable[..., Path]
) -> None:
    rows = [{"prompt": f"{words(40)}?", "completion": words(30)} for _ in range(40)]
    hidden, copied = words(14), rows[7]
    rows[3]["prompt"] = f"{words(50)} {hidden} {words(50)}"
    source = write_lines("in.jsonl", *map(json.dumps, rows))
    tests = [{"prompt": f"{hidden} {words(6)}", "completion": words(4)}, copied]
    other = write_lines("old_test.jsonl", *map(json.dumps, tests))
    made = prepare_data(
        sources=[str(source)],
        target="trl_prompt_completion",
        output_dir=str(tmp_path / "out"),
        exclude=[str(other)],
    )
    assert made.reasons == {"excluded": 2}
    rejected = Path(made.rejected_file).read_text(encoding="utf-8").splitlines()
    found = {row["line"]: row["of"]["line"] for row in map(json.loads, rejected)}
    assert found == {4: 1, 8: 2}
    assert made.rows.train + made.rows.validation + made.rows.test == 38
