"""The README's transcripts are what the program says, and its figures are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

from finetuning_skill import dispatch, read_topic

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}:start -->(.*?)<!-- {name}:end -->", README, re.DOTALL)
    assert found is not None
    return found.group(1).strip()


def test_the_first_transcript_has_eight_lines_and_is_what_assess_fit_answers() -> None:
    lines = block("transcript").splitlines()[1:-1]
    assert len(lines) == 8
    text = " ".join(line.strip() for line in lines)
    called = re.search(r"assess_fit (\{.*?\})", text)
    assert called is not None
    answer = dispatch.call("assess_fit", {"facts": json.loads(called.group(1))})
    said = answer.model_dump(mode="json")
    assert f"→ {said['verdict']}, confidence {said['confidence']}" in text
    assert f"runner-up {said['runner_up']}" in text
    assert f"Not yet, because {said['why']}." in text
    flips = {(flip["fact"], str(flip["to"])): flip["verdict"] for flip in said["flip_points"]}
    assert flips["has_eval", "True"] == "prompt_first"
    assert flips["prompt_score", "0.95"] == "keep_current"
    experiment = said["next_experiment"]
    assert f"about {experiment['hours']:g} hours and ${experiment['usd']}" in text
    assert experiment["what"].split(" (")[0].lower() in text.lower()


def test_the_first_screen_has_the_line_the_commands_and_the_trust_box() -> None:
    first = README[:3_200]
    assert "Tells you whether to fine-tune, then does it and proves it." in first
    assert "先告诉你要不要微调" in first
    assert "make demo" in first
    assert "make test" in first
    assert "| nothing until a person approves | $0 | none | 2026-11-20 |" in first
    assert 'facts-checked: "2026-11-20"' in read_topic("skill")


def test_every_tool_stands_in_the_table_of_tools() -> None:
    table = README.split("## The tools")[1].split("## Install")[0]
    assert [name for name in dispatch.TOOLS if f"`{name}`" not in table] == []


def test_the_demo_transcript_shows_every_step() -> None:
    shown = block("demo")
    steps = re.findall(r"^\[(\d)/9\] (\w+)", shown, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, 10))
    assert {name for _, name in steps} <= set(dispatch.TOOLS)


def test_sizes_and_the_cuda_wheels_are_stated() -> None:
    assert "MB" in block("sizes")
    assert "CUDA" in README
