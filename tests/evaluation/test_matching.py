"""Numbers, tool calls, forms of JSON, overlap of texts, and habits of answers."""

from __future__ import annotations

import json
import random

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from finetuning.evaluation.habits import (
    HABITS,
    look_at,
    measure_safety,
    new_habits,
    refuses,
    repeats,
    safety_job,
    script_of,
)
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.matching import (
    calls_of,
    chrf,
    number_match,
    number_of,
    rouge_l,
    tool_call_match,
    tool_calls_text,
    tool_name_match,
)
from finetuning.evaluation.metrics import (
    choose_metrics,
    json_schema_valid,
    kind_of,
    longest_common_words,
)
from finetuning.evaluation.targets import Answer

WORDS = "the cat sat on a mat and ran away from don't U.S. 3.5 x_y big-dog naïve".split()


def call(name: str, **arguments: object) -> str:
    return json.dumps([{"name": name, "arguments": arguments}])


@pytest.mark.parametrize(
    ("reference", "output", "right"),
    [
        ("42", "42", True),
        ("42", "So the total is 42.", True),
        ("1250", "First 3, then $1,250.00 in all", True),
        ("-3.5", "\u22123.5", True),
        ("0.5", ".5", True),
        ("1e3", "1000", True),
        ("42", "42 apples and 7 pears", False),
        ("42", "none", False),
        ("12%", "12", True),
        ("1,234", "1.234", False),
    ],
)
def test_the_last_number_of_an_answer_counts(reference: str, output: str, right: bool) -> None:
    assert number_match(reference, output) == float(right)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_number_matches_itself_inside_a_sentence(value: float) -> None:
    assert number_match(repr(value), f"The answer is {value!r}") == 1.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_a_score_or_leaves_its_range(reference: str, output: str) -> None:
    scores = [
        number_match(reference, output),
        tool_call_match(reference, output),
        tool_name_match(reference, output),
        json_schema_valid(reference, output),
        longest_common_words(reference, output),
        chrf(reference, output),
    ]
    assert all(0.0 <= score <= 1.0 for score in scores)
    repeats(output)
    refuses(output)
    script_of(output)


def test_references_that_are_numbers_or_calls_get_metrics_of_their_own() -> None:
    numbers = [str(k * 37) for k in range(30)]
    calls = [call("search", query=f"q{k}") for k in range(30)]
    assert kind_of(numbers) == "numbers"
    assert kind_of(["1", "2", "3"] * 10) == "labels"
    assert kind_of(calls) == "tool_calls"
    assert kind_of([*calls, '{"a": 1}']) == "json"
    assert choose_metrics("auto", numbers)[0].name == "number_match"
    assert choose_metrics("auto", calls)[0].name == "tool_call_match"
    assert choose_metrics("auto", ["word " * 50])[0].name == "rouge_l"
    assert number_of("seven") is None


def test_calls_match_in_every_way_of_writing_them() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function",
             "function": {"name": "book", "arguments": '{"seats": 2, "day": "Monday"}'}},
        ],
    }  # fmt: skip
    text = tool_calls_text(message)
    assert tool_call_match(call("book", day="Monday", seats=2.0), text) == 1.0
    assert tool_call_match(json.dumps(message), text) == 1.0
    assert tool_call_match(call("book", day="Tuesday", seats=2), text) == 0.0
    assert tool_name_match(call("book", day="Tuesday"), text) == 1.0
    assert tool_name_match(call("cancel"), text) == 0.0
    assert tool_calls_text({"role": "assistant", "content": "hi"}) == ""


def test_two_calls_match_in_any_order_and_a_missing_one_counts() -> None:
    one, two = ({"name": "f", "arguments": {"x": k}} for k in (1, 2))
    both = json.dumps([one, two])
    assert tool_call_match(both, json.dumps([two, one])) == 1.0
    assert tool_call_match(both, json.dumps([one])) == 0.0
    assert calls_of(json.dumps([one, "text"])) is None
    assert calls_of("[]") is None
    assert calls_of(json.dumps({"name": "f", "arguments": "{broken"})) == [("f", '"{broken"')]


def test_the_form_of_json_is_its_keys_and_kinds() -> None:
    right = '{"name": "a", "tags": ["x"], "size": {"w": 1}}'
    assert json_schema_valid(right, '{"name": "b", "tags": ["y", "z"], "size": {"w": 2.5}}') == 1.0
    for wrong in (
        '{"name": "b", "tags": ["y"]}',
        '{"name": 3, "tags": ["y"], "size": {"w": 1}}',
        '{"name": "b", "tags": [1], "size": {"w": 1}}',
        '{"name": "b", "tags": "y", "size": {"w": 1}}',
        '{"name": "b", "tags": [], "size": {"w": true}}',
        "name: b",
    ):
        assert json_schema_valid(right, wrong) == 0.0


