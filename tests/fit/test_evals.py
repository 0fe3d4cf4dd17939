"""The scenarios of evals/: assess_fit against them, and the grader that needs no model."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from finetuning.fit import FitAssessment, assess_fit
from finetuning.fit.schema import Verdict

EVALS = Path(__file__).parents[2] / "evals"
DAY = "2026-11-20"


def load(name: str) -> ModuleType:
    if str(EVALS) not in sys.path:
        sys.path.append(str(EVALS))
    return import_module(name)


grading, runner = load("grading"), load("run")
SCENARIOS: dict[str, Any] = {row.id: row for row in grading.read_scenarios()}
OPEN = [name for name, row in SCENARIOS.items() if not row.held_out]


def ask(facts: dict[str, Any]) -> FitAssessment:
    given: Any = {"as_of": DAY, **facts}
    return assess_fit(given)


def test_there_are_enough_scenarios_over_every_verdict_in_both_languages() -> None:
    assert len(SCENARIOS) >= 60
    assert {row.verdict for row in SCENARIOS.values()} == set(get_args(Verdict))
    assert set(grading.VERDICTS) == set(get_args(Verdict))
    assert sum(row.lang == "zh" for row in SCENARIOS.values()) >= 15
    assert 0.25 < 1 - len(OPEN) / len(SCENARIOS) < 0.4
    for row in SCENARIOS.values():
        assert row.evidence, row.id
        assert set(row.acceptable) <= set(get_args(Verdict))
        assert row.lang == ("zh" if any("\u4e00" <= c <= "\u9fff" for c in row.prompt) else "en")


@pytest.mark.parametrize("names", [OPEN, list(SCENARIOS)], ids=["open", "all"])
def test_assess_fit_reaches_what_is_asked_of_it(names: list[str]) -> None:
    """Held-out ones alone were graded once, after the rules: 27 of 29 acceptable, 24 exact."""
    chosen = [SCENARIOS[name] for name in names]
    found = grading.rates(runner.grade_assess_fit(chosen))
    assert found.reached(), found


# scenario, the one fact that changes, its other value, the verdict then
FLIPS: list[tuple[str, str, Any, str]] = [
    ("small-style-set-enough", "prompt_score", 0.2, "prompt_first"),
    ("small-style-set-enough", "prompt_score", 0.92, "keep_current"),
    ("small-style-set-enough", "label_agreement", 0.58, "fix_data"),
    ("small-style-set-enough", "n_examples", 12, "fix_data"),
    ("small-style-set-enough", "n_examples", 60, "fix_data"),
    ("small-style-set-enough", "has_eval", False, "build_eval_first"),
    ("small-style-set-enough", "prompts_tried", ["zero_shot"], "prompt_first"),
    ("small-style-set-enough", "requirements_change", "daily", "prompt_first"),
    ("small-style-set-enough", "near_duplicate_test_fraction", 0.4, "fix_eval"),
    ("small-style-set-enough", "failure_modes", ["missing_knowledge"], "rag_first"),
    ("small-style-set-enough", "n_preference_pairs", 3000, "dpo"),
    ("zh-contract-extraction", "prompt_score", 0.2, "prompt_first"),
    ("zh-contract-extraction", "label_conflict_fraction", 0.3, "fix_data"),
    ("annotators-disagree", "label_agreement", 0.97, "sft"),
    ("zh-polite-but-wrong-specs", "oracle_context_score", 0.3, "prompt_first"),
    ("handbook-unknown-oracle-high", "oracle_context_score", 0.3, "prompt_first"),
    ("handbook-unknown-oracle-high", "rag_score", 0.92, "keep_current"),
    ("oracle-does-not-help", "oracle_context_score", 0.94, "rag_first"),
    ("retrieved-but-ignored", "rag_miss_ignored_fraction", 0.05, "rag_first"),
    ("json-breaks-seven-percent", "prompts_tried", ["structured_outputs", "few_shot"], "sft"),
    ("unit-tests-pass-at-16", "pass_at_16", 0.36, "fix_data"),
    ("optimise-prompt-before-rl", "prompts_tried", ["few_shot", "prompt_optimiser"], "rl"),
    ("thumbs-only", "n_binary_feedback", 40, "fix_data"),
    ("pairs-from-editors", "n_preference_pairs", 20, "fix_data"),
    ("translation-1500-rows", "n_examples", 60_000, "sft"),
    ("proprietary-hdl", "corpus_tokens", 2_000_000, "prompt_first"),
    ("over-100k-calls", "requests_per_month", 20_000_000, "cheaper_base_or_cache"),
    ("latency-teacher-outputs", "cheap_base_score", 0.9, "cheaper_base_or_cache"),
    ("latency-teacher-outputs", "n_teacher_outputs", 50, "fix_data"),
    ("on-device-keyboard", "n_teacher_outputs", 10, "fix_data"),
    ("phi-without-baa", "baa_signed", True, "sft"),
    ("phi-without-baa", "consent", False, "stop_blocked"),
    ("eu-chats-no-consent", "consent", True, "sft"),
    ("openai-new-org", "provider_customer", "existing_active", "conditional"),
    ("openai-new-org", "as_of", "2026-04-01", "sft"),
    ("zh-openai-shutting-down", "as_of", "2025-11-20", "keep_current"),
    ("air-gapped-lab", "gpu_memory_gb", 4, "distill_smaller"),
    ("air-gapped-lab", "provider", "together", "migrate_provider"),
    ("zh-competing-model", "student_use", "internal", "keep_current"),
]
"""Pairs whose second verdict is worked out by hand; a held-out scenario is in none of them."""


@pytest.mark.parametrize(("name", "fact", "value", "verdict"), FLIPS)
def test_one_field_turns_the_verdict_the_right_way(
    name: str, fact: str, value: Any, verdict: str
) -> None:
    assert not SCENARIOS[name].held_out
    assert verdict != SCENARIOS[name].verdict
    result = ask({**SCENARIOS[name].facts, fact: value})
    assert result.verdict == verdict, (result.rules_fired, result.why)


READ: list[tuple[str, str | None]] = [
    ("Long story.\n\nVERDICT: rag_first", "rag_first"),
    ("**Verdict:** `sft`", "sft"),
    ('{"verdict": "stop_blocked"}', "stop_blocked"),
    ("VERDICT: sft ... on reflection\nVERDICT: fix_data.", "fix_data"),
    ("先说结论：prompt_first，原因如下", "prompt_first"),
    ("I would go for constrained_decoding here.", "constrained_decoding"),
    ("Either rag_first or fix_data.", None),
    ("You should fine-tune.", None),
    ("verdict: sftx", None),
]


@pytest.mark.parametrize(("text", "verdict"), READ)
def test_a_verdict_is_read_from_an_answer_without_a_model(text: str, verdict: str | None) -> None:
    assert grading.read_verdict(text) == verdict


def test_an_answer_is_graded_by_patterns_with_what_they_matched() -> None:
    row = SCENARIOS["json-breaks-seven-percent"]
    good = grading.grade_answer(row, "Turn on a JSON schema.\nVERDICT: constrained_decoding")
    assert good.exact
    assert [check["passed"] for check in good.checks()] == [True, True, True]
    assert good.checks()[1]["evidence"] == "matched 'schema'"
    bad = grading.grade_answer(row, "Train on the 2,000 rows.\nVERDICT: sft")
    assert not bad.acceptable
    assert bad.missing == row.must
    assert bad.forbidden == row.must_not
    assert [check["passed"] for check in bad.checks()] == [False, False, False]
    mute = grading.grade_answer(row, "It depends.")
    assert mute.verdict is None
    assert not mute.acceptable


def test_rates_that_miss_one_reach_are_not_reached() -> None:
    good = grading.Rates(n=60, acceptable=0.96, exact=0.86, must=0.91, must_not=0)
    assert good.reached()
    for field, value in {"acceptable": 0.94, "exact": 0.84, "must": 0.89, "must_not": 1}.items():
        assert not type(good)(**{**vars(good), field: value}).reached()


def test_evals_json_is_what_the_scenarios_say_in_the_form_of_the_specification() -> None:
    kept = json.loads((EVALS / "evals.json").read_text(encoding="utf-8"))
    assert kept == runner.evals_json(list(SCENARIOS.values()))
    assert set(kept) == {"skill_name", "evals"}
    assert all(
        set(row) == {"id", "prompt", "expected_output", "files", "assertions"}
        for row in kept["evals"]
    )
    assert kept["skill_name"] == "fine-tuning"


def test_a_workspace_of_prompts_is_graded_once_answers_are_there(tmp_path: Path) -> None:
    rows = [SCENARIOS["brand-voice-ready"], SCENARIOS["json-breaks-seven-percent"]]
    assert runner.write_prompts(tmp_path, rows) == 4
    folders = sorted(tmp_path.glob("iteration-1/eval-*/*"))
    prompts = {folder: (folder / "prompt.md").read_text(encoding="utf-8") for folder in folders}
    assert [("Skill path" in text) for text in prompts.values()] == [True, False, True, False]
    assert all("VERDICT: <name>" in text for text in prompts.values())
    assert runner.grade_workspace(tmp_path, rows)["run_summary"] == {}
    for folder in folders:
        name = "sft" if folder.name == "with_skill" else "keep_current"
        answer = f"LoRA, and the same held-out rows for the baseline.\nVERDICT: {name}"
        (folder / "outputs" / "answer.md").write_text(answer, encoding="utf-8")
        timing = {"total_tokens": 900, "duration_ms": 2_000}
        (folder / "timing.json").write_text(json.dumps(timing), encoding="utf-8")
    summary = runner.grade_workspace(tmp_path, rows)["run_summary"]
    assert summary["with_skill"]["rates"]["exact"] == 0.5
    assert summary["without_skill"]["rates"]["exact"] == 0
    assert summary["with_skill"]["time_seconds"]["mean"] == 2
    assert summary["delta"]["tokens"] == 0
    graded = json.loads((folders[0] / "grading.json").read_text(encoding="utf-8"))
    assert set(graded) == {"assertion_results", "summary"}
    assert graded["summary"]["total"] == 1 + len(rows[0].must) + len(rows[0].must_not)
    assert (tmp_path / "iteration-1" / "benchmark.json").exists()


def test_the_script_says_which_answers_miss_and_exits_by_its_reach(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main([]) == 0
    assert f"open: n={len(OPEN)} " in capsys.readouterr().out
    row = SCENARIOS["brand-voice-ready"]
    wrong = grading.grade_answer(row, "VERDICT: rl")
    runner.show("one", grading.rates([wrong]), [wrong])
    assert "brand-voice-ready: WRONG, said rl, wanted sft" in capsys.readouterr().out


def test_the_script_writes_prompts_and_grades_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["--prompts", str(tmp_path)]) == 0
    assert runner.main(["--grade", str(tmp_path)]) == 0
    assert '"run_summary": {}' in capsys.readouterr().out


TRIGGERS: list[dict[str, Any]] = json.loads((EVALS / "triggers.json").read_text(encoding="utf-8"))


def test_the_trigger_prompts_are_in_the_form_of_the_specification_and_in_two_languages() -> None:
    assert len(TRIGGERS) >= 30
    assert all(set(row) == {"query", "should_trigger"} for row in TRIGGERS)
    for wanted in (True, False):
        some = [row["query"] for row in TRIGGERS if row["should_trigger"] is wanted]
        chinese = [text for text in some if any("\u4e00" <= sign <= "\u9fff" for sign in text)]
        assert len(some) >= 15
        assert len(chinese) >= 5


def test_the_description_names_what_people_ask_for_in_their_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["--triggers"]) == 0
    assert "ranked right" in capsys.readouterr().out


def test_a_description_of_something_else_fails_the_trigger_check() -> None:
    other = grading.check_triggers("Bake bread, rolls and cake at home. 烤面包", TRIGGERS)
    assert other.auc < 0.6
    assert other.recall < 0.9


def test_the_benchmark_of_the_answer_time_runs_and_finds_no_socket() -> None:
    script = EVALS.parent / "benchmarks" / "assess_fit.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True
    )
    assert "no socket was opened" in done.stdout
