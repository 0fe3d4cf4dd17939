"""Rows that are proven from their bytes: the result is that of rows that are decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate import ranges
from finetuning.data_prep.validate.plain import PlainRows
from finetuning.data_prep.validate.quick import QuickCheck, quick_check
from finetuning.data_prep.validate.scan import check_tools
from finetuning.data_prep.validate.skim import Skimmed, Skimmer
from finetuning.data_prep.validate.typed import Job, Part, Span

Json = dict[str, Any]
SPELLINGS: list[Json] = [
    {},
    {"separators": (",", ":")},
    {"sort_keys": True},
    {"sort_keys": True, "separators": (",", ":")},
]
CHATS = ["openai_chat", "trl_messages", "mistral_chat"]
PAIRS = ["together_instruction", "trl_prompt_completion"]


def _quick(target: str) -> QuickCheck:
    found = quick_check(target, TARGETS[target].method, check_tools)
    assert found is not None
    return found


def _chat(*texts: str, system: str | None = None) -> Json:
    roles = ("user", "assistant") * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    first = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": first + messages}


def _lines(*rows: Json, **spelling: Any) -> bytes:
    return b"".join(json.dumps(row, **spelling).encode() + b"\n" for row in rows)


def _skim(target: str, block: bytes, *, plain: bool) -> Skimmed:
    skimmer = Skimmer(_quick(target), PlainRows(target) if plain else None)
    found = skimmer.skim(bytearray(block), len(block))
    assert found is not None
    return found


CLEAN: list[tuple[str, list[Json]]] = [
    *(
        (
            target,
            [
                _chat("Where is it?", "There."),
                _chat("I'm lost", 'Issue 7, "so": a\\nb\\\\c', "Ah", "Is it?", system="Be kind"),
                _chat('"Quoted"', "Ünique, 你好", "  two blanks", "As-is; upper; sold; I saw"),
                _chat("I can't log in", "\U0001f642 fine", system="I am sorry, but I"),
            ],
        )
        for target in CHATS
    ),
    *((target, [{"prompt": "Say it", "completion": "It"}] * 3) for target in PAIRS),
    ("trl_text", [{"text": "Running text"}, {"text": "“More”"}]),
    (
        "alpaca",
        [
            {"instruction": "Do it", "input": "", "output": "Done"},
            {"instruction": "Do it", "input": "\\ \n", "output": "Done"},
            {"instruction": "Do it", "output": "Done"},
        ],
    ),
]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("target", "rows"), CLEAN)
def test_no_object_is_made_of_clean_rows_in_any_usual_spelling(
    target: str, rows: list[Json], spelling: Json, ends: bytes
) -> None:
    block = _lines(*rows, ensure_ascii=False, **spelling).replace(b"\n", ends)
    proven = _skim(target, block, plain=True)
    assert (proven.n_lines, proven.doubtful) == (len(rows), [])
    backslashes = b"\\\\" in block  # a doubled one before a sign of its own may be decoded
    assert len(proven.rows) <= (1 if backslashes else 0)
    decoded = _skim(target, block, plain=False)
    assert len(decoded.rows) + len(decoded.doubtful) == len(rows)


def test_spellings_may_change_from_line_to_line() -> None:
    row = _chat("Where is it?", "There.")
    block = b"".join(_lines(row, row, row, row, **spelling) for spelling in SPELLINGS * 2)
    proven = _skim("openai_chat", block, plain=True)
    assert (proven.n_lines, proven.doubtful) == (32, [])
    assert len(proven.rows) <= 8, "at most one line is decoded where the spelling changes"


def test_where_most_rows_must_be_decoded_the_next_blocks_are_decoded_at_once() -> None:
    row = _chat("Where is it?", "There.")
    row["messages"][1]["weight"] = 1
    skimmer = Skimmer(_quick("openai_chat"), PlainRows("openai_chat"))
    block = _lines(*[row] * 6)
    for _ in range(40):
        found = skimmer.skim(bytearray(block), len(block))
        assert found is not None
        assert (len(found.rows), found.doubtful) == (6, [])
    clean = _lines(*[_chat("Where is it?", "There.")] * 6)
    made = [len(_of(skimmer.skim(bytearray(clean), len(clean))).rows) for _ in range(40)]
    assert made[0] == 6
    assert made[-1] == 0


def _of(found: Skimmed | None) -> Skimmed:
    assert found is not None
    return found


STARTS = [
    "", " ", "I'm sorry, but I can't", "i’m sorry but as", "As an AI ", "as is", "Sorry, I cannot",
    "Unfortunately I am unable", "I c", "I can't assist", "I a", "Im sorry, I", "apologies, I can",
    "很抱歉，我无法", "抱歉", "作为一个AI", "对", "\u3000", "\u00a0", "\u2003", "\u0085", "\x1f",
    "\t", "\n", "\\", '"', '\\"', "x", "é", "你", "“", "\ufeff", "\U0001f642", "\u2028",
    "  x", ' "', "{",
]  # fmt: skip
TEXTS = st.one_of(
    st.just("Plain words."),
    st.just("Ask."),
    st.tuples(st.sampled_from(STARTS), st.sampled_from([*STARTS, "plain words"])).map("".join),
    st.text(max_size=12),
)


BLANKS = ["", " ", "  ", "\u3000", "\u00a0", " \u2003", "\u0085", "\n", "\t ", "\u1680", "\u205f"]
REFUSALS = [
    "I'm sorry, but I can't", "I’m sorry, but I can't", " i’m sorry, I cannot", "IM SORRY, as",
    "I am sorry, but I cannot", "I cannot help", "I’m unable to assist", "Sorry, I can't",
    "sorry but i cannot", "Apologies, I can't", "Unfortunately, I am unable", "As an AI language",
    "as a language model I", "\nI cannot help", "很抱歉，我无法", "抱歉，我不能",
    "对不起,我无法", "作为一个AI", "作为AI",
]  # fmt: skip
FAULTY: list[tuple[str, Json]] = [
    *(("openai_chat", _chat("Ask", text)) for text in BLANKS + REFUSALS),
    *(("openai_chat", _chat("Ask", "So", "Ask", text, system="Be")) for text in REFUSALS),
    *(("openai_chat", _chat(text, "So")) for text in BLANKS),
    *(("openai_chat", _chat("Ask", "So", system=text)) for text in BLANKS),
    *(("alpaca", {"instruction": text, "output": "So"}) for text in BLANKS),
    *(("alpaca", {"instruction": "Ask", "output": text}) for text in BLANKS + REFUSALS),
    *(("trl_text", {"text": text}) for text in BLANKS),
    *(("trl_prompt_completion", {"prompt": text, "completion": "So"}) for text in BLANKS),
    *(
        ("trl_prompt_completion", {"prompt": "Ask", "completion": text})
        for text in [*BLANKS, *REFUSALS, "Ask", " Ask", "Ask\u3000"]
    ),
    ("trl_prompt_completion", {"prompt": '"Ask"', "completion": ' "Ask"'}),
    ("trl_prompt_completion", {"prompt": "\u3000Ask", "completion": "Ask"}),
    ("trl_prompt_completion", {"prompt": "éa", "completion": "éa"}),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_blank_text_refusal_or_echo_is_taken_as_proven(tmp_path: Path, spelling: Json) -> None:
    path = tmp_path / "rows.jsonl"
    for target, row in FAULTY:
        for ascii_only in (False, True):
            path.write_bytes(_lines(row, ensure_ascii=ascii_only, **spelling))
            found = _scan(path, target, plain=True)
            assert found.found, (target, row)
            assert found == _scan(path, target, plain=False)


CHANGES: list[Json] = [
    {"role": "user"}, {"role": "tool"}, {"content": None}, {"weight": 0}, {"name": "n"},
    {"content": []}, {"role": "System"},
]  # fmt: skip


@st.composite
def rows(draw: st.DrawFn, target: str) -> Json:
    """Rows of a target, most of them in order."""
    if target in PAIRS:
        prompt = draw(TEXTS)
        same = draw(st.sampled_from([0, 0, 1, 2]))
        completion = (draw(TEXTS), prompt, f" {prompt} ")[same]
        return {"prompt": prompt, "completion": completion}
    if target == "trl_text":
        return {"text": draw(TEXTS)}
    if target == "alpaca":
        row = {"instruction": draw(TEXTS), "output": draw(TEXTS)}
        extra = draw(st.sampled_from([None, "", "more", 3, "none"]))
        return row if extra == "none" else {**row, "input": extra}
    system = draw(st.none() | TEXTS)
    row = _chat(*draw(st.lists(TEXTS, min_size=2, max_size=5)), system=system)
    if not draw(st.integers(0, 5)):
        message = draw(st.sampled_from(row["messages"]))
        message.update(draw(st.sampled_from(CHANGES)))
    return row


PIECES = [
    b"", b" ", b"\n", b"\r", b"\t", b"\0", b"\x01", b"\x7f", b'"', b'\\"', b"\\", b"\\\\", b'\\\\"',
    b"\\x", b"\\u", b"\\ud83d", b"\\u0041", b"\\/", b"\xff", b"\x80", b"\xc3", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b",", b":", b'{"', b'\n{"', b'\n{"}, ', b'\n{"a',
    b'"}]}\n{"messages": [{"role": "user", "content": "', b'"}, {"role": "assistant", "content": "',
    b'", "role": "user', b'", "content": "', b'"}]}\x01{"messages": [', b"<|im_end|>", b"[INST]",
    b"null", b"1", b'"role": "user", ', b"user", b"tool",
]  # fmt: skip
"""What mutations put into lines."""


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A target and a file of rows in one or several spellings, some of them broken."""
    target = draw(st.sampled_from([*CHATS, *PAIRS, "trl_text", "alpaca"]))
    made = draw(st.lists(rows(target), min_size=1, max_size=6))
    written: list[bytes] = []
    for row in made:
        spelling = draw(st.sampled_from([SPELLINGS[0], *SPELLINGS]))
        raw = json.dumps(row, ensure_ascii=draw(st.booleans()), **spelling).encode()
        for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
            start = draw(st.integers(0, len(raw)))
            end = start + draw(st.sampled_from((0, 0, 1, 3, 12)))
            raw = raw[:start] + draw(st.sampled_from(PIECES)) + raw[end:]
        written.append(raw)
    clean = _lines(_chat("Where?", "There.")) * draw(st.integers(0, 9))
    ends = draw(st.sampled_from((b"\n", b"\n", b"\r\n")))
    text = clean + ends.join(written) + (ends if draw(st.booleans()) else b"")
    return target, text or b"\n"


