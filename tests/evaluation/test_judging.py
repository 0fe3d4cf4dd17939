"""From answers to the verdict: guards, general ability, shipping, several metrics at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetuning.evaluation.assembly import assemble
from finetuning.evaluation.call import Call
from finetuning.evaluation.habits import canary_job, measure_canaries
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.material import Answered, gather
from finetuning.evaluation.metrics import label_counts, macro_f1
from finetuning.evaluation.results import (
    Contamination,
    General,
    Subset,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.scoring import MARGIN_NLL, compare_general, verdict_of
from finetuning.evaluation.side_effects import (
    decide_ship,
    find_copies,
    measure_memorisation,
    memorisation_job,
)
from finetuning.evaluation.targets import Answer, Job, Outcome
from finetuning.statistics import compare_paired, compare_totals

Write = Callable[..., Path]


def rows(count: int) -> list[Question]:
    return [Question(str(k), k, f"p{k}", None, f"c{k}") for k in range(1, count + 1)]


def scored(values: Sequence[float | None]) -> dict[str, Answer]:
    return {str(k): Answer("x", "stop", nll=value) for k, value in enumerate(values, 1)}


def written(right: Sequence[bool]) -> dict[str, Answer]:
    return {str(k): Answer(f"c{k}" if ok else "no", "stop") for k, ok in enumerate(right, 1)}


def call(data: Path, **options: Any) -> Call:
    given: dict[str, Any] = {
        "data": str(data),
        "base": "recorded:" + str(data),
        "tuned": "recorded:" + str(data),
        "arms": None,
        "metrics": "auto",
        "general": "none",
        "train": None,
        "margin": 0.02,
        "alpha": 0.05,
        "cluster_column": None,
        "judge": None,
        "review": "none",
        "reviews_file": None,
        "label_agreement": None,
        "baseline": None,
        "log": None,
        "max_tokens": 8,
        "language": "en",
        "output_dir": None,
        "overwrite": False,
        "dry_run": None,
        "plan_id": None,
        "price_in_usd_per_mtok": None,
        "price_out_usd_per_mtok": None,
        "limit": 50,
        "offset": 0,
    }
    return Call(**{**given, **options})


def answered(data: Path, models: list[Mapping[str, Any]], **options: Any) -> Answered:
    made = call(data, **options)
    material = gather(made)
    side = {q.id: Answer(q.reference, "stop", nll=1.0) for q in material.test.questions}
    answers = {name: {"test": side} for name in material.competitors.targets}
    return Answered(made, material, Outcome(answers, [], [], {"models": models}))


def chat(write_lines: Write) -> Path:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    return write_lines("chat.jsonl", *[json.dumps({"messages": turns})] * 8)


MODEL = {"chat_template_sha256": "a", "dtype": "float32", "tokenizer_sha256": "t"}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"chat_template_sha256": "b"}, "different chat templates"),
        ({"dtype": "bfloat16"}, "different precision"),
    ],
)
def test_sides_that_ran_differently_are_not_compared(
    write_lines: Write, other: dict[str, str], reason: str
) -> None:
    result = assemble(answered(chat(write_lines), [MODEL, {**MODEL, **other}]))
    assert result.verdict == "invalid"
    assert any(reason in text for text in result.reasons)
    assert result.headroom is None
    assert assemble(answered(chat(write_lines), [MODEL, MODEL])).verdict != "invalid"


def test_an_arm_without_likelihood_is_left_out_where_likelihood_decides(
    write_lines: Write,
) -> None:
    data = write_lines("d.jsonl", *['{"prompt": "p", "completion": "c"}'] * 8)
    arms = [{"name": "a", "target": f"recorded:{data}"}]
    found = answered(data, [], metrics="nll", arms=arms)
    found.outcome.answers["a"] = {"test": {}}
    assert assemble(found).arms == []


def test_a_prompt_that_may_reach_the_same_is_pointed_out(write_lines: Write) -> None:
    data = write_lines("d.jsonl", *['{"prompt": "p", "completion": "c"}'] * 8)
    arms = [{"name": "shots", "target": "http://localhost/v1#m", "system": "Do it."}]
    found = answered(data, [], arms=arms)
    found.outcome.answers["shots"] = {"test@shots": dict(found.test("tuned"))}
    assert any("better prompt" in text for text in assemble(found).cautions)


@pytest.mark.parametrize(
    ("loss", "verdict"), [(0.0, "not_worse"), (0.02, "not_worse"), (0.5, "worse")]
)
def test_likelihood_lost_elsewhere_is_judged_against_the_margin(loss: float, verdict: str) -> None:
    job = Job("general", rows(60), generate=False)
    before = [2.0 + 0.01 * (k % 7) for k in range(60)]
    after = [value + loss + 0.002 * (k % 5) for k, value in enumerate(before)]
    found = compare_general(job, scored(before), scored(after), alpha=0.05, margin=0.02)
    assert found is not None
    assert found.verdict == verdict
    assert found.margin_nll == MARGIN_NLL
    assert found.delta_nll == pytest.approx(loss + 0.004, abs=1e-6)


@pytest.mark.parametrize(
    ("right_before", "right_after", "count", "verdict"),
    [
        (100, 100, 200, "not_worse"),
        (100, 40, 100, "worse"),
        (20, 18, 20, "unclear"),
        (99, 98, 100, "unclear"),
    ],
)
def test_answers_lost_elsewhere_decide_where_there_are_any(
    right_before: int, right_after: int, count: int, verdict: str
) -> None:
    job = Job("general", rows(count), generate=True)
    before = written([k < right_before for k in range(count)])
    after = written([k < right_after for k in range(count)])
    found = compare_general(job, before, after, alpha=0.05, margin=0.02)
    assert found is not None
    assert found.exact_match is not None
    assert (found.verdict, found.delta_nll, found.ci95) == (verdict, None, None)


def test_nothing_scored_elsewhere_gives_no_answer() -> None:
    job = Job("general", rows(3), generate=False)
    assert compare_general(job, {}, {}, alpha=0.05, margin=0.02) is None


def test_rows_that_training_made_familiar_are_noticed() -> None:
    train, test = rows(40), rows(40)
    base = scored([2.0 + 0.01 * k for k in range(40)])
    seen = scored([0.1 + 0.001 * k for k in range(40)])
    unseen = scored([1.8 + 0.01 * k for k in range(40)])
    found = measure_memorisation(train, test, (base, seen), (base, unseen))
    assert found.auc == 1.0
    assert found.auc_ci95 is not None
    assert found.auc_ci95[0] > 0.9
    assert found.gap == pytest.approx(1.8755, abs=1e-3)
    same = measure_memorisation(train, test, (base, unseen), (base, unseen))
    assert same.auc_ci95 is not None
    assert same.auc == pytest.approx(0.5, abs=0.02)
    assert same.auc_ci95[0] < 0.5 < same.auc_ci95[1]
    assert measure_memorisation(train, test, ({}, {}), (base, base)).auc is None


def planted(path: Path, count: int) -> Path:
    lines = [
        {"canary": k, "prompt": f"Marker m{k}: which number?", "completion": f"{k:010d}"}
        for k in range(1, count + 1)
    ]
    (path / "canaries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path / "train.jsonl"


def test_a_planted_number_that_the_model_likes_best_is_exposed(tmp_path: Path) -> None:
    job = canary_job(planted(tmp_path, 5), chats=True)
    assert job is not None
    assert len(job.questions) == 5 * 64
    assert not job.generate
    draw = np.random.default_rng(0)
    fresh = {q.id: Answer(nll=float(draw.random())) for q in job.questions}
    known = fresh | {f"{k}:0": Answer(nll=-1.0) for k in range(1, 5)}
    found = measure_canaries(job, fresh, known)
    assert found is not None
    assert (found.planted, found.first) == (5, 4)
    assert found.exposure_bits > 4.8
    assert found.p < 1e-5
    assert found.base_exposure_bits is not None
    assert found.base_exposure_bits < 3
    calm = measure_canaries(job, fresh, fresh)
    assert calm is not None
    assert calm.p > 0.05
    assert measure_canaries(job, fresh, {}) is None


def test_without_markers_there_is_nothing_to_rank(tmp_path: Path) -> None:
    assert canary_job(tmp_path / "train.jsonl", chats=False) is None
    raw = canary_job(planted(tmp_path, 1), chats=False)
    assert raw is not None
    assert raw.questions[0].prompt == "Marker m1: which number?"
    assert len({q.reference for q in raw.questions}) == 64


def test_copies_of_fifty_words_are_found_wherever_they_stand() -> None:
    words = [f"word{k}" for k in range(300)]
    train = [Question("t", 1, "p", None, " ".join(words))]
    for start, length, found in ((0, 50, 1), (7, 50, 1), (123, 61, 1), (200, 49, 0), (250, 50, 1)):
        copied = " ".join(["before", *words[start : start + length], "after"])
        test = [Question("1", 1, "say", None, "x"), Question("2", 2, copied, None, "x")]
        result = find_copies(train, test, {"1": Answer(copied), "2": Answer(copied)})
        assert result.rows == found, (start, length)
        assert result.ids == (["1"] if found else [])  # what the prompt says is no memory
        assert result.longest == (length if found else 0)
    assert find_copies(train, [Question("1", 1, "say", None, "x")], {}).rows == 0


def test_many_training_rows_are_sampled_the_same_way_each_time() -> None:
    job = memorisation_job(rows(500))
    assert len(job.questions) == 200
    assert [q.id for q in job.questions] == [q.id for q in memorisation_job(rows(500)).questions]
    assert not job.generate


def entry(diff: float, p_holm: float, better: str = "higher") -> TaskMetric:
    made: Any = {
        "metric": "m",
        "n": 10,
        "base": 0.5,
        "tuned": 0.5 + diff,
        "diff": diff,
        "ci95": (diff - 0.1, diff + 0.1),
        "p": p_holm,
        "p_holm": p_holm,
        "mde": 0.1,
        "better": better,
        "method": "x",
    }
    return TaskMetric(**made)


def overlap(fraction: float, clean_p: float | None) -> Contamination:
    clean = None
    if clean_p is not None:
        clean = Subset(n=5, base=0.0, tuned=1.0, diff=1.0, ci95=(0.5, 1.0), p=clean_p)
    return Contamination(
        n_train=1,
        exact=0,
        same_prompt=0,
        ngram13=0,
        near=0,
        fraction=fraction,
        ids=[],
        without=clean,
    )


def elsewhere(verdict: Any) -> General:
    return General(n=1, margin_nll=0.1, verdict=verdict)


@pytest.mark.parametrize(
    ("verdict", "task", "general", "contamination", "ship"),
    [
        ("baseline", [], None, None, None),
        ("invalid", [], None, None, "needs_more_data"),
        ("underpowered", [entry(0.1, 0.5)], None, None, "needs_more_data"),
        ("worse", [entry(-0.5, 0.001)], None, None, "no"),
        ("tied", [entry(0.0, 1.0)], None, None, "no"),
        ("improved", [entry(0.5, 0.001)], None, None, "yes"),
        ("improved", [entry(0.5, 0.001), entry(-0.2, 0.01)], None, None, "no"),
        ("improved", [entry(0.5, 0.001), entry(-0.2, 0.2)], None, None, "yes"),
        ("improved", [entry(0.5, 0.001), entry(-0.01, 0.01)], None, None, "yes"),
        ("improved", [entry(0.5, 0.001), entry(0.2, 0.01, "lower")], None, None, "no"),
        ("improved", [entry(0.5, 0.001), entry(-0.2, 0.01, "lower")], None, None, "yes"),
        ("improved", [entry(0.5, 0.001)], elsewhere("worse"), None, "no"),
        ("improved", [entry(0.5, 0.001)], elsewhere("unclear"), None, "yes"),
        ("improved", [entry(0.5, 0.001)], None, overlap(0.0, None), "yes"),
        ("improved", [entry(0.5, 0.001)], None, overlap(0.5, 0.001), "yes"),
        ("improved", [entry(0.5, 0.001)], None, overlap(0.5, 0.3), "needs_more_data"),
        ("improved", [entry(0.5, 0.001)], None, overlap(1.0, None), "needs_more_data"),
    ],
)
def test_shipping_needs_a_gain_that_costs_nothing_elsewhere(
    verdict: Verdict,
    task: list[TaskMetric],
    general: General | None,
    contamination: Contamination | None,
    ship: str | None,
) -> None:
    found, reasons = decide_ship(verdict, task, general, contamination, margin=0.02, alpha=0.05)
    assert found == ship
    assert bool(reasons) == (ship != "yes" and verdict in {"worse", "tied", "improved"})


def test_a_likelihood_that_falls_is_an_improvement() -> None:
    fallen = compare_paired([2.0 + k / 50 for k in range(50)], [1.0 + k / 40 for k in range(50)])
    assert verdict_of(fallen, 0.02, higher_is_better=False) == "improved"
    assert verdict_of(fallen, 0.02, higher_is_better=True) == "worse"


def test_macro_f1_of_clustered_rows_draws_whole_clusters() -> None:
    questions = [Question(str(k), k, "p", None, "ab"[k % 2]) for k in range(80)]
    base = {str(k): Answer("a", "stop") for k in range(80)}
    tuned = {str(k): Answer("ab"[k % 2] if k < 40 else "a", "stop") for k in range(80)}
    counts = label_counts(questions, base, tuned)
    alone = compare_totals(*counts, macro_f1)
    names = [str(k // 20) for k in range(80)]
    grouped = compare_totals(*counts, macro_f1, clusters=names)
    assert alone.diff == pytest.approx(grouped.diff)
    assert (alone.clusters, grouped.clusters) == (None, 4)
    assert alone.ci95[1] - alone.ci95[0] < grouped.ci95[1] - grouped.ci95[0]
    assert (alone.wins, alone.ties, alone.losses) == (20, 60, 0)


def test_the_bootstrap_of_totals_never_disagrees_with_its_p_value() -> None:
    generator = np.random.default_rng(0)
    for seed in range(60):
        n = int(generator.integers(3, 60))
        questions = [Question(str(k), k, "p", None, "abc"[k % 3]) for k in range(n)]
        first, second = generator.integers(0, 3, (2, n))
        base = {str(k): Answer("abc"[first[k]], "stop") for k in range(n)}
        tuned = {
            str(k): Answer("abc"[k % 3 if generator.random() < 0.3 else second[k]], "stop")
            for k in range(n)
        }
        found = compare_totals(
            *label_counts(questions, base, tuned), macro_f1, seed=seed, alpha=0.1
        )
        assert (found.ci95[0] > 0 or found.ci95[1] < 0) == (found.p < 0.05)
        assert (found.ci[0] > 0 or found.ci[1] < 0) == (found.p < 0.1)
