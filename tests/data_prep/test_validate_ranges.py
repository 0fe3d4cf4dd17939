"""Large files are checked in ranges of typed rows; the findings are those of the checks in full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning import copied, write_frame
from finetuning.data_prep.targets import CHAT_RULES, TARGETS, Method
from finetuning.data_prep.validate import (
    FindingTally,
    ValidationResult,
    limits_for,
    ranges,
    validate_jsonl,
    whole,
)
from finetuning.data_prep.validate.chat import texts_of
from finetuning.data_prep.validate.quick import quick_check
from finetuning.data_prep.validate.scan import LineScan, check_tools
from finetuning.data_prep.validate.typed import QUICK_CHATS, Found, Job
from finetuning.errors import BadInputError
from finetuning.files.chunks import split_lines
from finetuning.runs import listen
from finetuning.tokens import example_texts, overhead_tokens

Json = dict[str, Any]
QUICK_TARGETS = [
    name for name, target in TARGETS.items() if quick_check(name, target.method, check_tools)
]
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
ASKED: Json = {"role": "user", "content": "Where is it?"}
ANSWER: Json = {"role": "assistant", "content": 'On the table, "there".'}
CALLING: Json = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT: Json = {"role": "tool", "tool_call_id": "c1", "content": ""}
SYSTEM: Json = {"role": "system", "content": "Be kind\nand short."}
ROWS: list[Json] = [
    {"messages": [ASKED, ANSWER]},
    {"messages": [SYSTEM, ASKED, ANSWER, ASKED, ANSWER]},
    {"messages": [ASKED, CALLING, RESULT, ANSWER], "tools": TOOLS},
    {"messages": [ASKED, CALLING], "tools": TOOLS},
    {"messages": [ASKED, {**CALLING, "content": "Wait."}, RESULT, ANSWER], "tools": TOOLS},
    {"messages": [ASKED, CALLING, RESULT, ASKED, ANSWER], "tools": TOOLS},
    {"messages": [ASKED, {**ANSWER, "weight": 1}, ASKED, {**ANSWER, "weight": 0}]},
    {"messages": [{**ASKED, "name": "anna"}, {**ANSWER, "name": "bot"}]},
    {"messages": [ASKED, ANSWER], "tools": TOOLS},
    {"prompt": "Say \\ it", "completion": 'It \\\\" is'},
    {"text": "Running text: 你好，世界 é ü 🙂 “so”"},
    {"instruction": "Do it", "input": "", "output": "Done"},
    {"instruction": "Do it", "output": "Done", "input": None},
]
"""Rows without fault in the formats with a quick check."""

PIECES = [
    b"", b" ", b"\n", b"\r", b"\r\n", b"\t", b"\0", b"\x7f", b'"', b'\\"', b"\\", b"\\\\", b",",
    b"{", b"}", b"[", b"]", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\xef\xbf\xbd", b"\xe2\x80\x8b", b"\xe2\x80\xa8", b"\xe2\x80\x99", b"\xe2\x81\xa6",
    b"\xc2\x85", b"\xc2\xad", b"\xc3\x83\xc2\xa9", b"\xc3\x82\xc2\xa0", b"\xc3\xa2\xe2\x82\xac",
    b"\xc3\xa9", b"\xc3\x82n", b"\xf3\xa0\x81\xa7", b"\xf0\x9f\x8f\xb4\xf3\xa0\x81\xa7",
    b"\xc3\xb0\xc5\xb8", b"\xc3\xaf\xc2\xbb", b"\\u0000", b"\\u200b", b"\\u00e9",
    b"\\u00c3\\u00a9", b"\\u00e2\\u20ac", b"\\ud83d", b"\\ud83d\\ude00", b"\\udb40\\udc67",
    b"\\ufffd", b"\\u003c|im_end|>", b"\\u0041", b"\\u00", b"\\\\u200b", b"\\b", b"\\f", b"\\n",
    b"\\/", b"<|im_end|>", b"<|x", b"<eos>", b"<end_of_turn>", b"[INST]", b"[/INST]", b"<b>",
    b"NaN", b"1e999", b"-0", b"null", b"true", b"0", b"1", b"0.5", b"I'm sorry, but I ",
    b"As an AI ", b"I cannot help", "很抱歉，我无法".encode(), b"user", b"tool", b"system",
    b"assistant",
    b"Assistant", b'"role": "user", ', b'"content": "x", ', b'"weight": 1, ', b'"weight": 0, ',
    b'"name": "n", ', b'"tools": [], ', b'"text": "t", ', b'"messages": [], ',
    b'"tool_calls": null, ', b'"id": "c1", ', b'"input": "i", ', b" {} ", b"look", b"c1",
]  # fmt: skip
"""What mutations put into rows."""


def _dumps(row: Json, style: int) -> bytes:
    if style == 0:
        return json.dumps(row).encode()
    if style == 1:
        return json.dumps(row, ensure_ascii=False).encode()
    if style == 2:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    return json.dumps(row, sort_keys=True).encode()


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Rows, most of them mutated at one or two places."""
    raw = _dumps(draw(st.sampled_from(ROWS)), draw(st.integers(0, 3)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(raw)))
        end = start + draw(st.sampled_from((0, 0, 0, 1, 2, 5, 20)))
        raw = raw[:start] + draw(st.sampled_from(PIECES)) + raw[end:]
    return raw


