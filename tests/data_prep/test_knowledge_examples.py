"""Every command that data-prep.md shows runs as it stands, on the files that it names."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning_skill import cli

ROOT = Path(__file__).parents[2]
EXPORTS = ROOT / "tests" / "data" / "exports"
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DRAW = random.Random(3)
NOUNS = "boat road house field shirt table horse plant wheel stone river mouse lamp ticket".split()


def words(count: int) -> str:
    return " ".join(DRAW.choices(NOUNS, k=count))


def commands() -> list[str]:
    text = (ROOT / "data-prep.md").read_text(encoding="utf-8")
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [line for line in lines if line.startswith("fine-tuning ")]


def chat(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"where is the {words(8)} of case {number}?"},
            {"role": "assistant", "content": f"it is at the {words(9)}, {number}"},
        ],
        "customer_id": f"c{number % 40}",
    }


def preference(number: int) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"{words(8)} {number}?"}]
    sides = [[{"role": "assistant", "content": words(9)}] for _ in range(2)]
    return {
        "input": {"messages": asked},
        "preferred_output": sides[0],
        "non_preferred_output": sides[1],
    }


def write_inputs(write_lines: Callable[..., Path]) -> None:
    """Write the files that the text names into the working directory."""
    tables = {
        "tickets.csv": "question,answer",
        "orders.csv": "text,json",
        "pairs.csv": "prompt,completion",
    }
    for name, header in tables.items():
        answer = '"{{""item"": ""{}""}}"' if name == "orders.csv" else "{}"
        rows = [f"what about the {words(9)} {n}?,{answer.format(words(8))}" for n in range(60)]
        write_lines(name, header, *rows)
    write_lines("conversations.jsonl", *(json.dumps(chat(n)) for n in range(200)))
    write_lines("old_test.jsonl", *(json.dumps(chat(n)) for n in range(1000, 1010)))
    general = ({"prompt": f"{words(7)}?", "completion": words(7)} for _ in range(20))
    write_lines("general.jsonl", *map(json.dumps, general))
    write_lines("pairs.jsonl", *(json.dumps(preference(n)) for n in range(15)))
    shutil.copy(EXPORTS / "zendesk.jsonl", "tickets.jsonl")
    shutil.copytree(EXPORTS / "claude_code", "sessions")


def decide(page: Path) -> None:
    """Save what a person would: the first row rejected, the second edited, the rest approved."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    data = json.loads(found[1])
    lines = [{key: data[key] for key in ("format", "sheet", "target")}]
    for number, row in enumerate(data["rows"]):
        made = {"digest": row["digest"], "source": row["source"], "line": row["line"]}
        word = {0: "reject", 1: "edit"}.get(number, "approve")
        edited = {"row": {**row["row"], "completion": "a better answer"}} if word == "edit" else {}
        lines.append({**made, "decision": word, **edited})
    body = "".join(json.dumps(line) + "\n" for line in lines)
    Path("reviews.jsonl").write_text(body, encoding="utf-8")


def run(line: str) -> int:
    """Run one command; outputs of an earlier command are moved out of its way."""
    arguments = shlex.split(line)[1:]
    if "--output-dir" in arguments:
        shutil.rmtree(arguments[arguments.index("--output-dir") + 1], ignore_errors=True)
    return cli.run(arguments)


def test_every_command_of_the_text_runs(
    tmp_path: Path,
    write_lines: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(write_lines)
    shown = commands()
    assert len(shown) >= 12
    for line in shown:
        code = run(line)
        message = f"{line}: {capsys.readouterr().err[-400:]}"
        assert code in {0, 1}, message
        if "prepare-data" in line:
            assert code == 0, message
        if "--review-sample" in line:
            decide(tmp_path / "first" / "review.html")
    kept = [
        json.loads(row)
        for part in ("train", "validation", "test")
        for row in (tmp_path / "reviewed" / f"{part}.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(kept) == 59
    assert sum(row["completion"] == "a better answer" for row in kept) == 1
    rejected = (tmp_path / "reviewed" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row)["reason"] for row in rejected] == ["review_rejected"]