def _scan(path: Path, target: str, *, plain: bool) -> Part:
    with path.open("rb") as stream:
        known = ranges.identity(stream)
    job = Job(str(path), known, target, TARGETS[target].method, None, count_tokens=False)
    scan = ranges.RangeScan(job, plain=plain)
    try:
        return scan.scan(Span(0, 0, path.stat().st_size))
    finally:
        scan.close()


def _broken(text: str) -> tuple[str, bytes]:
    """A file of many clean rows and one whose content is written as it stands here."""
    clean = _lines(_chat("Where?", "There.")) * 6
    row = b'{"messages": [{"role": "user", "content": "Hi %s"}, ' % text.encode("latin-1")
    return "openai_chat", clean + row + b'{"role": "assistant", "content": "Yes"}]}\n' + clean


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files())
@example(_broken('\n{"}, {"role": "user", "content": "'))
@example(_broken('\n{"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y'))
@example(_broken('\n{"'))
@example(_broken('\n{"a'))
@example(_broken("\x01"))
@example(_broken('"}]}\x01{"messages": [{"role": "user", "content": "a'))
@example(_broken('\\\\"}, {"role": "assistant", "content": "\\\\'))
@example(_broken('\\\\"}"}'))
@example(_broken('\\\\"}'))
@example(_broken("\\q"))
@example(_broken("\\\\q"))
@example(_broken("\\ud800"))
@example(_broken("\xff"))
@example(_broken("\x80"))
@example(_broken("\xc3"))
@example(_broken("\t"))
@example(_broken('", "content": "twice'))
def test_rows_proven_from_their_bytes_give_what_decoded_rows_give(
    tmp_path: Path, file: tuple[str, bytes]
) -> None:
    target, text = file
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text)
    assert _scan(path, target, plain=True) == _scan(path, target, plain=False)