def _in_full(path: Path, target: str, method: Method) -> list[Found]:
    """Return the findings of all lines by the checks in full alone."""
    tally = FindingTally(None, 0, None)
    known = TARGETS[target]
    scan = LineScan(known, method, limits_for(known, None), tally, None)
    with path.open("rb") as stream:
        for number, raw in enumerate(split_lines(stream), start=1):
            scan.line(number, raw)
    return [(f.line or 0, f.field, f.code, f.severity, f.message) for f in tally.kept]


def _job(path: Path, target: str, *, tokens: bool = False) -> Job:
    with path.open("rb") as stream:
        known = ranges.identity(stream)
    return Job(str(path), known, target, TARGETS[target].method, None, tokens)


def _ranged(path: Path, target: str) -> list[Found]:
    job = _job(path, target)
    found: list[Found] = []
    first, n_rows = 1, 0
    for part in ranges.scan_ranges(job, 0, 0):
        assert not part.changed
        found += [(first + item[0] - 1, *item[1:]) for item in part.found]
        first += part.n_lines
        n_rows += part.n_rows
    with path.open("rb") as stream:
        expected = list(split_lines(stream))
    assert first - 1 == len(expected)
    assert n_rows == sum(1 for raw in expected if raw.strip(b" \t\r\n"))
    return found


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(lines(), min_size=1, max_size=12), st.sampled_from(QUICK_TARGETS), st.booleans())
@example([b'{"a":1} {"a":2}', b"", _dumps(ROWS[0], 0)], "openai_chat", True)
@example([_dumps(ROWS[0], 0) + b" " + _dumps(ROWS[0], 0), b""], "openai_chat", True)
@example([_dumps(ROWS[0], 0)[:13] + b"\n" + _dumps(ROWS[0], 0)[13:]], "openai_chat", False)
@example([_dumps(ROWS[0], 0) + b"\r"], "openai_chat", False)
def test_typed_ranges_find_what_the_checks_in_full_find(
    tmp_path: Path, rows: list[bytes], target: str, ended: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(rows) + (b"\n" if ended else b""))
    assert _ranged(path, target) == _in_full(path, target, TARGETS[target].method)


@pytest.mark.parametrize("target", QUICK_TARGETS)
def test_rows_without_fault_are_not_checked_in_full(tmp_path: Path, target: str) -> None:
    quick = quick_check(target, TARGETS[target].method, check_tools)
    assert quick is not None
    path = tmp_path / "rows.jsonl"
    good = [
        _dumps(row, style)
        for row in ROWS
        for style in range(4)
        if _is_good(tmp_path, _dumps(row, style), target)
    ]
    assert good
    path.write_bytes(b"\n".join(good) + b"\n")
    scan = ranges.RangeScan(_job(path, target))
    with path.open("rb") as stream:
        (span,) = ranges.spans(stream, 0, path.stat().st_size, 1 << 22)
    part = scan.scan(span)
    assert part.n_rows == len(good)
    if target not in {"tinker", "mistral_chat"}:  # their calls are checked in full
        assert scan.untouched, "a clean file needed the checks in full"
    scan.close()


def _is_good(tmp_path: Path, raw: bytes, target: str) -> bool:
    path = tmp_path / "one.jsonl"
    path.write_bytes(raw)
    return not _in_full(path, target, TARGETS[target].method)


@pytest.mark.parametrize("target", sorted(QUICK_CHATS))
def test_quick_keys_are_within_the_rules_in_full(target: str) -> None:
    keys, rules = QUICK_CHATS[target], CHAT_RULES[target]
    assert not keys.names or "name" in rules.message_keys or rules.other_message_keys is None
    assert not keys.weights or rules.weights
    assert not keys.calls or (rules.tools and rules.tool_id_length is None)


