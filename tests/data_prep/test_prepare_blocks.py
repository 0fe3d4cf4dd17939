"""Blocks: however a file is cut and whichever way a row takes, the result is the same."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning.data_prep import PARTS, prepare_data
from finetuning.data_prep.convert import Columns
from finetuning.data_prep.preparation import Options
from finetuning.data_prep.preparation.blocks import BlockMaker
from finetuning.data_prep.preparation.sources import Task
from finetuning.files.chunks import has_ranges, line_ranges, lines_in, split_lines
from finetuning.records import Finding

Write = Callable[..., Path]
WORDS = "river stone cloud paper lamp train garden window silver copper winter letter".split()
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "prepare_data.py"


def options(target: Any, **more: Any) -> Options:
    values: dict[str, Any] = {
        "sources": ("x",), "target": target, "columns": Columns(), "examples": "per_conversation",
        "near_duplicates": True, "semantic_duplicates": False, "near_threshold": 0.5,
        "redact": "none", "split": "auto", "exclude": (), "signatures_file": None, "replay": None,
        "canaries": 0, "review_sample": 0, "reviews_file": None, "engine": "local",
        "force": False, "seed": 0,
    }  # fmt: skip
    return Options(**{**values, **more})


@given(
    data=st.lists(st.sampled_from([b"a", b"bc", b" ", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf"])),
    size=st.integers(1, 9),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_hold_every_line_once_under_its_number(
    data: list[bytes], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges.jsonl"
    content = b"".join(data)
    path.write_bytes(content)
    wanted = [
        (number, line.strip())
        for number, line in enumerate(split_lines([content.removeprefix(b"\xef\xbb\xbf")]), start=1)
        if line.strip()
    ]
    found = [item for part in line_ranges(path, size) for item in lines_in(path, part)]
    assert found == wanted


def test_ranges_are_cut_inside_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    draw = random.Random(5)
    ends = [b"\n", b"\r\n", b"\r", b"\n\n"]
    lines = [b"x" * draw.randrange(1, 3_000) + draw.choice(ends) for _ in range(2_000)]
    path.write_bytes(b"".join(lines))
    parts = list(line_ranges(path, 100_000))
    assert len(parts) > 2
    assert sum(part.size for part in parts) == path.stat().st_size
    wanted = [
        (number, line.strip())
        for number, line in enumerate(split_lines([path.read_bytes()]), start=1)
        if line.strip()
    ]
    assert [item for part in parts for item in lines_in(path, part)] == wanted


def test_packed_and_utf16_files_have_no_ranges(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "b").write_text("{}", encoding="utf-16")
    (tmp_path / "c").write_text("{}", encoding="utf-8-sig")
    assert [has_ranges(tmp_path / name) for name in ("a.gz", "b", "c")] == [False, False, True]
    assert not has_ranges(tmp_path)


TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["write to a@example.com", "call 415-555-0133 ", "  two  spaces ", '{"a": 1}', "<|im_end|>",
         "I cannot help with that.", "caf\u00e9 \u2028", "say \u0041\ttab", "yes", "[EMAIL]"]
    ),
)  # fmt: skip
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "User"]), "content": TEXT}
)
ALTERNATING = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(
    lambda pairs: [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
)
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


@st.composite
def with_calls(draw: st.DrawFn) -> dict[str, Any]:
    """Return a chat that calls a tool, in the spellings that files have."""
    call: dict[str, Any] = {"id": "c1", "function": {"name": "find", "arguments": '{"a": 1}'}}
    if draw(st.booleans()):
        call = {**call, "type": "function"}
    calling: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
    said = draw(st.sampled_from([{}, {"content": None}, {"content": "let me look"}]))
    result: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": draw(TEXT)}
    if draw(st.booleans()):
        result["name"] = "find"
    answer: dict[str, Any] = {"role": "assistant", "content": draw(TEXT)}
    answer |= draw(st.sampled_from([{}, {"weight": 1}, {"name": "bot"}]))
    asked = {"role": "user", "content": draw(TEXT)}
    return {"messages": [asked, {**calling, **said}, result, answer], "tools": TOOLS}


CHAT = st.one_of(
    with_calls(),
    st.fixed_dictionaries({"messages": st.one_of(st.lists(TURN, max_size=4), ALTERNATING)}),
)
PAIR = st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT})


@pytest.mark.parametrize("redact", ["none", "mask"])
@pytest.mark.parametrize(
    ("target", "row"),
    [
        ("openai_chat", CHAT),
        ("trl_messages", CHAT),
        ("tinker", CHAT),
        ("trl_prompt_completion", PAIR),
        ("together_instruction", PAIR),
    ],
)
def test_clean_rows_come_out_as_conversion_would_have_them(
    target: str, row: st.SearchStrategy[Any], redact: str, tmp_path: Path
) -> None:
    @given(items=st.lists(row, min_size=1, max_size=8), escaped=st.booleans())
    @settings(max_examples=40, deadline=None)
    def check(items: list[Any], escaped: bool) -> None:
        path = tmp_path / "in.jsonl"
        text = "\n".join(json.dumps(item, ensure_ascii=escaped) for item in items)
        path.write_bytes(text.encode("utf-8", "replace"))
        made: list[Any] = []
        for number, shortcut in enumerate((True, False)):
            spool = tmp_path / f"spool{number}"
            with spool.open("wb") as stream:
                asked = options(target, redact=redact)
                maker = BlockMaker(asked, stream, number, plain=True)
                if not shortcut:
                    maker.convert_every_row()
                (part,) = line_ranges(path, 1 << 20)
                block = maker.make(Task("in", path=path, part=part))
            rows = [json.loads(line) for line in spool.read_bytes().split(b"\n") if line]
            made.append((block, rows))
        (one, short), (two, whole) = made
        assert short == whole
        assert one.rows.names() == two.rows.names()
        assert np.array_equal(one.rows.key, two.rows.key)
        assert np.array_equal(one.lines, two.lines)
        assert (one.rejections, one.notes) == (two.rejections, two.notes)
        assert (one.redacted, one.types, one.warnings) == (two.redacted, two.types, two.warnings)

    check()


def chats(count: int, seed: int = 3) -> list[str]:
    draw = random.Random(seed)
    rows: list[str] = []
    for number in range(count):
        words = [" ".join(draw.choices(WORDS, k=12)) for _ in range(2)]
        turns = [
            {"role": "user", "content": f"case {number}: {words[0]}"},
            {"role": "assistant", "content": f"{words[1]} {number * 17}"},
        ]
        rows.append(json.dumps({"messages": turns}))
    return rows + draw.sample(rows, k=count // 20)


def test_preparing_what_was_prepared_removes_nothing(tmp_path: Path, write_lines: Write) -> None:
    source = write_lines("in.jsonl", *chats(300))
    first = prepare_data([str(source)], "openai_chat", str(tmp_path / "one"), redact="mask")
    again = prepare_data(
        [str(tmp_path / "one")], "openai_chat", str(tmp_path / "two"), redact="mask"
    )
    assert first.rows.exact_duplicates == 15
    assert again.rows.read == first.rows.train + first.rows.validation + first.rows.test == 300
    assert (again.rows.rejected, again.rows.redacted) == (0, 0)
    assert (again.rows.exact_duplicates, again.rows.near_duplicates) == (0, 0)
    assert again.validation.n_errors == 0
    same = prepare_data([str(source)], "openai_chat", str(tmp_path / "three"), redact="mask")
    assert same.data_sha256 == first.data_sha256
    reports = [(tmp_path / name / "rejected.jsonl").read_bytes() for name in ("one", "three")]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    "target",
    ["openai_chat", "trl_prompt_completion", "bedrock_prompt_completion", "vertex_preference"],
)
def test_tokens_are_those_that_the_validator_counts_in_the_written_files(
    target: str, tmp_path: Path, write_lines: Write
) -> None:
    from finetuning.data_prep import validate_jsonl

    rows = [orjson.loads(row) for row in chats(300)]
    long = {"role": "user", "content": "one more word " * 11_000}
    rows[7]["messages"] = [long, {"role": "assistant", "content": "too long for Bedrock"}]
    if target == "vertex_preference":
        turns = [row["messages"] for row in rows]
        rows = [
            {"prompt": one[0]["content"], "chosen": one[-1]["content"], "rejected": "no idea"}
            for one in turns
        ]
    source = write_lines("in.jsonl", *map(json.dumps, rows))
    general = write_lines("general.jsonl", *chats(60, seed=9))
    more: dict[str, Any] = {"canaries": 3, "redact": "mask", "split": [0.5, 0.5, 0.0]}
    if target == "openai_chat":
        more["replay"] = {"path": str(general), "fraction": 0.1}
    result = prepare_data([str(source)], cast("Any", target), str(tmp_path / "out"), **more)
    checked = [validate_jsonl(result.files[part], cast("Any", target)) for part in PARTS[:2]]
    assert [result.tokens.train, result.tokens.validation] == [one.tokens for one in checked]
    assert result.tokens.test is None
    assert result.tokens.billed_per_epoch == checked[0].billed_tokens_per_epoch
    too_long = sum(one.counts.get("tokens_over_limit", 0) for one in checked)
    assert result.validation.counts.get("tokens_over_limit", 0) == too_long
    assert too_long == (target == "bedrock_prompt_completion")


def test_tokens_of_an_edited_row_are_those_of_the_edit(tmp_path: Path, write_lines: Write) -> None:
    from finetuning.data_prep import validate_jsonl
    from finetuning.data_prep.review import FORMAT, row_digest

    source = write_lines("in.jsonl", *chats(120))
    first = prepare_data([str(source)], "openai_chat", str(tmp_path / "one"), split=[1.0, 0, 0])
    raw = Path(first.files["train"]).read_bytes().splitlines()[4]
    row = orjson.loads(raw)
    row["messages"][-1]["content"] = "a much shorter answer that a person wrote"
    decision = {"digest": row_digest(raw), "decision": "edit", "row": row, "source": "s", "line": 5}
    head = {"format": FORMAT, "sheet": "s", "target": "openai_chat"}
    reviews = write_lines("reviews.jsonl", json.dumps(head), json.dumps(decision))
    again = prepare_data(
        [str(source)], "openai_chat", str(tmp_path / "two"), split=[1.0, 0, 0],
        reviews_file=str(reviews),
    )  # fmt: skip
    assert again.reviewed["edited"] == 1
    assert again.tokens.train == validate_jsonl(again.files["train"], "openai_chat").tokens
    assert again.tokens.train != first.tokens.train


def test_one_row_of_turns_makes_a_whole_preference_file_turns(
    tmp_path: Path, write_lines: Write
) -> None:
    """The rows before it were written as texts: they are made again."""
    rows: list[Any] = [
        {"prompt": f"what is {n} of {n * 7}", "chosen": f"it is {n * 3}", "rejected": f"{n} no"}
        for n in range(30)
    ]
    turns = [{"role": "system", "content": "be short"}, {"role": "user", "content": "and this?"}]
    rows.append(
        {
            "prompt": turns,
            "chosen": [{"role": "assistant", "content": "yes, that is so"}],
            "rejected": [{"role": "assistant", "content": "nobody can tell"}],
        }
    )
    source = write_lines("in.jsonl", *map(json.dumps, rows))
    result = prepare_data(
        [str(source)], "trl_preference", str(tmp_path / "out"), split=[1.0, 0.0, 0.0]
    )
    lines = Path(result.files["train"]).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 31
    assert all(isinstance(json.loads(line)["prompt"], list) for line in lines)
    assert result.validation.n_errors == 0


def test_reviewed_rows_are_edited_or_rejected_and_the_rest_stays(
    tmp_path: Path, write_lines: Write
) -> None:
    from finetuning.data_prep.review import FORMAT, row_digest

    source = write_lines("in.jsonl", *chats(60))
    arguments: dict[str, Any] = {"split": [1.0, 0.0, 0.0]}
    first = prepare_data(
        [str(source)], "openai_chat", str(tmp_path / "one"), review_sample=20, **arguments
    )
    assert first.review_file is not None
    assert Path(first.review_file).name == "review.html"
    lines = Path(first.files["train"]).read_bytes().splitlines()
    edited = json.loads(lines[1])
    edited["messages"][1]["content"] = "an answer that a person wrote instead"
    head = {"format": FORMAT, "target": "openai_chat"}
    decisions = [
        {"digest": row_digest(lines[0]), "decision": "reject"},
        {"digest": row_digest(lines[1]), "decision": "edit", "row": edited},
        {"digest": row_digest(lines[2]), "decision": "approve"},
    ]
    reviews = write_lines("reviews.jsonl", *map(json.dumps, [head, *decisions]))
    second = prepare_data(
        [str(source)], "openai_chat", str(tmp_path / "two"), reviews_file=str(reviews), **arguments
    )
    assert second.rows.read == first.rows.read
    assert second.rows.rejected == 1
    assert second.reasons["review_rejected"] == 1
    assert second.repairs == {"edited_in_review": 1}
    kept = Path(second.files["train"]).read_text(encoding="utf-8").splitlines()
    assert len(kept) == 59
    assert "an answer that a person wrote instead" in kept[0]
    assert json.loads(kept[1]) == json.loads(lines[2])
    assert second.reviewed == {"approved": 1, "edited": 1, "rejected": 1}


def test_rows_of_other_formats_go_through_blocks_of_their_own(tmp_path: Path) -> None:
    """More rows than a block holds, from a table: numbers and identity stay right."""
    path = tmp_path / "in.csv"
    lines = ["question,answer", *(f"what about {n}?,it is {n * 7919} then" for n in range(8_500))]
    path.write_text("\n".join(lines), encoding="utf-8")
    result = prepare_data(
        [str(path)], "trl_prompt_completion", str(tmp_path / "out"), near_duplicates=False
    )
    assert result.rows.read == 8_500
    assert result.rows.train + result.rows.validation + result.rows.test == 8_500


def test_too_long_a_line_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.files.chunks.MAX_LINE_BYTES", 10)
    (tmp_path / "a").write_bytes(b"short\n" + b"x" * 40 + b"\n")
    (part,) = line_ranges(tmp_path / "a", 1 << 20)
    (_, first), (_, second) = lines_in(tmp_path / "a", part)
    assert first == b"short"
    assert isinstance(second, Finding)
    assert second.code == "line_too_long"


def test_the_benchmark_runs() -> None:
    assert importlib.util.find_spec("numpy") is not None
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "plain / ours" in done.stdout
