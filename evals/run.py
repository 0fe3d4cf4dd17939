"""Grade ``assess_fit`` on the scenarios, and compare assistants with and without the skill.

Run from the repository root::

    python evals/run.py                      # assess_fit on the open scenarios; exit 1 below reach
    python evals/run.py --held-out           # the held-out third, apart
    python evals/run.py --triggers           # the description against triggers.json
    python evals/run.py --evals-json         # write evals/evals.json (Agent Skills form)
    python evals/run.py --prompts DIR        # a workspace of prompts, one folder per run
    python evals/run.py --grade DIR          # grade the answers saved in that workspace

A workspace run is ``DIR/iteration-1/eval-<id>/{with_skill,without_skill}``: give its prompt.md to
a fresh session, save the answer as outputs/answer.md, then grade. No model grades anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grading import (
    HERE,
    VERDICTS,
    Grade,
    Rates,
    Scenario,
    assertions,
    check_triggers,
    grade_answer,
    grade_result,
    rates,
    read_scenarios,
)

ROOT = HERE.parent
DAY = "2026-11-20"
ARMS = ("with_skill", "without_skill")
CLOSING = (
    "End your answer with one line `VERDICT: <name>`, the name being the one of these that fits "
    "best: " + ", ".join(VERDICTS) + "."
)
"""Asked of both arms alike, so that a verdict can be read without a model."""


def grade_assess_fit(scenarios: Sequence[Scenario]) -> list[Grade]:
    """Return the grade of assess_fit on each scenario."""
    from finetuning.fit import assess_fit

    grades: list[Grade] = []
    for scenario in scenarios:
        facts: Any = {"as_of": DAY, **scenario.facts}
        grades.append(grade_result(scenario, assess_fit(facts).model_dump(mode="json")))
    return grades


def evals_json(scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return the scenarios in the evals.json form of the Agent Skills specification."""
    return {
        "skill_name": "fine-tuning",
        "evals": [
            {
                "id": number,
                "prompt": scenario.prompt,
                "expected_output": f"{scenario.verdict}: {scenario.why}",
                "files": [],
                "assertions": assertions(scenario),
            }
            for number, scenario in enumerate(scenarios, start=1)
        ],
    }


def write_prompts(workspace: Path, scenarios: Sequence[Scenario]) -> int:
    """Write one prompt per scenario and arm; return how many."""
    for scenario in scenarios:
        for arm in ARMS:
            folder = _run_folder(workspace, scenario, arm)
            (folder / "outputs").mkdir(parents=True, exist_ok=True)
            skill = f"- Skill path: {ROOT}\n" if arm == "with_skill" else ""
            text = (
                f"Execute this task:\n{skill}- Task: {scenario.prompt}\n"
                f"- Save the answer to: {folder / 'outputs' / 'answer.md'}\n\n{CLOSING}\n"
            )
            (folder / "prompt.md").write_text(text, encoding="utf-8")
    return len(scenarios) * len(ARMS)


def _run_folder(workspace: Path, scenario: Scenario, arm: str) -> Path:
    return workspace / "iteration-1" / f"eval-{scenario.id}" / arm


