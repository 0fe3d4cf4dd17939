"""Bills worked out by hand from published documentation, against the tool."""

from __future__ import annotations

import ast
import json
import math
import operator
import tomllib
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from finetuning.costs import CostEstimate, estimate_cost

CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "worked_cases.toml").read_text("utf-8")
)["case"]
TOLERANCE = Fraction(5, 1000)
EXACT = ("tokens", "requests_per_month")
OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b,
}


def work_out(text: str) -> Fraction:
    """Evaluate a row's arithmetic with exact fractions: numbers, + - * / and ceil()."""
    return _value(ast.parse(text, mode="eval").body, text)


def _value(node: ast.expr, text: str) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(ast.get_source_segment(text, node) or "")
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left, text), _value(node.right, text))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    assert node.func.id == "ceil"
    return Fraction(math.ceil(_value(node.args[0], text)))


def hello(times: int) -> str:
    return " ".join(["hello"] * times)


def row(shape: str, prompt: int, answer: int, worse: int = 0) -> dict[str, Any]:
    if shape == "chat":
        turns = {"user": prompt, "assistant": answer}
        return {"messages": [{"role": r, "content": hello(n)} for r, n in turns.items()]}
    return {
        "contents": [{"role": "user", "parts": [{"text": hello(prompt)}]}],
        "completions": [
            {"score": score, "completion": {"role": "model", "parts": [{"text": hello(tokens)}]}}
            for score, tokens in ((1.0, answer), (0.0, worse))
        ],
    }


def write_rows(path: Path, groups: list[dict[str, Any]]) -> None:
    lines: list[str] = []
    for group in groups:
        fields = dict(group)
        times = fields.pop("times")
        lines += [json.dumps(row(**fields))] * times
    path.write_text("\n".join(lines) + "\n", "utf-8")


def ask(case: dict[str, Any], folder: Path) -> CostEstimate:
    arguments: dict[str, Any] = {**case["call"], "output_dir": str(folder / "out")}
    if "train" in case:
        data = folder / "data"
        data.mkdir()
        for part in ("train", "validation"):
            if part in case:
                write_rows(data / f"{part}.jsonl", case[part])
        arguments["data"] = str(data)
    return estimate_cost(**arguments)


def look_up(result: CostEstimate, name: str) -> Fraction:
    first, _, rest = name.partition(".")
    if first == "alternatives":
        (value,) = (a.usd_per_month for a in result.alternatives if a.name == rest)
    elif first == "versus":
        other, _, field = rest.partition(".")
        (value,) = (getattr(v, field) for v in result.break_even.versus if v.name == other)
    else:
        value: Any = result
        for part in name.split(".", 2):
            value = value[part] if hasattr(value, "keys") else getattr(value, part)
    assert value is not None, f"{name} is null"
    return Fraction(str(value))


@pytest.mark.parametrize("case", CASES, ids=[f"{c['rule']}: {c['about'][:50]}" for c in CASES])
def test_a_bill_is_what_the_published_rule_says(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ask(case, tmp_path)
    for name, arithmetic in case["expect"].items():
        wanted, got = work_out(arithmetic), look_up(result, name)
        if name.endswith(EXACT):
            assert got == wanted, name
        else:
            assert abs(got - wanted) <= TOLERANCE * abs(wanted), (name, float(got), float(wanted))


def test_every_rule_has_two_to_four_cases_and_every_case_a_dated_source() -> None:
    rules = Counter(case["rule"] for case in CASES)
    assert len(CASES) >= 40
    assert {rule: n for rule, n in rules.items() if not 2 <= n <= 4} == {}
    assert all(case["source"] and case["read"].startswith("20") for case in CASES)
