"""Metrics: chosen by the references, right in every script."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.errors import UnknownNameError
from finetuning.evaluation import metrics as text
from finetuning.evaluation.metrics import (
    METRICS,
    choose_metrics,
    kind_of,
    macro_f1,
    matcher_for,
    short_references,
    tokens,
)
from finetuning.records import Json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("references", "kind"),
    [
        (["yes", "no"] * 5, "labels"),
        (["Yes ", "yes", "YES"], "labels"),
        ([f"answer {k}" for k in range(30)], "short"),
        (['{"a": 1}', "[1, 2]"], "json"),
        (["12", "15", "17"], "numbers"),
        (["a long text " * 20, "another long text " * 20], "long"),
        (["one"], "short"),
    ],
)
def test_the_kind_of_reference_is_told_by_its_looks(references: list[str], kind: str) -> None:
    assert kind_of(references) == kind


def test_auto_puts_the_deciding_metric_first_and_always_ends_with_likelihood() -> None:
    for references in (["yes", "no"] * 5, ['{"a": 1}'], ["x y z"], ["long " * 50]):
        names = [metric.name for metric in choose_metrics("auto", references)]
        assert names[-1] == "nll"
        assert METRICS[names[0]].higher_is_better


def test_metrics_can_be_named_once_or_several_times() -> None:
    assert [m.name for m in choose_metrics("nll, token_f1,nll", ["a"])] == ["nll", "token_f1"]
    assert [m.name for m in choose_metrics(["accuracy"], ["a"])] == ["accuracy"]
    assert choose_metrics(["auto"], ["a b"]) == choose_metrics("auto", ["a b"])
    with pytest.raises(UnknownNameError, match="token_f1"):
        choose_metrics("token_f2", ["a"])


def test_exact_match_forgives_white_space_and_composition_only() -> None:
    assert text.exact_match("caf\u00e9  au lait", " cafe\u0301 au\nlait ") == 1.0
    assert text.exact_match("Paris", "paris") == 0.0
    assert text.label_match("Paris", " paris\n") == 1.0


def test_scripts_without_spaces_are_counted_by_character() -> None:
    assert tokens("今天下雨 Rain2") == ["今", "天", "下", "雨", "rain2"]
    assert text.token_f1("今天下雨", "今天出太阳") == pytest.approx(2 * 2 / 9)
    assert text.token_f1("niño", "NIÑO") == 1.0


def test_token_f1_equals_the_squad_formula() -> None:
    assert text.token_f1("the cat sat", "the cat ran away") == pytest.approx(2 * 2 / 7)
    assert text.token_f1("...", "!!!") == 1.0
    assert text.token_f1("a", "...") == 0.0


@given(JSON)
def test_json_matches_itself_however_it_is_written(value: Json) -> None:
    written = json.dumps(value)
    spread = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    assert text.json_match(written, spread) == 1.0
    assert text.json_field_f1(written, spread) == 1.0
    assert text.json_parses("", spread) == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ('{"a": []}', '{"a": {}}'),
        ('{"a/b": 1}', '{"a": {"b": 1}}'),
        ("[1, 2]", "[2, 1]"),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": null}', "{}"),
    ],
)
def test_json_that_differs_does_not_match(one: str, other: str) -> None:
    assert text.json_match(one, other) == 0.0


def test_json_numbers_match_by_value() -> None:
    assert text.json_match('{"a": 1}', '{"a": 1.0}') == 1.0


@pytest.mark.parametrize("bad", ["", "{", "```json\n{}\n```", "NaN", "[Infinity]", "[" * 100_000])
def test_what_is_not_strict_json_scores_zero_everywhere(bad: str) -> None:
    assert text.json_parses("{}", bad) == 0.0
    assert text.json_match("{}", bad) == 0.0
    assert text.json_field_f1("{}", bad) == 0.0


def test_field_f1_counts_the_right_fields() -> None:
    right, found = '{"a": 1, "b": 2, "c": 3}', '{"a": 1, "b": 9}'
    assert text.json_field_f1(right, found) == pytest.approx(2 * 1 / 5)


def test_macro_f1_ignores_classes_that_only_the_model_invented() -> None:
    # two gold labels; the second side says something else once: no ghost class is averaged in
    counts = np.array([[2.0, 1.0, 0.0, 1.0, 0.0, 1.0]])  # TP a b, FP a b, FN a b
    assert macro_f1(counts)[0] == pytest.approx((1.0 + 0.5) / 2)
    assert macro_f1(np.zeros((1, 6)))[0] == 0.0


def test_the_matcher_reads_json_as_json() -> None:
    assert matcher_for(['{"a": 1}']).name == "json_match"
    assert matcher_for(["abc"]).name == "exact_match"
    assert short_references(["abc"])
    assert not short_references(["abc " * 100])