def grade_workspace(workspace: Path, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Grade every saved answer; write grading.json beside it and benchmark.json above."""
    summary: dict[str, Any] = {}
    for arm in ARMS:
        grades: list[Grade] = []
        shares: list[float] = []
        timings: dict[str, list[float]] = {"duration_ms": [], "total_tokens": []}
        for scenario in scenarios:
            folder = _run_folder(workspace, scenario, arm)
            answer = folder / "outputs" / "answer.md"
            if not answer.exists():
                continue
            grade = grade_answer(scenario, answer.read_text(encoding="utf-8"))
            grades.append(grade)
            shares.append(_write_grading(folder, grade))
            _collect(folder / "timing.json", timings)
        if grades:
            summary[arm] = {
                "pass_rate": _spread(shares),
                "time_seconds": _spread([ms / 1000 for ms in timings["duration_ms"]]),
                "tokens": _spread(timings["total_tokens"]),
                "rates": dataclasses.asdict(rates(grades)),
            }
    if summary.keys() == set(ARMS):
        with_skill, without = (summary[arm] for arm in ARMS)
        summary["delta"] = {
            name: round(with_skill[name]["mean"] - without[name]["mean"], 4)
            for name in ("pass_rate", "time_seconds", "tokens")
        }
    benchmark = {"run_summary": summary}
    path = workspace / "iteration-1" / "benchmark.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(benchmark, indent=2) + "\n", encoding="utf-8")
    return benchmark


def _write_grading(folder: Path, grade: Grade) -> float:
    checks = grade.checks()
    passed = sum(check["passed"] for check in checks)
    share = passed / len(checks)
    body = {
        "assertion_results": checks,
        "summary": {
            "passed": passed,
            "failed": len(checks) - passed,
            "total": len(checks),
            "pass_rate": round(share, 4),
        },
    }
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    (folder / "grading.json").write_text(text, encoding="utf-8")
    return share


def _collect(path: Path, timings: dict[str, list[float]]) -> None:
    if path.exists():
        said = json.loads(path.read_text(encoding="utf-8"))
        for name, values in timings.items():
            values.append(float(said[name]))


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "stddev": 0.0}
    return {
        "mean": round(statistics.fmean(values), 4),
        "stddev": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
    }


def show(title: str, found: Rates, grades: Sequence[Grade]) -> None:
    """Print the figures, and each answer that misses something."""
    print(
        f"{title}: n={found.n} acceptable={found.acceptable:.1%} (reach 95 %) "
        f"exact={found.exact:.1%} (85 %) must-mention={found.must:.1%} (90 %) "
        f"must-not-say={found.must_not} (0)"
    )
    for grade in grades:
        if grade.exact and not grade.missing and not grade.forbidden:
            continue
        mark = "exact" if grade.exact else "defensible" if grade.acceptable else "WRONG"
        print(
            f"  {grade.scenario.id}: {mark}, said {grade.verdict}, wanted "
            f"{grade.scenario.verdict}; missing {list(grade.missing)}; "
            f"forbidden {list(grade.forbidden)}"
        )


def show_triggers() -> int:
    """Print how the description fits the trigger prompts; 0 when it does."""
    text = (ROOT / "SKILL.md").read_text(encoding="utf-8")
    found = re.search(r'^description: "(.+)"$', text, re.MULTILINE)
    if found is None:
        print("SKILL.md has no description on one quoted line")
        return 1
    description = found.group(1)
    rows = json.loads((HERE / "triggers.json").read_text(encoding="utf-8"))
    check = check_triggers(description, rows)
    print(
        f"{len(rows)} prompts: ranked right {check.auc:.1%}, "
        f"named by the description {check.recall:.1%} of those that should load it"
    )
    print("no word shared:", *check.missed, sep="\n  ")
    print("near misses that share two words or more:", *check.false_alarms, sep="\n  ")
    return 0 if check.auc >= 0.9 and check.recall >= 0.9 else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the options say; 0 when every reach is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    for name in ("--held-out", "--triggers", "--evals-json"):
        parser.add_argument(name, action="store_true")
    for name in ("--prompts", "--grade"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(argv)
    scenarios = read_scenarios()
    if options.triggers:
        return show_triggers()
    if options.evals_json:
        text = json.dumps(evals_json(scenarios), indent=2, ensure_ascii=False) + "\n"
        (HERE / "evals.json").write_text(text, encoding="utf-8")
        return 0
    if options.prompts:
        print(f"{write_prompts(options.prompts, scenarios)} prompts under {options.prompts}")
        return 0
    if options.grade:
        print(json.dumps(grade_workspace(options.grade, scenarios), indent=2))
        return 0
    chosen = [scenario for scenario in scenarios if scenario.held_out == options.held_out]
    grades = grade_assess_fit(chosen)
    found = rates(grades)
    show("held out" if options.held_out else "open", found, grades)
    return 0 if found.reached() else 1


if __name__ == "__main__":
    raise SystemExit(main())
