"""Near copies with known truth are found, and what only looks alike is kept."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetuning.data_prep.duplicates import (
    Duplicates,
    Rows,
    Search,
    components,
    find_duplicates,
    leakage_of,
    measure_leakage,
    overlapping,
    sorted_sets,
)
from finetuning.data_prep.duplicates.rows import Template, many_rows
from finetuning.data_prep.duplicates.twins import comparable
from finetuning.data_prep.duplicates.words import contents_of_chats, read_words
from finetuning.data_prep.examples import Content, Example, content_of, content_of_texts
from finetuning.records import Record

VOCABULARY = [f"word{number}" for number in range(3000)]


def pair(prompt: str, answer: str, family: int = 0) -> Content:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return content_of(Example(Record("x", 1, {}), "chat", turns, family=family))


def found(contents: list[Content], threshold: float = 0.5) -> Duplicates:
    ranks = [(float(len(content.answer)),) for content in contents]
    return find_duplicates(contents, threshold=threshold, rank=ranks)


def whole_share(contents: list[Content], one: int, two: int) -> float:
    compare = Search(Rows.of(contents), 0.5).compare
    return float(compare.shares(np.array([[one, two]]), "whole")[0])


def sentence(draw: random.Random, length: int) -> str:
    return " ".join(draw.choices(VOCABULARY, k=length))


def edited(text: str, share: float, draw: random.Random) -> str:
    words = text.split()
    for _ in range(max(1, round(share * len(words)))):
        words[draw.randrange(len(words))] = draw.choice(VOCABULARY)
    return " ".join(words)


def test_known_copies_are_found_and_nothing_else() -> None:
    draw = random.Random(4)
    rows = [(number, sentence(draw, 30), sentence(draw, 40)) for number in range(900)]
    rows += [(n, p.replace(" ", "  "), a) for n, p, a in draw.sample(rows[:900], 50)]
    rows += [
        (n, edited(p, share, draw), edited(a, share, draw))
        for share in (0.01, 0.04, 0.08, 0.12)
        for n, p, a in draw.sample(rows[:900], 13)
    ]
    draw.shuffle(rows)
    duplicates = found([pair(prompt, answer) for _, prompt, answer in rows])
    removed = duplicates.exact | duplicates.near
    assert all(rows[copy][0] == rows[kept][0] for copy, kept in removed.items())
    wanted = len(rows) - 900
    assert len(removed) >= 0.98 * wanted
    assert len(duplicates.exact) >= 50


def test_constant_instruction_does_not_make_twins_of_different_rows() -> None:
    draw = random.Random(5)
    instruction = sentence(draw, 200)
    rows = [pair(f"{instruction} {sentence(draw, 20)}", sentence(draw, 12)) for _ in range(150)]
    copies = [pair(rows[0].prompt + " please", rows[0].answer)]
    duplicates = found([*rows, *copies])
    assert duplicates.near == {0: 150} or duplicates.near == {150: 0}


def test_templated_function_calls_are_not_merged() -> None:
    draw = random.Random(6)
    schema = sentence(draw, 120)
    rows: list[Content] = []
    for number in range(200):
        city, day = draw.choice(VOCABULARY[:40]), draw.choice(VOCABULARY[40:60])
        call = f'{{"name": "book_train", "arguments": {{"city": "{city}", "day": "{day}", '
        rows.append(
            pair(
                f"{schema} please book a train to {city} on {day} for me and my family",
                f'{call}"id": {number % 190}}}}}',
            )
        )
    duplicates = found(rows)
    assert len(duplicates.near) <= 10
    assert duplicates.sizes[:1] in ([], [2])


def test_long_shared_prompt_does_not_speak_for_different_answers() -> None:
    draw = random.Random(7)
    instruction = sentence(draw, 200)
    rows = [pair(f"{instruction} {number}", sentence(draw, 40)) for number in range(4)]
    assert found(rows).near == {}


def test_rows_of_constant_text_only_are_compared_word_for_word() -> None:
    line = "please reset the password of my account as soon as you can"
    rows = [
        pair(line, f"answer number {number} for you, all of it, right here") for number in range(40)
    ]
    same = pair(line.upper() + "!", "Answer number 7 for you, all of it, right here.")
    duplicates = found([*rows, same])
    assert duplicates.near == {7: 40} or duplicates.near == {40: 7}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("positive", "negative"),
        ('{"n": 3}', '{"n": 4}'),
        ("5", "-5"),
        ("yes, it is", "no, it is not"),
    ],
)
def test_same_text_with_another_label_is_a_contradiction_and_no_copy(one: str, two: str) -> None:
    text = "the parcel came late again and the box was broken on one side"
    duplicates = found([pair(text, one), pair(text + " too", two)])
    assert duplicates.near == {}
    same = found([pair(text, one), pair(text + " too", f" {one} ")])
    assert same.near == {0: 1} or same.near == {1: 0}


def test_labels_differ_in_nothing_but_spelling_of_json_and_case() -> None:
    text = "the parcel came late again and the box was broken on one side"
    for one, two in (('{"a": 1, "b": 2}', '{"b":2,"a":1}'), ("Yes.", "yes")):
        assert len(found([pair(text, one), pair(text + " too", two)]).near) == 1


def test_judged_answers_and_tool_calls_must_be_the_same() -> None:
    turns = [
        {"role": "user", "content": "what is the weather like in the city where I live now"},
        {"role": "assistant", "content": "it is raining in most of the city and quite cold today"},
    ]
    record = Record("x", 1, {})
    good, bad = (
        content_of(Example(record, "binary", turns, liked=liked)) for liked in (True, False)
    )
    assert found([good, bad]).near == {}
    calls: list[Content] = []
    for city in ("Leeds", "Turin", "Turin"):
        function = {"name": "weather", "arguments": f'{{"city":  "{city}"}}'}
        call = {"id": str(len(calls)), "type": "function", "function": function}
        asking = {"role": "assistant", "content": None, "tool_calls": [call]}
        calls.append(content_of(Example(record, "chat", [turns[0], asking])))
    duplicates = found(calls)
    assert duplicates.exact == {2: 1}
    assert duplicates.near == {}


def test_examples_of_one_conversation_are_never_copies_of_each_other() -> None:
    text = "the parcel came late again and the box was broken on one side"
    answer = "we are sorry and will send you a new one at once without any cost"
    one, two = pair(text, answer, family=3), pair(text + " too", answer, family=3)
    assert found([one, two]).near == {}


def test_chinese_is_compared_by_characters() -> None:
    text = "我的包裹还没有到请帮我查一下它现在在哪里谢谢你们的帮助"
    answer = "您好您的包裹已经在路上预计明天下午会送到您的地址请耐心等待"
    duplicates = found([pair(text, answer), pair(text.replace("谢谢", "多谢"), answer)])
    assert len(duplicates.near) == 1
    assert (
        found([pair(text, answer), pair("今天的天气非常好我们去公园玩", answer[::-1])]).near == {}
    )


def test_chain_of_small_differences_never_removes_a_row_without_a_twin_that_stays() -> None:
    draw = random.Random(8)
    words = sentence(draw, 40).split()
    chain: list[Content] = []
    for step in range(0, 40, 5):
        words = words[:step] + sentence(draw, 5).split() + words[step + 5 :]
        chain.append(pair(" ".join(words), "we will send you a new one at once without cost"))
    duplicates = found(chain)
    kept = [row for row in range(len(chain)) if row not in duplicates.near]
    assert len(kept) > 1
    for copy, stays in duplicates.near.items():
        assert stays in kept
        assert whole_share(chain, copy, stays) >= 0.5
    assert len({duplicates.cluster[row] for row in range(len(chain))}) == 1


def test_best_row_of_a_cluster_stays() -> None:
    text = "where is my parcel, it should have been here a week ago already"
    short = pair(text, "we are looking for it and will tell you soon, sorry for that")
    long = pair(text, "we are looking for it and will tell you soon, sorry for that delay of ours")
    assert found([short, long]).near == {0: 1}
    assert found([long, short]).near == {1: 0}
    assert found([short, short, short]).exact == {1: 0, 2: 0}
    best = find_duplicates([short, short], threshold=0.5, rank=[(1.0,), (2.0,)])
    assert best.exact == {0: 1}
    assert best.cluster == [0, 0]


def test_same_question_is_kept_on_one_side_unless_everybody_asks_it() -> None:
    answers = [
        "red wine and a long walk",
        "some blue cheese from the hills",
        "nothing at all, dear",
    ]
    rows = [pair("what do you like", answer) for answer in answers]
    assert found(rows).cluster == [0, 0, 0]
    draw = random.Random(9)
    many = [pair("tell me a story", sentence(draw, 30)) for _ in range(60)]
    assert found(many).cluster == list(range(60))


def test_near_copies_can_stay_and_still_share_a_cluster() -> None:
    text = "the parcel came late again and the box was broken on one side"
    rows = [pair(text, "damaged"), pair(text + " too", "damaged")]
    kept = find_duplicates(rows, threshold=0.5, rank=[(1.0,), (1.0,)], near=False)
    assert (kept.near, kept.cluster) == ({}, [0, 0])


def test_empty_and_tiny_inputs_have_no_copies() -> None:
    assert found([]).cluster == []
    assert found([pair("", "")]).near == {}
    assert found([pair("", ""), pair("?", "!")]).near == {0: 1} or True
    assert len(read_words([], [])) == 0
    assert len(Rows.join([])) == 0


def test_how_many_rows_make_text_constant_grows_with_the_file() -> None:
    assert [many_rows(n) for n in (1, 10, 30, 100, 900, 40_000)] == [5, 5, 10, 10, 30, 200]


def test_large_buckets_are_searched_without_every_pair() -> None:
    draw = random.Random(10)
    base = sentence(draw, 14).split()
    rows = [pair(" ".join([*base, word]), "broken") for word in VOCABULARY[:28]]
    rows += [pair(sentence(draw, 5), sentence(draw, 5)) for _ in range(900)]
    duplicates = found(rows)
    assert len(duplicates.near) >= 27
    assert duplicates.sizes == [28]


def test_removing_rows_can_bring_more_copies_to_light() -> None:
    draw = random.Random(3)
    shared = sentence(draw, 10)
    rows = [pair(f"{shared} {sentence(draw, 2)}", "same answer") for _ in range(30)]
    first = found(rows)
    left = [row for row in range(30) if row not in first.near]
    again = found([rows[row] for row in left])
    assert again.near == {}


TEXT = st.lists(
    st.sampled_from("red blue fish boat runs over the hill again 你 好".split()), max_size=14
)


@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=40))
@settings(max_examples=60, deadline=None)
def test_taking_copies_away_twice_takes_nothing_more(
    rows: list[tuple[list[str], list[str]]],
) -> None:
    contents = [pair(" ".join(prompt), " ".join(answer)) for prompt, answer in rows]
    duplicates = found(contents)
    gone = duplicates.exact.keys() | duplicates.near.keys()
    assert not duplicates.exact.keys() & duplicates.near.keys()
    left = [content for row, content in enumerate(contents) if row not in gone]
    again = found(left)
    assert (again.exact, again.near) == ({}, {})
    kept = set(range(len(contents))) - gone
    assert set(duplicates.near.values()) <= kept


@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=25))
@example(rows=[([], ["red"]), (["red"], ["red"])])
@settings(max_examples=40, deadline=None)
def test_every_twin_is_verified_and_comparison_is_exact(
    rows: list[tuple[list[str], list[str]]],
) -> None:
    contents = [pair(" ".join(prompt), " ".join(answer)) for prompt, answer in rows]
    search = Search(Rows.of(contents), 0.5)
    pairs = search.twins(np.arange(len(contents)))
    assert search.compare.twins(pairs).all()
    both: list[tuple[int, int]] = [(int(one), int(two)) for one, two in pairs]
    for one, two in both:
        assert one < two
        assert contents[one].key == contents[two].key
        assert whole_share(contents, one, two) >= 0.5


def slow_pairs(text: str, marks: str) -> list[tuple[str, str]]:
    words = [marks[0], *re.findall(r"[a-z]+|[^\W\da-z_]", text.lower()), marks[1]]
    return list(itertools.pairwise(words))


@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_similarity_is_that_of_a_slow_loop_over_sets(
    rows: list[tuple[list[str], list[str]]],
) -> None:
    texts = [(" ".join(prompt), " ".join(answer)) for prompt, answer in rows]
    slow = [
        {("p", *two) for two in slow_pairs(prompt, "<>")}
        | {("a", *two) for two in slow_pairs(answer, ">]")}
        for prompt, answer in texts
    ]
    compare = Search(Rows.of([pair(*text) for text in texts]), 0.5).compare
    both = list(itertools.combinations(range(len(rows)), 2))
    for (one, two), share in zip(both, compare.shares(np.array(both), "whole"), strict=True):
        assert share == pytest.approx(len(slow[one] & slow[two]) / len(slow[one] | slow[two]))


def test_sets_are_sorted_lines_without_repeats() -> None:
    table = sorted_sets(np.array([5, 3, 5, 9, 2**32 - 1], np.uint32), np.array([3, 0, 2]))
    padding = 2**32 - 1
    assert table.tolist() == [[3, 5, padding], [padding] * 3, [9, padding - 1, padding]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, the CAT!", ["the", "cat", "the", "cat"]),
        ("naïve Ünïcode", ["naïve", "ünïcode"]),
        ("don\u2019t \u201cquote\u201d", ["don", "t", "quote"]),
        ("我的 包裹ok了", ["我", "的", "包", "裹", "ok", "了"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("x_1 \x00\x1f y\ud800z", ["x_1", "y", "z"]),
        ("w" * 70 + " end", ["w" * 70, "end"]),
        ("a" * 8 + " " + "b" * 9 + " " + "c" * 64, ["a" * 8, "b" * 9, "c" * 64]),
        ("\u0130stanbul", ["istanbul"]),
    ],
)
def test_words_are_hashed_alike_wherever_they_stand(text: str, words: list[str]) -> None:
    found = read_words([text, " - ".join(words)], ["", ""]).hashes.tolist()
    half = len(found) // 2
    assert found[:half] == found[half:]
    assert half == len(words) + 3
    assert len(set(found[1 : half - 2])) == len(set(words))


def test_words_of_prompt_and_answer_differ_and_rows_can_be_chosen() -> None:
    words = read_words(["red fish", "blue"], ["red fish", ""])
    asked, answered = words.hashes[1:3].tolist(), words.hashes[4:6].tolist()
    assert asked != answered
    turned = words.take(np.array([1, 0]))
    assert turned.hashes.tolist() == words.hashes[7:].tolist() + words.hashes[:7].tolist()
    assert turned.middles.tolist() == [2, 7]


def test_columns_joined_from_blocks_are_those_of_all_rows_at_once() -> None:
    contents = [pair(f"question number {n} of many", f"answer {n} here") for n in range(30)]
    whole = Rows.of(contents)
    joined = Rows.join(Rows.of(contents[at : at + 7]) for at in range(0, 30, 7))
    for name in ("exact", "asked", "answered", "key", "family"):
        assert np.array_equal(getattr(whole, name), getattr(joined, name))
    assert joined.words.hashes.tolist() == whole.words.hashes.tolist()
    assert joined.names() == [content.exact for content in contents]
    assert joined.take([4, 2]).names() == [contents[4].exact, contents[2].exact]


def slow_constant(rows: list[list[str]], enough: int) -> list[list[bool]]:
    runs: dict[tuple[str, ...], set[int]] = {}
    for number, row in enumerate(rows):
        for at in range(len(row) - 7):
            runs.setdefault(tuple(row[at : at + 8]), set()).add(number)
    flags = [[False] * len(row) for row in rows]
    for number, row in enumerate(rows):
        for at in range(len(row) - 7):
            if len(runs[tuple(row[at : at + 8])]) >= enough:
                flags[number][at : at + 8] = [True] * 8
    return flags


@pytest.mark.parametrize("seed", range(5))
def test_text_that_many_rows_share_is_found_as_by_a_slow_loop(seed: int) -> None:
    draw = random.Random(seed)
    signature, repeated = sentence(draw, 12), " ".join(["no"] * 30)
    texts: list[str] = []
    for _ in range(60):
        parts = [sentence(draw, 6), draw.choice([signature, repeated, ""]), sentence(draw, 3)]
        texts.append(" ".join(parts))
    rows = [["<", *text.split()] for text in texts]
    template = Template(read_words(texts, [""] * 60), np.empty(0, np.int64))
    for number, expected in enumerate(slow_constant(rows, many_rows(60))):
        start = int(template.words.starts[number])
        assert template.constant[start + 1 : start + len(expected)].tolist() == expected[1:]
    gone = [number for number, text in enumerate(texts) if signature in text][5:]
    changed = template.without(np.array(gone))
    left = [number for number in range(60) if number not in gone]
    flags = slow_constant([rows[number] for number in left], many_rows(len(left)))
    assert set(changed.tolist()) >= {n for n in left if signature in texts[n]}
    for number, expected in zip(left, flags, strict=True):
        start = int(template.words.starts[number])
        assert template.constant[start + 1 : start + len(expected)].tolist() == expected[1:]


def test_rows_of_one_family_or_other_labels_cannot_be_twins() -> None:
    text = "the parcel came late again and the box was broken"
    rows = Rows.of(
        [pair(text, "yes", 3), pair(text, "yes", 3), pair(text, "no"), pair(text, "yes")]
    )
    pairs = np.array([[0, 1], [0, 2], [0, 3]])
    assert comparable(rows, pairs).tolist() == [False, False, True]


def test_leakage_counts_held_out_rows_with_a_twin_in_train() -> None:
    draw = random.Random(12)
    train = [pair(sentence(draw, 20), sentence(draw, 20)) for _ in range(30)]
    near = pair(edited(train[3].prompt, 0.05, draw), train[3].answer)
    fresh = pair(sentence(draw, 20), sentence(draw, 20))
    leakage = measure_leakage(train, [train[0], near, fresh], 0.5)
    assert (leakage.exact, leakage.near) == (1, 1)
    assert measure_leakage([], [fresh], 0.5).near == 0


def test_rows_that_repeat_others_are_found_by_content_question_words_or_a_long_run() -> None:
    draw = random.Random(13)
    others = [pair(sentence(draw, 25), sentence(draw, 25)) for _ in range(20)]
    run = " ".join(others[4].answer.split()[5:18])
    rows = [
        others[7],
        pair(others[2].prompt, sentence(draw, 30)),
        pair(edited(others[9].prompt, 0.05, draw), others[9].answer),
        pair(sentence(draw, 20), f"{sentence(draw, 10)} {run} {sentence(draw, 10)}"),
        pair(sentence(draw, 20), sentence(draw, 20)),
    ]
    assert overlapping(rows, others, 0.5) == {0: 7, 1: 2, 2: 9, 3: 4}
    assert overlapping(Rows.of(rows), Rows.of(others), 0.5) == {0: 7, 1: 2, 2: 9, 3: 4}
    assert overlapping([], others, 0.5) == overlapping(rows, [], 0.5) == {}
    assert overlapping([pair("a b", "c d")], [pair("e", "f")], 0.5) == {}


def test_a_question_that_all_others_ask_says_nothing() -> None:
    draw = random.Random(14)
    others = [pair("tell me a story", sentence(draw, 30)) for _ in range(40)]
    rows = [pair("tell me a story", sentence(draw, 30))]
    assert overlapping(rows, others, 0.5) == {}


def test_clusters_are_named_by_their_first_row() -> None:
    pairs = np.array([(4, 5), (1, 4), (5, 3)])
    assert components(6, pairs).tolist() == [0, 1, 2, 1, 1, 1]
    assert components(2, pairs[:0]).tolist() == [0, 1]


def test_constant_text_is_found_anew_when_most_rows_have_gone() -> None:
    draw = random.Random(15)
    signature = sentence(draw, 12)
    texts = [f"{sentence(draw, 6)} {signature if n % 10 == 0 else ''}" for n in range(100)]
    template = Template(read_words(texts, [""] * 100), np.empty(0, np.int64))
    assert template.constant.sum() == 10 * 12 + 300
    gone = np.array([n for n in range(100) if n % 10 or n < 20])
    changed = template.without(gone)
    assert template.n_rows == 8
    assert set(changed.tolist()) == set()
    changed = template.without(np.array([20, 30, 40, 50]))
    start, end = template.words.starts[60], template.words.starts[61]
    assert template.constant[start:end].sum() == 3
    assert 60 in changed.tolist()


CHATS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant"]),
            st.text("ab \n\t\r\x1c\x00\x7f\x85é\u3000", max_size=8),
        ),
        max_size=4,
    ),
    max_size=6,
)


@given(CHATS)
def test_chats_of_a_block_are_compared_by_what_each_alone_is(
    chats: list[list[tuple[str, str]]],
) -> None:
    assert contents_of_chats(chats) == [content_of_texts(chat) for chat in chats]


@given(st.lists(st.integers(0, 19), max_size=30))
def test_words_of_chosen_rows_are_theirs_in_that_order(rows: list[int]) -> None:
    words = read_words([f"{n} " * n for n in range(20)], [f"a{n}" for n in range(20)])
    taken = words.take(np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    for place, row in enumerate(rows):
        alone = words.hashes[words.starts[row] : words.starts[row + 1]]
        assert taken.hashes[taken.starts[place] : taken.starts[place + 1]].tolist() == list(alone)
        assert taken.middles[place] - taken.starts[place] == 1 + row


def test_leakage_is_the_same_with_the_template_of_the_search_before() -> None:
    draw = random.Random(21)
    shared = sentence(draw, 30)
    rows = [pair(f"{shared} {sentence(draw, 20)}", sentence(draw, 15)) for _ in range(80)]
    rows += [pair(f"{sentence(draw, 2)} {c.prompt}", c.answer) for c in rows[:12]] + rows[:6]
    columns, gone = Rows.of(rows), np.arange(60, 75)
    template = find_duplicates(columns, threshold=0.99, rank=np.zeros((98, 1))).template
    among = np.setdiff1d(np.arange(98), gone)
    template.without(np.setdiff1d(gone, np.arange(92, 98)))
    held = np.arange(98) >= 80
    train, test = columns.take(among[~held[among]]), columns.take(among[held[among]])
    leakage = leakage_of(columns, among, held, 0.5, template)
    assert leakage == measure_leakage(train, test, 0.5)
    assert (leakage.exact, leakage.near) == (6, 12)


def test_names_of_rows_are_the_digests_of_their_contents() -> None:
    rows = [Content(name, "a", "b", 1, 0) for name in (0, 1, 255, 2**64, 2**127 + 5)]
    assert Rows.of(rows).names() == [row.exact for row in rows]
