"""The cost file says what the tool says: its commands are run, its figures compared."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finetuning.providers import search_price
from finetuning.providers.terms import day_of
from finetuning_skill.cli import run as run_program

TEXT = (Path(__file__).parents[2] / "costs.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
DAY = day_of("2026-11-20", "test")


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.fixture
def answer(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_lines: Callable[..., Path],
) -> Callable[[list[str]], dict[str, Any]]:
    rows = [json.dumps({"prompt": f"question {n}", "completion": "yes"}) for n in range(40)]
    write_lines("prepared/train.jsonl", *rows)
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> dict[str, Any]:
        capsys.readouterr()
        assert run_program([*words, *([] if "--json" in words else ["--json"])]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words)[:70] for words in COMMANDS])
def test_every_command_of_the_file_runs(
    words: list[str], answer: Callable[[list[str]], dict[str, Any]]
) -> None:
    result = answer(words)
    assert result["training"]["usd"] is not None
    assert Path(result["chart_file"]).is_file()


def numbers(line: str) -> list[Decimal]:
    """Return the figures of a line, signs and thousands read as a person reads them."""
    found = re.findall(r"[−-]?\$?[\d,]*\d(?:\.\d+)?", line)
    return [Decimal(n.replace("$", "").replace(",", "").replace("−", "-")) for n in found]


def test_the_worked_example_is_what_the_tool_answers(
    answer: Callable[[list[str]], dict[str, Any]],
) -> None:
    dedicated = next(words for words in COMMANDS if "--cycles" in words)
    there = next(words for words in COMMANDS if "prime_intellect" in words)
    there = [word.replace(', "cached_tokens": 1200', "") for word in there]
    results = [answer(words) for words in (dedicated, there)]
    assert results[0]["break_even"]["route"] == "tuned_dedicated at together"
    versus = [{v["name"]: v for v in r["break_even"]["versus"]} for r in results]
    lines = [line for line in section("Worked example").splitlines() if line.startswith("| ")]
    words_of = {
        "current": "| nothing done |",
        "cached": "| caching |",
        "batch": "| batch |",
        "cheaper_base": "| a cheap base, cached |",
    }
    for name, label in words_of.items():
        (line,) = (line for line in lines if line.startswith(label))
        told = numbers(line)
        card, token = versus[0][name], versus[1][name]
        assert Decimal(card["saving_usd_per_month"]) == told.pop(0)
        for way in (card, token):
            if way is token:
                assert Decimal(way["saving_usd_per_month"]) == told.pop(0)
            if way["months"] is not None:
                assert abs(Decimal(way["months"]) - told.pop(0)) <= Decimal("0.05")
            if way is card:
                assert way["requests_per_month"] == told.pop(0)
        assert told == []
        assert line.count("never") == [card["months"], token["months"]].count(None)
    months = {a["name"]: a["usd_per_month"] for a in results[0]["alternatives"]}
    table = {
        "nothing done": months["current"],
        "in batch": months["batch"],
        "the same with caching": months["cached"],
        "gpt-6-luna": months["cheaper_base"],
        "billed by the token": results[1]["serving_usd_per_month"],
        "one dedicated H100": months["tuned_dedicated"],
    }
    for label, usd in table.items():
        line = next(line for line in lines if label in line)
        assert numbers(line)[-1] == Decimal(usd), label
    share = results[0]["break_even"]["probability_within_horizon"]
    assert f"{share:.0%}".replace("%", " %") in section("Worked example")


def test_the_other_examples_are_what_the_tool_answers(
    answer: Callable[[list[str]], dict[str, Any]],
) -> None:
    text = section("How to use it")
    hopeless = answer(next(words for words in COMMANDS if "gpt-6-luna" in " ".join(words)))
    assert hopeless["break_even"]["months"] is None
    assert "$2,912.70 a month against $117" in text
    assert "$2,912.70 a month tuned, $117.00 today" in hopeless["break_even"]["reason"]
    good = answer(next(words for words in COMMANDS if "prime_intellect" in words))
    even = good["break_even"]
    assert "saves $2,070 a month and pays back in 1.9 months (1.4 to 2.8" in text
    assert "saves $2,070.00 a month and pays back in about 1.9 months" in even["reason"]
    assert [round(float(even["months"][p]), 1) for p in ("p10", "p90")] == [1.4, 2.8]
    rented = answer(next(words for words in COMMANDS if "hf_jobs" in words))
    hours = [round(rented["gpu"]["hours"][p], 1) for p in ("p50", "p10", "p90")]
    said = re.search(r"([\d.]+) hours \(([\d.]+)–([\d.]+)\), \$([\d.]+)", section("GPU hours"))
    assert said is not None
    assert [float(said.group(n)) for n in (1, 2, 3)] == hours
    assert Decimal(said.group(4)) == Decimal(rented["training"]["usd"]["point"]).quantize(
        Decimal("0.01")
    )


RATES = [
    ("OpenAI gpt-4.1 / 4.1-mini / 4o-mini", "openai", ["gpt-4.1", "gpt-4.1-mini", "gpt-4o-mini"]),
    ("Nebius below 20B", "nebius", ["meta-llama/Meta-Llama-3.1-8B-Instruct"]),
    ("Prime Intellect Qwen3.5-4B / 9B", "prime_intellect", ["Qwen3.5-4B", "Qwen3.5-9B"]),
    ("Crusoe Llama-3.1-8B / gpt-oss-120b", "crusoe", ["Llama 3.1 8B Instruct", "GPT-OSS 120B"]),
    ("Tinker Qwen3-8B", "tinker", ["Qwen/Qwen3-8B"]),
    ("Fireworks up to 16B", "fireworks", ["qwen3p5-9b", "gemma-4-31b-it"]),
]


@pytest.mark.parametrize(("label", "provider", "models"), RATES)
def test_the_rates_of_the_file_are_those_of_the_catalogue(
    label: str, provider: str, models: list[str]
) -> None:
    (line,) = (line for line in section("Training").splitlines() if line.startswith(f"| {label}"))
    told = line.split("|")[2]
    for model in models:
        price = search_price(provider, model, "train_sft", DAY)
        assert price is not None
        assert f"{price.usd:.2f}" in told
        assert price.as_of in line


def test_the_rates_by_kind_of_data_are_those_of_the_catalogue() -> None:
    text = section("Training")
    for model, band in (("Qwen/Qwen3.5-9B", "0.8–9B"), ("Qwen/Qwen3.5-27B", "27–35B")):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| Together {band}"))
        for kind in ("train_sft", "train_dpo"):
            price = search_price("together", model, kind, DAY)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # two of its kinds
            assert price is not None
            assert str(price.usd) in line
