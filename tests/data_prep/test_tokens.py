"""Token counts: exact offline, honest where they are not, and never from a network."""

from __future__ import annotations

import base64
import functools
import importlib
import inspect
import itertools
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_test
from hypothesis import strategies as st

from finetuning.errors import BadInputError, MissingExtraError
from finetuning.settings import settings
from finetuning.tokens import (
    TextCounts,
    TokenTally,
    count_examples,
    counter_for,
    example_texts,
    overhead_tokens,
)
from finetuning.tokens.counting import ENCODINGS, find_ranks, load_encoding
from finetuning.tokens.examples import BAND, estimate_tokens

HELLO = "Hello, world! Grüße, 世界 🌍"

SAMPLES = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed "
    "with reason and conscience and should act towards one another in a spirit of brotherhood.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit "
    "Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont "
    "doués de raison et de conscience.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они "
    "наделены разумом и совестью.",
    "Chinese": "人人生而自由,在尊严和权利上一律平等。"
    "他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、"
    "かつ、尊厳と権利とについて平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "code": inspect.getsource(inspect),
    "base64": base64.b64encode(random.Random(1).randbytes(3000)).decode(),
    "digits": ",".join(str(random.Random(n).randrange(10**6)) for n in range(500)),
    "emoji": "😀🎉🚀" * 20,
}
"""Article 1 of the Universal Declaration of Human Rights, and texts of other kinds."""


@pytest.fixture
def no_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take every source of ranks away."""
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)


def test_counts_are_those_of_tiktoken_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    published: Any = importlib.import_module("tiktoken_ext.openai_public")
    for name, own in (("o200k_base", "gpt-4o-mini"), ("cl100k_base", "gpt-4")):
        counter = counter_for(own)
        assert (counter.name, counter.exact) == (name, True)
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(settings().home / "tokens"))
        parts: dict[str, Any] = getattr(published, name)()
        theirs = tiktoken.Encoding(**parts)
        texts = [HELLO, "", *SAMPLES.values()]
        assert counter.count(texts) == [len(theirs.encode_ordinary(text)) for text in texts]
        assert ENCODINGS[name].pattern == parts["pat_str"]
        assert ENCODINGS[name].special_tokens == parts["special_tokens"]


SPACED = st.lists(
    st.sampled_from(
        [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\x1c", "\u3000", "a", "Bc", "don't",
         "'s", "don’t", "1", "2345", "!", "...", "/", "(", "—", "é", "你好", "\uff0c", "かな", "🙂",
         "\u0301", "_"]
    )
    | st.text(max_size=3)
)  # fmt: skip


@functools.cache
def token_bytes(encoding: str) -> bytes:
    """Return how many bytes each token of an encoding has."""
    loaded = load_encoding(encoding)
    assert loaded is not None
    known = range({"o200k_base": 199_998, "cl100k_base": 100_256}[encoding])
    return bytes(len(loaded.decode_single_token_bytes(number)) for number in known)


def by_words(encoding: str) -> tuple[TextCounts, Callable[[str], list[int]]]:
    """Return a counter that cuts every text into words, and tiktoken's own function."""
    loaded = load_encoding(encoding)
    assert loaded is not None
    return TextCounts(loaded.encode_ordinary, token_bytes(encoding), learns=True), (
        loaded.encode_ordinary
    )


COUNTERS = {encoding: by_words(encoding) for encoding in sorted(ENCODINGS)}
"""Shared by all examples of a test: what one text teaches, another one meets."""


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@given(texts=st.lists(SPACED.map("".join), max_size=6))
@settings_of_test(deadline=None, max_examples=300)
def test_texts_counted_by_their_words_have_the_tokens_of_the_whole(
    encoding: str, texts: list[str]
) -> None:
    counted, encode = COUNTERS[encoding]
    expected = [len(encode(text)) for text in texts]
    assert counted.counts(texts) == expected
    assert counted.counts(texts) == expected
    assert counter_for("gpt-4o" if encoding == "o200k_base" else "gpt-4").count(texts) == expected


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_code_tables_and_any_signs_counted_by_words_have_the_tokens_of_the_whole(
    encoding: str,
) -> None:
    counted, encode = COUNTERS[encoding]
    rng = random.Random(3)
    signs = [chr(code) for code in range(0x3100) if chr(code).isspace()]
    mixed = [
        "".join(
            rng.choice(signs)
            if rng.random() < 0.5
            else chr(rng.choice((0x7F, 0x2FF, 0xD7FF, 0x1F64F)) - rng.randrange(0x60))
            for _ in range(200)
        )
        for _ in range(100)
    ]
    code = inspect.getsource(inspect)
    texts = [
        *SAMPLES.values(),
        *mixed,
        *code.split("\n\n"),
        " " + code,
        code.replace(" ", "  "),
        "",
        " ",
    ]
    assert counted.counts(texts) == [len(encode(text)) for text in texts]