def test_chrf_equals_sacrebleu() -> None:
    generator, peer = random.Random(0), sacrebleu.CHRF()
    for _ in range(300):
        right = " ".join(generator.choices(WORDS, k=generator.randrange(1, 30)))
        found = " ".join(generator.choices(WORDS, k=generator.randrange(0, 30)))
        assert 100 * chrf(right, found) == pytest.approx(
            peer.sentence_score(found, [right]).score, abs=1e-6
        )
    for right, found in (("今天下雨", "今天出太阳"), ("a", "b"), ("naïve café", "naive cafe")):
        theirs = peer.sentence_score(found, [right]).score
        assert 100 * chrf(right, found) == pytest.approx(theirs, abs=1e-6)


def test_rouge_l_equals_rouge_score_and_reads_chinese() -> None:
    # values of rouge-score 0.1.2 (rougeL, no stemming), computed 2026-11-20
    fox = "the quick brown fox jumps over the lazy dog", "a quick fox jumped over the dog"
    assert longest_common_words(*fox) == pytest.approx(0.625)
    be = "to be or not to be", "not to be or to be"
    assert longest_common_words(*be) == pytest.approx(0.8333333333333334)
    assert longest_common_words("今天下雨", "今天出太阳") == pytest.approx(2 * 2 / 9)


@given(
    st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=9)
)
def test_the_longest_common_subsequence_is_that_of_the_textbook(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if a and b else 0.0
    assert rouge_l(a, b) == pytest.approx(expected)


def questions(*references: str) -> list[Question]:
    return [Question(str(k), k + 1, "p", None, text) for k, text in enumerate(references)]


def test_habits_of_answers_are_counted_and_new_ones_named() -> None:
    asked = questions(*["The parcel is on its way to you."] * 40)
    good = {q.id: Answer("The parcel is on its way.", "stop") for q in asked}
    bad = dict(good)
    for k in range(0, 40, 2):
        bad[str(k)] = Answer("I'm sorry, but I can't help with that.", "stop")
    for k in range(1, 20, 2):
        bad[str(k)] = Answer("Das Paket " + "ist da ist da " * 9, "length")
    bad["21"] = Answer("包裹已经在路上了请您耐心等待谢谢", "stop")
    look = look_at(asked, bad)
    assert look.refusal_fraction == 0.5
    assert look.repetition_fraction == look.truncated_fraction == 0.25
    assert look.language_switch_fraction == pytest.approx(1 / 40)
    assert look.broken_json_fraction is None
    assert look.length_ratio is not None
    assert look.length_ratio > 1
    cautions = new_habits(asked, good, bad, alpha=0.05, margin=0.02)
    assert [says in "".join(cautions) for says in HABITS.values()] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert new_habits(asked, bad, good, alpha=0.05, margin=0.02) == []


def test_a_refusal_that_was_wanted_is_none() -> None:
    asked = questions("I'm sorry, I cannot share that.", "I can't tell you that.")
    same = {q.id: Answer(q.reference, "stop") for q in asked}
    assert look_at(asked, same).refusal_fraction == 0.0
    assert look_at(questions('{"a": 1}'), {"0": Answer("{", "stop")}).broken_json_fraction == 1.0
    assert look_at(asked, {}).length_ratio is None


def test_lists_and_short_answers_are_no_circles() -> None:
    assert not repeats("ha ha ha")
    assert not repeats("one two three four five six seven")
    assert repeats("and so on and so on and so on")
    assert repeats(" ".join(f"say it again now {k % 2}" for k in range(40)))
    assert script_of("42") is None
    assert script_of("Привет, как дела у вас?") == "cyrillic"
    assert script_of("コンピューターのなまえです") == "kana"


def test_fewer_refusals_of_harmful_requests_are_counted() -> None:
    job = safety_job()
    assert len(job.questions) >= 20
    assert job.generate
    assert not job.nll
    careful = {q.id: Answer("I'm sorry, I can't help with that.", "stop") for q in job.questions}
    willing = {q.id: Answer("Sure, here is how.", "stop") for q in job.questions}
    found = measure_safety(careful, willing)
    assert found is not None
    assert (found["base_refused"], found["tuned_refused"]) == (1.0, 0.0)
    assert found["p"] < 0.001
    assert measure_safety({}, {}) is None
    assert measure_safety(careful, {}) is None
