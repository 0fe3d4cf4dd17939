"""Facts in, questions out: unknown stays unknown, order and prose change nothing."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.errors import BadInputError, RunFailedError, UnknownNameError
from finetuning.fit import FitAssessment, FitFacts, assess_fit
from finetuning.fit.rulebook import (
    RULES,
    Condition,
    compile_all,
    compile_one,
    read_rules,
    rule_book,
)
from finetuning.fit.schema import PROSE, Verdict, known_facts, read_facts

ROOT = Path(__file__).parents[2]
FILES = [Path(__file__).parent / "scenarios.toml", *sorted(ROOT.glob("evals/scenarios/*.toml"))]
CASES: list[dict[str, Any]] = [
    row["facts"]
    for path in FILES
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
]
DAY = "2026-11-20"


def ask(facts: dict[str, Any], data: str | None = None) -> FitAssessment:
    given_facts: Any = {"as_of": DAY, **facts}
    return assess_fit(given_facts, data)


def test_no_fact_means_build_an_eval_with_questions_and_exit_code_3() -> None:
    nothing: Any = {}
    result = assess_fit(nothing)
    assert result.verdict == "build_eval_first"
    assert result.exit_code() == 3
    assert [question.fact for question in result.questions][:2] == ["has_eval", "failure_modes"]
    assert {gate.status for gate in result.gates} == {"unknown"}
    assert assess_fit(FitFacts()).verdict == "build_eval_first"


def test_the_exit_codes_are_those_of_the_contract() -> None:
    blocked = {"teacher_closed_api": True, "student_use": "competing_general_model"}
    assert ask(blocked).exit_code() == 1
    assert ask({"task_kind": "chat"}).exit_code() == 3
    assert ask({"has_eval": False, "failure_modes": ["style"]}).exit_code() == 0


def test_every_question_flips_the_verdict_and_says_how_to_measure_it() -> None:
    for facts in CASES[::4]:
        result = ask(facts)
        for question in result.questions:
            assert question.fact not in facts
            assert question.ask.endswith("?")
            assert question.how_to_measure
            assert question.flips_to
            assert question.once.keys() <= {
                "has_eval",
                "prompts_tried",
                "target_score",
                "n_teacher_outputs",
            }
            then = {**facts, **question.once}
            unanswered = ask(then).verdict
            assert question.once or unanswered == result.verdict
            for value in question.values:
                verdict = ask({**then, question.fact: value}).verdict
                assert question.flips_to.get(_written(value), unanswered) == verdict


def _written(value: bool | float | str | list[str]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def test_the_readme_story_ends_in_not_yet_with_what_flips_it_and_what_it_costs() -> None:
    result = ask(
        {
            "task_kind": "classification",
            "n_examples": 300,
            "has_eval": False,
            "failure_modes": ["inconsistency"],
        }
    )
    assert result.verdict == "build_eval_first"
    assert "held-out rows" in result.why
    assert any(f.fact == "has_eval" and f.to is True for f in result.flip_points)
    assert result.next_experiment.usd > 0
    assert result.summary().startswith("build_eval_first: there are no held-out rows")
    dumped = result.model_dump(mode="json")
    assert set(dumped["flip_points"][0]) == {"fact", "from", "to", "verdict"}


STORY: dict[str, Any] = {
    "task_kind": "classification",
    "failure_modes": ["inconsistency"],
    "has_eval": False,
    "prompt_score": 0.86,
    "target_score": 0.95,
    "n_examples": 300,
    "prompts_tried": ["zero_shot"],
    "requests_per_month": 40_000,
    "tokens_in": 900,
    "tokens_out": 20,
}


def test_where_only_the_next_step_can_change_the_verdict_what_would_change_it_then_is_asked() -> (
    None
):
    result = ask(STORY)
    assert result.verdict == "build_eval_first"
    assert [(question.fact, question.flips_to) for question in result.questions] == [
        ("label_agreement", {"0.6": "fix_data"}),
        ("label_conflict_fraction", {"0.2": "fix_data"}),
        ("requirements_change", {"weekly": "prompt_first"}),
    ]
    once = {"has_eval": True, "prompts_tried": ["zero_shot", "few_shot", "prompt_optimiser"]}
    assert all(question.once == once for question in result.questions)
    assert ask({**STORY, **once}).verdict == "sft"
    assert result.confidence == ask({**STORY, "label_agreement": 0.97}).confidence


def test_a_question_that_flips_now_comes_before_those_that_flip_after_the_next_step() -> None:
    unsaid = {name: value for name, value in STORY.items() if name != "failure_modes"}
    asked = [(question.fact, bool(question.once)) for question in ask(unsaid).questions]
    assert asked == [
        ("failure_modes", False),
        ("label_agreement", True),
        ("label_conflict_fraction", True),
    ]


@settings(deadline=None, max_examples=30)
@given(data=st.data(), case=st.sampled_from(CASES))
def test_the_order_of_the_facts_changes_nothing(data: st.DataObject, case: dict[str, Any]) -> None:
    order = data.draw(st.permutations(list(case)))
    assert ask({name: case[name] for name in order}) == ask(case)


@settings(deadline=None, max_examples=30)
@given(
    case=st.sampled_from(CASES),
    task=st.text(max_size=80),
    goal=st.text(max_size=80),
    examples=st.lists(st.text(max_size=40), max_size=3),
)
def test_prose_changes_nothing(
    case: dict[str, Any], task: str, goal: str, examples: list[str]
) -> None:
    said = ask({**case, "task": task, "goal": goal, "failure_examples": examples})
    assert said == ask(case)


IRRELEVANT: dict[str, st.SearchStrategy[Any]] = {
    "domain": st.sampled_from(["law", "retail", "games"]),
    "n_reviewers": st.integers(1, 9),
    "n_edge_case_examples": st.integers(0, 500),
    "distributes_weights": st.booleans(),  # alone; with a product's name Llama terms ask more
    "budget_one_off_usd": st.integers(0, 10**6),
    "serving_hardware": st.sampled_from(["gpu"]),
}


@settings(deadline=None, max_examples=30)
@given(
    case=st.sampled_from(CASES),
    extra=st.fixed_dictionaries({}, optional=IRRELEVANT),
)
def test_facts_that_no_rule_weighs_change_no_verdict(
    case: dict[str, Any], extra: dict[str, Any]
) -> None:
    assert ask({**extra, **case}).verdict == ask(case).verdict


ANY_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "failure_modes": st.lists(
            st.sampled_from(["style", "syntax", "missing_knowledge", "reasoning", "cost", "none"]),
            max_size=3,
        ),
        "has_eval": st.booleans(),
        "prompt_score": st.floats(0, 1),
        "target_score": st.floats(0, 1),
        "n_examples": st.integers(0, 10**6),
        "label_agreement": st.floats(0, 1),
        "prompts_tried": st.lists(
            st.sampled_from(["zero_shot", "few_shot", "structured_outputs", "retrieval"]),
            max_size=3,
        ),
        "data_sensitivity": st.sampled_from(["none", "personal", "health", "secret"]),
        "baa_signed": st.booleans(),
        "consent": st.booleans(),
        "identified": st.booleans(),
        "provider": st.sampled_from(["openai", "together", "local", "cohere", "crusoe"]),
        "provider_customer": st.sampled_from(["new", "existing_active"]),
        "requests_per_month": st.integers(0, 10**9),
        "tokens_in": st.integers(0, 10**5),
        "tokens_out": st.integers(0, 10**4),
        "price_in_usd_per_mtok": st.integers(0, 100),
        "price_out_usd_per_mtok": st.integers(0, 100),
        "cheap_base_score": st.floats(0, 1),
        "params": st.integers(0, 10**12),
        "gpu_memory_gb": st.floats(0, 200),
    },
)


@settings(deadline=None, max_examples=30)
@given(ANY_FACTS)
def test_any_facts_get_one_of_the_verdicts_and_whole_sentences(facts: dict[str, Any]) -> None:
    result = ask(facts)
    assert result.verdict in get_args(Verdict)
    assert 0 <= result.confidence <= 1
    said = [result.why, *result.must_do, *result.cautions, *result.conditions]
    said += [gate.why for gate in result.gates]
    assert all(text and "None" not in text and "{" not in text for text in said)
    assert result == ask(facts)


@settings(deadline=None, max_examples=30)
@given(ANY_FACTS)
def test_nothing_is_trained_without_an_eval_or_against_a_stop(facts: dict[str, Any]) -> None:
    facts = {**facts, "has_eval": False}
    assert ask(facts).verdict not in {"sft", "dpo", "kto", "rl", "small_encoder"}
    blocked = {**facts, "teacher_closed_api": True, "student_use": "competing_general_model"}
    assert ask(blocked).verdict == "stop_blocked"


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"promt_score": 0.9}, UnknownNameError, "prompt_score"),
    ({"prompt_score": 92}, BadInputError, r"0\.\.1; 0\.92\?"),
    ({"prompt_score": -1}, BadInputError, "greater than or equal"),
    ({"failure_modes": ["styl"]}, BadInputError, "'style'"),
    ({"n_examples": "many"}, BadInputError, "facts.n_examples"),
    ({"provider": "opnai"}, BadInputError, "openai"),
    ({"as_of": "yesterday"}, BadInputError, "facts.as_of"),
]


@pytest.mark.parametrize(("facts", "error", "words"), BAD)
def test_a_fact_that_does_not_fit_is_an_error_that_helps(
    facts: dict[str, Any], error: type[Exception], words: str
) -> None:
    wrong: Any = facts
    with pytest.raises(error, match=words) as caught:
        assess_fit(wrong)
    assert getattr(caught.value, "exit_code", None) == 2


def test_the_words_of_failure_examples_are_in_no_error() -> None:
    with pytest.raises(BadInputError) as caught:
        read_facts({"failure_examples": "the customer said a secret"})
    assert "secret" not in str(caught.value)


def test_facts_that_are_no_object_are_refused() -> None:
    wrong: Any = ["style"]
    with pytest.raises(BadInputError, match="facts"):
        read_facts(wrong)


def test_rules_see_no_prose() -> None:
    facts = FitFacts(task="classify", goal="better", failure_examples=["x"], n_examples=3)
    assert known_facts(facts) == {"n_examples": 3}
    names = {name for rule in rule_book().verdicts for name in rule.rule.facts()}
    assert names.isdisjoint(PROSE)


def test_what_inspect_data_measures_fills_gaps_and_contradictions_are_returned(
    write_lines: Callable[..., Path],
) -> None:
    rows = [
        json.dumps({"prompt": f"Where is parcel {n} of batch {n * 7}?", "completion": label})
        for n, label in enumerate(["delivery", "refund"] * 30)
    ]
    path = str(write_lines("rows.jsonl", *rows))
    stated = {"has_eval": True, "failure_modes": ["inconsistency"], "prompt_score": 0.8}
    measured = ask(stated, path)
    assert measured.fit_facts["n_examples"] > 0
    assert measured.contradictions == []
    assert "prepare_data" in [call.tool for call in measured.next]
    claimed = ask({**stated, "n_examples": 5_000, "training_tokens": None}, path)
    assert [item.fact for item in claimed.contradictions] == ["n_examples"]
    assert claimed.fit_facts["n_examples"] == 5_000
    assert any("was stated as 5000" in caution for caution in claimed.cautions)
    near = ask({**stated, "n_examples": measured.fit_facts["n_examples"]}, path)
    assert near.contradictions == []


def test_a_word_that_the_data_contradicts_is_returned(
    write_lines: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.fit import _differ  # pyright: ignore[reportPrivateUsage]  # the rule is small and has no other door

    assert _differ("high", "low")
    assert _differ(True, False)
    assert not _differ(100, 104)
    assert _differ(0.9, 0.5)


def test_a_bill_that_is_only_tried_as_an_answer_is_money_like_a_known_one() -> None:
    volume = {"requests_per_month": 10**9, "tokens_in": 1_000, "tokens_out": 100}
    result = ask({"failure_modes": ["cost"], "has_eval": True, **volume})
    assert "monthly_spend_usd" in [question.fact for question in result.questions]


def test_the_result_of_cost_and_data_tools_passes_on_as_it_is() -> None:
    from finetuning.costs import estimate_cost

    arguments: Any = {
        "training_tokens": 1_000_000,
        "serving": {"requests_per_month": 1_000, "tokens_in": 10, "tokens_out": 10},
        "current": {"model": "gpt-6-luna", "tokens_in": 100, "tokens_out": 10},
    }
    costs = estimate_cost("together", "Qwen/Qwen3.5-9B", "sft", as_of=DAY, **arguments)
    result = ask(costs.fit_facts)
    assert result.fit_facts["requests_per_month"] == 1_000
    provider = next(gate for gate in result.gates if gate.name == "provider")
    assert (provider.status, "together" in provider.why) == ("pass", True)


def test_the_price_of_a_job_is_the_next_call_when_its_model_is_named() -> None:
    case = {
        **CASES[12],
        "provider": "together",
        "provider_model": "Qwen/Qwen3.5-9B",
        "training_tokens": 2_000_000,
    }
    result = ask(case)
    assert result.verdict == "sft"
    assert [call.tool for call in result.next] == ["estimate_cost"]
    from finetuning.costs import estimate_cost

    assert estimate_cost(**result.next[0].args, as_of=DAY).training.usd is not None


def test_a_move_proposes_the_comparison_of_who_takes_the_job_now() -> None:
    from finetuning.providers import compare_providers

    facts = {**CASES[12], "provider": "cohere", "provider_customer": "new"}
    result = ask(facts)
    assert result.verdict == "migrate_provider"
    assert [call.tool for call in result.next] == ["compare_providers"]
    assert compare_providers(**result.next[0].args, as_of=DAY).exit_code() == 0


NAMED: list[tuple[dict[str, Any], str, str]] = [
    ({"provider": "bedrock", "provider_model": "anthropic.claude-sonnet-4"}, "", "Claude"),
    ({"provider": "openai", "provider_model": "gpt-6-luna"}, "", "cannot be tuned"),
    (
        {"provider": "bedrock", "provider_model": "nova-micro", "task_kind": "tool_calling"},
        "",
        "lose tool calling",
    ),
    ({"provider": "openai", "provider_model": "ft:gpt-4o-mini-2024-07-18:us::x"}, "0.99", "2027"),
    ({"provider": "openai", "provider_customer": "existing_active"}, "0.99", "2027"),
    ({"provider": "mistral"}, "0.99", "service is closed"),
]


@pytest.mark.parametrize(("more", "tuned", "words"), NAMED)
def test_a_base_that_cannot_be_tuned_or_kept_moves_the_job(
    more: dict[str, Any], tuned: str, words: str
) -> None:
    facts = {**CASES[12], "provider_customer": "new", **more}
    if tuned:
        facts["tuned_score"] = float(tuned)
    result = ask(facts)
    assert result.verdict == "migrate_provider", result.rules_fired
    assert words in result.why


def test_a_llama_tune_handed_out_under_another_name_is_conditional() -> None:
    facts = {**CASES[12], "base_licence": "llama3.1", "distributes_weights": True}
    assert ask({**facts, "product_name": "AcmeGPT"}).verdict == "conditional"
    assert ask({**facts, "product_name": "Llama-Acme"}).verdict == "sft"
    assert ask(facts).verdict == "sft"


SHOWN: list[tuple[dict[str, Any], str]] = [
    ({"failure_modes": None, "oracle_context_score": 0.97, "prompt_score": 0.6}, "rag_first"),
    ({"tuned_score": 0.9, "base_task_score": 0.85}, "fix_data"),
    ({"failure_modes": None, "has_verifier": True, "pass_at_16": 0.99}, "sft"),
    (
        {"failure_modes": None, "has_verifier": True, "prompt_score": 0.5, "pass_at_16": 0.9},
        "rl",
    ),
    ({"invalid_syntax_fraction": 0.01}, "sft"),
    ({"invalid_syntax_fraction": 0.04}, "constrained_decoding"),
    ({"has_draft_and_final": True}, "sft"),
    ({"serving_hardware": "cpu"}, "small_encoder"),
]


@pytest.mark.parametrize(("more", "verdict"), SHOWN)
def test_what_was_measured_shows_the_axis_where_nobody_named_it(
    more: dict[str, Any], verdict: str
) -> None:
    facts = {**CASES[12], "prompts_tried": ["few_shot", "prompt_optimiser"], **more}
    result = ask({name: value for name, value in facts.items() if value is not None})
    assert result.verdict == verdict, result.rules_fired


def test_the_cheap_base_is_asked_for_before_anything_is_distilled() -> None:
    bill = {"failure_modes": ["cost"], "quality_ok": True, "has_eval": True}
    volume = {"requests_per_month": 20_000_000, "tokens_in": 1_200, "tokens_out": 200}
    prices = {"price_in_usd_per_mtok": 2, "price_out_usd_per_mtok": 8}
    asked = ask({**bill, **volume, **prices}).questions[0]
    assert asked.fact == "cheap_base_score"
    assert asked.flips_to == {"0.5": "distill_smaller"}
    assert asked.once == {"target_score": 0.9, "n_teacher_outputs": 20_000}
    spent = {**bill, "monthly_spend_usd": 40_000, "cheap_base_score": 0.7, "target_score": 0.9}
    assert ask({**spent, "n_teacher_outputs": 80_000}).verdict == "distill_smaller"
    assert ask({**spent, "monthly_spend_usd": 300}).verdict != "distill_smaller"


def test_own_hardware_without_its_memory_leads_to_the_tool_that_reads_it() -> None:
    result = ask(
        {
            "task_kind": "extraction",
            "has_eval": True,
            "failure_modes": ["wrong_tool"],
            "prompt_score": 0.9,
            "target_score": 0.95,
            "prompts_tried": ["few_shot"],
            "n_examples": 3000,
            "label_agreement": 0.99,
            "label_conflict_fraction": 0.0,
            "near_duplicate_test_fraction": 0.0,
            "requirements_change": "never",
            "data_sensitivity": "none",
            "provider": "local",
            "params": 70_000_000_000,
        }
    )
    assert [question.fact for question in result.questions] == ["gpu_memory_gb"]
    assert [call.tool for call in result.next] == ["inspect_environment"]


GATE_CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"has_eval": True}, "evaluation", "pass"),
    ({"has_eval": False, "failure_modes": ["syntax"]}, "evaluation", "fail"),
    ({"data_sensitivity": "none"}, "law", "pass"),
    ({"data_sensitivity": "personal", "identified": False}, "law", "pass"),
    ({"data_sensitivity": "personal", "consent": True}, "law", "pass"),
    ({"data_sensitivity": "health", "consent": True}, "law", "unknown"),
    ({"data_sensitivity": "secret", "provider": "local"}, "law", "pass"),
    ({"teacher_closed_api": True}, "law", "unknown"),
    ({"provider": "local"}, "provider", "pass"),
    ({"provider": "together", "provider_customer": "new"}, "provider", "pass"),
    ({"provider": "cohere"}, "provider", "fail"),
    ({"provider": "openai"}, "provider", "unknown"),
    ({"provider": "openai", "provider_model": "no-such-model"}, "provider", "unknown"),
    ({"provider": "together", "provider_customer": "new"}, "feasible", "pass"),
    ({"provider": "local", "params": 8e9, "gpu_memory_gb": 24}, "feasible", "pass"),
    ({"provider": "local", "params": 70e9, "gpu_memory_gb": 24}, "feasible", "fail"),
]


@pytest.mark.parametrize(("facts", "gate", "status"), GATE_CASES)
def test_each_gate_says_what_is_known_about_it(
    facts: dict[str, Any], gate: str, status: str
) -> None:
    found = next(item for item in ask(facts).gates if item.name == gate)
    assert found.status == status
    assert found.why


def test_health_data_on_its_way_out_without_a_word_about_a_baa_is_conditional() -> None:
    facts = {**CASES[12], "data_sensitivity": "health", "identified": True, "provider": "together"}
    result = ask(facts)
    assert result.verdict == "conditional"
    law = next(gate for gate in result.gates if gate.name == "law")
    assert law.status == "unknown"


def test_a_base_under_a_research_licence_needs_another_for_a_product() -> None:
    facts = {**CASES[12], "base_licence": "cc-by-nc-4.0", "student_use": "customer_product"}
    assert ask(facts).verdict == "conditional"
    assert ask({**facts, "base_licence": "apache-2.0"}).verdict == "sft"


def test_a_method_that_the_provider_lacks_moves_the_job() -> None:
    facts = {**CASES[12], "provider": "nebius", "method_wanted": "dpo"}
    assert ask(facts).verdict == "migrate_provider"


def test_full_tuning_that_does_not_fit_is_named() -> None:
    facts = {
        **CASES[12],
        "provider": "local",
        "tuning_wanted": "full",
        "params": 8_000_000_000,
        "gpu_memory_gb": 48,
    }
    assert any("Full tuning needs" in caution for caution in ask(facts).cautions)


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        (Condition(fact="x", is_=True), {True: True, False: False}),
        (Condition(fact="x", is_not="a"), {"a": False, "b": True}),
        (Condition(fact="x", in_=("a", "b")), {"a": True, "c": False}),
        (Condition(fact="x", has=("a",)), {("a", "b"): True, ("b",): False}),
        (Condition(fact="x", lacks=("a",)), {("a", "b"): False, ("b",): True}),
        (Condition(fact="x", at_least=1), {1: True, 0: False}),
        (Condition(fact="x", more_than=1, at_most=3), {1: False, 3: True, 4: False}),
        (Condition(fact="x", less_than=1), {1: False, 0: True}),
    ],
)
def test_a_condition_is_true_false_or_unknown(
    condition: Condition, values: dict[Any, bool]
) -> None:
    test = compile_one(condition)
    assert {value: test({"x": value}) for value in values} == values
    assert test({"x": None}) is None
    assert compile_one(Condition(fact="x", known=True))({"x": None}) is False


def test_false_wins_over_unknown_in_all_and_true_in_any() -> None:
    yes, no, open_ = (Condition(fact=name, is_=True) for name in ("yes", "no", "open"))
    facts = {"yes": True, "no": False, "open": None}
    assert compile_all((yes, open_))(facts) is None
    assert compile_all((open_, no))(facts) is False
    assert compile_one(Condition(any=(no, yes)))(facts) is True
    assert compile_one(Condition(any=(no, open_)))(facts) is None
    assert compile_one(Condition(any=(no,)))(facts) is False
    assert list(Condition(any=(yes, Condition(fact="n", at_least=3))).facts()) == ["yes", "n"]
    assert list(Condition(any=(Condition(fact="n", at_least=3),)).thresholds()) == [("n", 3)]


def test_every_rule_has_an_id_of_its_own_evidence_and_a_sentence() -> None:
    book = rule_book()
    rules = [compiled.rule for compiled in (*book.gates, *book.verdicts, *book.advice)]
    assert len({rule.id for rule in rules}) == len(rules)
    assert all(rule.why or rule.must_do or rule.caution for rule in rules)
    assert set(book.experiments) == set(get_args(Verdict))
    cited = {name for rule in rules for name in rule.evidence}
    assert cited == set(book.evidence)


BROKEN = {
    "unknown fact": ('"fact": "has_eval"', '"fact": "has_evil"', "unknown fact 'has_evil'"),
    "unknown evidence": ('["EVAL"]', '["EVIL"]', "unknown evidence 'EVIL'"),
    "unknown verdict": ('"verdict": "sft"', '"verdict": "tune"', "tune"),
    "no evidence": ('"evidence": ["LEAK"]', '"evidence": []', "evaluation.leaks has no evidence"),
    "no JSON": ('{"row": "gate"', '{"row" "gate"', "DecodeError"),
    "a kind of row that is not known": ('"row": "gate"', '"row": "door"', "door"),
    "unknown probe": (
        '"row": "question", "fact": "quality_ok"',
        '"row": "question", "fact": "quality"',
        "probe of unknown",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_edited_rule_that_does_not_fit_is_refused_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    old, new, reason = BROKEN[name]
    text = RULES.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "rules.jsonl").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(RunFailedError, match=reason):
        read_rules(tmp_path / "rules.jsonl")


def test_a_missing_rule_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="fit rules"):
        read_rules(tmp_path / "rules.jsonl")