def test_words_push_others_out_where_places_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.tokens._TABLES", ((1, 2), (2, 2), (4, 1)))
    counted, encode = by_words("o200k_base")
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefgh", k=rng.randrange(1, 40))) for _ in range(60)]
    for _ in range(20):
        texts = [" ".join(rng.choices(words, k=30)) for _ in range(3)]
        assert counted.counts(texts) == [len(encode(text)) for text in texts]


@pytest.mark.parametrize("again", [True, False], ids=["words come again", "words never come again"])
def test_many_texts_are_encoded_whole_or_by_words_as_pays(*, again: bool) -> None:
    loaded = load_encoding("o200k_base")
    assert loaded is not None
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return loaded.encode_ordinary(text)

    rng = random.Random(5)
    names = [f"{rng.getrandbits(40):x}" for _ in range(200 if again else 240_000)]
    drawn = iter(names * (1_200 if again else 1))
    texts = [" ".join(itertools.islice(drawn, 40)) for _ in range(6_000)]
    counted = TextCounts(encode, token_bytes("o200k_base"))
    few = counted.counts(texts[:4])
    assert encoded == texts[:4]
    assert few == [len(loaded.encode_ordinary(text)) for text in texts[:4]]
    counts = counted.counts(texts[4:])
    assert counts[-50:] == [len(loaded.encode_ordinary(text)) for text in texts[-50:]]
    whole = set(encoded) & set(texts)
    assert len(whole) == 4 if again else len(whole) > 3_000
    assert len(encoded) < 7_000  # of 240,000 words


@pytest.mark.parametrize("odd", ["\ud800x", "a\0b c", "\0"])
def test_texts_without_a_plain_form_are_counted_whole(odd: str) -> None:
    counted, encode = COUNTERS["o200k_base"]
    texts = ["a b c", odd, "", "d  e"]
    assert counted.counts(texts) == [len(encode(text)) for text in texts]


def test_texts_of_millions_of_characters_are_counted_in_pieces() -> None:
    counted, _ = COUNTERS["o200k_base"]
    text = "word " * 500_000  # three pieces, each with a space at its end
    assert counted.counts([text, "a b"]) == [500_003, 2]


def test_known_counts_do_not_drift() -> None:
    assert counter_for().count(["hello world", "你好", ""]) == [2, 1, 0]


@pytest.mark.parametrize(
    ("model", "name", "exact"),
    [
        (None, "o200k_base", True),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", "o200k_base", True),
        ("openai:gpt-4o", "o200k_base", True),
        ("openai/gpt-oss-20b", "o200k_base", True),
        ("gpt-3.5-turbo", "cl100k_base", True),
        ("gpt-4-turbo", "cl100k_base", True),
        ("meta-llama/Llama-3.1-8B", "o200k_base", False),
    ],
)
def test_a_model_decides_the_tokenizer(model: str | None, name: str, exact: bool) -> None:
    counter = counter_for(model)
    assert (counter.name, counter.exact) == (name, exact)


def test_ranks_are_kept_so_that_the_next_process_finds_them() -> None:
    kept = settings().home / "tokens" / ENCODINGS["o200k_base"].cache_name
    assert not kept.exists()
    text = find_ranks("o200k_base")
    assert text is not None
    assert kept.read_bytes() == text
    kept.write_bytes(b"edited")
    assert find_ranks("o200k_base") == text


def test_the_persons_own_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = find_ranks("cl100k_base")
    assert text is not None
    own = tmp_path / "own"
    own.mkdir()
    (own / ENCODINGS["cl100k_base"].cache_name).write_bytes(text)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(own))
    monkeypatch.setenv("FINE_TUNING_HOME", str(tmp_path / "other"))
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert counter_for("gpt-4").count(["hello world"]) == [2]
    assert not (tmp_path / "other").exists()


def test_a_home_that_cannot_be_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.setenv("FINE_TUNING_HOME", str(tmp_path / "file"))
    assert counter_for().exact


