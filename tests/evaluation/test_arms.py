"""Fairness of a comparison, room above the base, and the other competitors with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetuning.errors import BadInputError
from finetuning.evaluation import Arm, compare_eval
from finetuning.evaluation.call import headroom_of
from finetuning.evaluation.results import TaskMetric
from finetuning.evaluation.servers import CompatibleServer
from finetuning.evaluation.targets import HttpTarget, parse_target
from finetuning_skill import dispatch


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def data(folder: Path, count: int = 40) -> str:
    rows = [{"prompt": f"say word{k}", "completion": f"word{k}"} for k in range(count)]
    return write(folder / "data.jsonl", rows)


def answers(folder: Path, name: str, right: int, count: int = 40, **more: Any) -> str:
    rows = [{"output": f"word{k}" if k < right else "no", **more} for k in range(count)]
    return "recorded:" + write(folder / f"{name}.jsonl", rows)


def test_a_baseline_reports_up_to_four_arms_each_with_its_own_interval(tmp_path: Path) -> None:
    arms = [
        Arm(name=f"arm {right}", target=answers(tmp_path, f"a{right}", right))
        for right in (10, 20, 30, 40)
    ]
    result = compare_eval(data(tmp_path), answers(tmp_path, "base", 20), arms=arms)
    assert (result.verdict, result.ship) == ("baseline", None)
    assert [arm.score for arm in result.arms] == [0.25, 0.5, 0.75, 1.0]
    for arm in result.arms:
        assert arm.score_ci95 is not None
        assert arm.score_ci95[0] < arm.score < arm.score_ci95[1] or arm.score == 1.0
        assert arm.score_ci95[1] - arm.score_ci95[0] > 0.02
    assert [arm.verdict for arm in result.arms] == ["worse", "underpowered", "improved", "improved"]


def test_headroom_ends_where_people_stop_to_agree(tmp_path: Path) -> None:
    given = data(tmp_path), answers(tmp_path, "base", 28)
    assert compare_eval(*given).headroom == pytest.approx(0.3)
    agreed = compare_eval(*given, label_agreement=0.85)
    assert agreed.headroom == pytest.approx(0.15)
    assert agreed.fit_facts["label_agreement"] == 0.85
    assert compare_eval(*given, label_agreement=0.5).headroom == 0.0


def test_there_is_no_headroom_where_less_is_better() -> None:
    entry = TaskMetric(metric="nll", n=1, base=2.0, ci95=(1, 3), mde=1, better="lower", method="x")
    assert headroom_of(entry, None) is None
    assert headroom_of(None, 0.9) is None


def test_a_gain_over_the_bare_base_alone_is_said_to_be_overstated(tmp_path: Path) -> None:
    given = data(tmp_path), answers(tmp_path, "base", 10), answers(tmp_path, "tuned", 38)
    result = compare_eval(*given)
    assert result.verdict == "improved"
    assert any("a bare base overstates the gain" in caution for caution in result.cautions)


def test_answers_cut_at_the_limit_are_said_side_by_side(tmp_path: Path) -> None:
    base = answers(tmp_path, "base", 40, finish_reason="length")
    result = compare_eval(data(tmp_path), base, answers(tmp_path, "tuned", 40), max_tokens=9)
    assert result.format["base"].truncated_fraction == 1.0
    cut = "base: 40 of 40 answers were cut at max_tokens=9; its score measures the limit, too"
    assert cut in result.cautions


def test_what_cannot_be_checked_is_said(vendor: Any, tmp_path: Path) -> None:
    live = f"{vendor.address}/v1#m"
    result = compare_eval(data(tmp_path), answers(tmp_path, "base", 5), live)
    assert (
        "base: recorded; same prompt, template and decoding are taken on trust" in result.cautions
    )
    assert not any("turn of a chat" in caution for caution in result.cautions)


def test_raw_prompts_that_one_side_saw_as_a_chat_are_named(vendor: Any, tmp_path: Path) -> None:
    from decimal import Decimal

    from finetuning import approval

    options: dict[str, Any] = {"price_in_usd_per_mtok": Decimal(0)}
    options["price_out_usd_per_mtok"] = Decimal(0)
    given = data(tmp_path, 4), f"{vendor.address}/v1#m", "openai:m"
    plan = compare_eval(*given, **options)
    approval.approve_plan(str(plan.plan_id), Decimal(0))
    result = compare_eval(*given, dry_run=False, plan_id=plan.plan_id, **options)
    assert "tuned: raw prompts were asked as a turn of a chat" in result.cautions
    assert {path for path, _, _ in vendor.requests} == {"/v1/completions", "/v1/chat/completions"}


def own_metric(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(f"def near(reference, answer):\n    {body}\n")
    return f"{folder / 'mine.py'}:near"


def test_a_metric_of_ones_own_decides_like_any_other(tmp_path: Path) -> None:
    name = own_metric(tmp_path, "return answer.strip() == reference.strip()")
    given = data(tmp_path), answers(tmp_path, "base", 10), answers(tmp_path, "tuned", 35)
    result = compare_eval(*given, metrics=[name, "token_f1"])
    assert [entry.metric for entry in result.task] == [name, "token_f1"]
    assert (result.task[0].base, result.task[0].tuned) == (0.25, 0.875)
    assert result.verdict == "improved"
    assert len(result.flips) == 10


@pytest.mark.parametrize("name", ["no_such_module:f", "math:no_such_function", "missing.py:f"])
def test_a_function_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError):
        compare_eval(data(tmp_path), answers(tmp_path, "base", 1), metrics=name)


def test_a_metric_outside_zero_to_one_is_refused(tmp_path: Path) -> None:
    name = own_metric(tmp_path, "return 7")
    with pytest.raises(BadInputError, match="a number from 0 to 1"):
        compare_eval(data(tmp_path), answers(tmp_path, "base", 1), metrics=name)


def test_an_assistant_may_not_name_the_code_of_a_metric(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    name = own_metric(tmp_path, f"__import__('pathlib').Path({str(marker)!r}).touch(); return 1")
    arguments = {"data": data(tmp_path), "base": answers(tmp_path, "base", 1), "metrics": name}
    with pytest.raises(BadInputError, match="may not say which code runs"):
        dispatch.call("compare_eval", arguments, surface="mcp")
    with pytest.raises(BadInputError, match="may not say which code runs"):
        dispatch.call("compare_eval", {**arguments, "metrics": [name]}, surface="mcp")
    assert not marker.exists()
    dispatch.call("compare_eval", arguments, surface="cli")
    assert marker.exists()


def test_a_server_that_echoes_likelihoods_scores_the_references(
    vendor: Any, tmp_path: Path
) -> None:
    given = data(tmp_path, 6), f"{vendor.address}/v1#seeing"
    plain = compare_eval(*given)
    assert [entry.metric for entry in plain.task] == ["exact_match", "token_f1"]
    asked = len(vendor.requests)
    result = compare_eval(*given, metrics=["exact_match", "nll"])
    # one token per character: "say word0" is 9 long, so of "word0" 3 of 5 tokens cost a nat
    assert {entry.metric: entry.base for entry in result.task} == {"exact_match": 1.0, "nll": 0.6}
    assert len(vendor.requests) == asked + 12
    blind = compare_eval(given[0], f"{vendor.address}/v1#blind", metrics=["exact_match", "nll"])
    assert [entry.metric for entry in blind.task] == ["exact_match"]


def test_a_key_goes_only_to_the_host_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "-".join(["secret", "of", "a", "test"])
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    for address, sent in (
        ("https://api.together.xyz/v1#m", {"Authorization": f"Bearer {key}"}),
        ("https://api.together.xyz.example.com/v1#m", {}),
        ("http://api.together.xyz/v1#m", {}),
        ("http://[::1]:8000/v1#m", {}),
    ):
        target = parse_target(address, where="base")
        assert isinstance(target, HttpTarget)
        server = CompatibleServer(target, None)
        assert server.headers == sent
        assert key not in repr(target)
    assert server.url == "http://[::1]:8000/v1"
    monkeypatch.delenv("TOGETHER_API_KEY")
    target = parse_target("https://api.together.xyz/v1#m", where="base")
    assert isinstance(target, HttpTarget)
    with pytest.raises(BadInputError, match="TOGETHER_API_KEY is not set"):
        CompatibleServer(target, None)