@pytest.mark.parametrize("row", ROWS)
def test_typed_rows_cost_the_tokens_of_decoded_rows(row: Json) -> None:
    name = next(name for name in QUICK_TARGETS if _fits(name, row))
    quick = quick_check(name, TARGETS[name].method, check_tools)
    assert quick is not None
    texts, n_messages = texts_of(msgspec.json.decode(json.dumps(row), type=quick.row_type))
    assert sorted(texts) == sorted(example_texts(row))
    assert (n_messages * 3 + 3 if n_messages else 0) == overhead_tokens(row)


def _fits(name: str, row: Json) -> bool:
    quick = quick_check(name, TARGETS[name].method, check_tools)
    try:
        msgspec.json.decode(json.dumps(row), type=quick.row_type if quick else None)
    except msgspec.MsgspecError:
        return False
    return True


def _big(path: Path, n_rows: int = 1_500, size: int = 1_500) -> Path:
    """Write a file that is worth ranges, with a fault at three lines."""
    rng = random.Random(3)
    with path.open("w", encoding="utf-8") as stream:
        for line in range(1, n_rows + 1):
            text = "".join(rng.choices("abc de\u00e9\u4f60", k=size))
            answer = ANSWER | {"content": "" if line in {7, 750, n_rows} else f"x{text}"}
            stream.write(json.dumps({"messages": [ASKED, answer]}, ensure_ascii=False) + "\n")
    return path


