"""Whole cases, written before the rules: the verdict an expert would give."""

from __future__ import annotations

import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from finetuning.fit import FitAssessment, assess_fit

SCENARIOS: dict[str, dict[str, Any]] = {
    row["id"]: row
    for row in tomllib.loads(
        (Path(__file__).parent / "scenarios.toml").read_text(encoding="utf-8")
    )["scenario"]
}
DAY = {"as_of": "2026-11-20"}


def ask(facts: dict[str, Any]) -> FitAssessment:
    return assess_fit({**DAY, **facts})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a dict of facts is what JSON callers pass


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_verdict_is_the_one_an_expert_would_give(name: str) -> None:
    row = SCENARIOS[name]
    result = ask(row["facts"])
    assert result.verdict == row["verdict"], result.rules_fired
    assert result.acceptable[0] == result.verdict


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_answer_holds_what_it_must_and_nothing_that_it_must_not(name: str) -> None:
    row = SCENARIOS[name]
    text = ask(row["facts"]).model_dump_json()
    assert all(re.search(pattern, text) for pattern in row.get("must", []))
    assert not any(re.search(pattern, text) for pattern in row.get("must_not", []))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_answer_names_its_rules_its_sources_and_its_next_step(name: str) -> None:
    result = ask(SCENARIOS[name]["facts"])
    assert result.rules_fired
    assert result.citations
    assert all(citation.as_of and citation.source for citation in result.citations)
    assert result.next_experiment.hours > 0
    assert [gate.name for gate in result.gates] == ["evaluation", "law", "provider", "feasible"]
    assert len(result.questions) <= 3
    assert "None" not in result.why
    assert len(result.model_dump_json()) < 8_000  # about 2,000 tokens


def test_the_scenarios_cover_every_verdict() -> None:
    assert len({row["verdict"] for row in SCENARIOS.values()}) == 19


# scenario, the one fact that changes, its other value, the verdict then
FLIPS: list[tuple[str, str, Any, str]] = [
    ("classifier-92-to-98", "prompt_score", 0.2, "prompt_first"),
    ("classifier-92-to-98", "prompt_score", 0.99, "keep_current"),
    ("classifier-92-to-98", "label_agreement", 0.58, "fix_data"),
    ("classifier-92-to-98", "has_eval", False, "build_eval_first"),
    ("classifier-92-to-98", "n_examples", 20, "fix_data"),
    ("classifier-92-to-98", "n_examples", 120, "fix_data"),
    ("classifier-92-to-98", "prompts_tried", ["zero_shot"], "prompt_first"),
    ("classifier-92-to-98", "failure_modes", ["missing_knowledge"], "rag_first"),
    ("classifier-92-to-98", "requirements_change", "daily", "prompt_first"),
    ("classifier-92-to-98", "near_duplicate_test_fraction", 0.3, "fix_eval"),
    ("classifier-92-to-98", "label_conflict_fraction", 0.2, "fix_data"),
    ("annotators-disagree", "label_agreement", 0.97, "sft"),
    ("large-volume-cost", "requests_per_month", 10_000, "keep_current"),
    ("large-volume-cost", "cheap_base_score", 0.93, "cheaper_base_or_cache"),
    ("small-volume-cost", "requests_per_month", 20_000_000, "cheaper_base_or_cache"),
    ("large-volume-cost", "n_teacher_outputs", 50, "cheaper_base_or_cache"),
    ("phi-without-baa", "baa_signed", True, "sft"),
    ("phi-without-baa", "identified", False, "sft"),
    ("phi-with-baa", "consent", False, "stop_blocked"),
    ("phi-air-gapped", "gpu_memory_gb", 4, "distill_smaller"),
    ("openai-new-customer", "provider_customer", "existing_active", "conditional"),
    ("openai-new-customer", "provider", "together", "sft"),
    ("openai-new-customer", "as_of", "2026-05-01", "sft"),
    ("openai-existing-customer", "as_of", "2027-01-06", "migrate_provider"),
    ("polite-wrong-facts", "oracle_context_score", 0.3, "prompt_first"),
    ("rag-ignored", "rag_miss_ignored_fraction", 0.1, "rag_first"),
    ("rag-misses", "rag_score", 0.95, "keep_current"),
    ("broken-json", "prompts_tried", ["structured_outputs", "few_shot"], "sft"),
    ("preference-pairs", "n_preference_pairs", 10, "fix_data"),
    ("preference-pairs", "n_preference_pairs", 200, "fix_data"),
    ("verifier-headroom", "pass_at_16", 0.37, "sft"),
    ("verifier-headroom", "has_verifier", False, "sft"),
    ("competing-model", "student_use", "internal", "cheaper_base_or_cache"),
    ("closed-teacher-in-product", "student_use", "internal", "distill_smaller"),
    ("seventy-billion-on-24-gb", "gpu_memory_gb", 80, "sft"),
    ("translation-1500", "n_examples", 9_000, "sft"),
    ("low-resource-corpus", "corpus_tokens", 1_000_000, "fix_data"),
    ("tight-latency-classifier", "n_examples", 200, "cheaper_base_or_cache"),
    ("slow-generation", "cheap_base_score", 0.95, "cheaper_base_or_cache"),
    ("tuned-model-at-closing-provider", "provider", "together", "keep_current"),
]


@pytest.mark.parametrize(("name", "fact", "value", "verdict"), FLIPS)
def test_one_fact_turns_the_verdict_the_right_way(
    name: str, fact: str, value: Any, verdict: str
) -> None:
    facts = {**SCENARIOS[name]["facts"], fact: value}
    if fact == "provider":
        facts.pop("provider_model")
    result = ask(facts)
    assert result.verdict == verdict, (result.rules_fired, result.why)
    assert verdict != SCENARIOS[name]["verdict"]


def test_the_flip_points_name_the_value_at_which_the_verdict_changes() -> None:
    facts = SCENARIOS["large-volume-cost"]["facts"]
    for flip in ask(facts).flip_points:
        assert flip.from_ == facts[flip.fact] or str(flip.from_) == str(facts[flip.fact])
        assert ask({**facts, flip.fact: flip.to}).verdict == flip.verdict


def test_money_is_computed_and_said_not_read_from_a_volume() -> None:
    result = ask(SCENARIOS["large-volume-cost"]["facts"])
    assert "91" in result.why
    assert "requests_per_month" in result.decisive_facts
    volumes = [flip.to for flip in result.flip_points if flip.fact == "requests_per_month"]
    assert volumes
    assert any("5000 USD" in caution for caution in result.cautions)


def test_an_answer_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert ask(SCENARIOS["large-volume-cost"]["facts"]).verdict == "distill_smaller"