def test_no_socket_is_opened(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'): raise SystemExit(f'opened a socket: {event}')\n"
        "sys.addaudithook(refuse)\n"
        "from finetuning.tokens import counter_for\n"
        "assert counter_for('gpt-4o').count(['hello world']) == [2]\n"
    )
    environment = {**os.environ, "FINE_TUNING_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("no_ranks")
def test_without_ranks_the_count_is_an_estimate_with_a_band() -> None:
    counter = counter_for("gpt-4o")
    assert (counter.name, counter.exact) == ("estimate", False)
    stats = count_examples([{"text": "hello world " * 100}], counter)
    assert not stats.exact
    assert stats.low == round(stats.total * (1 - BAND))
    assert stats.high == round(stats.total * (1 + BAND))


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_estimate_stays_within_its_band(kind: str) -> None:
    exact = counter_for().count([SAMPLES[kind]])[0]
    assert abs(estimate_tokens(SAMPLES[kind]) - exact) <= BAND * exact


@given(st.text(max_size=60))
def test_any_text_can_be_estimated(text: str) -> None:
    assert (estimate_tokens(text) == 0) is (text == "")


def test_long_texts_and_lone_surrogates_are_counted() -> None:
    counter = counter_for()
    assert counter.count(["a b " * 400_000])[0] > 700_000
    assert counter.count(["\ud800x"])[0] > 0


def tokenizer_folder(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[UNK]": 0, "hello": 1, "world": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue] - the package's stubs lack the setter
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_tokenizer_on_disk_counts_exactly(tmp_path: Path) -> None:
    counter = counter_for(tokenizer_dir=tokenizer_folder(tmp_path / "tiny"))
    assert counter.exact
    assert counter.name == "tokenizer.json of tiny"
    assert counter.count(["hello world", "hello there world", "\ud800"]) == [2, 3, 1]


def test_a_folder_without_a_usable_tokenizer_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds no tokenizer\.json"):
        counter_for(tokenizer_dir=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInputError, match="cannot be loaded"):
        counter_for(tokenizer_dir=tmp_path)


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tokenizer_folder(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fine-tuning-skill\[local\]'"):
        counter_for(tokenizer_dir=folder)


CALL = {"id": "c", "function": {"name": "find", "arguments": '{"q":1}'}}
ROWS: list[tuple[dict[str, Any], list[str], int]] = [
    ({"messages": [{"role": "user", "content": "hi"}]}, ["user", "hi"], 6),
    (
        {
            "messages": [
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
            ],
            "tools": [{"x": 1}],
        },
        ["assistant", "find", '{"q":1}', "user", "a", '[{"x": 1}]'],
        9,
    ),
    ({"prompt": "a", "completion": "b"}, ["a", "b"], 0),
    ({"prompt": [{"role": "user", "content": "a"}], "completion": "b"}, ["user", "a", "b"], 6),
    ({"text": "t", "id": "no", "label": True}, ["t"], 0),
    (
        {"instruction": "i", "input": "", "output": "o", "history": [["a", "b"]]},
        ["i", "o", "a", "b"],
        0,
    ),
    ({"conversations": [{"from": "human", "value": "v"}], "system": "s"}, ["human", "v", "s"], 6),
    (
        {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [{"role": "user", "parts": [{"text": "q"}, {"functionCall": {"n": 1}}]}],
        },
        ["user", "q", '{"n": 1}', "s"],
        9,
    ),
    (
        {
            "contents": [{"role": "user", "parts": [{"text": "q"}]}],
            "completions": [
                {"score": 1, "completion": {"role": "model", "parts": [{"text": "m"}]}}
            ],
        },
        ["user", "q", "model", "m"],
        9,
    ),
    (
        {
            "input": {"messages": [{"role": "user", "content": "q"}]},
            "preferred_output": [{"role": "assistant", "content": "y"}],
        },
        ["user", "q", "assistant", "y"],
        9,
    ),
    (
        {
            "system": [{"text": "s"}],
            "messages": [{"role": "assistant", "candidates": [{"content": [{"text": "c"}]}]}],
        },
        ["assistant", "c", "s"],
        9,
    ),
    ({"messages": "broken", "prompt": 5}, [], 0),
]


@pytest.mark.parametrize(("row", "texts", "overhead"), ROWS)
def test_the_texts_of_every_format_are_found(
    row: dict[str, Any], texts: list[str], overhead: int
) -> None:
    assert example_texts(row) == texts
    assert overhead_tokens(row) == overhead


def test_statistics_are_those_of_the_rows() -> None:
    counter = counter_for()
    rows = [{"text": "hello " * n} for n in range(1, 101)]
    lengths = sorted(counter.count([row["text"] for row in rows]))
    stats = count_examples(rows, counter)
    assert stats.total == sum(lengths)
    assert (stats.p50, stats.p95, stats.max) == (lengths[49], lengths[94], lengths[-1])
    assert stats.mean == round(sum(lengths) / 100, 2)
    assert (stats.low, stats.high) == (stats.total, stats.total)
    tally = TokenTally(counter)
    assert (tally.stats().total, tally.stats().max, tally.stats().p95) == (0, 0, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "content", "role", "parts", "tool_calls", "input", "system"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "system", "history", "prompt", "contents", "tools"]),
        json_values,
    )
)
def test_any_row_has_texts_and_never_raises(row: dict[str, Any]) -> None:
    assert all(isinstance(text, str) for text in example_texts(row))
    assert overhead_tokens(row) >= 0


def test_rows_nested_hundreds_of_levels_deep_are_counted_without_them() -> None:
    deep: Any = "end"
    for _ in range(3000):
        deep = {"completion": deep, "input": deep}
    row = {"messages": [{"role": "user", "content": "q", "completion": deep}], "tools": deep}
    assert example_texts(row) == ["user", "q"]
    assert example_texts({"input": deep, "text": "t"}) == ["t"]