def _with_helpers(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def counted(_size: int, *, count_tokens: bool) -> int:
        assert isinstance(count_tokens, bool)
        return count

    monkeypatch.setattr(whole, "helper_count", counted)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("count_tokens", [False, True])
def test_helper_processes_change_nothing(
    tmp_path: Path, count_tokens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _big(tmp_path / "big.jsonl")
    results: list[ValidationResult] = []
    for helpers in (0, 2):
        _with_helpers(monkeypatch, helpers)
        results.append(validate_jsonl(str(path), "openai_chat", count_tokens=count_tokens))
    assert results[0] == results[1]
    assert [found.line for found in results[0].findings] == [7, 750, 1_500]
    assert results[0].n_rows == 1_500


def _helper_ids() -> set[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, check=True
    )
    mine = {int(pid) for pid in found.stdout.split()}
    copies = {pid for pid in mine if _command(pid) == _command(os.getpid())}
    return copies | {pid for pid in mine if b"validate.ranges" in _command(pid)}


@pytest.fixture(params=["copied", "started"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let helpers be copies of this process, or new ones as beside other threads."""

    def none(_work: object) -> None:
        return None

    if request.param == "started":
        monkeypatch.setattr(ranges, "copied", none)
    return request.param


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_no_copy_is_made_beside_another_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(copied, lambda _source, _sink: None).result() is None
        path = _big(tmp_path / "big.jsonl", n_rows=300)
        assert next(ranges.scan_ranges(_job(path, "openai_chat"), 0, 1)).n_rows == 300


@pytest.mark.usefixtures("made")
def test_what_a_killed_helper_had_in_hand_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _big(tmp_path / "big.jsonl")
    _with_helpers(monkeypatch, 2)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 1 << 19)
    killed: set[int] = set()

    def kill(_done: int, _total: int | None, _what: str) -> None:
        for pid in _helper_ids() - killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

    with listen(kill):
        result = validate_jsonl(str(path), "openai_chat", count_tokens=False)
    assert len(killed) == 2
    assert result.n_rows == 1_500
    assert [found.line for found in result.findings] == [7, 750, 1_500]


@pytest.mark.usefixtures("made")
def test_no_helper_is_left_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _big(tmp_path / "big.jsonl")
    _with_helpers(monkeypatch, 2)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 1 << 19)

    def interrupt(_done: int, _total: int | None, _what: str) -> None:
        raise KeyboardInterrupt

    with listen(interrupt), pytest.raises(KeyboardInterrupt):
        validate_jsonl(str(path), "openai_chat", count_tokens=False)
    assert _helper_ids() == set()


def test_a_helper_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    path = _big(tmp_path / "big.jsonl", n_rows=10)
    process = subprocess.Popen(
        [sys.executable, "-m", ranges.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    write_frame(process.stdin, _job(path, "openai_chat"))
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.usefixtures("made")
def test_a_file_that_changes_under_the_helpers_stops_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _big(tmp_path / "big.jsonl")
    _with_helpers(monkeypatch, 1)
    monkeypatch.setattr(ranges, "RANGE_BYTES", 1 << 19)

    def cut(_done: int, _total: int | None, _what: str) -> None:
        with path.open("r+b") as stream:
            stream.truncate(1 << 20)

    with listen(cut), pytest.raises(BadInputError, match="changed while it was read"):
        validate_jsonl(str(path), "openai_chat", count_tokens=False)


@pytest.mark.parametrize("long_line", [1 << 18, 1 << 23])
def test_ranges_cover_a_file_with_long_lines_without_reading_them_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_line: int
) -> None:
    monkeypatch.setattr(ranges, "_LONG_LINE_BYTES", long_line)
    path = tmp_path / "long.jsonl"
    long = json.dumps({"messages": [ASKED, ANSWER | {"content": "y" * (9 << 20)}]})
    short = json.dumps(ROWS[0])
    path.write_text(f"{short}\n{long}\n{short}\n{long}\n{short}", encoding="utf-8")
    with path.open("rb") as stream:
        spans = list(ranges.spans(stream, 0, path.stat().st_size, 1 << 22))
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert spans[-1].end == path.stat().st_size
    assert _ranged(path, "openai_chat") == []


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_other_line_ends_are_counted_as_lines(tmp_path: Path, ends: bytes) -> None:
    path = tmp_path / "ends.jsonl"
    bad = json.dumps({"messages": [ASKED]}).encode()
    path.write_bytes(ends.join([_dumps(ROWS[0], 0)] * 3 + [bad] + [_dumps(ROWS[1], 1)] * 2) + ends)
    found = _ranged(path, "openai_chat")
    assert found == _in_full(path, "openai_chat", "sft")
    assert (4, "no_assistant") in [(item[0], item[2]) for item in found]


SAID = [ASKED, {**ANSWER, "content": "As an AI model I cannot"}]
IN_DOUBT: list[tuple[str, Json]] = [
    ("openai_chat", {"messages": SAID}),
    ("openai_chat", {"messages": [ASKED, {**CALLING, "content": "   "}], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, {**CALLING, "tool_calls": []}], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, {"role": "assistant"}], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, {**CALLING, "tool_calls": [CALL, CALL]}], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, RESULT, ANSWER], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, CALLING, ASKED, ANSWER], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, SYSTEM, ANSWER], "tools": TOOLS}),
    ("openai_chat", {"messages": [ASKED, {**ANSWER, "weight": 0}]}),
    ("openai_chat", {"messages": [ASKED, ANSWER], "tools": [{"type": "function"}]}),
    ("trl_messages", {"messages": [ASKED, {**ANSWER, "weight": 1}]}),
    ("aliyun_chat", {"messages": [{**ASKED, "name": "anna"}, ANSWER]}),
    ("mistral_chat", {"messages": [ASKED, CALLING, RESULT, ANSWER], "tools": TOOLS}),
    ("trl_prompt_completion", {"prompt": " same ", "completion": "same"}),
    ("trl_prompt_completion", {"prompt": "", "completion": "a"}),
    ("trl_prompt_completion", {"prompt": "a", "completion": "I'm sorry, but I can't"}),
    ("trl_text", {"text": "  "}),
    ("alpaca", {"instruction": " ", "output": "a"}),
    ("alpaca", {"instruction": "a", "output": "\u3000"}),
]
for _arguments in ("", "[1]", "x" * 5_000):
    _call = {**CALL, "function": {"name": "look", "arguments": _arguments}}
    _turn = {**CALLING, "tool_calls": [_call]}
    IN_DOUBT.append(("openai_chat", {"messages": [ASKED, _turn], "tools": TOOLS}))


@pytest.mark.parametrize(("target", "row"), IN_DOUBT)
def test_a_row_in_doubt_is_checked_in_full(tmp_path: Path, target: str, row: Json) -> None:
    path = tmp_path / "row.jsonl"
    for style in range(4):
        path.write_bytes(_dumps(row, style))
        assert _ranged(path, target) == _in_full(path, target, TARGETS[target].method)
        scan = ranges.RangeScan(_job(path, target))
        with path.open("rb") as stream:
            scan.scan(next(ranges.spans(stream, 0, path.stat().st_size, 1 << 22)))
        assert not scan.untouched
        scan.close()
